//! Small questions to the event store that several answers need.

use std::time::Duration;

use pulsestream_core::id::TenantId;
use pulsestream_core::query::{AggregateQuery, FindQuery, Measure};
use pulsestream_core::time::{TimeRange, Timestamp};

use crate::app::App;
use crate::failure::Answer;

/// What the events of a range add up to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) events: u64,
    /// Events per second of the range.
    pub(crate) rate: f64,
    /// Share of the events that are errors, 0 to 1.
    pub(crate) error_rate: f64,
}

impl Counted {
    /// Returns how many of the events are errors.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count is a count"
    )]
    pub(crate) fn errors(&self) -> u64 {
        (self.events as f64 * self.error_rate).round() as u64
    }
}

impl App {
    /// Returns the range of the last while, the present instant inside.
    pub(crate) fn last(&self, span: Duration) -> TimeRange {
        TimeRange::last(span, self.ps.env().now().plus(Duration::from_micros(1)))
    }

    /// Counts the events of a tenant in a range.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count is a whole number, not negative"
    )]
    pub(crate) async fn counted(&self, tenant: TenantId, range: TimeRange) -> Answer<Counted> {
        let measures = vec![Measure::Count, Measure::Rate, Measure::ErrorRate];
        let query = AggregateQuery { range, measures, ..AggregateQuery::default() };
        let table = self.ps.event_store().aggregate(tenant, &query).await?;
        let value = |index: usize| {
            let row = table.rows.first();
            row.and_then(|row| row.values.get(index).copied().flatten()).unwrap_or_default()
        };
        Ok(Counted { events: value(0) as u64, rate: value(1), error_rate: value(2) })
    }

    /// Counts the events on their way to the store, those in the ingest queue included.
    pub(crate) async fn waiting_events(&self) -> Answer<u64> {
        let ingest = self.ps.ingest();
        let queued = match ingest.queue() {
            Some(queue) => queue.depth().await?.events,
            None => 0,
        };
        Ok(queued + ingest.counts().in_flight_events as u64)
    }

    /// Returns when the latest event of a tenant happened.
    pub(crate) async fn last_event_at(&self, tenant: TenantId) -> Answer<Option<Timestamp>> {
        let query = FindQuery { limit: 1, ..FindQuery::default() };
        let page = self.ps.event_store().find(tenant, &query).await?;
        Ok(page.events.first().map(|event| event.timestamp))
    }
}
