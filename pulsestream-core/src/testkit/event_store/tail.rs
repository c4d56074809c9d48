//! The log: every acknowledged event comes exactly once to a reader that goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::probe::Probe;
use crate::event::Event;
use crate::id::TenantId;
use crate::ports::event_store::{Partition, Position, TailOptions, TailedEvent};
use crate::testkit::events::event;
use crate::testkit::run::BoxFuture;

fn ids(events: &[TailedEvent]) -> Vec<String> {
    events.iter().map(|tailed| tailed.event.id.to_string()).collect()
}

/// Appends between reads, with timestamps in any order, reach the reader once.
pub(super) async fn tail_has_no_gaps_or_repeats(probe: Probe) {
    let (mut after, mut seen, mut appended) = (Position::START, Vec::new(), Vec::new());
    for round in 0..12 {
        let names: Vec<String> = (0..=round % 4).map(|number| format!("r{round:02}-{number}")).collect();
        // Later rounds lie earlier in time: the log is not in the order of time.
        probe.append(names.iter().map(|name| event(name, -i64::from(round) * 3_600)).collect()).await;
        appended.extend(names);
        let options = TailOptions { limit: 1 + round as usize % 3, ..TailOptions::default() };
        let batch = probe.store.tail(probe.partition(), after, options).await.expect("tail succeeds");
        seen.extend(ids(&batch.events));
        after = batch.next;
    }
    seen.extend(ids(&probe.tail_from(probe.partition(), after).await));
    let mut sorted = seen.clone();
    sorted.sort();
    assert_eq!(sorted, appended, "each event once");
}

/// Events that were acknowledged one after the other stand in the log one after the other, under ascending positions.
pub(super) async fn tail_follows_acknowledgements(probe: Probe) {
    let names: Vec<String> = (0..20).map(|number| format!("e{:02}", (number * 7) % 20)).collect();
    for name in &names {
        probe.append(vec![event(name, 100 - i64::try_from(name.len()).unwrap_or(0))]).await;
    }
    let tailed = probe.tail().await;
    assert_eq!(ids(&tailed), names);
    assert!(tailed.windows(2).all(|pair| pair[0].position < pair[1].position), "positions ascend");
    assert!(tailed.iter().all(|tailed| tailed.position > Position::START));
}

/// A reader beside concurrent writers sees every event once.
pub(super) async fn tail_under_concurrent_appends(probe: Probe) {
    const WRITERS: usize = 3;
    const BATCHES: usize = 20;
    let writer = |writer: usize| -> BoxFuture<'static, ()> {
        let probe = probe.clone();
        Box::pin(async move {
            for batch in 0..BATCHES {
                let names = (0..2).map(|number| format!("w{writer}-{batch:02}-{number}"));
                probe.append(names.map(|name| event(&name, 0)).collect()).await;
            }
        })
    };
    let reader = {
        let probe = probe.clone();
        Box::pin(async move {
            let (mut after, mut seen) = (Position::START, HashSet::new());
            while seen.len() < WRITERS * BATCHES * 2 {
                let partition = probe.partition();
                let batch = probe
                    .store
                    .tail(partition, after, TailOptions { limit: 5, ..TailOptions::default() })
                    .await
                    .expect("tail succeeds");
                for tailed in batch.events {
                    assert!(tailed.position > after, "an event comes after the position asked");
                    assert!(seen.insert(tailed.event.id), "an event comes once");
                }
                after = batch.next;
                if batch.caught_up && seen.len() < WRITERS * BATCHES * 2 {
                    probe.store.wait_for_events(partition, after).await.expect("waiting succeeds");
                }
            }
        })
    };
    let mut tasks: Vec<BoxFuture<'static, ()>> = (0..WRITERS).map(writer).collect();
    tasks.push(reader);
    probe.concurrently(tasks).await;
    assert_eq!(probe.tail().await.len(), WRITERS * BATCHES * 2);
}

/// Events come under the tenant that appended them, in the partition of that tenant and in no other.
pub(super) async fn tail_partitions_by_tenant(probe: Probe) {
    let mut expected: BTreeMap<u16, Vec<TenantId>> = BTreeMap::new();
    for _ in 0..40 {
        let other = probe.stranger();
        other.append(vec![event("same", 0)]).await;
        expected.entry(other.partition().number()).or_default().push(other.tenant);
    }
    assert!(expected.len() > 8, "the tenants spread over the partitions");
    for partition in Partition::all() {
        let mut found: Vec<TenantId> =
            probe.tail_from(partition, Position::START).await.iter().map(|tailed| tailed.tenant).collect();
        let mut wanted = expected.remove(&partition.number()).unwrap_or_default();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "tenants in partition {}", partition.number());
    }
}

/// Whoever wants the events of some tenants gets all of them in order, also when most of the log is of others, and comes to its end.
pub(super) async fn tail_of_some_tenants(probe: Probe) {
    let mut tenants = vec![probe.clone()];
    while tenants.len() < 3 {
        let other = probe.stranger();
        if other.partition() == probe.partition() {
            tenants.push(other);
        }
    }
    for number in 0..40 {
        // The first has few, the second many, the third none that anybody wants.
        let of = &tenants[if number % 13 == 0 { 0 } else { 1 + number as usize % 2 }];
        of.append(vec![event(&format!("e{number}"), number)]).await;
    }
    for wanted in [vec![], vec![0], vec![0, 1], vec![2, 1, 0]] {
        let wanted: BTreeSet<TenantId> =
            wanted.into_iter().map(|index: usize| tenants[index].tenant).collect();
        let whole = probe.tail_from(probe.partition(), Position::START).await;
        let options = TailOptions { limit: 2, tenants: Some(Arc::new(wanted.clone())) };
        let (mut found, mut after) = (Vec::new(), Position::START);
        loop {
            let batch =
                probe.store.tail(probe.partition(), after, options.clone()).await.expect("tail succeeds");
            assert!(batch.events.len() <= 2, "at most as many as asked for");
            assert!(batch.next >= after, "`next` never goes back");
            found.extend(batch.events);
            after = batch.next;
            if batch.caught_up {
                break;
            }
        }
        let expected: Vec<_> =
            whole.iter().filter(|tailed| wanted.contains(&tailed.tenant)).cloned().collect();
        assert_eq!(found, expected, "the events of {} tenants", wanted.len());
        tenants[1].append(vec![event(&format!("later{}", wanted.len()), 100)]).await;
        let rest = probe.tail_from(probe.partition(), after).await;
        assert!(!rest.is_empty(), "what comes after the end that was found comes after `next`");
        assert!(rest.iter().all(|tailed| !whole.contains(tailed)), "and nothing from before");
    }
}

/// The log carries whole events.
pub(super) async fn tail_carries_whole_events(probe: Probe) {
    let events: Vec<Event> =
        (0..5).map(|number| super::get::full_event(&format!("e{number}"), number)).collect();
    probe.append(events.clone()).await;
    let mut tailed: Vec<Event> = probe.tail().await.into_iter().map(|tailed| tailed.event).collect();
    tailed.sort_by_key(|event| event.timestamp);
    assert_eq!(tailed, events);
}

/// Reading again from an older position delivers the same again.
pub(super) async fn tail_replays(probe: Probe) {
    for number in 0..10 {
        probe.append(vec![event(&format!("e{number}"), number)]).await;
    }
    let first = probe.tail().await;
    assert_eq!(probe.tail().await, first, "the whole log again");
    for (index, tailed) in first.iter().enumerate() {
        let rest = probe.tail_from(probe.partition(), tailed.position).await;
        assert_eq!(rest, first[index + 1..], "from the position of {}", tailed.event.id);
    }
    probe.delete(&["e3", "e9"]).await;
    let less: Vec<TailedEvent> =
        first.into_iter().filter(|tailed| !["e3", "e9"].contains(&tailed.event.id.as_str())).collect();
    assert_eq!(probe.tail().await, less, "less the deleted");
}

/// A position goes through its text form unchanged, as checkpoints keep it.
pub(super) async fn tail_positions_have_a_text_form(probe: Probe) {
    probe.append((0..4).map(|number| event(&format!("e{number}"), number)).collect()).await;
    let all = probe.tail().await;
    let kept: Position = all[1].position.to_string().parse().expect("a position reads its own text");
    assert_eq!(probe.tail_from(probe.partition(), kept).await, all[2..]);
}

/// An empty partition has caught up and stays where it is.
pub(super) async fn tail_of_an_empty_partition(probe: Probe) {
    for partition in Partition::all() {
        let batch = probe
            .store
            .tail(partition, Position::START, TailOptions::default())
            .await
            .expect("tail succeeds");
        assert!(batch.events.is_empty() && batch.caught_up);
    }
}

/// Duplicates are not in the log.
pub(super) async fn tail_omits_duplicates(probe: Probe) {
    probe.append(vec![event("a", 0), event("b", 0)]).await;
    probe.outcomes(vec![event("a", 0), event("c", 0), event("b", 9)]).await;
    assert_eq!(ids(&probe.tail().await), ["a", "b", "c"]);
}

/// An id that is used again after deletion comes again, at a new position.
pub(super) async fn tail_delivers_a_reused_id_again(probe: Probe) {
    probe.append(vec![event("a", 0)]).await;
    let first = probe.tail().await.remove(0).position;
    probe.delete(&["a"]).await;
    probe.append(vec![event("a", 7)]).await;
    let again = probe.tail_from(probe.partition(), first).await;
    assert_eq!(ids(&again), ["a"], "a reader that saw the first sees the second");
    assert!(again[0].position > first);
}

/// An append after the call wakes the waiting future.
pub(super) async fn tail_wakes_after_append(probe: Probe) {
    for round in 0..5 {
        let seen = probe.tail().await.last().map_or(Position::START, |tailed| tailed.position);
        let mut waiting = pin!(probe.store.wait_for_events(probe.partition(), seen));
        let early = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready())).await;
        probe.append(vec![event(&format!("e{round}"), 0)]).await;
        if !early {
            waiting.await.expect("waiting succeeds");
        }
        assert_eq!(probe.tail_from(probe.partition(), seen).await.len(), 1);
    }
}

/// An append by another thread wakes the waiting future.
pub(super) async fn tail_wakes_across_threads(probe: Probe) {
    let waiter: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            let mut after = Position::START;
            for _ in 0..10 {
                probe.store.wait_for_events(probe.partition(), after).await.expect("waiting succeeds");
                let options = TailOptions { limit: 1, ..TailOptions::default() };
                after =
                    probe.store.tail(probe.partition(), after, options).await.expect("tail succeeds").next;
            }
        })
    };
    let writer: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            for number in 0..10 {
                probe.append(vec![event(&format!("e{number}"), number)]).await;
            }
        })
    };
    probe.concurrently(vec![waiter, writer]).await;
}

/// Who is behind need not wait.
pub(super) async fn tail_wait_ends_at_once_when_behind(probe: Probe) {
    probe.append(vec![event("a", 0)]).await;
    probe.store.wait_for_events(probe.partition(), Position::START).await.expect("waiting succeeds");
}
