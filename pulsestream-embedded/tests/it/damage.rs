//! Segments with wrong bytes: who needs them is told, and everything else goes on.

use std::collections::BTreeMap;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::query::{AggregateQuery, FindQuery, ScanQuery};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{Error, ErrorKind};
use pulsestream_embedded::storage::{OpenMode, SimFs, Storage};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// A store with one segment for each of two tenants, and what they hold.
struct Folder {
    fs: SimFs,
    tenants: [TenantId; 2],
    events: Vec<Vec<Event>>,
    /// Files, first tenant first.
    segments: Vec<String>,
}

fn open(fs: &SimFs) -> EmbeddedStore {
    try_open(fs).unwrap()
}

fn try_open(fs: &SimFs) -> pulsestream_core::Result<EmbeddedStore> {
    let config = EmbeddedConfig {
        log_file_bytes: 8 << 10,
        seal_events: 30,
        segment_events: 30,
        ..EmbeddedConfig::default()
    };
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    EmbeddedStore::open_storage(std::sync::Arc::new(fs.clone()), config, env, false)
}

/// Appends, and returns how many events were new.
fn append(store: &EmbeddedStore, tenant: TenantId, events: Vec<Event>) -> usize {
    let outcomes = block_on(store.append(tenant, events, AppendOptions::default())).unwrap();
    outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count()
}

fn everything() -> FindQuery {
    FindQuery { limit: 100, ..FindQuery::default() }
}

impl Folder {
    fn new() -> Self {
        let fs = SimFs::new();
        let mut generator = EventGenerator::new(3);
        let tenants = [TenantId::from_name("one"), TenantId::from_name("two")];
        let store = open(&fs);
        let mut events = Vec::new();
        for tenant in tenants {
            let batch: Vec<Event> = (0..30).map(|_| generator.event()).collect();
            append(&store, tenant, batch.clone());
            store.maintain().unwrap();
            events.push(batch);
        }
        block_on(store.close()).unwrap();
        let names = fs.files().into_iter().map(|(name, _)| name);
        let segments: Vec<String> = names.filter(|name| name.ends_with(".seg")).collect();
        assert_eq!(segments.len(), 2);
        Self { fs, tenants, events, segments }
    }

    fn is_damage_of_the_first(&self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let context: BTreeMap<_, _> = error.context().iter().cloned().collect();
        assert_eq!(context["file"], self.segments[0], "{error}");
        assert!(context["offset"].parse::<u64>().is_ok(), "{error}");
    }

    /// The second tenant has all its events; the report names the first segment and no other.
    fn the_rest_is_readable(&self, store: &EmbeddedStore) {
        let found = block_on(store.find(self.tenants[1], &everything())).unwrap().events;
        assert_eq!(found.len(), 30);
        assert!(found.iter().all(|event| self.events[1].contains(event)));
        let report = store.verify().unwrap();
        let damaged = report.segments.iter().filter(|segment| segment.damage.is_some());
        let files: Vec<&str> = damaged.map(|segment| segment.file.as_str()).collect();
        assert_eq!(files, [self.segments[0].as_str()]);
    }
}

#[test]
fn damage_in_one_segment_leaves_the_others_readable() {
    let folder = Folder::new();
    // The texts of the first segment: behind the header, before the footer.
    assert!(folder.fs.flip(&folder.segments[0], 100));
    let store = open(&folder.fs);
    folder.the_rest_is_readable(&store);
    folder.is_damage_of_the_first(&block_on(store.find(folder.tenants[0], &everything())).unwrap_err());
    append(&store, folder.tenants[0], vec![EventGenerator::new(9).event()]);
}

#[test]
fn without_the_manifest_nothing_is_taken_for_an_orphan() {
    let folder = Folder::new();
    let files = || folder.fs.files().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    folder.fs.remove("manifest").unwrap();
    // Segments alone are no new store either.
    for with_log in [true, false] {
        if !with_log {
            let logs = files().into_iter().filter(|name| name.ends_with(".wal"));
            logs.for_each(|log| folder.fs.remove(&log).unwrap());
        }
        let error = try_open(&folder.fs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("the manifest is missing"), "{error}");
        assert!(folder.segments.iter().all(|segment| files().contains(segment)));
    }
}

#[test]
fn a_segment_that_cannot_be_opened_leaves_the_others_readable() {
    let whole = Folder::new();
    let length = whole.fs.open(&whole.segments[0], OpenMode::Read).unwrap().bytes().unwrap();
    type Harm = Box<dyn Fn(&SimFs, &str)>;
    let flip = |back: u64| -> Harm { Box::new(move |fs, file| assert!(fs.flip(file, length - back))) };
    let cut = |bytes: u64| -> Harm {
        Box::new(move |fs, file| fs.open(file, OpenMode::Write).unwrap().set_len(bytes).unwrap())
    };
    let damages: [(&str, Harm); 7] = [
        ("the magic number", flip(1)),
        ("the version", flip(16)),
        ("the checksum of the footer", flip(20)),
        ("the length of the footer", flip(22)),
        ("the footer", flip(100)),
        ("a cut file", cut(length / 2)),
        ("a file that is gone", Box::new(|fs, file| fs.remove(file).unwrap())),
    ];
    for (what, damage) in damages {
        let folder = Folder { fs: whole.fs.after_kill(), ..Folder::new() };
        damage(&folder.fs, &folder.segments[0]);
        let store = open(&folder.fs);
        let [one, two] = folder.tenants;
        folder.the_rest_is_readable(&store);
        let status = block_on(store.check()).unwrap();
        assert!(status.details.contains(&("lost_segment", folder.segments[0].clone())), "{what}");
        let [lost] = &status.impairments[..] else { panic!("{what}: {:?}", status.impairments) };
        assert!(lost.code == "segment_lost" && lost.cause.contains(&folder.segments[0]), "{what}: {lost:?}");

        // Whatever needs the segment says so.
        let refused = |outcome: Result<(), Error>| folder.is_damage_of_the_first(&outcome.unwrap_err());
        let first = folder.events[0][0].id.clone();
        refused(block_on(store.find(one, &everything())).map(drop));
        refused(block_on(store.get(one, std::slice::from_ref(&first))).map(drop));
        refused(block_on(store.aggregate(one, &AggregateQuery::default())).map(drop));
        refused(block_on(store.scan(one, &ScanQuery::default())).map(drop));
        let all = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        refused(block_on(store.delete(one, &all)).map(drop));
        let target: std::sync::Arc<dyn Storage> = std::sync::Arc::new(SimFs::new());
        refused(store.backup_storage(target, |_| ()).map(drop));
        let options = TailOptions { limit: 100, ..TailOptions::default() };
        refused(block_on(store.tail(Partition::of(one), Position(0), options.clone())).map(drop));

        // Whatever does not goes on: other times, later events, maintenance.
        let start = folder.events[0].last().unwrap().timestamp;
        let later = TimeRange { start: Timestamp::from_micros(start.as_micros() + 1), end: Timestamp::MAX };
        let late = FindQuery { range: later, ..everything() };
        assert_eq!(block_on(store.find(one, &late)).unwrap().events, []);
        let mut generator = EventGenerator::new(11);
        let fresh: Vec<Event> = (0..40).map(|_| generator.event()).collect();
        append(&store, two, fresh.clone());
        store.maintain().unwrap();
        let query = FindQuery { limit: 1_000, ..everything() };
        assert_eq!(block_on(store.find(two, &query)).unwrap().events.len(), 70, "{what}");
        let after = Position(61);
        let tailed = block_on(store.tail(Partition::of(two), after, options)).unwrap();
        assert_eq!(tailed.events.len(), 39, "{what}");

        // Set aside, the rest is the whole, also after opening again.
        assert_eq!(store.set_aside("segments/none.seg").unwrap_err().kind(), ErrorKind::NotFound);
        let kept = store.set_aside(&folder.segments[0]).unwrap();
        assert_eq!(block_on(store.find(one, &everything())).unwrap().events, []);
        assert_eq!(append(&store, one, folder.events[0].clone()), 30);
        drop(store);
        let store = open(&folder.fs);
        assert!(store.verify().unwrap().is_healthy(), "{what}");
        assert_eq!(block_on(store.find(one, &everything())).unwrap().events.len(), 30);
        let is_kept = folder.fs.files().into_iter().any(|(name, _)| name == kept);
        assert_eq!(is_kept, what != "a file that is gone", "{what}");
    }
}

#[test]
fn damaged_fingerprints_are_made_again() {
    let folder = Folder::new();
    let file = &folder.segments[0];
    let length = folder.fs.open(file, OpenMode::Read).unwrap().bytes().unwrap();
    let mut found = false;
    // The fingerprints are the last block before the footer.
    for back in 24..length {
        let damaged = folder.fs.after_kill();
        assert!(damaged.flip(file, length - back));
        let store = open(&damaged);
        let report = store.verify().unwrap();
        let reason = report.segments.iter().find_map(|segment| segment.damage.as_ref());
        let opened = block_on(store.check()).unwrap().details.iter().all(|(name, _)| *name != "lost_segment");
        if !opened {
            continue;
        }
        assert!(reason.is_some(), "{back}");
        assert_eq!(append(&store, folder.tenants[0], folder.events[0].clone()), 0);
        found = true;
        break;
    }
    assert!(found, "no block could be damaged");
}
