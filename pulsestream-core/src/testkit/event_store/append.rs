//! Appending: idempotency, races, durability, extremes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use super::probe::{Probe, assert_fails};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::id::MAX_EVENT_ID_BYTES;
use crate::ports::event_store::{AppendOptions, Durability};
use crate::query::{AggregateQuery, FindQuery, Order};
use crate::testkit::events::{at, event, event_with, id, instant};
use crate::testkit::run::BoxFuture;
use crate::time::Timestamp;

/// An empty batch is no error.
pub(super) async fn append_nothing(probe: Probe) {
    assert!(probe.outcomes(Vec::new()).await.is_empty(), "no events, no outcomes");
    assert!(probe.all_ids().await.is_empty());
}

/// The second append of an id is a duplicate, and nothing is stored or counted twice.
pub(super) async fn append_same_id_twice(probe: Probe) {
    assert_eq!(probe.outcomes(vec![event("a", 0)]).await, ["stored"]);
    assert_eq!(probe.outcomes(vec![event("a", 0)]).await, ["duplicate"]);
    assert_eq!(probe.outcomes(vec![event("a", 99)]).await, ["duplicate"], "identity does not depend on time");
    assert_eq!(probe.all_ids().await, ["a"]);
    let counted = probe.aggregate(AggregateQuery::default()).await.rows[0].values[0];
    assert_eq!(counted, Some(1.0), "a duplicate is not counted");
    assert_eq!(probe.tail().await.len(), 1, "a duplicate is not in the log");
}

/// Of equal ids in one batch the first is stored.
pub(super) async fn append_same_id_in_one_batch(probe: Probe) {
    let first = event_with("a", 0, |event| event.title = Some("first".into()));
    let batch = vec![first.clone(), event("b", 1), event("a", 2), event("a", 0), event("b", 1)];
    let outcomes = probe.outcomes(batch).await;
    assert_eq!(outcomes, ["stored", "stored", "duplicate", "duplicate", "duplicate"]);
    assert_eq!(probe.get(&id("a")).await, Some(first));
    assert_eq!(probe.all_ids().await, ["a", "b"]);
    assert_eq!(probe.tail().await.len(), 2);
}

/// Of concurrent appends of an id exactly one stores it.
pub(super) async fn append_races_store_once(probe: Probe) {
    const EVENTS: i64 = 40;
    let stored = Arc::new(AtomicUsize::new(0));
    let task = |rotation: i64| -> BoxFuture<'static, ()> {
        let (probe, stored) = (probe.clone(), stored.clone());
        Box::pin(async move {
            for step in 0..EVENTS {
                let number = (step + rotation) % EVENTS;
                let batch = vec![event(&format!("e{number}"), number), event("shared", 100)];
                let outcomes = probe.outcomes(batch).await;
                assert!(!outcomes.contains(&"refused"), "a race is no refusal");
                let new = outcomes.iter().filter(|outcome| **outcome == "stored").count();
                stored.fetch_add(new, Ordering::Relaxed);
            }
        })
    };
    probe.concurrently((0..4).map(|thread| task(thread * 10)).collect()).await;
    assert_eq!(stored.load(Ordering::Relaxed), 41, "each id was answered `Stored` once");
    assert_eq!(probe.all_ids().await.len(), 41);
    assert_eq!(probe.tail().await.len(), 41, "each id is in the log once");
}

/// An id belongs to a tenant.
pub(super) async fn append_same_id_for_two_tenants(probe: Probe) {
    let other = probe.stranger();
    let mine = event_with("a", 0, |event| event.title = Some("mine".into()));
    let theirs = event_with("a", 5, |event| event.title = Some("theirs".into()));
    assert_eq!(probe.outcomes(vec![mine.clone()]).await, ["stored"]);
    assert_eq!(other.outcomes(vec![theirs.clone()]).await, ["stored"]);
    assert_eq!(probe.get(&id("a")).await, Some(mine));
    assert_eq!(other.get(&id("a")).await, Some(theirs));
}

/// What was acknowledged is there for the next call of every method.
pub(super) async fn append_then_read(probe: Probe) {
    for number in 0..30 {
        let name = format!("e{number:02}");
        probe.append(vec![event(&name, number)]).await;
        assert!(probe.get(&id(&name)).await.is_some(), "get finds {name}");
        let newest = FindQuery { limit: 1, ..FindQuery::default() };
        assert_eq!(probe.ids(newest).await, std::slice::from_ref(&name), "find finds {name}");
        let count = probe.aggregate(AggregateQuery::default()).await.rows[0].values[0];
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let expected = (number + 1) as f64;
        assert_eq!(count, Some(expected), "aggregate counts {name}");
        assert_eq!(probe.scanned_ids().await.last(), Some(&name), "scan reads {name}");
        let tailed = probe.tail().await;
        assert_eq!(tailed.last().map(|tailed| tailed.event.id.to_string()), Some(name), "tail delivers it");
    }
}

/// A durability beyond the store's own is refused and stores nothing.
pub(super) async fn append_refuses_stronger_durability(probe: Probe) {
    let own = probe.store.capabilities().durability;
    let all = [Durability::Accepted, Durability::Written, Durability::Durable, Durability::Replicated];
    for durability in all.into_iter().filter(|durability| *durability > own) {
        let options = AppendOptions { durability: Some(durability) };
        let result = probe.store.append(probe.tenant, vec![event("a", 0)], options).await;
        assert_fails(result, ErrorKind::Unsupported, "a durability the store cannot give is refused");
        assert_eq!(probe.get(&id("a")).await, None, "and nothing is stored");
    }
}

/// The store's own durability and the weaker ones are accepted.
pub(super) async fn append_accepts_own_and_weaker_durability(probe: Probe) {
    let own = probe.store.capabilities().durability;
    let all = [Durability::Accepted, Durability::Written, Durability::Durable, Durability::Replicated];
    for durability in all.into_iter().filter(|durability| *durability <= own) {
        let options = AppendOptions { durability: Some(durability) };
        let name = format!("{durability:?}");
        let result = probe.store.append(probe.tenant, vec![event(&name, 0)], options).await;
        assert_eq!(
            result.expect("append succeeds").len(),
            1,
            "{durability:?} is within what the store gives"
        );
        assert!(probe.get(&id(&name)).await.is_some());
    }
    let status = probe.store.check().await.expect("check succeeds");
    assert!(status.durability <= own, "the class in force is not above the strongest");
    assert!(status.writable, "a fresh store accepts appends");
}

/// Outcomes stand in the order of the events.
pub(super) async fn append_answers_in_order(probe: Probe) {
    probe.append(vec![event("b", 0), event("d", 0)]).await;
    let batch = ["a", "b", "c", "d", "e"].map(|name| event(name, 0)).to_vec();
    assert_eq!(probe.outcomes(batch).await, ["stored", "duplicate", "stored", "duplicate", "stored"]);
}

/// A duplicate with other content changes nothing.
pub(super) async fn append_duplicate_keeps_the_first(probe: Probe) {
    let first = event_with("a", 0, |event| event.message = Some("first".into()));
    let second = event_with("a", 50, |event| event.message = Some("second".into()));
    probe.append(vec![first.clone()]).await;
    assert_eq!(probe.outcomes(vec![second]).await, ["duplicate"]);
    assert_eq!(probe.get(&id("a")).await, Some(first));
    assert_eq!(probe.matching("message = 'second'").await, "");
    assert_eq!(probe.matching("message = 'first'").await, "a");
}

/// A batch of thousands is stored whole and keeps its order.
pub(super) async fn append_big_batch(probe: Probe) {
    let events: Vec<Event> = (0..3_000).map(|number| event(&format!("e{number:05}"), number)).collect();
    let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    probe.append(events).await;
    let query = FindQuery { limit: 700, order: Order::OldestFirst, ..FindQuery::default() };
    assert_eq!(probe.walk(query).await, ids);
}

/// Ids of the greatest length work, and differ in their last byte.
pub(super) async fn append_longest_ids(probe: Probe) {
    let name = |last: char| format!("{}{last}", "x".repeat(MAX_EVENT_ID_BYTES - 1));
    let wide = "\u{1f980}".repeat(MAX_EVENT_ID_BYTES / 4);
    probe.append(vec![event(&name('a'), 0), event(&name('b'), 0), event(&wide, 0)]).await;
    assert_eq!(probe.outcomes(vec![event(&name('a'), 0), event(&wide, 0)]).await, ["duplicate", "duplicate"]);
    assert_eq!(probe.all_ids().await, [name('a'), name('b'), wide]);
}

/// Ids are bytes: no folding of case, no trimming, no normalisation.
pub(super) async fn append_ids_are_bytes(probe: Probe) {
    let names = [" a", "A", "a", "a ", "a%", "a'b", "a\\", "a_", "e\u{301}", "\u{e9}"];
    probe.append(names.iter().map(|name| event(name, 0)).collect()).await;
    for name in names {
        assert_eq!(probe.get(&id(name)).await.map(|event| event.id), Some(id(name)));
    }
    assert_eq!(probe.all_ids().await, names, "ids are ordered by their bytes");
}

/// The first and the last instants are instants like others.
pub(super) async fn append_extreme_timestamps(probe: Probe) {
    let times = [
        ("year-1", Timestamp::MIN),
        ("before-1970", instant("1969-12-31T23:59:59.999999Z")),
        ("epoch", Timestamp::EPOCH),
        ("after-1970", instant("1970-01-01T00:00:00.000001Z")),
        ("leap-day", instant("2024-02-29T23:59:59.999999Z")),
        ("last", instant("9999-12-31T23:59:59.999998Z")),
    ];
    let events: Vec<Event> = times.iter().map(|(name, at)| Event::new(id(name), "test", *at)).collect();
    probe.append(events.iter().rev().cloned().collect()).await;
    assert_eq!(probe.all_ids().await, times.map(|(name, _)| name));
    for event in events {
        assert_eq!(probe.get(&event.id.clone()).await, Some(event));
    }
}

/// Appends of several threads at once are all kept.
pub(super) async fn append_concurrently_keeps_all(probe: Probe) {
    let task = |thread: i64| -> BoxFuture<'static, ()> {
        let probe = probe.clone();
        Box::pin(async move {
            for step in 0..25 {
                let name = |half: i64| format!("t{thread}-{step:02}-{half}");
                probe.append(vec![event(&name(0), step), event(&name(1), step)]).await;
                assert!(probe.get(&id(&name(1))).await.is_some(), "an append is read by its own thread");
            }
        })
    };
    probe.concurrently((0..4).map(task).collect()).await;
    assert_eq!(probe.all_ids().await.len(), 200);
    assert_eq!(probe.tail().await.len(), 200);
}

/// A future that is dropped leaves each event stored or not, and the store usable.
pub(super) async fn append_dropped_midway(probe: Probe) {
    for polls in 0..4 {
        let names = [format!("p{polls}-a"), format!("p{polls}-b")];
        let batch = || names.iter().map(|name| event(name, polls)).collect::<Vec<_>>();
        {
            let mut append = pin!(probe.store.append(probe.tenant, batch(), AppendOptions::default()));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if append.as_mut().poll(&mut context).is_ready() {
                    break;
                }
            }
        }
        let outcomes = probe.outcomes(batch()).await;
        assert!(!outcomes.contains(&"refused"), "the same events may be appended again");
        for name in &names {
            let found = probe.get(&id(name)).await;
            assert_eq!(found.map(|event| event.timestamp), Some(at(polls)), "after the retry it is there");
        }
    }
    assert_eq!(probe.all_ids().await.len(), 8);
    assert_eq!(probe.tail().await.len(), 8, "and it is in the log once");
}
