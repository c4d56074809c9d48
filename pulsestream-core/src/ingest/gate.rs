//! Bounds what is on its way to the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, Retry};

/// How long a caller should wait for the gate: a store that keeps up empties it within this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Counts events and bytes in flight, against a maximum of each.
#[derive(Debug)]
pub(super) struct Gate {
    events: Gauge,
    bytes: Gauge,
}

/// A number that is never above its maximum.
#[derive(Debug)]
struct Gauge {
    value: AtomicUsize,
    max: usize,
}

impl Gauge {
    fn try_add(&self, amount: usize) -> bool {
        let add = |value: usize| value.checked_add(amount).filter(|sum| *sum <= self.max);
        self.value.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
    }

    fn subtract(&self, amount: usize) {
        self.value.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// The right to have so much in flight, given back when dropped, also when the caller's future is.
#[derive(Debug)]
pub(super) struct Passage<'g> {
    gate: &'g Gate,
    events: usize,
    bytes: usize,
}

impl Gate {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        let gauge = |max| Gauge { value: AtomicUsize::new(0), max };
        Self { events: gauge(max_events), bytes: gauge(max_bytes) }
    }

    /// Enters with all or nothing.
    ///
    /// # Errors
    /// `TooLarge` when it would not fit an empty gate; `Unavailable` with a time to wait when it does not fit now.
    pub(super) fn enter(&self, events: usize, bytes: usize) -> Result<Passage<'_>> {
        for (name, amount, gauge) in
            [("max_in_flight_events", events, &self.events), ("max_in_flight_bytes", bytes, &self.bytes)]
        {
            if amount > gauge.max {
                let message = "the batch is larger than all that may be on its way to the store";
                return Err(Error::new(ErrorKind::TooLarge, "ingest", message)
                    .with_context("batch", amount)
                    .with_context(name, gauge.max));
            }
        }
        let full = |name: &'static str, max: usize| {
            Error::new(ErrorKind::Unavailable, "ingest", "too much is on its way to the store")
                .with_retry(Retry::After(RETRY_AFTER))
                .with_context(name, max)
        };
        if !self.events.try_add(events) {
            return Err(full("max_in_flight_events", self.events.max));
        }
        if !self.bytes.try_add(bytes) {
            self.events.subtract(events);
            return Err(full("max_in_flight_bytes", self.bytes.max));
        }
        Ok(Passage { gate: self, events, bytes })
    }

    /// Returns the events and the bytes in flight.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.events.value.load(Ordering::Acquire), self.bytes.value.load(Ordering::Acquire))
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.gate.events.subtract(self.events);
        self.gate.bytes.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_maxima_hold_at_the_edge_and_passages_come_back() {
        let gate = Gate::new(10, 1_000);
        let first = gate.enter(6, 400).unwrap();
        assert_eq!(gate.enter(5, 1).unwrap_err().retry_after(), Some(RETRY_AFTER));
        assert_eq!(gate.enter(1, 601).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(gate.in_flight(), (6, 400));
        let second = gate.enter(4, 600).unwrap();
        drop((first, second));
        assert_eq!(gate.in_flight(), (0, 0));
        assert!(gate.enter(10, 1_000).is_ok());
        assert_eq!(gate.enter(11, 1).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(gate.enter(1, 1_001).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
