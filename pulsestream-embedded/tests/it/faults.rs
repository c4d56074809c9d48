//! Disks that fail, folders that are taken, and formats of tomorrow.

use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{AppendOptions, DeleteSelection, EventStore};
use pulsestream_core::query::FindQuery;
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{ErrorKind, Retry};
use pulsestream_embedded::storage::{Fail, FaultyStorage, OpenMode, Operation, SimFs, Storage};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn tenant() -> TenantId {
    TenantId::from_name("faults")
}

fn open(storage: Arc<dyn Storage>) -> pulsestream_core::Result<EmbeddedStore> {
    let config = EmbeddedConfig { log_file_bytes: 8 << 10, ..EmbeddedConfig::default() };
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    EmbeddedStore::open_storage(storage, config, env, false)
}

fn ids(store: &EmbeddedStore) -> Vec<EventId> {
    let everything = FindQuery { limit: 10_000, ..FindQuery::default() };
    let page = block_on(store.find(tenant(), &everything)).unwrap();
    let mut ids: Vec<EventId> = page.events.into_iter().map(|event| event.id).collect();
    ids.sort();
    ids
}

fn append(store: &EmbeddedStore, events: Vec<Event>) -> pulsestream_core::Result<()> {
    block_on(store.append(tenant(), events, AppendOptions::default())).map(drop)
}

#[test]
fn the_nth_operation_fails_once() {
    the_nth_operation_fails(false, EIO);
}

#[test]
fn the_nth_operation_fails_for_good() {
    the_nth_operation_fails(true, EIO);
}

#[test]
fn the_nth_operation_finds_the_disk_full_once() {
    the_nth_operation_fails(false, ENOSPC);
}

#[test]
fn the_nth_operation_finds_the_disk_full_for_good() {
    the_nth_operation_fails(true, ENOSPC);
}

/// Every single operation of every kind that changes something.
fn the_nth_operation_fails(persistent: bool, errno: i32) {
    for operation in Operation::ALL.into_iter().filter(|operation| *operation != Operation::Read) {
        for nth in 1.. {
            let context = format!("{operation:?} {nth} persistent={persistent} errno={errno}");
            let fs = SimFs::new();
            let faulty = Arc::new(FaultyStorage::new(Arc::new(fs.clone())));
            let store = open(Arc::clone(&faulty) as Arc<dyn Storage>).unwrap();
            faulty.set(Some(Fail { operation, nth, persistent, errno }));
            let mut generator = EventGenerator::new(nth);
            let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
            for step in 0..9 {
                let events: Vec<Event> = (0..2).map(|_| generator.event()).collect();
                let appended: Vec<EventId> = events.iter().map(|event| event.id.clone()).collect();
                match append(&store, events) {
                    Ok(()) => acknowledged.extend(appended),
                    Err(error) if error.kind() == ErrorKind::OutcomeUnknown => unknown.extend(appended),
                    Err(error) => {
                        let is_full = errno == ENOSPC && error.kind() == ErrorKind::StorageFull;
                        assert!(is_full || error.kind() == ErrorKind::Unavailable, "{context}: {error}");
                    }
                }
                if step % 3 == 2 {
                    let _ = store.maintain();
                }
            }
            acknowledged.sort();
            assert_eq!(ids(&store), acknowledged, "{context}: reads go on, and nothing refused is visible");
            let untouched = faulty.seen() < nth;
            faulty.set(None);
            drop(store);

            let store = open(Arc::new(fs)).unwrap_or_else(|error| panic!("{context}: {error}"));
            let mut found = ids(&store);
            found.retain(|id| !unknown.contains(id));
            assert_eq!(found, acknowledged, "{context}: after opening again");
            append(&store, vec![generator.event()]).unwrap();
            store.maintain().unwrap();
            if untouched {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_and_then_resumes() {
    let faulty = Arc::new(FaultyStorage::new(Arc::new(SimFs::new())));
    let store = open(Arc::clone(&faulty) as Arc<dyn Storage>).unwrap();
    let mut generator = EventGenerator::new(1);
    append(&store, vec![generator.event()]).unwrap();
    faulty.set(Some(Fail { operation: Operation::Write, nth: 1, persistent: true, errno: ENOSPC }));
    let batch: Vec<Event> = (0..50).map(|_| generator.event()).collect();
    let error = append(&store, batch.clone()).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::StorageFull, Retry::Maybe));
    assert_eq!(ids(&store).len(), 1, "no part of the batch is visible");
    faulty.set(None);
    append(&store, batch).unwrap();
    assert_eq!(ids(&store).len(), 51);
}

#[test]
fn a_folder_that_may_not_be_written_says_so() {
    for (errno, what) in [(13, "permission denied"), (30, "read-only file system")] {
        for operation in [Operation::Write, Operation::Open, Operation::Rename] {
            let faulty = Arc::new(FaultyStorage::new(Arc::new(SimFs::new())));
            faulty.set(Some(Fail { operation, nth: 1, persistent: true, errno }));
            let refused = match open(Arc::clone(&faulty) as Arc<dyn Storage>) {
                Err(error) => error,
                Ok(store) => append(&store, vec![EventGenerator::new(1).event()]).unwrap_err(),
            };
            assert_eq!(refused.kind(), ErrorKind::Forbidden, "{what}, {operation:?}: {refused}");
            assert_eq!(refused.retry(), Retry::Never);
        }
    }
}

#[test]
fn a_link_in_place_of_a_file_is_refused() {
    for name in ["manifest", "lock", "meta.redb", "segments", "wal"] {
        let place = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (place.path().join("store"), place.path().join("elsewhere"));
        let store = EmbeddedStore::open(&folder, EmbeddedConfig::default(), Env::system()).unwrap();
        store.key_value().unwrap();
        append(&store, vec![EventGenerator::new(1).event()]).unwrap();
        block_on(store.close()).unwrap();
        drop(store);
        std::fs::rename(folder.join(name), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join(name)).unwrap();
        let opened = EmbeddedStore::open(&folder, EmbeddedConfig::default(), Env::system());
        let refused = opened.and_then(|store| store.key_value().map(drop)).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Forbidden | ErrorKind::Unavailable), "{name}: {refused}");
        assert!(std::fs::symlink_metadata(folder.join(name)).unwrap().is_symlink(), "{name} is left alone");
    }
}

#[test]
fn damage_of_rules_and_accounts_is_reported() {
    use pulsestream_core::ports::key_value::{Commit, Read, ReadResult};

    let fs = SimFs::new();
    let store = open(Arc::new(fs.clone())).unwrap();
    let key_value = store.key_value().unwrap();
    for number in 0..50_u8 {
        let mut commit = Commit::new();
        commit.put(vec![number], vec![number; 100]);
        let _ = block_on(key_value.commit(commit)).unwrap();
    }
    assert!(store.verify().unwrap().is_healthy());
    block_on(store.close()).unwrap();
    drop((store, key_value));
    let (_, bytes) = fs.files().into_iter().find(|(name, _)| name == "meta.redb").unwrap();
    let mut reported = 0;
    for offset in (0..bytes).step_by(1_499) {
        let damaged = fs.after_kill();
        assert!(damaged.flip("meta.redb", offset));
        let store = open(Arc::new(damaged)).unwrap();
        let report = store.verify().unwrap();
        match store.key_value() {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{offset}: {error}");
                assert!(report.entries_damage.is_some(), "{offset}: doctor misses it");
                reported += 1;
            }
            Ok(key_value) => {
                for number in 0..50 {
                    let answer = block_on(key_value.read(vec![Read::Get(vec![number])])).unwrap();
                    assert_eq!(answer, [ReadResult::Value(Some(vec![number; 100]))], "{offset}");
                }
            }
        }
    }
    println!("{reported} of {} flips hit something", bytes / 1_499);
}

#[test]
fn a_full_disk_can_be_emptied() {
    let fs = SimFs::new();
    let config = EmbeddedConfig {
        log_file_bytes: 64 << 10,
        seal_events: 100,
        segment_events: 100,
        ..EmbeddedConfig::default()
    };
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    let store = EmbeddedStore::open_storage(Arc::new(fs.clone()), config, env, false).unwrap();
    let mut generator = EventGenerator::new(1);
    append(&store, (0..50).map(|_| generator.event()).collect()).unwrap();
    let taken: u64 = fs.files().into_iter().map(|(_, bytes)| bytes).sum();
    fs.limit_bytes(Some(taken + (100 << 10)));
    for round in 0..3 {
        let refused = loop {
            let batch: Vec<Event> = (0..20).map(|_| generator.event()).collect();
            if let Err(error) = append(&store, batch) {
                break error;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::StorageFull, "round {round}: {refused}");
        let held = ids(&store);
        assert!(held.len() > 50, "round {round}: {}", held.len());
        let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        let deleted = block_on(store.delete(tenant(), &everything));
        assert_eq!(deleted.unwrap(), held.len() as u64, "round {round}: deleting works on a full disk");
        assert_eq!(ids(&store), []);
        store.maintain().unwrap();
    }
    assert!(block_on(store.check()).unwrap().writable);
}

#[test]
fn a_failed_sync_stops_writes_until_the_store_is_opened_again() {
    let fs = SimFs::new();
    let faulty = Arc::new(FaultyStorage::new(Arc::new(fs.clone())));
    let store = open(Arc::clone(&faulty) as Arc<dyn Storage>).unwrap();
    let mut generator = EventGenerator::new(1);
    append(&store, vec![generator.event()]).unwrap();
    faulty.set(Some(Fail { operation: Operation::Sync, nth: 1, persistent: false, errno: EIO }));
    assert_eq!(append(&store, vec![generator.event()]).unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let refused = append(&store, vec![generator.event()]).unwrap_err();
    assert_eq!((refused.kind(), refused.retry()), (ErrorKind::Unavailable, Retry::Never));
    assert_eq!(faulty.seen(), 1, "a failed sync is not repeated");
    assert!(!block_on(store.check()).unwrap().writable);
    assert_eq!(ids(&store).len(), 1, "reads go on");
    drop(store);
    let store = open(Arc::new(fs)).unwrap();
    append(&store, vec![generator.event()]).unwrap();
}

#[test]
fn the_second_owner_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let first = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Env::system()).unwrap();
    let error = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Env::system()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreLocked);
    assert_eq!(error.context()[0], ("pid", std::process::id().to_string()));
    block_on(first.close()).unwrap();
    EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Env::system()).unwrap();
}

#[test]
fn a_later_format_is_refused_and_left_alone() {
    let fs = SimFs::new();
    let store = open(Arc::new(fs.clone())).unwrap();
    let mut generator = EventGenerator::new(1);
    append(&store, (0..5).map(|_| generator.event()).collect()).unwrap();
    store.maintain().unwrap();
    append(&store, vec![generator.event()]).unwrap();
    drop(store);
    for (name, _) in fs.files() {
        let copy = fs.after_kill();
        let file = copy.open(&name, OpenMode::Write).unwrap();
        let length = file.bytes().unwrap();
        // Where each kind of file says its version, and what its checksum covers.
        let (at, checksum) = match name.rsplit('.').next() {
            Some("seg") => (length - 16, None),
            Some("wal") => (8, Some(60)),
            _ if name == "manifest" => (8, Some(length - 4)),
            _ => continue,
        };
        file.write_at(&99_u32.to_le_bytes(), at).unwrap();
        if name.ends_with(".seg") {
            file.write_at(&99_u32.to_le_bytes(), 8).unwrap();
        }
        if let Some(end) = checksum {
            let mut covered = vec![0; end as usize];
            file.read_at(&mut covered, 0).unwrap();
            file.write_at(&crc32c::crc32c(&covered).to_le_bytes(), end).unwrap();
        }
        let before = copy.operations();
        let error = open(Arc::new(copy.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
        assert_eq!(copy.operations(), before, "{name}: something was written");
    }
}

#[test]
fn clocks_that_jump_change_nothing() {
    let (env, clock) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    let config = EmbeddedConfig { log_file_bytes: 8 << 10, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open_storage(Arc::new(SimFs::new()), config, env, false).unwrap();
    let mut generator = EventGenerator::new(1);
    let events: Vec<Event> = (0..20).map(|_| generator.event()).collect();
    append(&store, events.clone()).unwrap();
    store.maintain().unwrap();
    let years = 366 * 86_400;
    for jump in [-3_600, years, -30 * years, 60 * years, 0] {
        let seconds = 1_800_000_000 + jump;
        clock.jump_to(Timestamp::from_seconds(seconds));
        append(&store, events.clone()).unwrap();
        assert_eq!(ids(&store).len(), 20, "ids are remembered");
        append(&store, vec![generator.event()]).unwrap();
        store.maintain().unwrap();
        append(&store, vec![generator.event()]).unwrap();
        assert_eq!(ids(&store).len(), 22);
        let newest: Vec<EventId> = ids(&store).split_off(20);
        let newest = DeleteSelection::Ids(newest);
        assert_eq!(block_on(store.delete(tenant(), &newest)).unwrap(), 2);
    }
}
