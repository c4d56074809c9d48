//! Feeds a [`Processor`] the events of one partition, from where it was.

use std::sync::Arc;
use std::time::Duration;

use crate::alerting::PROCESSOR;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::KeptLease;
use crate::ports::alert_store::{AlertCommit, AlertStore, CheckpointUpdate};
use crate::ports::coordinator::Coordinator;
use crate::ports::event_store::{EventStore, Partition, Position, TailOptions};
use crate::ports::processor::{Processor, ProcessorBatch, ProcessorStart};
use crate::text::Text;
use crate::time::Timestamp;

/// Names that the library uses for itself.
const RESERVED: [&str; 2] = [PROCESSOR, "seat"];

/// How a processor is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedSettings {
    /// How many events one call gets at most.
    pub batch_events: usize,
    /// How long a lease on a partition lasts; it is renewed after a third of it.
    pub lease_ttl: Duration,
    /// How long the saved place may lag behind.
    pub checkpoint_interval: Duration,
    /// After how many events the place is saved even sooner: with a batch more, what comes again after a crash at most.
    pub checkpoint_events: usize,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            batch_events: 1_000,
            lease_ttl: Duration::from_secs(15),
            checkpoint_interval: Duration::from_secs(1),
            checkpoint_events: 10_000,
        }
    }
}

/// What feeds a processor.
#[derive(Debug, Clone)]
pub struct FeedParts {
    /// The processor.
    pub processor: Arc<dyn Processor>,
    /// Under which its place in the log is kept; see [`check_processor_name`].
    pub name: Text,
    /// Where the events are.
    pub events: Arc<dyn EventStore>,
    /// Where its place in the log is kept.
    pub checkpoints: Arc<dyn AlertStore>,
    /// Who may work.
    pub coordinator: Arc<dyn Coordinator>,
    /// The time.
    pub env: Env,
    /// Unique for each process: holds the leases.
    pub holder: Text,
}

/// What a step on a partition of the log did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOutcome {
    /// How many events were taken.
    pub events: usize,
    /// How many changes of alerts and deliveries were committed; 0 for processors of the application, whose effects are their own.
    pub effects: usize,
    /// Whether this process holds the partition.
    pub holds_lease: bool,
    /// Whether there may be more to do at once.
    pub has_more: bool,
    /// When the next step is due, unless events come sooner.
    pub next_due: Timestamp,
}

/// Where the processor is, as long as the lease is held.
#[derive(Debug)]
struct Place {
    sequence: u64,
    /// Up to where events were handled.
    position: Position,
    /// Events handled since the place was saved.
    unsaved: usize,
    saved_at: Timestamp,
}

/// Feeds one partition, a step at a time. It has no timer and spawns nothing: whoever drives it calls [`step`](Self::step) when events
/// come or time is due.
#[derive(Debug)]
pub struct ProcessorFeed {
    parts: FeedParts,
    settings: FeedSettings,
    partition: Partition,
    lease: KeptLease,
    place: Option<Place>,
}

/// Reads a partition from a known place to its end: what is appended after the call comes after the place that it returns.
///
/// # Errors
/// Those of the store.
pub async fn end_of_log(events: &dyn EventStore, partition: Partition, from: Position) -> Result<Position> {
    let mut position = from;
    // Nobody's events are wanted, only where they end.
    let options = TailOptions { tenants: Some(Arc::default()), ..TailOptions::default() };
    loop {
        let batch = events.tail(partition, position, options.clone()).await?;
        position = position.max(batch.next);
        if batch.caught_up {
            return Ok(position);
        }
    }
}

/// Checks the name of a processor: 1 to 64 of `a-z`, `0-9`, `_` and `-`, and none that the library uses itself.
///
/// # Errors
/// `Invalid` that says which names are fine.
pub fn check_processor_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let refuse = |message: String| Err(Error::invalid("processor.name", "/name", "invalid_name", message));
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        return refuse(format!("'{name}' is not 1 to 64 of a-z, 0-9, '_' and '-'"));
    }
    if RESERVED.contains(&name) {
        return refuse(format!("'{name}' is a name that PulseStream uses itself; take another"));
    }
    Ok(())
}

impl ProcessorFeed {
    /// Creates the feed of a partition.
    pub fn new(parts: FeedParts, settings: FeedSettings, partition: Partition) -> Self {
        let resource = format!("{}/{}", parts.name, partition.number());
        let (coordinator, holder) = (parts.coordinator.clone(), parts.holder.clone());
        let lease = KeptLease::new(coordinator, resource, holder, settings.lease_ttl);
        Self { parts, settings, partition, lease, place: None }
    }

    /// Returns up to where events were handled, for [`EventStore::wait_for_events`].
    pub fn position(&self) -> Position {
        self.place.as_ref().map_or(Position::START, |place| place.position)
    }

    /// Hands the next events to the processor, and saves its place when that is due.
    ///
    /// # Errors
    /// Those of the stores and of the processor; the next step hands out the same events again. `Fenced` when another process
    /// took the partition over meanwhile.
    pub async fn step(&mut self) -> Result<StepOutcome> {
        let now = self.parts.env.now();
        let held = self.lease.token();
        let token = self.lease.keep(now).await?;
        if token != held {
            self.place = None;
        }
        let Some(fencing_token) = token else {
            let next_due = self.lease.renew_at();
            return Ok(StepOutcome { events: 0, effects: 0, holds_lease: false, has_more: false, next_due });
        };
        let mut place = match self.place.take() {
            Some(place) => place,
            None => self.load(now).await?,
        };
        let outcome = self.feed(&mut place, fencing_token, now).await;
        // What could not be saved is saved with the next step; only a lease that was lost ends the memory of the place.
        match &outcome {
            Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Conflict) => {
                self.lease.forget();
            }
            _ => self.place = Some(place),
        }
        outcome
    }

    /// Saves the place and gives the partition back, so that another process takes it at once.
    ///
    /// # Errors
    /// Those of the stores; the lease then ends by itself.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(fencing_token) = self.lease.token() else {
            return Ok(());
        };
        if let Some(mut place) = self.place.take() {
            let saved = self.save(&mut place, fencing_token, self.parts.env.now()).await;
            saved.inspect_err(|_| self.lease.forget())?;
        }
        self.lease.release().await
    }

    async fn load(&self, now: Timestamp) -> Result<Place> {
        let saved = self.parts.checkpoints.checkpoint(&self.parts.name, self.partition).await?;
        Ok(match saved {
            Some(saved) => {
                Place { sequence: saved.sequence, position: saved.position, unsaved: 0, saved_at: now }
            }
            // A first place is saved at once: `Now` must not mean a later moment after a crash.
            None => Place {
                sequence: 0,
                position: self.first_position().await?,
                unsaved: 0,
                saved_at: Timestamp::MIN,
            },
        })
    }

    async fn first_position(&self) -> Result<Position> {
        match self.parts.processor.start() {
            ProcessorStart::Oldest => Ok(Position::START),
            ProcessorStart::Now => {
                // The alerting processor is the furthest that is known.
                let known = self.parts.checkpoints.checkpoint(PROCESSOR, self.partition).await?;
                let from = known.map_or(Position::START, |known| known.position);
                end_of_log(&*self.parts.events, self.partition, from).await
            }
        }
    }

    async fn feed(&self, place: &mut Place, fencing_token: u64, now: Timestamp) -> Result<StepOutcome> {
        let options = TailOptions { limit: self.settings.batch_events.max(1), ..TailOptions::default() };
        let batch = self.parts.events.tail(self.partition, place.position, options).await?;
        let (events, end) = (batch.events, place.position.max(batch.next));
        if !events.is_empty() {
            let partition = self.partition;
            let given = ProcessorBatch { partition, fencing_token, events: &events, end };
            self.parts.processor.process(given).await?;
        }
        place.position = end;
        place.unsaved += events.len();
        let interval = self.settings.checkpoint_interval;
        if place.unsaved >= self.settings.checkpoint_events || now >= place.saved_at.plus(interval) {
            self.save(place, fencing_token, now).await?;
        }
        let renew = self.lease.renew_at();
        let save = if place.unsaved > 0 { place.saved_at.plus(interval) } else { renew };
        Ok(StepOutcome {
            events: events.len(),
            effects: 0,
            holds_lease: true,
            has_more: !batch.caught_up,
            next_due: save.min(renew),
        })
    }

    async fn save(&self, place: &mut Place, fencing_token: u64, now: Timestamp) -> Result<()> {
        if place.unsaved > 0 || place.sequence == 0 {
            let checkpoint = CheckpointUpdate {
                processor: self.parts.name.clone(),
                partition: self.partition,
                fencing_token,
                after_sequence: place.sequence,
                position: place.position,
                state: Vec::new(),
            };
            self.parts.checkpoints.commit(AlertCommit { checkpoint, changes: Vec::new() }).await?;
            place.sequence += 1;
            place.unsaved = 0;
        }
        place.saved_at = now;
        Ok(())
    }
}
