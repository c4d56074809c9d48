//! What every [`IngestQueue`] promises, case by case.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::events::event;
use super::run::{BoxFuture, block_on, concurrently, fresh_tenant};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::ports::ingest_queue::{IngestQueue, QueueDepth, QueuedBatch};
use crate::text::Text;

/// What the suite needs to know about a queue.
#[async_trait]
pub trait IngestQueueHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh, empty queue that holds at most 100 events, gives a batch back after [`unit`](Self::unit), and gives it up after
    /// 3 deliveries.
    async fn open(&self) -> Arc<dyn IngestQueue>;

    /// Lets time pass for the queue: moves an injected clock, or waits where a server keeps the time.
    async fn elapse(&self, span: Duration);

    /// Returns the visibility timeout; a queue whose time cannot be moved takes a short one.
    fn unit(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

#[derive(Debug, Clone)]
struct Probe {
    harness: Arc<dyn IngestQueueHarness>,
    queue: Arc<dyn IngestQueue>,
}

impl Probe {
    async fn open(harness: Arc<dyn IngestQueueHarness>) -> Self {
        Self { queue: harness.open().await, harness }
    }

    /// Enqueues a batch of one event with this id.
    async fn enqueue(&self, name: &str) {
        self.queue.enqueue(fresh_tenant(), vec![event(name, 0)]).await.expect("enqueue succeeds");
    }

    /// Takes what is there without waiting.
    async fn take(&self, worker: &str, limit: usize) -> Vec<QueuedBatch> {
        self.queue.take(worker, limit, Duration::ZERO).await.expect("take succeeds")
    }

    async fn depth(&self) -> (u64, u64) {
        let QueueDepth { batches, dead, .. } = self.queue.depth().await.expect("depth succeeds");
        (batches, dead)
    }

    /// Lets the visibility timeout pass.
    async fn time_out(&self) {
        self.harness.elapse(self.harness.unit() + self.harness.unit() / 10).await;
    }
}

fn receipts(batches: &[QueuedBatch]) -> Vec<Text> {
    batches.iter().map(|batch| batch.receipt.clone()).collect()
}

fn names(batches: &[QueuedBatch]) -> Vec<String> {
    batches.iter().flat_map(|batch| &batch.events).map(|event| event.id.to_string()).collect()
}

super::suite! {
    $
    /// Lists every promise of an ingest queue as a test; takes an expression that makes the harness.
    ingest_queue_conformance, ingest_queue, IngestQueueHarness, Probe,
    [
        self: queue_delivers_what_was_accepted, queue_is_first_in_first_out, queue_hands_out_once, queue_redelivers,
            queue_rejects, queue_releases, queue_gives_up, queue_buries, queue_replays, queue_discards,
            queue_is_bounded, queue_acknowledges, queue_wakes_a_worker, queue_loses_nothing_under_load;
    ]
}

/// A batch comes with its tenant and its events as they were.
async fn queue_delivers_what_was_accepted(probe: Probe) {
    let events: Vec<Event> = super::generate::EventGenerator::new(1).take(20).collect();
    let tenant = fresh_tenant();
    probe.queue.enqueue(tenant, events.clone()).await.expect("enqueue succeeds");
    let taken = probe.take("w", 10).await;
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].tenant, &taken[0].events, taken[0].earlier_deliveries), (tenant, &events, 0));
}

/// Batches are handed out in the order of their acceptance, at most so many at once.
async fn queue_is_first_in_first_out(probe: Probe) {
    for name in ["a", "b", "c", "d", "e"] {
        probe.enqueue(name).await;
    }
    assert_eq!(names(&probe.take("w", 2).await), ["a", "b"]);
    assert_eq!(names(&probe.take("w", 10).await), ["c", "d", "e"]);
    assert!(probe.take("w", 10).await.is_empty());
}

/// What one worker took no other gets before the timeout.
async fn queue_hands_out_once(probe: Probe) {
    probe.enqueue("a").await;
    probe.enqueue("b").await;
    assert_eq!(names(&probe.take("first", 1).await), ["a"]);
    assert_eq!(names(&probe.take("second", 10).await), ["b"]);
    assert!(probe.take("third", 10).await.is_empty());
    assert!(probe.take("first", 10).await.is_empty(), "not even the same worker");
    assert_eq!(probe.depth().await, (2, 0), "they are still being worked on");
}

/// What a worker did not acknowledge in time is handed out again.
async fn queue_redelivers(probe: Probe) {
    probe.enqueue("a").await;
    probe.enqueue("b").await;
    let lost = probe.take("dying", 10).await;
    probe.queue.acknowledge(&receipts(&lost[1..])).await.expect("acknowledge succeeds");
    probe.time_out().await;
    let again = probe.take("second", 10).await;
    assert_eq!(names(&again), ["a"]);
    assert_eq!(again[0].earlier_deliveries, 1);
    probe.queue.acknowledge(&receipts(&again)).await.expect("acknowledge succeeds");
    probe.time_out().await;
    assert!(probe.take("third", 10).await.is_empty());
    assert_eq!(probe.depth().await, (0, 0));
}

/// A rejected batch is there again at once.
async fn queue_rejects(probe: Probe) {
    probe.enqueue("a").await;
    let taken = probe.take("first", 10).await;
    probe.queue.reject(&receipts(&taken)).await.expect("reject succeeds");
    let again = probe.take("second", 10).await;
    assert_eq!(names(&again), ["a"]);
    assert_eq!(again[0].earlier_deliveries, 1);
    probe.queue.reject(&["no such receipt".into()]).await.expect("an unknown receipt is passed over");
}

/// A batch that was handed out three times in vain is a dead letter, and is not handed out again.
async fn queue_gives_up(probe: Probe) {
    probe.enqueue("poison").await;
    for delivery in 0..3 {
        let taken = probe.take("w", 10).await;
        assert_eq!(taken.len(), 1, "delivery {delivery}");
        if delivery == 1 {
            probe.time_out().await;
        } else {
            probe.queue.reject(&receipts(&taken)).await.expect("reject succeeds");
        }
    }
    assert!(probe.take("w", 10).await.is_empty());
    assert_eq!(probe.depth().await, (0, 1));
    probe.enqueue("next").await;
    assert_eq!(names(&probe.take("w", 10).await), ["next"], "the queue goes on");
}

/// A batch that is released is as if it had not been taken, however often.
async fn queue_releases(probe: Probe) {
    probe.enqueue("a").await;
    for _ in 0..5 {
        let taken = probe.take("w", 10).await;
        assert_eq!((names(&taken), taken[0].earlier_deliveries), (vec!["a".to_owned()], 0));
        probe.queue.release(&receipts(&taken)).await.expect("release succeeds");
    }
    let taken = probe.take("w", 10).await;
    probe.queue.reject(&receipts(&taken)).await.expect("reject succeeds");
    let taken = probe.take("w", 10).await;
    assert_eq!(taken[0].earlier_deliveries, 1, "what counted before goes on counting");
    probe.queue.release(&receipts(&taken)).await.expect("release succeeds");
    assert_eq!(probe.take("w", 10).await[0].earlier_deliveries, 1);
    probe.queue.release(&["no such receipt".into()]).await.expect("an unknown receipt is passed over");
    assert_eq!(probe.depth().await, (1, 0));
}

/// A batch that is buried is a dead letter with its reason, and is not handed out again.
async fn queue_buries(probe: Probe) {
    let tenant = fresh_tenant();
    let events = vec![event("poison", 0), event("too", 0)];
    probe.queue.enqueue(tenant, events.clone()).await.expect("enqueue succeeds");
    probe.enqueue("good").await;
    let taken = probe.take("w", 1).await;
    probe.queue.bury(&receipts(&taken), "it smells").await.expect("bury succeeds");
    assert_eq!(names(&probe.take("w", 10).await), ["good"]);
    assert_eq!(probe.depth().await, (1, 1));
    assert_eq!(probe.queue.depth().await.expect("depth succeeds").events, 3, "it keeps its room");
    let dead = probe.queue.dead_letters(10).await.expect("dead_letters succeeds");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].tenant, dead[0].events.as_ref()), (Some(tenant), Ok(&events)));
    assert_eq!((dead[0].deliveries, dead[0].reason.as_str()), (1, "it smells"));
    probe.queue.bury(&["no such receipt".into()], "x").await.expect("an unknown receipt is passed over");
    assert_eq!(probe.queue.dead_letters(0).await.expect("dead_letters succeeds"), []);
}

/// A dead letter that is replayed is handed out as if for the first time, once.
async fn queue_replays(probe: Probe) {
    for name in ["a", "b"] {
        probe.enqueue(name).await;
    }
    let taken = probe.take("w", 10).await;
    probe.queue.bury(&receipts(&taken), "wrong").await.expect("bury succeeds");
    let dead: Vec<Text> = dead_receipts(&probe).await;
    assert_eq!(probe.queue.replay(&dead[..1]).await.expect("replay succeeds"), 1);
    assert_eq!(probe.queue.replay(&dead[..1]).await.expect("replay succeeds"), 0, "it is there once");
    let again = probe.take("w", 10).await;
    assert_eq!((names(&again), again[0].earlier_deliveries), (vec!["a".to_owned()], 0));
    assert_eq!(again[0].tenant, taken[0].tenant);
    assert_eq!(probe.depth().await, (1, 1));
}

/// A dead letter that is discarded is gone and gives its room back.
async fn queue_discards(probe: Probe) {
    let events = (0..100).map(|number| event(&format!("e{number}"), 0)).collect();
    probe.queue.enqueue(fresh_tenant(), events).await.expect("it fits");
    let taken = probe.take("w", 10).await;
    probe.queue.bury(&receipts(&taken), "wrong").await.expect("bury succeeds");
    let full = probe.queue.enqueue(fresh_tenant(), vec![event("one more", 0)]).await;
    assert_eq!(full.expect_err("a dead letter keeps its room").kind(), ErrorKind::Unavailable);
    let dead = dead_receipts(&probe).await;
    assert_eq!(probe.queue.discard(&dead).await.expect("discard succeeds"), 1);
    assert_eq!(probe.queue.discard(&dead).await.expect("discard succeeds"), 0);
    assert_eq!(probe.queue.depth().await.expect("depth succeeds"), QueueDepth::default());
    probe.enqueue("one more").await;
}

async fn dead_receipts(probe: &Probe) -> Vec<Text> {
    let dead = probe.queue.dead_letters(10).await.expect("dead_letters succeeds");
    dead.into_iter().map(|letter| letter.receipt).collect()
}

/// A full queue refuses with a time to retry and keeps nothing of the batch; acknowledging makes room.
async fn queue_is_bounded(probe: Probe) {
    let batch =
        |start: usize| (start..start + 50).map(|number| event(&format!("e{number}"), 0)).collect::<Vec<_>>();
    let tenant = fresh_tenant();
    probe.queue.enqueue(tenant, batch(0)).await.expect("half fits");
    probe.queue.enqueue(tenant, batch(50)).await.expect("the other half fits");
    let refused = probe.queue.enqueue(tenant, vec![event("one more", 0)]).await.expect_err("it is full");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.retry_after().is_some(), "it says when to retry");
    let taken = probe.take("w", 1).await;
    assert!(probe.queue.enqueue(tenant, vec![event("one more", 0)]).await.is_err(), "taking makes no room");
    probe.queue.acknowledge(&receipts(&taken)).await.expect("acknowledge succeeds");
    probe.queue.enqueue(tenant, batch(100)).await.expect("acknowledging does");
    let rest = names(&probe.take("w", 10).await);
    assert_eq!(rest.len(), 100);
    assert!(!rest.contains(&"one more".to_owned()), "what was refused is not kept");
}

/// Acknowledging again, or with unknown receipts, is passed over.
async fn queue_acknowledges(probe: Probe) {
    for name in ["a", "b", "c"] {
        probe.enqueue(name).await;
    }
    let taken = receipts(&probe.take("w", 3).await);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 3, "receipts differ");
    probe.queue.acknowledge(&taken[..2]).await.expect("acknowledge succeeds");
    probe.queue.acknowledge(&taken[..2]).await.expect("again succeeds");
    probe.queue.acknowledge(&["no such receipt".into()]).await.expect("an unknown one succeeds");
    probe.queue.acknowledge(&[]).await.expect("none succeeds");
    assert_eq!(probe.depth().await, (1, 0));
}

/// Who waits is woken by a batch.
async fn queue_wakes_a_worker(probe: Probe) {
    let worker: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            let mut seen = 0;
            while seen < 10 {
                let taken = probe.queue.take("w", 10, Duration::from_secs(5)).await.expect("take succeeds");
                probe.queue.acknowledge(&receipts(&taken)).await.expect("acknowledge succeeds");
                seen += taken.len();
            }
        })
    };
    let producer: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            for number in 0..10 {
                probe.enqueue(&format!("e{number}")).await;
            }
        })
    };
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), vec![worker, producer]).await;
    assert_eq!(probe.depth().await, (0, 0));
}

/// With several producers and workers every batch is worked on once.
async fn queue_loses_nothing_under_load(probe: Probe) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let producer = |number: usize| -> BoxFuture<'static, ()> {
        let probe = probe.clone();
        Box::pin(async move {
            for step in 0..20 {
                probe.enqueue(&format!("p{number}-{step}")).await;
            }
        })
    };
    let worker = |number: usize| -> BoxFuture<'static, ()> {
        let (probe, seen) = (probe.clone(), seen.clone());
        Box::pin(async move {
            while seen.lock().unwrap_or_else(PoisonError::into_inner).len() < 40 {
                let taken = probe.take(&format!("w{number}"), 3).await;
                if taken.is_empty() {
                    std::thread::yield_now();
                }
                probe.queue.acknowledge(&receipts(&taken)).await.expect("acknowledge succeeds");
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(names(&taken));
            }
        })
    };
    let tasks = vec![producer(0), producer(1), worker(0), worker(1)];
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks).await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (40, 40), "each batch once");
}
