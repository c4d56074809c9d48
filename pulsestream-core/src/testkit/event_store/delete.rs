//! Deleting and retaining.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::probe::Probe;
use crate::id::EventId;
use crate::ports::event_store::DeleteSelection;
use crate::query::{AggregateQuery, FindQuery};
use crate::testkit::events::{at, event, event_with, filter, id, instant, payload};
use crate::testkit::run::BoxFuture;
use crate::time::{TimeRange, Timestamp};

async fn delete_matching(probe: &Probe, range: TimeRange, text: Option<&str>) -> u64 {
    let selection = DeleteSelection::Matching { range, filter: text.map(filter) };
    probe.store.delete(probe.tenant, &selection).await.expect("delete succeeds")
}

async fn ten_events(probe: &Probe) {
    let events =
        (0..10).map(|number| payload(&format!("e{number}"), number, &format!(r#"{{"n":{number}}}"#)));
    probe.append(events.collect()).await;
}

/// What was deleted is gone from the next answer of every method.
pub(super) async fn delete_is_visible_at_once(probe: Probe) {
    ten_events(&probe).await;
    assert_eq!(probe.delete(&["e1", "e4", "e9"]).await, 3);
    let rest = ["e0", "e2", "e3", "e5", "e6", "e7", "e8"];
    assert_eq!(probe.get(&id("e4")).await, None);
    assert_eq!(probe.all_ids().await, rest);
    assert_eq!(probe.scanned_ids().await, rest);
    let tailed: Vec<String> = probe.tail().await.iter().map(|tailed| tailed.event.id.to_string()).collect();
    assert_eq!(tailed, rest);
    assert_eq!(probe.aggregate(AggregateQuery::default()).await.rows[0].values, [Some(7.0)]);
    let counted = FindQuery { count_total: true, ..FindQuery::default() };
    assert_eq!(probe.find(counted).await.total, Some(7));
}

/// Unknown ids are passed over, repeated ones count once.
pub(super) async fn delete_counts_what_was_there(probe: Probe) {
    ten_events(&probe).await;
    assert_eq!(probe.delete(&["e1", "nope", "e1", "e2"]).await, 2);
    assert_eq!(probe.delete(&["e1", "e2"]).await, 0);
    assert_eq!(probe.delete(&[]).await, 0);
    assert_eq!(probe.all_ids().await.len(), 8);
}

/// A filter deletes what it selects, missing values included.
pub(super) async fn delete_by_filter(probe: Probe) {
    ten_events(&probe).await;
    probe.append(vec![event("none", 50)]).await;
    assert_eq!(delete_matching(&probe, TimeRange::ALL, Some("payload.n >= 5")).await, 5);
    assert_eq!(probe.all_ids().await, ["e0", "e1", "e2", "e3", "e4", "none"]);
    assert_eq!(delete_matching(&probe, TimeRange::ALL, Some("payload.n != 2")).await, 5);
    assert_eq!(probe.all_ids().await, ["e2"]);
    assert_eq!(delete_matching(&probe, TimeRange::ALL, Some("title = 'nothing'")).await, 0);
}

/// The range of a deletion is half-open.
pub(super) async fn delete_by_range(probe: Probe) {
    ten_events(&probe).await;
    assert_eq!(delete_matching(&probe, TimeRange::new(at(3), at(6)), None).await, 3);
    assert_eq!(probe.all_ids().await, ["e0", "e1", "e2", "e6", "e7", "e8", "e9"]);
    assert_eq!(delete_matching(&probe, TimeRange::new(at(6), at(6)), None).await, 0);
    assert_eq!(delete_matching(&probe, TimeRange::new(at(0), at(8)), Some("payload.n > 1")).await, 3);
    assert_eq!(probe.all_ids().await, ["e0", "e1", "e8", "e9"]);
}

/// All events of a tenant can be deleted, and the tenant goes on.
pub(super) async fn delete_everything(probe: Probe) {
    ten_events(&probe).await;
    assert_eq!(delete_matching(&probe, TimeRange::ALL, None).await, 10);
    assert!(probe.all_ids().await.is_empty());
    assert!(probe.tail().await.is_empty());
    ten_events(&probe).await;
    assert_eq!(probe.all_ids().await.len(), 10);
}

/// A deleted id may be used again, at another time and with other content.
pub(super) async fn delete_frees_the_id(probe: Probe) {
    ten_events(&probe).await;
    for round in 0..3 {
        assert_eq!(probe.delete(&["e5"]).await, 1);
        let again =
            event_with("e5", 1_000 * round, |event| event.title = Some(format!("round {round}").into()));
        probe.append(vec![again.clone()]).await;
        assert_eq!(probe.get(&id("e5")).await, Some(again));
        assert_eq!(probe.outcomes(vec![event("e5", 5)]).await, ["duplicate"]);
    }
    assert_eq!(probe.all_ids().await.len(), 10);
    assert_eq!(probe.matching("payload.n = 5").await, "", "nothing is left of the first");
}

/// Of concurrent deletions of an event one counts it.
pub(super) async fn delete_races_count_once(probe: Probe) {
    probe.append((0..60).map(|number| event(&format!("e{number}"), number)).collect()).await;
    let deleted = Arc::new(AtomicU64::new(0));
    let task = |offset: i64| -> BoxFuture<'static, ()> {
        let (probe, deleted) = (probe.clone(), deleted.clone());
        Box::pin(async move {
            for step in 0..6 {
                let ids: Vec<EventId> =
                    (0..10).map(|number| id(&format!("e{}", (offset + step * 10 + number) % 60))).collect();
                let count = probe.store.delete(probe.tenant, &DeleteSelection::Ids(ids)).await;
                deleted.fetch_add(count.expect("delete succeeds"), Ordering::Relaxed);
            }
        })
    };
    probe.concurrently((0..3).map(|thread| task(thread * 7)).collect()).await;
    assert_eq!(deleted.load(Ordering::Relaxed), 60);
    assert!(probe.all_ids().await.is_empty());
}

/// What is older goes, what is not stays, to the microsecond.
pub(super) async fn retain_cuts_exactly(probe: Probe) {
    let micros = |name: &str, offset: i64| {
        event_with(name, 0, |event| {
            event.timestamp = Timestamp::from_micros(at(10).as_micros() + offset);
            event.received_at = at(5_000);
        })
    };
    probe.append(vec![micros("older", -1), micros("cut", 0), micros("later", 1), event("oldest", -99)]).await;
    assert_eq!(probe.store.retain(probe.tenant, at(10)).await.expect("retain succeeds"), 2);
    assert_eq!(probe.all_ids().await, ["cut", "later"]);
    assert_eq!(probe.get(&id("older")).await, None);
    assert_eq!(probe.tail().await.len(), 2);
    assert_eq!(probe.store.retain(probe.tenant, at(10)).await.expect("retain succeeds"), 0);
}

/// Retention cuts at any instant, far in the past or in the future.
pub(super) async fn retain_extremes(probe: Probe) {
    probe.append(vec![event("a", 0), event("b", 400 * 86_400)]).await;
    let retain = async |before| probe.store.retain(probe.tenant, before).await.expect("retain succeeds");
    assert_eq!(retain(Timestamp::MIN).await, 0);
    assert_eq!(retain(instant("1970-01-01T00:00:00Z")).await, 0);
    assert_eq!(retain(instant("2026-06-01T00:00:00Z")).await, 1);
    assert_eq!(retain(Timestamp::MAX).await, 1);
    assert!(probe.all_ids().await.is_empty());
}
