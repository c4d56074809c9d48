//! Power loss and kills at every operation of a script, on a simulated disk with torn and reordered unsynced writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, Durability, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::query::FindQuery;
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::Timestamp;
use pulsestream_embedded::storage::{OpenMode, SimFs, Storage};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// What a script may claim after it was cut.
#[derive(Debug, Default)]
struct Claims {
    submitted: BTreeMap<EventId, Event>,
    /// Acknowledged as durable, and nobody asked to delete it.
    durable: Vec<EventId>,
    /// Acknowledged in any class, and nobody asked to delete it.
    acknowledged: Vec<EventId>,
    /// Deleted, and the deletion was acknowledged.
    deleted: Vec<EventId>,
}

fn tenant() -> TenantId {
    TenantId::from_name("crash")
}

fn config() -> EmbeddedConfig {
    EmbeddedConfig {
        log_file_bytes: 8 << 10,
        seal_events: 12,
        segment_events: 1_000,
        ..EmbeddedConfig::default()
    }
}

fn open(folder: &SimFs) -> pulsestream_core::Result<EmbeddedStore> {
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    EmbeddedStore::open_storage(Arc::new(folder.clone()), config(), env, false)
}

/// Appends, seals, merges, deletes and reopens until the power is cut.
fn script(folder: &SimFs, claims: &mut Claims) -> pulsestream_core::Result<()> {
    let mut generator = EventGenerator::new(7);
    let mut store = open(folder)?;
    for step in 0..29_usize {
        let events: Vec<Event> = (0..1 + step % 4).map(|_| generator.event()).collect();
        let ids: Vec<EventId> = events.iter().map(|event| event.id.clone()).collect();
        claims.submitted.extend(events.iter().map(|event| (event.id.clone(), event.clone())));
        let durability = if step % 3 == 1 { Durability::Written } else { Durability::Durable };
        let options = AppendOptions { durability: Some(durability) };
        let outcomes = block_on(store.append(tenant(), events, options))?;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Stored)));
        claims.acknowledged.extend(ids);
        if durability == Durability::Durable {
            claims.durable = claims.acknowledged.clone();
        }
        if step % 5 == 4 {
            store.maintain()?;
            claims.durable = claims.acknowledged.clone();
        }
        if step % 9 == 8 {
            let gone = claims.acknowledged.remove(step % claims.acknowledged.len());
            claims.durable.retain(|id| *id != gone);
            block_on(store.delete(tenant(), &DeleteSelection::Ids(vec![gone.clone()])))?;
            claims.deleted.push(gone);
        }
        if step == 13 {
            block_on(store.close())?;
            store = open(folder)?;
        }
    }
    block_on(store.close())
}

/// Checks a folder after a crash: acknowledged events are there once and unchanged, and all ways to read agree.
fn check(folder: &SimFs, claims: &Claims, required: &[EventId], context: &str) {
    let store = open(folder).unwrap_or_else(|error| panic!("{context}: {error}"));
    let everything = FindQuery { limit: 10_000, ..FindQuery::default() };
    let found = block_on(store.find(tenant(), &everything)).unwrap().events;
    let mut seen = BTreeMap::new();
    for event in &found {
        assert_eq!(claims.submitted.get(&event.id), Some(event), "{context}: changed or never submitted");
        assert!(seen.insert(event.id.clone(), event).is_none(), "{context}: {} is there twice", event.id);
    }
    for id in required {
        assert!(seen.contains_key(id), "{context}: {id} was acknowledged and is lost");
    }
    for id in &claims.deleted {
        assert!(!seen.contains_key(id), "{context}: {id} was deleted and is back");
    }
    let ids: Vec<EventId> = seen.keys().cloned().collect();
    let by_id = block_on(store.get(tenant(), &ids)).unwrap();
    assert!(by_id.iter().zip(&ids).all(|(event, id)| event.as_ref() == Some(seen[id])), "{context}: look-up");
    let options = TailOptions { limit: 10_000, ..TailOptions::default() };
    let tail = block_on(store.tail(Partition::of(tenant()), Position::START, options)).unwrap();
    assert_eq!(tail.events.len(), found.len(), "{context}: log");

    if !context.ends_with('0') {
        return;
    }
    // A retry of everything stores what is missing and nothing twice.
    let missing = claims.submitted.values().filter(|event| !seen.contains_key(&event.id)).count();
    let retry: Vec<Event> = claims.submitted.values().cloned().collect();
    if !retry.is_empty() {
        let outcomes = block_on(store.append(tenant(), retry, AppendOptions::default())).unwrap();
        let stored = outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count();
        assert_eq!(stored, missing, "{context}: retry");
    }
    store.maintain().unwrap();
    let found = block_on(store.find(tenant(), &everything)).unwrap().events;
    assert_eq!(found.len(), claims.submitted.len(), "{context}: after the retry");
}

#[test]
fn power_loss_at_every_operation() {
    lose_power_at_every_operation(3);
}

/// The long version; `cargo test --release -p pulsestream-embedded -- --ignored power_loss`.
#[test]
#[ignore = "takes minutes"]
fn power_loss_at_every_operation_with_fifty_damages() {
    lose_power_at_every_operation(50);
}

fn lose_power_at_every_operation(damages: u64) {
    let whole = SimFs::new();
    script(&whole, &mut Claims::default()).unwrap();
    let operations = whole.operations();
    assert!(operations > 200, "the script is too short: {operations}");
    for cut in 0..operations {
        let folder = SimFs::new();
        folder.cut_power_after(cut);
        let mut claims = Claims::default();
        let _ = script(&folder, &mut claims);
        for seed in 0..damages {
            let after = folder.after_power_loss(cut * 100 + seed);
            check(&after, &claims, &claims.durable, &format!("cut {cut} seed {seed}"));
        }
        check(&folder.after_kill(), &claims, &claims.acknowledged, &format!("kill {cut}"));
    }
}

#[test]
fn power_loss_during_recovery() {
    let folder = SimFs::new();
    folder.cut_power_after(150);
    let mut claims = Claims::default();
    let _ = script(&folder, &mut claims);
    for seed in 0..10 {
        for cut in 0..40 {
            let after = folder.after_power_loss(seed);
            after.cut_power_after(cut);
            if let Ok(store) = open(&after) {
                let _ = store.maintain();
            }
            check(&after.after_power_loss(seed + cut), &claims, &claims.durable, &format!("{seed} {cut}"));
        }
    }
}

/// Files other than segments: nothing acknowledged is silently gone or different, whatever byte is wrong.
#[test]
fn every_flipped_byte_of_the_log_and_the_manifest_is_reported_or_harmless() {
    let folder = SimFs::new();
    let mut claims = Claims::default();
    let store = open(&folder).unwrap();
    let mut generator = EventGenerator::new(3);
    for size in [20, 3, 4] {
        let events: Vec<Event> = (0..size).map(|_| generator.event()).collect();
        claims.submitted.extend(events.iter().map(|event| (event.id.clone(), event.clone())));
        block_on(store.append(tenant(), events, AppendOptions::default())).unwrap();
        if size == 20 {
            store.maintain().unwrap();
        }
    }
    block_on(store.close()).unwrap();
    let mut reported = 0;
    for (name, bytes) in folder.files() {
        if name.ends_with(".seg") || name.ends_with(".spare") || name == "reserve" {
            continue;
        }
        // The preallocated end of a file is all alike.
        let mut content = vec![0; usize::try_from(bytes).unwrap()];
        folder.open(&name, OpenMode::Read).unwrap().read_at(&mut content, 0).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 64).min(bytes);
        for offset in 0..used {
            let damaged = folder.after_kill();
            assert!(damaged.flip(&name, offset));
            match open(&damaged) {
                Ok(store) => {
                    let everything = FindQuery { limit: 100, ..FindQuery::default() };
                    let found = block_on(store.find(tenant(), &everything)).unwrap().events;
                    assert_eq!(
                        found.len(),
                        27,
                        "{name} {offset}: acknowledged events are gone without a word"
                    );
                    assert!(found.iter().all(|event| claims.submitted.get(&event.id) == Some(event)));
                }
                Err(error) => {
                    let kind = error.kind();
                    let is_told = matches!(
                        kind,
                        pulsestream_core::ErrorKind::Corrupt | pulsestream_core::ErrorKind::Unsupported
                    );
                    assert!(is_told, "{name} {offset}: {error}");
                    reported += 1;
                }
            }
        }
    }
    assert!(reported > 3_000, "most bytes matter: {reported}");
}

#[test]
fn every_flipped_byte_of_a_segment_is_reported_or_harmless() {
    let folder = SimFs::new();
    let mut claims = Claims::default();
    {
        let store = open(&folder).unwrap();
        let mut generator = EventGenerator::new(3);
        let events: Vec<Event> = (0..30).map(|_| generator.event()).collect();
        claims.submitted.extend(events.iter().map(|event| (event.id.clone(), event.clone())));
        block_on(store.append(tenant(), events, AppendOptions::default())).unwrap();
        store.maintain().unwrap();
        block_on(store.close()).unwrap();
    }
    let (name, bytes) = folder.files().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    let everything = FindQuery { limit: 100, ..FindQuery::default() };
    let ids: Vec<EventId> = claims.submitted.keys().cloned().collect();
    let mut harmless = 0;
    for offset in 0..bytes {
        let damaged = folder.after_kill();
        assert!(damaged.flip(&name, offset));
        let Ok(store) = open(&damaged) else { continue };
        let report = store.verify().unwrap();
        let found = block_on(store.find(tenant(), &everything));
        let got = block_on(store.get(tenant(), &ids));
        match (found, got) {
            (Ok(page), Ok(got)) => {
                assert!(page.events.iter().all(|event| claims.submitted.get(&event.id) == Some(event)));
                assert_eq!((page.events.len(), got.iter().flatten().count()), (30, 30));
                harmless += usize::from(report.is_healthy());
            }
            (Err(error), _) | (_, Err(error)) => {
                assert_eq!(error.kind(), pulsestream_core::ErrorKind::Corrupt, "{offset}: {error}");
                assert!(!report.is_healthy(), "{offset}: the report misses the damage");
            }
        }
    }
    assert!(harmless <= 16, "only the header of the file is not covered by a checksum: {harmless}");
}
