//! Ingest with a queue in front of the store.

use super::*;
use crate::memory::{MemoryIngestQueue, MemoryIngestQueueSettings};
use crate::ports::event_store::Durability;
use crate::ports::ingest_queue::IngestQueue;

struct Queued {
    fixture: Fixture,
    queue: Arc<MemoryIngestQueue>,
    drain: QueueDrain,
}

fn queued(max_events: u64, max_events_per_month: Option<u64>) -> Queued {
    let mut fixture = fixture(|settings| settings.max_events_per_month = max_events_per_month);
    let settings = MemoryIngestQueueSettings { max_events, max_deliveries: 3, ..Default::default() };
    let queue = Arc::new(MemoryIngestQueue::new(fixture.env.clone(), settings));
    fixture.service = fixture.service.with_queue(queue.clone());
    let drain = fixture.service.drain("w").unwrap();
    Queued { fixture, queue, drain }
}

impl Queued {
    async fn accept(&self, id: &str) -> Accepted {
        let event = self.fixture.event(id);
        self.fixture.service.ingest(TENANT, event, IngestOptions::default()).await.unwrap()
    }

    /// Takes and stores once.
    async fn step(&mut self) -> Result<Drained> {
        let batches = self.drain.take(Duration::ZERO).await.unwrap();
        self.drain.store(batches).await
    }

    async fn depth(&self) -> (u64, u64) {
        let depth = self.queue.depth().await.unwrap();
        (depth.batches, depth.dead)
    }

    fn fail_with(&self, kind: ErrorKind) {
        *self.fixture.store.failure.lock().unwrap() = Some(Error::new(kind, "test_store.append", "told to"));
    }
}

#[tokio::test]
async fn what_is_accepted_waits_and_is_stored_once() {
    let mut queued = queued(100, None);
    let accepted = queued.accept("a").await;
    assert!(accepted.queued && !accepted.duplicate);
    assert!(queued.accept("a").await.queued, "whether it is a duplicate shows later");
    queued.accept("b").await;
    assert!(!queued.fixture.stored("a").await, "it is found when it is stored");
    let done = queued.step().await.unwrap();
    assert_eq!(done, Drained { batches: 3, stored: 2, duplicates: 1, buried: 0 });
    assert!(queued.fixture.stored("a").await && queued.fixture.stored("b").await);
    assert_eq!(queued.depth().await, (0, 0));
    let counts = queued.fixture.service.counts();
    assert_eq!((counts.queued, counts.stored, counts.duplicates), (3, 2, 1));
}

#[tokio::test]
async fn limits_and_refusals_come_before_the_queue() {
    let queued = queued(250, Some(30));
    let mut events = queued.fixture.events("e", 3);
    let mut wrong = queued.fixture.event("wrong");
    wrong.metrics.status_code = Some(99);
    events.insert(1, Ok(wrong));
    let outcomes =
        queued.fixture.service.ingest_batch(TENANT, events, IngestOptions::default()).await.unwrap();
    assert!(outcomes[1].is_err() && [0, 2, 3].iter().all(|place| outcomes[*place].as_ref().unwrap().queued));
    let durable = IngestOptions { durability: Some(Durability::Durable), ..IngestOptions::default() };
    let event = queued.fixture.event("h");
    let unsafe_queue = queued.fixture.service.ingest(TENANT, event, durable).await.unwrap_err();
    assert_eq!(unsafe_queue.kind(), ErrorKind::Unsupported, "the memory queue is not durable");
    let month = queued.fixture.batch("f", 28).await.unwrap();
    assert!(month[..27].iter().all(Result::is_ok), "as many as the month has room for");
    assert_eq!(month[27].as_ref().unwrap_err().kind(), ErrorKind::RateLimited);
    assert_eq!(queued.fixture.batch("g", 1).await.unwrap_err().kind(), ErrorKind::RateLimited);
    assert_eq!(queued.queue.depth().await.unwrap().events, 30);
}

#[tokio::test]
async fn sending_a_batch_above_the_limit_again_and_again_gets_all_of_it_stored() {
    let mut queued = queued(10_000, None);
    let mut sent = 0;
    let mut queued_now = Vec::new();
    loop {
        let outcomes = queued.fixture.batch("e", 500).await.unwrap();
        sent += 1;
        let waiting = |outcome: &&Result<Accepted>| outcome.as_ref().is_ok_and(|accepted| accepted.queued);
        queued_now.push(outcomes.iter().filter(waiting).count());
        while queued.depth().await.0 > 0 {
            queued.step().await.unwrap();
        }
        let Some(refused) = outcomes.into_iter().find_map(Result::err) else { break };
        queued.fixture.clock.advance(refused.retry_after().unwrap());
    }
    assert_eq!((sent, queued_now), (3, vec![200, 200, 100]), "a burst each time");
    let counts = queued.fixture.service.counts();
    assert_eq!((counts.queued, counts.stored), (500, 500));
    // While the store is away, duplicates count, and nothing fails.
    queued.fixture.clock.advance(Duration::from_secs(3_600));
    queued.fixture.store.close().await.unwrap();
    let outcomes = queued.fixture.batch("e", 500).await.unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 200);
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_time_to_wait() {
    let mut queued = queued(2, None);
    queued.accept("a").await;
    queued.accept("b").await;
    let full = queued.fixture.batch("c", 1).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Unavailable);
    assert!(full.retry_after().is_some());
    assert_eq!(queued.fixture.refused(Refusal::Overloaded), 1);
    queued.step().await.unwrap();
    assert!(queued.fixture.batch("c", 1).await.is_ok());
}

#[tokio::test]
async fn a_store_that_is_away_costs_no_batch_its_chances() {
    let mut queued = queued(100, None);
    queued.accept("a").await;
    queued.accept("b").await;
    for _ in 0..10 {
        queued.fail_with(ErrorKind::Unavailable);
        let error = queued.step().await.unwrap_err();
        assert!(error.retry_after().is_some(), "the worker is told to wait");
        assert_eq!(queued.depth().await, (2, 0));
    }
    assert_eq!(queued.step().await.unwrap().stored, 2);
}

#[tokio::test]
async fn of_batches_that_fail_together_the_guilty_one_is_buried() {
    let mut queued = queued(100, None);
    for id in ["a", "poison", "b"] {
        queued.accept(id).await;
    }
    *queued.fixture.store.poison.lock().unwrap() = Some(EventId::new("poison").unwrap());
    let (mut stored, mut buried) = (0, 0);
    for _ in 0..4 {
        let done = queued.step().await.unwrap();
        stored += done.stored;
        buried += done.buried;
    }
    assert_eq!((stored, buried), (2, 1));
    assert_eq!(queued.depth().await, (0, 1));
    let dead = queued.queue.dead_letters(10).await.unwrap();
    assert!(dead[0].reason.contains("test_store.append"), "{}", dead[0].reason);
    assert_eq!(queued.fixture.refused(Refusal::RefusedByStore), 1);

    *queued.fixture.store.poison.lock().unwrap() = None;
    assert_eq!(queued.queue.replay(&[dead[0].receipt.clone()]).await.unwrap(), 1);
    assert_eq!(queued.step().await.unwrap().stored, 1);
    assert!(queued.fixture.stored("poison").await);
}

#[tokio::test]
async fn a_batch_that_fails_for_no_known_reason_is_tried_a_few_times() {
    let mut queued = queued(100, None);
    queued.accept("a").await;
    for _ in 0..3 {
        queued.fail_with(ErrorKind::Internal);
        queued.step().await.unwrap_err();
    }
    assert_eq!(queued.step().await.unwrap(), Drained::default());
    assert_eq!(queued.depth().await, (0, 1));
}
