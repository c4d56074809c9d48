//! Snapshots of a store that goes on working, and snapshots that were cut short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pulsestream_core::ErrorKind;
use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{
    AppendOptions, DeleteSelection, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::ports::key_value::{Commit, KeyValue, Read, ReadResult};
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::Timestamp;
use pulsestream_embedded::storage::{Fail, FaultyStorage, Operation, SimFs, Storage};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

fn tenant() -> TenantId {
    TenantId::from_name("backup")
}

fn config() -> EmbeddedConfig {
    EmbeddedConfig {
        log_file_bytes: 32 << 10,
        seal_events: 40,
        segment_events: 600,
        ..EmbeddedConfig::default()
    }
}

fn open(storage: Arc<dyn Storage>, background: bool) -> pulsestream_core::Result<EmbeddedStore> {
    EmbeddedStore::open_storage(storage, config(), Env::system(), background)
}

/// An event whose time and id say its number.
fn numbered(number: u64) -> Event {
    let mut event = EventGenerator::new(number).event();
    event.id = EventId::new(format!("n{number:08}")).unwrap();
    event.timestamp = Timestamp::from_seconds(1_700_000_000 + i64::try_from(number).unwrap());
    event
}

fn append(store: &EmbeddedStore, numbers: std::ops::Range<u64>) {
    let events = numbers.map(numbered).collect();
    block_on(store.append(tenant(), events, AppendOptions::default())).unwrap();
}

fn all(store: &EmbeddedStore) -> Vec<Event> {
    let mut query = FindQuery { limit: 10_000, order: Order::OldestFirst, ..FindQuery::default() };
    let mut events = Vec::new();
    loop {
        let page = block_on(store.find(tenant(), &query)).unwrap();
        events.extend(page.events);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return events,
        }
    }
}

fn numbers(store: &EmbeddedStore) -> Vec<u64> {
    let number = |event: Event| event.id.as_str()[1..].parse().unwrap();
    all(store).into_iter().map(number).collect()
}

/// Answers the counter that a test keeps among rules and accounts.
fn counter(store: &dyn KeyValue) -> u64 {
    match block_on(store.read(vec![Read::Get(b"counter".to_vec())])).unwrap().remove(0) {
        ReadResult::Value(Some(bytes)) => u64::from_le_bytes(bytes.try_into().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn set_counter(store: &dyn KeyValue, value: u64) {
    let mut commit = Commit::new();
    commit.put(b"counter".to_vec(), value.to_le_bytes().to_vec());
    let _ = block_on(store.commit(commit)).unwrap();
}

#[test]
fn a_running_store_is_copied_to_a_consistent_prefix() {
    let place = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(place.path().join("live"), config(), Env::system()).unwrap();
    let accounts = store.key_value().unwrap();
    append(&store, 0..100);
    set_counter(&*accounts, 100);
    // The next number to append; everything below is acknowledged.
    let (next, retained, stop) = (AtomicU64::new(100), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Ends the others also when a check fails.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let stopper = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let first = next.load(Ordering::SeqCst);
                append(&store, first..first + 7);
                next.store(first + 7, Ordering::SeqCst);
                // A processor: its checkpoint follows the events.
                set_counter(&*accounts, first + 7);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                store.maintain().unwrap();
                let until = next.load(Ordering::SeqCst) / 3;
                let before = numbered(until).timestamp;
                retained.store(until, Ordering::SeqCst);
                block_on(store.retain(tenant(), before)).unwrap();
            }
        });
        for round in 0..8 {
            let target = place.path().join(format!("copies/{round}"));
            let (acknowledged, cut_before) = (next.load(Ordering::SeqCst), retained.load(Ordering::SeqCst));
            let mut last = 0;
            let backup = store.backup(&target, |progress| {
                assert!(progress.copied_bytes >= last && progress.copied_bytes <= progress.total_bytes);
                last = progress.copied_bytes;
            });
            let backup = backup.unwrap();
            let cut_after = retained.load(Ordering::SeqCst);

            let copy = EmbeddedStore::open(&target, config(), Env::system()).unwrap();
            assert!(copy.verify().unwrap().is_healthy());
            let found = numbers(&copy);
            assert_eq!(found.len() as u64, backup.events);
            let (first, end) = (found[0], found[found.len() - 1] + 1);
            assert_eq!(found, (first..end).collect::<Vec<_>>(), "a prefix has no gaps");
            assert!(end >= acknowledged, "acknowledged before the call: {acknowledged}, copied until {end}");
            assert!(first <= cut_after && (first >= cut_before || cut_before == cut_after), "{first}");
            for event in all(&copy) {
                assert_eq!(event, numbered(event.id.as_str()[1..].parse().unwrap()));
            }
            let checkpoint = counter(&*copy.key_value().unwrap());
            assert!(checkpoint <= end, "the checkpoint {checkpoint} is ahead of the events, {end}");
            // It is a store like any other: ids are remembered, new events come after the old in its log.
            append(&copy, end - 3..end + 5);
            assert_eq!(numbers(&copy), (first..end + 5).collect::<Vec<_>>());
            let options = TailOptions { limit: 100_000, ..TailOptions::default() };
            let tail = block_on(copy.tail(Partition::of(tenant()), Position::START, options)).unwrap();
            assert_eq!(tail.events.len() as u64, end + 5 - first);
            copy.maintain().unwrap();
            block_on(copy.close()).unwrap();
        }
        drop(stopper);
    });
}

#[test]
fn a_target_that_is_in_use_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(place.path().join("live"), config(), Env::system()).unwrap();
    append(&store, 0..3);
    let kind = |target: &std::path::Path| store.backup(target, |_| {}).unwrap_err().kind();
    let full = place.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "x").unwrap();
    assert_eq!(kind(&full), ErrorKind::Conflict);
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    assert_eq!(kind(&full.join("mine")), ErrorKind::Conflict, "a file");
    assert_eq!(kind(&place.path().join("live/inner/copy")), ErrorKind::Invalid);
    assert_eq!(kind(&place.path().join("live")), ErrorKind::Conflict);
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(store.backup(&empty, |_| {}).unwrap().events, 3);
    assert_eq!(kind(&empty), ErrorKind::Conflict, "the copy that was just made");
}

#[test]
fn a_copy_that_was_cut_short_is_refused_or_absent() {
    let store = open(Arc::new(SimFs::new()), false).unwrap();
    set_counter(&*store.key_value().unwrap(), 5);
    append(&store, 0..60);
    store.maintain().unwrap();
    append(&store, 60..70);
    let whole = SimFs::new();
    store.backup_storage(Arc::new(whole.clone()), |_| {}).unwrap();
    let operations = whole.operations();
    for cut in 0..operations {
        let target = SimFs::new();
        target.cut_power_after(cut);
        let made = store.backup_storage(Arc::new(target.clone()), |_| {}).is_ok();
        assert!(!made, "cut {cut}");
        for seed in 0..6 {
            let after =
                if seed == 0 { target.after_kill() } else { target.after_power_loss(cut * 10 + seed) };
            let is_empty = after.files().is_empty();
            match open(Arc::new(after), false) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "cut {cut} seed {seed}: {error}"),
                // Nothing arrived, or everything did and only the acknowledgement is missing.
                Ok(copy) if is_empty => assert_eq!(numbers(&copy), Vec::<u64>::new()),
                Ok(copy) => {
                    assert_eq!(numbers(&copy).len(), 70, "cut {cut} seed {seed}");
                    assert_eq!(counter(&*copy.key_value().unwrap()), 5);
                }
            }
        }
    }
    for seed in 0..20 {
        let after = whole.after_power_loss(seed);
        assert_eq!(numbers(&open(Arc::new(after), false).unwrap()).len(), 70, "what was promised is durable");
    }
}

#[test]
fn a_store_that_cannot_write_can_still_be_copied() {
    let faulty = Arc::new(FaultyStorage::new(Arc::new(SimFs::new())));
    let store = open(Arc::clone(&faulty) as Arc<dyn Storage>, false).unwrap();
    append(&store, 0..50);
    faulty.set(Some(Fail { operation: Operation::Sync, nth: 1, persistent: true, errno: 5 }));
    assert!(block_on(store.append(tenant(), vec![numbered(50)], AppendOptions::default())).is_err());
    assert!(!block_on(store.check()).unwrap().writable);
    let target = SimFs::new();
    assert_eq!(store.backup_storage(Arc::new(target.clone()), |_| {}).unwrap().events, 50);
    assert_eq!(numbers(&open(Arc::new(target), false).unwrap()).len(), 50);
}

#[test]
fn deleted_events_are_not_copied_back_to_life() {
    let store = open(Arc::new(SimFs::new()), false).unwrap();
    append(&store, 0..20);
    let gone = DeleteSelection::Ids(vec![numbered(4).id]);
    assert_eq!(block_on(store.delete(tenant(), &gone)).unwrap(), 1);
    let target = SimFs::new();
    assert_eq!(store.backup_storage(Arc::new(target.clone()), |_| {}).unwrap().events, 19);
    let copy = open(Arc::new(target), false).unwrap();
    assert!(!numbers(&copy).contains(&4));
    copy.maintain().unwrap();
    assert!(!numbers(&copy).contains(&4));
}

#[test]
fn a_full_target_says_so_and_a_damaged_source_is_not_copied() {
    let source = SimFs::new();
    let store = open(Arc::new(source.clone()), false).unwrap();
    append(&store, 0..60);
    store.maintain().unwrap();
    let full = Arc::new(FaultyStorage::new(Arc::new(SimFs::new())));
    full.set(Some(Fail { operation: Operation::Write, nth: 2, persistent: true, errno: 28 }));
    let error = store.backup_storage(full, |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    let (name, _) = source.files().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    assert!(source.flip(&name, 40));
    let error = store.backup_storage(Arc::new(SimFs::new()), |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.context().iter().any(|(key, value)| *key == "file" && *value == name));
}
