//! The service that accepts events.

use std::collections::HashSet;
use std::sync::Arc;

use super::counters::{Counters, IngestCounts, Refusal};
use super::gate::Gate;
use super::queue::{QueueDrain, enqueue, refusal_of, stored_already};
use super::quota::Quota;
use crate::env::Env;
use crate::error::{Error, ErrorKind, FieldError, Result, Retry};
use crate::event::{Dialect, Event, EventParser, ParsedEvents, event_bytes};
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{AppendOptions, AppendOutcome, Durability, EventStore};
use crate::ports::ingest_queue::IngestQueue;
use crate::ports::rate_limiter::{Decision, RateLimit, RateLimiter};
use crate::settings::IngestSettings;
use crate::time::Timestamp;

/// The rate limiter's key for ingest.
const RATE_LIMIT_KEY: &str = "ingest";

/// Appends of one batch. More than one is needed only where a batch is more than the limits allow and begins with duplicates.
const MAX_ROUNDS: usize = 64;

/// Limits of one tenant's own; `None` takes those of the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// How many events the tenant may send.
    pub rate_limit: Option<RateLimit>,
    /// How many events the tenant may store in a calendar month (UTC).
    pub max_events_per_month: Option<u64>,
}

/// How to ingest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestOptions {
    /// Which rules the events must meet, and how errors spell the fields.
    pub dialect: Dialect,
    /// What the acknowledgement must mean; `None` takes the store's own class.
    pub durability: Option<Durability>,
    /// Limits of the tenant's own.
    pub limits: TenantLimits,
}

/// An event that is stored, or that waits safely to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: EventId,
    /// When it was received, for a duplicate this time.
    pub received_at: Timestamp,
    /// Whether an event with this id was stored already, and so nothing changed.
    pub duplicate: bool,
    /// Whether it waits in the ingest queue: it is as safe as the queue's durability says, it is found when it is stored, and only
    /// then it shows whether it is a duplicate.
    pub queued: bool,
}

/// Accepts events: validates them, applies the tenant's limits, and appends them to the store, or to a queue in front of it.
///
/// Memory is bounded: what does not fit beside what is on its way to the store is refused with `Unavailable` and a time to wait.
/// Every refusal is counted by its reason, logged once for each call, and answered.
#[derive(Debug)]
pub struct IngestService {
    env: Env,
    store: Arc<dyn EventStore>,
    limiter: Arc<dyn RateLimiter>,
    settings: IngestSettings,
    rate_limit: RateLimit,
    gate: Gate,
    quota: Quota,
    counters: Arc<Counters>,
    queue: Option<Arc<dyn IngestQueue>>,
}

impl IngestService {
    /// Creates the service.
    ///
    /// # Errors
    /// `Invalid` when the settings hold no valid rate limit.
    pub fn new(
        env: Env,
        store: Arc<dyn EventStore>,
        limiter: Arc<dyn RateLimiter>,
        settings: IngestSettings,
    ) -> Result<Self> {
        Ok(Self {
            rate_limit: settings.rate_limit()?,
            gate: Gate::new(settings.max_in_flight_events, settings.max_in_flight_bytes),
            quota: Quota::default(),
            counters: Arc::default(),
            queue: None,
            env,
            store,
            limiter,
            settings,
        })
    }

    /// Accepts events into a queue, from which [`QueueDrain`]s move them into the store.
    #[must_use]
    pub fn with_queue(mut self, queue: Arc<dyn IngestQueue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Returns the queue in front of the store, when there is one.
    pub fn queue(&self) -> Option<&Arc<dyn IngestQueue>> {
        self.queue.as_ref()
    }

    /// Returns what moves events from the queue into the store, when there is a queue; `worker` is unique in all processes.
    pub fn drain(&self, worker: &str) -> Option<QueueDrain> {
        let queue = self.queue.clone()?;
        let (store, counters) = (self.store.clone(), self.counters.clone());
        Some(QueueDrain::new(queue, store, counters, worker.into(), self.settings.max_batch_events))
    }

    /// Returns a parser for the events of a dialect, with the rules and limits of this service.
    pub fn parser(&self, dialect: Dialect) -> EventParser {
        EventParser::new(self.env.clone(), self.settings.rules(dialect), self.settings.batch_limit(dialect))
    }

    /// Returns what was counted since the service was created.
    pub fn counts(&self) -> IngestCounts {
        self.counters.read(self.gate.in_flight())
    }

    /// Returns what is left of a tenant's rate limit, and takes nothing.
    ///
    /// # Errors
    /// `Unavailable` when the limiter cannot be reached.
    pub async fn rate_limit(&self, tenant: TenantId, limits: TenantLimits) -> Result<Decision> {
        self.limiter.peek(tenant, RATE_LIMIT_KEY, limits.rate_limit.unwrap_or(self.rate_limit)).await
    }

    /// Accepts one event.
    ///
    /// # Errors
    /// As for [`Self::ingest_batch`], and `Invalid` with every field error of the event.
    pub async fn ingest(&self, tenant: TenantId, event: Event, options: IngestOptions) -> Result<Accepted> {
        let mut outcomes = self.ingest_batch(tenant, vec![Ok(event)], options).await?;
        outcomes
            .pop()
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "ingest", "the event has no outcome")))
    }

    /// Accepts events, and answers one outcome for each in the same order. Events that were refused while they were parsed may
    /// be among them; they and those that break a rule do not affect the others.
    ///
    /// A batch that is more than the tenant's limits allow is accepted in part: its events are taken in order as far as the limits
    /// go, and each of the others is refused with `RateLimited` and a time to wait. Duplicates do not count for this, so that
    /// sending the same batch again and again, which is safe and is what clients do, gets all of it stored.
    ///
    /// # Errors
    /// - `TooLarge`: more events than a batch may have, or than may be in flight.
    /// - `RateLimited`, with a time to wait: the tenant sends too fast, or its month is used up, and no event can be taken.
    /// - `Unavailable`, with a time to wait: too much is on its way to the store, or the queue is full. Nothing is stored.
    /// - Errors of the store, of the queue and of the limiter. Sending the same ids again is safe.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each event stored or not stored; what it took of the rate limit is spent.
    pub async fn ingest_batch(
        &self,
        tenant: TenantId,
        events: Vec<Result<Event, Vec<FieldError>>>,
        options: IngestOptions,
    ) -> Result<Vec<Result<Accepted>>> {
        self.ingest_all(tenant, events, true, options).await
    }

    /// Accepts what a parser of this service has read, as [`Self::ingest_batch`] does, without checking it once more.
    ///
    /// # Errors
    /// As for [`Self::ingest_batch`].
    ///
    /// # Cancel safety
    /// As for [`Self::ingest_batch`].
    pub async fn ingest_parsed(
        &self,
        tenant: TenantId,
        events: ParsedEvents,
        options: IngestOptions,
    ) -> Result<Vec<Result<Accepted>>> {
        let checks = !events.meets(&self.settings.rules(options.dialect));
        self.ingest_all(tenant, events.into_inner(), checks, options).await
    }

    async fn ingest_all(
        &self,
        tenant: TenantId,
        events: Vec<Result<Event, Vec<FieldError>>>,
        checks: bool,
        options: IngestOptions,
    ) -> Result<Vec<Result<Accepted>>> {
        let submitted = events.len();
        let max_events = self.settings.batch_limit(options.dialect);
        if submitted > max_events {
            let error = Error::new(ErrorKind::TooLarge, "ingest", "the batch has too many events")
                .with_context("events", submitted)
                .with_context("max_batch_events", max_events);
            return Err(self.refuse(tenant, Refusal::TooLarge, submitted, error));
        }
        let (rules, now) = (self.settings.rules(options.dialect), self.env.now());
        let check = |event: &Event| if checks { rules.check(event, now) } else { Vec::new() };
        let (valid, mut outcomes) = divide(events, check);
        let invalid = submitted - valid.len();
        if invalid > 0 {
            self.count_refused(tenant, Refusal::Invalid, invalid);
        }
        if !valid.is_empty() {
            let stored = self.store_valid(tenant, valid, options).await?;
            if outcomes.is_empty() {
                return Ok(stored);
            }
            let open = outcomes.iter_mut().filter(|outcome| outcome.is_none());
            for (place, outcome) in open.zip(stored) {
                *place = Some(outcome);
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Applies the limits and appends.
    async fn store_valid(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: IngestOptions,
    ) -> Result<Vec<Result<Accepted>>> {
        let count = events.len();
        let bytes = events.iter().map(event_bytes).fold(0_u64, u64::saturating_add);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let _passage = self.gate.enter(count, bytes).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::TooLarge => Refusal::TooLarge,
                _ => Refusal::Overloaded,
            };
            self.refuse(tenant, reason, count, error)
        })?;
        let allowance = self.take_rate(tenant, count, options.limits).await?;
        let mut outcomes = Vec::with_capacity(count);
        let (mut left, mut allowed) = (events, allowance.events);
        for _ in 0..MAX_ROUNDS {
            let round = allowed.min(left.len());
            let (next, stored) = match self.store_round(tenant, &mut left, round, options).await {
                Ok(done) => done,
                // What earlier rounds have stored is told; the cause is told of each event that it kept out.
                Err(error) if outcomes.is_empty() => return Err(error),
                Err(error) => {
                    outcomes.resize_with(count, || Err(alike(&error)));
                    return Ok(outcomes);
                }
            };
            outcomes.extend(stored);
            allowed -= next.appended;
            allowed += next.duplicates;
            if left.is_empty() || allowed == 0 {
                break;
            }
        }
        if !left.is_empty() {
            let error = allowance.refusal(left.len());
            let error = self.refuse(tenant, Refusal::RateLimited, left.len(), error);
            outcomes.resize_with(count, || Err(alike(&error)));
        }
        Ok(outcomes)
    }

    /// Appends the first `round` of these events, or as many of them as the month has room for, and takes them out.
    async fn store_round(
        &self,
        tenant: TenantId,
        events: &mut Vec<Event>,
        round: usize,
        options: IngestOptions,
    ) -> Result<(Round, Vec<Result<Accepted>>)> {
        let max = options.limits.max_events_per_month.or(self.settings.max_events_per_month);
        let reservation = match max {
            None => None,
            Some(max) => {
                let reserved = self.quota.reserve(&self.env, &self.store, tenant, round as u64, max).await;
                Some(reserved.map_err(|error| {
                    let reason = match error.kind() {
                        ErrorKind::RateLimited => Refusal::QuotaExceeded,
                        _ => Refusal::Failed,
                    };
                    self.refuse(tenant, reason, events.len(), error)
                })?)
            }
        };
        let count = reservation.as_ref().map_or(round, |reserved| reserved.events().min(round));
        let rest = events.split_off(count);
        let kept_out_by_failure = count + rest.len();
        let events = std::mem::replace(events, rest);
        let ids: Vec<_> = events.iter().map(|event| (event.id.clone(), event.received_at)).collect();
        if let Some(queue) = &self.queue {
            // Only while the batch is above the limits, as ever: looking costs more than storing.
            let known = if kept_out_by_failure > count {
                stored_already(&self.store, tenant, &events).await
            } else {
                HashSet::new()
            };
            let fresh: Vec<Event> = events.into_iter().filter(|event| !known.contains(&event.id)).collect();
            let waiting = fresh.len() as u64;
            if waiting > 0 {
                let queued = enqueue(queue, tenant, fresh, options.durability).await;
                queued
                    .map_err(|error| self.refuse(tenant, refusal_of(&error), kept_out_by_failure, error))?;
            }
            if let Some(reservation) = reservation {
                reservation.keep(waiting);
            }
            let duplicates = count - usize::try_from(waiting).unwrap_or(count);
            self.counters.add_queued(waiting);
            self.counters.add_duplicates(duplicates as u64);
            let accepted = ids.into_iter().map(|(id, received_at)| {
                let duplicate = known.contains(&id);
                Ok(Accepted { id, received_at, duplicate, queued: !duplicate })
            });
            return Ok((Round { appended: count, duplicates }, accepted.collect()));
        }
        let append = AppendOptions { durability: options.durability };
        let outcomes = self.store.append(tenant, events, append).await.and_then(|outcomes| {
            if outcomes.len() == count {
                return Ok(outcomes);
            }
            Err(Error::new(ErrorKind::Internal, "ingest", "the store answered another number of outcomes")
                .with_context("events", count)
                .with_context("outcomes", outcomes.len()))
        });
        let outcomes =
            outcomes.map_err(|error| self.refuse(tenant, Refusal::Failed, kept_out_by_failure, error))?;
        let stored = outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count();
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Refused(_))).count();
        if let Some(reservation) = reservation {
            reservation.keep(stored as u64);
        }
        let duplicates = count - stored - refused;
        self.counters.add_stored(stored as u64);
        self.counters.add_duplicates(duplicates as u64);
        if refused > 0 {
            self.count_refused(tenant, Refusal::RefusedByStore, refused);
        }
        let accepted = ids.into_iter().zip(outcomes).map(|((id, received_at), outcome)| match outcome {
            AppendOutcome::Stored => Ok(Accepted { id, received_at, duplicate: false, queued: false }),
            AppendOutcome::Duplicate => Ok(Accepted { id, received_at, duplicate: true, queued: false }),
            AppendOutcome::Refused(error) => Err(error),
        });
        Ok((Round { appended: count, duplicates }, accepted.collect()))
    }

    /// Takes from the rate limit what it gives for so many events, at least one.
    async fn take_rate(&self, tenant: TenantId, events: usize, limits: TenantLimits) -> Result<Allowance> {
        let limit = limits.rate_limit.unwrap_or(self.rate_limit);
        let asked = u32::try_from(events).unwrap_or(u32::MAX);
        let decision = self
            .limiter
            .take_up_to(tenant, RATE_LIMIT_KEY, asked, limit)
            .await
            .map_err(|error| self.refuse(tenant, Refusal::Failed, events, error))?;
        let allowance = Allowance { events: decision.taken as usize, limit, decision };
        if allowance.events == 0 {
            let error = allowance.refusal(events);
            return Err(self.refuse(tenant, Refusal::RateLimited, events, error));
        }
        Ok(allowance)
    }

    /// Counts and logs a refusal of a batch or of the rest of one, and passes its error on.
    fn refuse(&self, tenant: TenantId, reason: Refusal, events: usize, error: Error) -> Error {
        self.counters.add_refused(reason, events as u64);
        tracing::info!(%tenant, reason = reason.as_str(), events, %error, "events refused");
        error
    }

    /// Counts and logs refusals of single events, whose errors are in the answer.
    fn count_refused(&self, tenant: TenantId, reason: Refusal, events: usize) {
        self.counters.add_refused(reason, events as u64);
        tracing::info!(%tenant, reason = reason.as_str(), events, "events refused");
    }
}

/// What became of one append.
struct Round {
    appended: usize,
    duplicates: usize,
}

/// What the rate limit gave.
struct Allowance {
    events: usize,
    limit: RateLimit,
    decision: Decision,
}

impl Allowance {
    /// The refusal of the events it was too little for.
    fn refusal(&self, events: usize) -> Error {
        let wanted = u32::try_from(events).unwrap_or(u32::MAX);
        let wait = self.limit.wait_for(wanted, self.decision.reset_after);
        Error::new(ErrorKind::RateLimited, "ingest", "the tenant sends too fast")
            .with_retry(Retry::After(wait))
            .with_context("events", events)
            .with_context("limit", self.decision.limit)
    }
}

/// The same refusal for one event of many.
fn alike(error: &Error) -> Error {
    Error::new(error.kind(), error.operation(), error.message().to_owned()).with_retry(error.retry())
}

/// Returns the valid events of a batch, and the outcomes of the others in their places: none at all where every event is valid.
fn divide(
    mut events: Vec<Result<Event, Vec<FieldError>>>,
    check: impl Fn(&Event) -> Vec<FieldError>,
) -> (Vec<Event>, Vec<Option<Result<Accepted>>>) {
    for event in &mut events {
        let errors = event.as_ref().map_or_else(|_| Vec::new(), &check);
        if !errors.is_empty() {
            *event = Err(errors);
        }
    }
    let mut outcomes = Vec::new();
    if events.iter().any(Result::is_err) {
        let refusal =
            |fields: &mut Vec<FieldError>| Err(Error::invalid_fields("ingest", std::mem::take(fields)));
        outcomes = events.iter_mut().map(|event| event.as_mut().err().map(refusal)).collect();
    }
    // Within the same memory.
    (events.into_iter().filter_map(Result::ok).collect(), outcomes)
}
