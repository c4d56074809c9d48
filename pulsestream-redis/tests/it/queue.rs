//! The ingest queue: what is accepted is handed out until it is acknowledged.

use std::time::Duration;

use pulsestream_core::error::ErrorKind;
use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::ports::ingest_queue::{IngestQueue, QueueDepth, QueuedBatch};
use pulsestream_core::text::Text;
use pulsestream_redis::RedisIngestQueue;

use crate::support::{Scope, counts, events, one, tenant};

const NO_WAIT: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

async fn take(queue: &RedisIngestQueue, worker: &str) -> Vec<QueuedBatch> {
    queue.take(worker, 10, NO_WAIT).await.unwrap()
}

fn receipts(batches: &[QueuedBatch]) -> Vec<Text> {
    batches.iter().map(|batch| batch.receipt.clone()).collect()
}

fn ids(batches: &[QueuedBatch]) -> Vec<&str> {
    batches.iter().flat_map(|batch| &batch.events).map(|event| event.id.as_str()).collect()
}

/// Nothing is left behind: no entry, no counter.
async fn assert_empty(scope: &Scope, queue: &RedisIngestQueue) {
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::default());
    let mut raw = scope.raw().await;
    let used = format!("{}:{{queue}}:used", scope.config.key_prefix);
    assert!(!redis::cmd("EXISTS").arg(used).query_async::<bool>(&mut raw).await.unwrap());
}

#[tokio::test]
async fn batches_come_out_in_order_and_once_and_leave_nothing() {
    let Some(scope) = Scope::new() else { return };
    let (here, there) = (scope.open().await.ingest_queue(), scope.open().await.ingest_queue());
    assert_eq!(here.durability(), Durability::Durable);
    for number in 0..5 {
        let owner = if number % 2 == 0 { "a" } else { "b" };
        here.enqueue(tenant(owner), events((0..3).map(|event| format!("{number}.{event}")))).await.unwrap();
    }
    here.enqueue(tenant("a"), Vec::new()).await.unwrap();
    assert_eq!(counts(here.depth().await.unwrap()), (5, 0));
    let first = there.take("w1", 2, NO_WAIT).await.unwrap();
    let rest = here.take("w2", 10, NO_WAIT).await.unwrap();
    assert_eq!(ids(&first), ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]);
    assert_eq!((first[0].tenant, first[1].tenant), (tenant("a"), tenant("b")));
    assert_eq!(rest.len(), 3);
    assert!(first.iter().chain(&rest).all(|batch| batch.earlier_deliveries == 0));
    assert_eq!(take(&here, "w1").await, []);
    here.acknowledge(&receipts(&first)).await.unwrap();
    here.acknowledge(&receipts(&first)).await.unwrap();
    assert_eq!(counts(here.depth().await.unwrap()), (3, 0));
    there.acknowledge(&receipts(&rest)).await.unwrap();
    assert_empty(&scope, &here).await;
    assert_eq!(here.take("w1", 0, LONG).await.unwrap(), []);
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_nothing() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.queue.max_events = 10;
    let queue = scope.open().await.ingest_queue();
    queue.enqueue(tenant("a"), events((0..9).map(|id| id.to_string()))).await.unwrap();
    let error = queue.enqueue(tenant("a"), events(["9".to_owned(), "10".to_owned()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(queue.depth().await.unwrap().batches, 1);
    queue.enqueue(tenant("a"), one("9")).await.unwrap();
    assert_eq!(queue.enqueue(tenant("a"), one("10")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let taken = take(&queue, "w").await;
    // What is being worked on counts until it is stored.
    assert!(queue.enqueue(tenant("a"), one("10")).await.is_err());
    queue.acknowledge(&receipts(&taken[1..])).await.unwrap();
    queue.enqueue(tenant("a"), one("10")).await.unwrap();
    let error = queue.enqueue(tenant("a"), events((0..11).map(|id| id.to_string()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_queue_full_of_bytes_refuses_too() {
    let Some(mut scope) = Scope::new() else { return };
    let batch = || one("0123456789");
    let body_bytes = serde_json::to_vec(&batch()).unwrap().len() as u64 + 1;
    scope.config.queue.max_bytes = 3 * body_bytes;
    let queue = scope.open().await.ingest_queue();
    for _ in 0..3 {
        queue.enqueue(tenant("a"), batch()).await.unwrap();
    }
    assert_eq!(queue.enqueue(tenant("a"), batch()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let taken = take(&queue, "w").await;
    queue.acknowledge(&receipts(&taken[..1])).await.unwrap();
    queue.enqueue(tenant("a"), batch()).await.unwrap();
    assert!(queue.enqueue(tenant("a"), batch()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_batch_of_a_dead_worker_goes_to_exactly_one_other() {
    let Some(mut scope) = Scope::new() else { return };
    // Far above what the takes of one round need, so that nobody counts as silent within a round.
    scope.config.queue.visibility_timeout_ms = 500;
    let queue = scope.open().await.ingest_queue();
    queue.enqueue(tenant("a"), one("e")).await.unwrap();
    assert_eq!(take(&queue, "dead").await.len(), 1);
    assert_eq!(take(&queue, "next").await, []);
    for round in 1..=2 {
        let takers = (0..8).map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move {
                queue.take(&format!("w{number}"), 1, Duration::from_millis(700)).await.unwrap()
            })
        });
        let mut taken = Vec::new();
        for taker in takers.collect::<Vec<_>>() {
            taken.extend(taker.await.unwrap());
        }
        assert_eq!(ids(&taken), ["e"]);
        assert_eq!(taken[0].earlier_deliveries, round);
    }
}

#[tokio::test]
async fn a_rejected_batch_comes_again_at_once_and_is_given_up_in_the_end() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.queue.max_deliveries = 3;
    let queue = scope.open().await.ingest_queue();
    queue.enqueue(tenant("a"), one("poison")).await.unwrap();
    queue.enqueue(tenant("a"), one("fine")).await.unwrap();
    for round in 0..3 {
        let taken = take(&queue, "w").await;
        let poison = taken.iter().find(|batch| ids(std::slice::from_ref(*batch)) == ["poison"]).unwrap();
        assert_eq!(poison.earlier_deliveries, round);
        queue.reject(std::slice::from_ref(&poison.receipt)).await.unwrap();
        // Too late: it was put back already.
        queue.reject(std::slice::from_ref(&poison.receipt)).await.unwrap();
    }
    assert_eq!(counts(queue.depth().await.unwrap()), (1, 1));
    assert_eq!(take(&queue, "w").await, []);

    let dead = queue.dead_letters(10).await.unwrap();
    assert_eq!((dead.len(), dead[0].tenant, dead[0].deliveries), (1, Some(tenant("a")), 3));
    assert_eq!(dead[0].events.as_ref().unwrap(), &one("poison"));
    assert_eq!(queue.replay(&[dead[0].receipt.clone()]).await.unwrap(), 1);
    assert_eq!(queue.replay(&[dead[0].receipt.clone()]).await.unwrap(), 0);
    let taken = take(&queue, "w").await;
    assert_eq!((ids(&taken), taken[0].earlier_deliveries), (vec!["poison"], 0));
    queue.acknowledge(&receipts(&taken)).await.unwrap();
    assert_eq!(counts(queue.depth().await.unwrap()), (1, 0));
}

#[tokio::test]
async fn a_batch_that_ends_every_worker_becomes_a_dead_letter_that_can_be_discarded() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.queue.max_deliveries = 2;
    scope.config.queue.visibility_timeout_ms = 1;
    let queue = scope.open().await.ingest_queue();
    queue.enqueue(tenant("a"), one("deadly")).await.unwrap();
    let mut deliveries = 0;
    pulsestream_testtools::eventually_async("it is given up", async || {
        deliveries += take(&queue, "w").await.len();
        queue.depth().await.unwrap().dead == 1
    })
    .await;
    assert_eq!(deliveries, 2);
    let dead = queue.dead_letters(10).await.unwrap();
    assert_eq!(dead[0].deliveries, 2);
    assert_eq!(queue.discard(&[dead[0].receipt.clone()]).await.unwrap(), 1);
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::default());
    // The size was given back.
    let mut raw = scope.raw().await;
    let used = format!("{}:{{queue}}:used", scope.config.key_prefix);
    let used: Vec<Option<i64>> =
        redis::cmd("HMGET").arg(used).arg("events").arg("bytes").query_async(&mut raw).await.unwrap();
    assert!(used.iter().all(|used| used.unwrap_or_default() == 0), "{used:?}");
}

#[tokio::test]
async fn a_batch_that_ends_every_worker_takes_no_others_along() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.queue.max_deliveries = 4;
    scope.config.queue.visibility_timeout_ms = 1;
    let queue = scope.open().await.ingest_queue();
    for id in ["a", "deadly", "b", "c"] {
        queue.enqueue(tenant("a"), one(id)).await.unwrap();
    }
    pulsestream_testtools::eventually_async("it is given up", async || {
        let taken = take(&queue, "w").await;
        if !ids(&taken).contains(&"deadly") {
            queue.acknowledge(&receipts(&taken)).await.unwrap();
        }
        queue.depth().await.unwrap().batches == 0
    })
    .await;
    let dead = queue.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].events.as_ref().unwrap(), &one("deadly"));
}

#[tokio::test]
async fn waiting_workers_are_woken_by_new_and_by_rejected_batches() {
    let Some(scope) = Scope::new() else { return };
    let queue = scope.open().await.ingest_queue();
    let wait = |worker: &'static str| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.take(worker, 1, LONG).await.unwrap() })
    };
    let first = wait("w1");
    queue.enqueue(tenant("a"), one("e")).await.unwrap();
    let taken = first.await.unwrap();
    assert_eq!(ids(&taken), ["e"]);
    let second = wait("w2");
    queue.reject(&receipts(&taken)).await.unwrap();
    let again = second.await.unwrap();
    assert_eq!((ids(&again), again[0].earlier_deliveries), (vec!["e"], 1));
}

#[tokio::test]
async fn a_take_that_is_dropped_loses_nothing() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.queue.visibility_timeout_ms = 50;
    let queue = scope.open().await.ingest_queue();
    for number in 0..20 {
        let id = number.to_string();
        {
            let dropped = queue.take("w", 1, LONG);
            tokio::pin!(dropped);
            for _ in 0..number {
                tokio::select! {
                    biased;
                    taken = &mut dropped => { assert_eq!(taken.unwrap(), []); break }
                    () = tokio::task::yield_now() => {}
                }
            }
            queue.enqueue(tenant("a"), one(&id)).await.unwrap();
        }
        let taken = queue.take("other", 1, LONG).await.unwrap();
        assert_eq!(ids(&taken), [id.as_str()]);
        queue.acknowledge(&receipts(&taken)).await.unwrap();
    }
    assert_empty(&scope, &queue).await;
}

#[tokio::test]
async fn what_is_not_a_receipt_is_passed_over() {
    let Some(scope) = Scope::new() else { return };
    let queue = scope.open().await.ingest_queue();
    queue.enqueue(tenant("a"), one("e")).await.unwrap();
    let taken = take(&queue, "w").await;
    let with_others = [Text::from("*"), taken[0].receipt.clone(), Text::from("1-1/1/1")];
    queue.reject(&with_others).await.unwrap();
    let taken = take(&queue, "w").await;
    assert_eq!(ids(&taken), ["e"]);
    let others = [Text::from("*"), Text::from("1-1/1/1")];
    assert_eq!(queue.replay(&others).await.unwrap() + queue.discard(&others).await.unwrap(), 0);
    queue.acknowledge(&[others[0].clone(), taken[0].receipt.clone(), others[1].clone()]).await.unwrap();
    assert_empty(&scope, &queue).await;
}
