//! Trying again what a store could not do at the moment.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::env::Env;
use crate::error::{Error, ErrorKind, FieldError, Result, Retry};
use crate::event::Event;
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use crate::ports::timer::Timer;
use crate::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use crate::time::{Timestamp, duration_text};

/// Most attempts that can be set.
const MAX_ATTEMPTS: u32 = 100;
/// Longest pause that can be set.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How often and how fast to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Attempts, the first one included; 4.
    pub attempts: u32,
    /// Pause after the first attempt, where the store names none; it doubles after each further one. 100 ms.
    #[serde(with = "duration_text")]
    pub first_pause: Duration,
    /// Longest pause. A store that asks for a longer one is not tried again: its answer goes to the caller. 5 s.
    #[serde(with = "duration_text")]
    pub max_pause: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 4, first_pause: Duration::from_millis(100), max_pause: Duration::from_secs(5) }
    }
}

impl RetrySettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// `Invalid` with a field error for each that is out of range.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        if !(1..=MAX_ATTEMPTS).contains(&self.attempts) {
            fields.push(FieldError::new("/attempts", "out_of_range", format!("must be 1 to {MAX_ATTEMPTS}")));
        }
        if self.max_pause > LONGEST_PAUSE {
            fields.push(FieldError::new("/max_pause", "out_of_range", "must be at most 10m"));
        }
        if self.first_pause > self.max_pause {
            fields.push(FieldError::new("/first_pause", "out_of_range", "must be at most max_pause"));
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("layers.retry", fields)) }
    }
}

/// Whether a call may be made again after an attempt of which nobody knows what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Twice is the same as once.
    Always,
    /// The second time would answer something else.
    IfNothingHappened,
}

/// An event store whose calls are made again when the store says that this may help.
///
/// - Reads and appends are repeated after every error that is not [`Retry::Never`]: an append carries the ids of its events, so a
///   repeated one stores nothing twice. After an attempt with an unknown outcome an event that this very attempt stored answers
///   `Duplicate`.
/// - Deletions are not repeated after [`ErrorKind::OutcomeUnknown`], because the count would be wrong.
/// - When attempts run out, the error has [`Retry::Exhausted`]. When one of them had an unknown outcome, so has the call, whatever
///   the last one said.
/// - [`EventStore::check`] and [`EventStore::close`] are passed on as they are, and so are the batches of a scan once it has started.
///
/// Events are copied for each attempt but the last.
#[derive(Debug)]
pub struct RetryLayer {
    inner: Arc<dyn EventStore>,
    timer: Arc<dyn Timer>,
    env: Env,
    settings: RetrySettings,
}

impl RetryLayer {
    /// Wraps a store. Randomness of `env` spreads the pauses of many callers.
    ///
    /// # Errors
    /// Those of [`RetrySettings::validate`].
    pub fn new(
        inner: Arc<dyn EventStore>,
        timer: Arc<dyn Timer>,
        env: Env,
        settings: RetrySettings,
    ) -> Result<Self> {
        settings.validate()?;
        Ok(Self { inner, timer, env, settings })
    }

    /// Makes a call until it succeeds or nothing is to be gained; `call` learns whether it is the last attempt.
    async fn attempt<T, F: Future<Output = Result<T>>>(
        &self,
        repeat: Repeat,
        mut call: impl FnMut(bool) -> F,
    ) -> Result<T> {
        let mut unknown = None;
        let mut attempt = 1;
        loop {
            let error = match call(attempt >= self.settings.attempts).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_unknown = error.kind() == ErrorKind::OutcomeUnknown;
            let pause = self.pause(&error, attempt).filter(|_| !is_unknown || repeat == Repeat::Always);
            let Some(pause) = pause else { return Err(verdict(error, unknown, attempt)) };
            if attempt >= self.settings.attempts {
                return Err(verdict(error, unknown, attempt).with_retry(Retry::Exhausted));
            }
            if is_unknown {
                unknown = Some(error);
            }
            self.timer.sleep(pause).await;
            attempt += 1;
        }
    }

    /// Returns how long to wait before the next attempt, `None` when there should be none.
    fn pause(&self, error: &Error, attempt: u32) -> Option<Duration> {
        let RetrySettings { first_pause, max_pause, .. } = self.settings;
        match error.retry() {
            Retry::Never | Retry::Exhausted => None,
            Retry::After(pause) => (pause <= max_pause).then_some(pause),
            Retry::Maybe => {
                let full = first_pause.saturating_mul(1 << (attempt - 1).min(16)).min(max_pause);
                // Between half and all of it; without randomness, all of it.
                let random = self.env.random_bytes().map_or(u16::MAX, u16::from_le_bytes);
                Some(full / 2 + full.mul_f64(f64::from(random) / f64::from(u16::MAX) / 2.0))
            }
        }
    }
}

/// What the caller learns: an attempt that may have had an effect outweighs a later one that had none.
fn verdict(error: Error, unknown: Option<Error>, attempts: u32) -> Error {
    let error = match unknown {
        Some(unknown) if error.kind() != ErrorKind::OutcomeUnknown => {
            unknown.with_retry(error.retry()).with_context("last_attempt", error)
        }
        _ => error,
    };
    if attempts > 1 { error.with_context("attempts", attempts) } else { error }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventStore for RetryLayer {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        mut events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        self.attempt(Repeat::Always, |is_last| {
            let events = if is_last { std::mem::take(&mut events) } else { events.clone() };
            self.inner.append(tenant, events, options)
        })
        .await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.attempt(Repeat::Always, |_| self.inner.get(tenant, ids)).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.attempt(Repeat::Always, |_| self.inner.find(tenant, query)).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.attempt(Repeat::Always, |_| self.inner.aggregate(tenant, query)).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.attempt(Repeat::Always, |_| self.inner.scan(tenant, query)).await
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.attempt(Repeat::Always, |_| self.inner.tail(partition, after, options.clone())).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.attempt(Repeat::Always, |_| self.inner.wait_for_events(partition, after)).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        self.attempt(Repeat::IfNothingHappened, |_| self.inner.delete(tenant, selection)).await
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.attempt(Repeat::IfNothingHappened, |_| self.inner.retain(tenant, before)).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
