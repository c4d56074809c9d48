//! The traffic of the synthetic shop: history, and live.

use std::time::Duration;

use pulsestream::Tenant;
use pulsestream_core::event::{ErrorDetails, Event, Severity};
use pulsestream_core::testkit::EventGenerator;
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

/// Makes the folder of a demo that keeps nothing.
pub(super) fn temporary_folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix("pulsestream-demo-").tempdir().map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "demo.folder",
            "no temporary folder can be made: give one with --store",
        )
        .with_source(error)
    })
}

/// A number of events with an incident among them.
#[derive(Debug)]
pub(super) struct Traffic {
    generator: EventGenerator,
    left: usize,
    incident: TimeRange,
    end: Timestamp,
}

impl Traffic {
    /// Returns `events` events over `range`, the payments of which fail during `incident`.
    pub(super) fn history(seed: u64, range: TimeRange, events: usize, incident: TimeRange) -> Self {
        let micros = u64::try_from(range.span().as_micros()).unwrap_or(u64::MAX);
        let gap = micros / (events.max(1) as u64);
        Self {
            generator: EventGenerator::starting(seed, range.start, gap),
            left: events,
            incident,
            end: range.end,
        }
    }

    /// Returns how many events are left.
    pub(super) fn len(&self) -> usize {
        self.left
    }
}

impl Iterator for Traffic {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.left = self.left.checked_sub(1)?;
        let mut event = self.generator.event();
        // The generator spreads events at random and may run past the end by a little.
        event.timestamp = event.timestamp.min(self.end);
        event.received_at = event.timestamp;
        if self.incident.contains(event.timestamp) {
            afflict(&mut event);
        }
        Some(event)
    }
}

/// Makes a payment fail slowly; other events stay as they are.
fn afflict(event: &mut Event) {
    if event.source.service.as_deref() != Some("payment") {
        return;
    }
    event.severity = Severity::Error;
    event.metrics.status_code = Some(503);
    event.metrics.response_time_ms = event.metrics.response_time_ms.map(|time| time * 8.0 + 2_000.0);
    event.message = Some("the payment provider does not answer".into());
    event.error = Some(Box::new(ErrorDetails {
        code: Some("E_PROVIDER".into()),
        message: Some("connection to the payment provider timed out".into()),
        error_type: Some("ProviderTimeout".into()),
        stack_trace: None,
    }));
}

/// Sends `rate` events a second until it is dropped; payments fail from `incident.0` to `incident.1` after the start.
pub(super) async fn run(shop: Tenant, seed: u64, rate: u32, incident: (Duration, Duration)) {
    let started = shop.now();
    // Ten times a second, and each time the events that are due by then: the rate holds when a tick comes late.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    // Another seed than the history, so that ids differ; and the start, so that a second run on one store differs too.
    let seed = seed ^ started.as_micros().unsigned_abs();
    let mut generator = EventGenerator::starting(seed, started, 0);
    let mut sent = 0_u64;
    loop {
        ticks.tick().await;
        let now = shop.now();
        let elapsed = now.since(started);
        let due = elapsed.as_secs_f64() * f64::from(rate);
        let mut batch = Vec::new();
        while (sent as f64) < due && batch.len() < 1_000 {
            let mut event = generator.event();
            event.timestamp = now;
            event.received_at = now;
            if elapsed >= incident.0 && elapsed < incident.1 {
                afflict(&mut event);
            }
            batch.push(event);
            sent += 1;
        }
        if !batch.is_empty()
            && let Err(error) = shop.ingest_batch(batch).await
        {
            tracing::warn!(%error, "live events were not stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_repeats_and_holds_the_incident() {
        let range = TimeRange::new(Timestamp::from_seconds(0), Timestamp::from_seconds(10_000));
        let incident = TimeRange::new(Timestamp::from_seconds(5_000), Timestamp::from_seconds(6_000));
        let history = || Traffic::history(3, range, 5_000, incident).collect::<Vec<_>>();
        let events = history();
        assert_eq!(events, history());
        let payments = |events: &[Event], during: TimeRange| {
            let payments: Vec<_> = events
                .iter()
                .filter(|event| {
                    event.source.service.as_deref() == Some("payment") && during.contains(event.timestamp)
                })
                .cloned()
                .collect();
            (payments.iter().filter(|event| event.is_error()).count(), payments.len())
        };
        let (failed, all) = payments(&events, incident);
        assert!(all > 0 && failed == all);
        let (failed, all) = payments(&events, TimeRange::new(range.start, incident.start));
        assert!(failed * 5 < all, "{failed} of {all}");
    }
}
