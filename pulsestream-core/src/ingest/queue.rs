//! Into the ingest queue, and from it into the event store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{Counters, Refusal};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::event::Event;
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{AppendOptions, AppendOutcome, Durability, EventStore};
use crate::ports::ingest_queue::{IngestQueue, QueuedBatch};
use crate::text::Text;

/// How long the queue is left alone after the store did not take a batch.
const PAUSE: Duration = Duration::from_secs(1);

/// Puts events into the queue, if it keeps them as safely as is asked for.
pub(super) async fn enqueue(
    queue: &Arc<dyn IngestQueue>,
    tenant: TenantId,
    events: Vec<Event>,
    durability: Option<Durability>,
) -> Result<()> {
    let class = queue.durability();
    if durability.is_some_and(|wanted| wanted > class) {
        let message = "the ingest queue keeps events less safely than is asked for";
        return Err(Error::new(ErrorKind::Unsupported, "ingest", message)
            .with_context("durability", format!("{class:?}").to_lowercase()));
    }
    queue.enqueue(tenant, events).await
}

/// Returns which of the events are stored already; none when the store does not answer, because accepting must not depend on it.
pub(super) async fn stored_already(
    store: &Arc<dyn EventStore>,
    tenant: TenantId,
    events: &[Event],
) -> HashSet<EventId> {
    let ids: Vec<EventId> = events.iter().map(|event| event.id.clone()).collect();
    match store.get(tenant, &ids).await {
        Ok(found) => found.into_iter().flatten().map(|event| event.id).collect(),
        Err(error) => {
            tracing::debug!(%tenant, %error, "duplicates count for the limits while the store does not answer");
            HashSet::new()
        }
    }
}

/// The reason under which a refusal of the queue is counted.
pub(super) fn refusal_of(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::TooLarge => Refusal::TooLarge,
        ErrorKind::Unavailable => Refusal::Overloaded,
        _ => Refusal::Failed,
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Batches that were taken.
    pub batches: usize,
    /// Events that were stored for the first time.
    pub stored: usize,
    /// Events that were stored already.
    pub duplicates: usize,
    /// Batches that became dead letters.
    pub buried: usize,
}

/// Moves batches from the queue into the store: [`take`](Self::take), then [`store`](Self::store), again and again. Several may work on one queue, on any number of nodes.
///
/// A batch leaves the queue after its events are stored. Whoever dies between the two leaves it to another worker, and the store
/// knows the events by their ids, so each is stored once. What fails decides what becomes of a batch: when the store does not
/// answer it goes back as if it had not been taken; when the store says that it will never take it, it becomes a dead letter at
/// once; when nobody knows it is tried again a limited number of times.
#[derive(Debug)]
pub struct QueueDrain {
    queue: Arc<dyn IngestQueue>,
    store: Arc<dyn EventStore>,
    counters: Arc<Counters>,
    worker: Text,
    max_batches: usize,
    max_append_events: usize,
    /// Batches to store one by one, because a joint append failed and one of them may be why.
    suspects: usize,
}

/// Batches of one tenant that are appended together.
struct Group {
    tenant: TenantId,
    receipts: Vec<Text>,
    events: Vec<Event>,
}

impl QueueDrain {
    pub(super) fn new(
        queue: Arc<dyn IngestQueue>,
        store: Arc<dyn EventStore>,
        counters: Arc<Counters>,
        worker: Text,
        max_append_events: usize,
    ) -> Self {
        Self { queue, store, counters, worker, max_batches: 1_000, max_append_events, suspects: 0 }
    }

    /// Takes what waits in the queue, up to a limit; waits up to `wait` for the first batch, see [`IngestQueue::take`].
    ///
    /// # Errors
    /// Those of the queue.
    pub async fn take(&mut self, wait: Duration) -> Result<Vec<QueuedBatch>> {
        let limit = if self.suspects > 0 { 1 } else { self.max_batches };
        let batches = self.queue.take(&self.worker, limit, wait).await?;
        self.suspects = if batches.is_empty() { 0 } else { self.suspects.saturating_sub(batches.len()) };
        Ok(batches)
    }

    /// Stores batches that were taken.
    ///
    /// # Errors
    /// Those of the queue and of the store. What could not be stored is back in the queue.
    ///
    /// # Cancel safety
    /// What is not stored when the future is dropped is handed out again after the visibility timeout of the queue.
    pub async fn store(&mut self, batches: Vec<QueuedBatch>) -> Result<Drained> {
        let mut done = Drained { batches: batches.len(), ..Drained::default() };
        let mut groups = self.group(batches).into_iter();
        while let Some(group) = groups.next() {
            if let Err(error) = self.store_group(group, &mut done).await {
                let rest: Vec<Text> = groups.flat_map(|group| group.receipts).collect();
                self.queue.release(&rest).await?;
                return Err(error);
            }
        }
        Ok(done)
    }

    /// Joins the batches of each tenant, so that the store gets few large appends.
    fn group(&self, batches: Vec<QueuedBatch>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for batch in batches {
            let fits = |group: &&mut Group| {
                group.tenant == batch.tenant
                    && group.events.len() + batch.events.len() <= self.max_append_events
            };
            match groups.iter_mut().rev().find(fits) {
                Some(group) => {
                    group.receipts.push(batch.receipt);
                    group.events.extend(batch.events);
                }
                None => groups.push(Group {
                    tenant: batch.tenant,
                    receipts: vec![batch.receipt],
                    events: batch.events,
                }),
            }
        }
        groups
    }

    async fn store_group(&mut self, group: Group, done: &mut Drained) -> Result<()> {
        let Group { tenant, receipts, events } = group;
        let count = events.len();
        let outcomes = match self.store.append(tenant, events, AppendOptions::default()).await {
            Ok(outcomes) => outcomes,
            Err(error) => return self.not_stored(&receipts, count, error, done).await,
        };
        let (mut stored, mut duplicates, mut refused) = (0, 0, None);
        for outcome in outcomes {
            match outcome {
                AppendOutcome::Stored => stored += 1,
                AppendOutcome::Duplicate => duplicates += 1,
                AppendOutcome::Refused(error) => refused = Some(error),
            }
        }
        done.stored += stored;
        done.duplicates += duplicates;
        self.counters.add_stored(stored as u64);
        self.counters.add_duplicates(duplicates as u64);
        match refused {
            None => self.queue.acknowledge(&receipts).await,
            Some(error) => self.not_stored(&receipts, count - stored - duplicates, error, done).await,
        }
    }

    /// Decides what becomes of batches that were not stored; an error ends the step.
    async fn not_stored(
        &mut self,
        receipts: &[Text],
        events: usize,
        error: Error,
        done: &mut Drained,
    ) -> Result<()> {
        let is_transient = error.retry() != Retry::Never;
        let is_of_the_batch =
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Unsupported);
        if is_transient || error.kind() == ErrorKind::Closed {
            self.queue.release(receipts).await?;
            return Err(paused(error));
        }
        if receipts.len() > 1 {
            self.suspects = receipts.len();
            self.queue.release(receipts).await?;
            return Ok(());
        }
        if is_of_the_batch {
            tracing::error!(%error, events, "an accepted batch cannot be stored and became a dead letter");
            self.counters.add_refused(Refusal::RefusedByStore, events as u64);
            done.buried += 1;
            return self.queue.bury(receipts, &error.to_string()).await;
        }
        self.queue.reject(receipts).await?;
        Err(paused(error))
    }
}

/// Says that the worker should wait, unless the error says it already.
fn paused(error: Error) -> Error {
    if error.retry_after().is_some() || error.kind() == ErrorKind::Closed {
        return error;
    }
    error.with_retry(Retry::After(PAUSE))
}
