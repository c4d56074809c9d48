//! How many events a tenant may still store this month.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::id::TenantId;
use crate::ports::event_store::EventStore;
use crate::query::{AggregateQuery, Bucket, CalendarUnit, Measure, TimeZoneName};
use crate::time::{TimeRange, Timestamp};

/// How long a count of the store is used, with this process's own events added.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Tenants whose counts are kept.
const MAX_TENANTS: usize = 100_000;

/// Counts the events of the current calendar month (UTC), by their timestamps.
///
/// The store is asked at most once a minute and tenant; between, this process adds what it stores. Nodes that share a store see
/// each other's events with that delay, and a tenant can be above its quota by what they store within it.
#[derive(Debug, Default)]
pub(super) struct Quota {
    usage: Mutex<HashMap<TenantId, Usage>>,
}

#[derive(Debug, Clone, Copy)]
struct Usage {
    month: TimeRange,
    used: u64,
    counted_at: Duration,
}

/// Events set aside for an append; those that are not stored are given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation<'q> {
    quota: &'q Quota,
    tenant: TenantId,
    month: TimeRange,
    events: u64,
}

impl Reservation<'_> {
    /// Returns how many events are set aside.
    pub(super) fn events(&self) -> usize {
        usize::try_from(self.events).unwrap_or(usize::MAX)
    }

    /// Says how many events were stored.
    pub(super) fn keep(mut self, stored: u64) {
        self.events = self.events.saturating_sub(stored);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(usage) = self.quota.lock().get_mut(&self.tenant)
            && usage.month == self.month
        {
            usage.used = usage.used.saturating_sub(self.events);
        }
    }
}

impl Quota {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Usage>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets events aside, as many of them as fit.
    ///
    /// # Errors
    /// `RateLimited` until the next month when none does; what the store answers when it cannot be asked.
    pub(super) async fn reserve(
        &self,
        env: &Env,
        store: &Arc<dyn EventStore>,
        tenant: TenantId,
        events: u64,
        max: u64,
    ) -> Result<Reservation<'_>> {
        let now = env.now();
        if let Some(outcome) = self.try_reserve(env, now, tenant, events, max) {
            return outcome;
        }
        let month = month_of(now);
        let query =
            AggregateQuery { range: month, measures: vec![Measure::Count], ..AggregateQuery::default() };
        let table = store.aggregate(tenant, &query).await?;
        let used = table.rows.first().and_then(|row| row.values.first().copied().flatten()).unwrap_or(0.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, and it saturates"
        )]
        self.remember(tenant, Usage { month, used: used as u64, counted_at: env.monotonic() });
        // The count is fresh, so that this decides, unless it was pushed out just now by very many other tenants.
        self.try_reserve(env, now, tenant, events, max).unwrap_or_else(|| {
            let message = "the usage of this month cannot be kept";
            Err(Error::new(ErrorKind::Unavailable, "ingest", message))
        })
    }

    fn remember(&self, tenant: TenantId, usage: Usage) {
        let mut all = self.lock();
        if all.len() >= MAX_TENANTS && !all.contains_key(&tenant) {
            all.retain(|_, known| usage.counted_at.saturating_sub(known.counted_at) < MAX_AGE);
            if all.len() >= MAX_TENANTS {
                all.clear();
            }
        }
        all.insert(tenant, usage);
    }

    /// Decides with a count that is fresh enough; `None` when there is none.
    fn try_reserve(
        &self,
        env: &Env,
        now: Timestamp,
        tenant: TenantId,
        events: u64,
        max: u64,
    ) -> Option<Result<Reservation<'_>>> {
        let monotonic = env.monotonic();
        let mut all = self.lock();
        let usage = all.get_mut(&tenant).filter(|usage| {
            usage.month.contains(now) && monotonic.saturating_sub(usage.counted_at) < MAX_AGE
        })?;
        let month = usage.month;
        let events = events.min(max.saturating_sub(usage.used));
        if events == 0 {
            let message = "the tenant's events of this month are used up";
            return Some(Err(Error::new(ErrorKind::RateLimited, "ingest", message)
                .with_retry(Retry::After(month.end.since(now)))
                .with_context("max_events_per_month", max)
                .with_context("used", usage.used)));
        }
        usage.used += events;
        Some(Ok(Reservation { quota: self, tenant, month, events }))
    }
}

fn month_of(now: Timestamp) -> TimeRange {
    let month = Bucket::Calendar { unit: CalendarUnit::Month, time_zone: TimeZoneName::utc() };
    month.range_from(month.start_of(now))
}
