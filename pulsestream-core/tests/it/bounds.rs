//! What a full memory store does.

use std::time::Duration;

use pulsestream_core::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::memory::{MemoryEventStore, MemoryEventStoreLimits};
use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome, DeleteSelection, EventStore};
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_core::time::TimeRange;

#[test]
fn a_full_store_refuses_the_whole_batch_and_takes_duplicates_and_new_events_after_deletion() {
    let limits = MemoryEventStoreLimits { max_events: 10, max_bytes: u64::MAX };
    let store = MemoryEventStore::with_limits(limits);
    let tenant = TenantId::from_name("a");
    let events: Vec<_> = EventGenerator::new(1).take(11).collect();
    block_on(async {
        store.append(tenant, events[..8].to_vec(), AppendOptions::default()).await.unwrap();
        let full = store.append(tenant, events[8..].to_vec(), AppendOptions::default()).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Unavailable);
        assert_eq!(full.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(store.check().await.unwrap().events, Some(8), "nothing of the batch is kept");
        let outcomes = store.append(tenant, events[..10].to_vec(), AppendOptions::default()).await.unwrap();
        let stored = outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count();
        assert_eq!(stored, 2, "duplicates need no room, and the last two fit");
        assert!(!store.check().await.unwrap().writable);
        let first = DeleteSelection::Ids(vec![events[0].id.clone()]);
        assert_eq!(store.delete(tenant, &first).await.unwrap(), 1);
        store.append(tenant, events[10..].to_vec(), AppendOptions::default()).await.unwrap();
    });
}

#[test]
fn bytes_are_bounded_and_given_back() {
    let limits = MemoryEventStoreLimits { max_events: u64::MAX, max_bytes: 100_000 };
    let store = MemoryEventStore::with_limits(limits);
    let tenant = TenantId::from_name("a");
    block_on(async {
        let mut held = 0;
        for event in EventGenerator::new(1).take(1_000) {
            match store.append(tenant, vec![event], AppendOptions::default()).await {
                Ok(_) => held += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            }
        }
        let status = store.check().await.unwrap();
        assert!((10..200).contains(&held) && status.bytes.unwrap() <= 100_000, "{held} events: {status:?}");
        let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        assert_eq!(store.delete(tenant, &everything).await.unwrap(), held);
        assert_eq!(store.check().await.unwrap().bytes, Some(0));
    });
}
