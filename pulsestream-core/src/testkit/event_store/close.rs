//! Closing, and opening again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::probe::{Probe, assert_fails};
use crate::error::ErrorKind;
use crate::ports::event_store::{AppendOptions, DeleteSelection, Position, TailOptions};
use crate::query::{AggregateQuery, FindQuery, ScanQuery};
use crate::testkit::events::{at, event, id};
use crate::time::TimeRange;

/// Closing twice is fine.
pub(super) async fn close_twice(probe: Probe) {
    probe.append(vec![event("a", 0)]).await;
    probe.store.close().await.expect("close succeeds");
    probe.store.close().await.expect("closing again succeeds");
}

/// A call after `close` fails with `Closed`, whichever it is.
pub(super) async fn closed_store_refuses(probe: Probe) {
    let Probe { store, tenant, .. } = &probe;
    let (tenant, partition) = (*tenant, probe.partition());
    probe.append(vec![event("a", 0)]).await;
    store.close().await.expect("close succeeds");
    let closed = ErrorKind::Closed;
    assert_fails(store.append(tenant, vec![event("b", 0)], AppendOptions::default()).await, closed, "append");
    assert_fails(store.get(tenant, &[id("a")]).await, closed, "get");
    assert_fails(store.find(tenant, &FindQuery::default()).await, closed, "find");
    assert_fails(store.aggregate(tenant, &AggregateQuery::default()).await, closed, "aggregate");
    assert_fails(store.scan(tenant, &ScanQuery::default()).await, closed, "scan");
    assert_fails(store.tail(partition, Position::START, TailOptions::default()).await, closed, "tail");
    assert_fails(store.wait_for_events(partition, Position::START).await, closed, "wait_for_events");
    assert_fails(store.delete(tenant, &DeleteSelection::Ids(vec![id("a")])).await, closed, "delete");
    let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
    assert_fails(store.delete(tenant, &everything).await, closed, "delete by filter");
    assert_fails(store.retain(tenant, at(0)).await, closed, "retain");
    assert_fails(store.check().await, closed, "check");
}

/// Whoever waits for events is woken by `close`.
pub(super) async fn close_wakes_waiters(probe: Probe) {
    let mut waiting = pin!(probe.store.wait_for_events(probe.partition(), Position::START));
    let early = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready())).await;
    probe.store.close().await.expect("close succeeds");
    if !early && let Err(error) = waiting.await {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    let again = probe.store.wait_for_events(probe.partition(), Position::START).await;
    assert_fails(again, ErrorKind::Closed, "waiting on a closed store");
}

/// A store that says it is persistent has everything after it is opened again: events, ids and positions.
pub(super) async fn reopen_keeps_everything(probe: Probe) {
    probe
        .append((0..20).map(|number| super::get::full_event(&format!("e{number:02}"), number)).collect())
        .await;
    let other = probe.stranger();
    other.append(vec![event("e00", 99)]).await;
    probe.delete(&["e03"]).await;
    probe.store.retain(probe.tenant, at(2)).await.expect("retain succeeds");
    let (ids, tailed) = (probe.all_ids().await, probe.tail().await);
    let persistent = probe.store.capabilities().persistent;
    let Some(store) = probe.harness.reopen(probe.store.clone()).await else {
        assert!(!persistent, "the harness of a persistent store reopens it");
        return;
    };
    assert!(persistent, "a store that can be opened again with its events says so");
    let probe = Probe { store: store.clone(), ..probe };
    let other = Probe { store, ..other };
    assert_eq!(probe.all_ids().await, ids);
    assert_eq!(probe.tail().await, tailed, "events and positions are the same");
    assert_eq!(probe.get(&id("e07")).await, Some(super::get::full_event("e07", 7)));
    assert_eq!(probe.get(&id("e03")).await, None, "the deleted stays deleted");
    assert_eq!(probe.outcomes(vec![event("e07", 0), event("new", 500)]).await, ["duplicate", "stored"]);
    assert_eq!(other.all_ids().await, ["e00"]);
    let last = tailed.last().map_or(Position::START, |tailed| tailed.position);
    let rest = probe.tail_from(probe.partition(), last).await;
    assert_eq!(rest.len(), 1, "a reader goes on where it was");
    assert_eq!(rest[0].event.id, id("new"));
}
