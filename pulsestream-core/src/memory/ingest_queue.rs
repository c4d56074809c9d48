//! The ingest queue in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::signal::Signal;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::event::{Event, event_bytes};
use crate::id::TenantId;
use crate::ports::event_store::Durability;
use crate::ports::ingest_queue::{DeadLetter, IngestQueue, QueueDepth, QueuedBatch};
use crate::text::Text;

/// How long a producer should wait when the queue is full.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// How a [`MemoryIngestQueue`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryIngestQueueSettings {
    /// Largest number of events held, those of dead letters included.
    pub max_events: u64,
    /// Largest number of bytes held, estimated, those of dead letters included.
    pub max_bytes: u64,
    /// For how long a batch belongs to the worker that took it.
    pub visibility_timeout: Duration,
    /// How often a batch is handed out before it is given up.
    pub max_deliveries: u32,
}

impl Default for MemoryIngestQueueSettings {
    /// 100,000 events or 256 MiB, half a minute, five deliveries.
    fn default() -> Self {
        Self {
            max_events: 100_000,
            max_bytes: 256 << 20,
            visibility_timeout: Duration::from_secs(30),
            max_deliveries: 5,
        }
    }
}

/// A bounded queue in memory, first in first out, on monotonic time.
///
/// Core has no timers, so `take` is conservative about `wait`: with zero it returns at once, otherwise it waits until a batch is
/// there, and the caller puts its own deadline around it. A batch whose visibility timeout has passed is handed out by the next call
/// of `take`; its passing wakes nobody.
#[derive(Debug)]
pub struct MemoryIngestQueue {
    env: Env,
    settings: MemoryIngestQueueSettings,
    state: Mutex<State>,
    arrivals: Signal,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    /// Batches that were handed out, by number, and when they come back.
    taken: BTreeMap<u64, (Duration, Batch)>,
    dead: Vec<(Batch, Text)>,
    events: u64,
    bytes: u64,
    last_number: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    tenant: TenantId,
    events: Vec<Event>,
    bytes: u64,
    deliveries: u32,
}

impl MemoryIngestQueue {
    /// Creates an empty queue.
    pub fn new(env: Env, settings: MemoryIngestQueueSettings) -> Self {
        Self { env, settings, state: Mutex::default(), arrivals: Signal::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what waits, `None` when there is nothing.
    fn try_take(&self, limit: usize) -> Option<Vec<QueuedBatch>> {
        let now = self.env.monotonic();
        let mut state = self.lock();
        state.return_overdue(now, self.settings.max_deliveries);
        let count = limit.min(state.waiting.len());
        if count == 0 {
            return None;
        }
        let until = now.saturating_add(self.settings.visibility_timeout);
        let batches: Vec<Batch> = state.waiting.drain(..count).collect();
        let hand_out = |mut batch: Batch| {
            let queued = batch.queued();
            batch.deliveries += 1;
            state.taken.insert(batch.number, (until, batch));
            queued
        };
        Some(batches.into_iter().map(hand_out).collect())
    }
}

#[async_trait]
impl IngestQueue for MemoryIngestQueue {
    fn durability(&self) -> Durability {
        Durability::Accepted
    }

    async fn enqueue(&self, tenant: TenantId, events: Vec<Event>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let (count, bytes) = (events.len() as u64, events.iter().map(event_bytes).sum::<u64>());
        let mut state = self.lock();
        let MemoryIngestQueueSettings { max_events, max_bytes, .. } = self.settings;
        if state.events + count > max_events || state.bytes + bytes > max_bytes {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "ingest_queue.enqueue",
                "the ingest queue is full",
            )
            .with_retry(Retry::After(FULL_RETRY))
            .with_context("events", state.events)
            .with_context("max_events", max_events)
            .with_context("bytes", state.bytes)
            .with_context("max_bytes", max_bytes));
        }
        state.events += count;
        state.bytes += bytes;
        state.last_number += 1;
        let number = state.last_number;
        state.waiting.push_back(Batch { number, tenant, events, bytes, deliveries: 0 });
        drop(state);
        self.arrivals.notify_all();
        Ok(())
    }

    async fn take(&self, _worker: &str, limit: usize, wait: Duration) -> Result<Vec<QueuedBatch>> {
        if wait.is_zero() || limit == 0 {
            return Ok(self.try_take(limit).unwrap_or_default());
        }
        Ok(self.arrivals.wait_until(|| self.try_take(limit)).await)
    }

    async fn acknowledge(&self, receipts: &[Text]) -> Result<()> {
        let mut state = self.lock();
        for number in numbers(receipts) {
            // A batch that went back because its worker was slow is stored all the same.
            let waiting = state.waiting.iter().position(|batch| batch.number == number);
            let batch = match waiting {
                Some(index) => state.waiting.remove(index),
                None => state.taken.remove(&number).map(|(_, batch)| batch),
            };
            if let Some(batch) = batch {
                state.release(&batch);
            }
        }
        Ok(())
    }

    async fn reject(&self, receipts: &[Text]) -> Result<()> {
        let mut state = self.lock();
        for number in numbers(receipts).rev() {
            if let Some((_, batch)) = state.taken.remove(&number) {
                state.give_back(batch, self.settings.max_deliveries);
            }
        }
        drop(state);
        self.arrivals.notify_all();
        Ok(())
    }

    async fn release(&self, receipts: &[Text]) -> Result<()> {
        let mut state = self.lock();
        for number in numbers(receipts).rev() {
            if let Some((_, mut batch)) = state.taken.remove(&number) {
                batch.deliveries -= 1;
                state.waiting.push_front(batch);
            }
        }
        drop(state);
        self.arrivals.notify_all();
        Ok(())
    }

    async fn bury(&self, receipts: &[Text], reason: &str) -> Result<()> {
        let mut state = self.lock();
        for number in numbers(receipts) {
            if let Some((_, batch)) = state.taken.remove(&number) {
                state.dead.push((batch, reason.into()));
            }
        }
        Ok(())
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let state = self.lock();
        let letter = |(batch, reason): &(Batch, Text)| DeadLetter {
            receipt: batch.receipt(),
            tenant: Some(batch.tenant),
            events: Ok(batch.events.clone()),
            deliveries: batch.deliveries,
            reason: reason.clone(),
        };
        Ok(state.dead.iter().take(limit).map(letter).collect())
    }

    async fn replay(&self, receipts: &[Text]) -> Result<u64> {
        let mut state = self.lock();
        let mut count = 0;
        for mut batch in state.exhume(receipts) {
            batch.deliveries = 0;
            state.waiting.push_back(batch);
            count += 1;
        }
        drop(state);
        self.arrivals.notify_all();
        Ok(count)
    }

    async fn discard(&self, receipts: &[Text]) -> Result<u64> {
        let mut state = self.lock();
        let discarded = state.exhume(receipts);
        for batch in &discarded {
            state.release(batch);
        }
        Ok(discarded.len() as u64)
    }

    async fn depth(&self) -> Result<QueueDepth> {
        let state = self.lock();
        let batches = (state.waiting.len() + state.taken.len()) as u64;
        Ok(QueueDepth { batches, dead: state.dead.len() as u64, events: state.events })
    }
}

impl State {
    fn return_overdue(&mut self, now: Duration, max_deliveries: u32) {
        let overdue = self.taken.extract_if(.., |_, (until, _)| *until <= now);
        let overdue: Vec<Batch> = overdue.map(|(_, (_, batch))| batch).collect();
        for batch in overdue.into_iter().rev() {
            self.give_back(batch, max_deliveries);
        }
    }

    /// Puts a batch back in front, or among the dead letters when it was handed out too often.
    fn give_back(&mut self, batch: Batch, max_deliveries: u32) {
        if batch.deliveries >= max_deliveries {
            let reason = format!("it was handed out {} times and not stored", batch.deliveries);
            self.dead.push((batch, reason.into()));
        } else {
            self.waiting.push_front(batch);
        }
    }

    /// Takes dead letters out.
    fn exhume(&mut self, receipts: &[Text]) -> Vec<Batch> {
        let numbers: Vec<u64> = numbers(receipts).collect();
        self.dead
            .extract_if(.., |(batch, _)| numbers.contains(&batch.number))
            .map(|(batch, _)| batch)
            .collect()
    }

    fn release(&mut self, batch: &Batch) {
        self.events -= batch.events.len() as u64;
        self.bytes -= batch.bytes;
    }
}

/// The numbers that receipts name; what is not a receipt is passed over.
fn numbers(receipts: &[Text]) -> impl DoubleEndedIterator<Item = u64> {
    receipts.iter().filter_map(|receipt| receipt.parse().ok())
}

impl Batch {
    fn receipt(&self) -> Text {
        self.number.to_string().into()
    }

    fn queued(&self) -> QueuedBatch {
        QueuedBatch {
            receipt: self.receipt(),
            tenant: self.tenant,
            events: self.events.clone(),
            earlier_deliveries: self.deliveries,
        }
    }
}
