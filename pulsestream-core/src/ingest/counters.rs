//! What became of events, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

/// Why events were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The event breaks a rule.
    Invalid,
    /// The batch has too many events or bytes.
    TooLarge,
    /// The tenant sends too fast.
    RateLimited,
    /// The tenant's events of this month are used up.
    QuotaExceeded,
    /// Too much is on its way to the store.
    Overloaded,
    /// The store cannot hold this event; behind a queue its batch became a dead letter.
    RefusedByStore,
    /// The store failed, or the limiter did; whether the events are stored may be unknown.
    Failed,
}

impl Refusal {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Invalid,
        Self::TooLarge,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::RefusedByStore,
        Self::Failed,
    ];

    /// Returns the stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Overloaded => "overloaded",
            Self::RefusedByStore => "refused_by_store",
            Self::Failed => "failed",
        }
    }
}

/// The counters of one service, since it was created.
#[derive(Debug, Default)]
pub(super) struct Counters {
    stored: AtomicU64,
    duplicates: AtomicU64,
    queued: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Counters {
    pub(super) fn add_stored(&self, events: u64) {
        self.stored.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_duplicates(&self, events: u64) {
        self.duplicates.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_queued(&self, events: u64) {
        self.queued.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_refused(&self, reason: Refusal, events: u64) {
        self.refused[reason as usize].fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn read(&self, in_flight: (usize, usize)) -> IngestCounts {
        IngestCounts {
            stored: self.stored.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            refused: Refusal::ALL
                .map(|reason| (reason, self.refused[reason as usize].load(Ordering::Relaxed))),
            in_flight_events: in_flight.0,
            in_flight_bytes: in_flight.1,
        }
    }
}

/// A reading of the counters, in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IngestCounts {
    /// Stored for the first time.
    pub stored: u64,
    /// Recognised as stored already.
    pub duplicates: u64,
    /// Accepted into the ingest queue; when they are stored they are counted again, by the node that stores them.
    pub queued: u64,
    /// Refused, by reason; every reason is there.
    #[serde(serialize_with = "as_map")]
    pub refused: [(Refusal, u64); Refusal::ALL.len()],
    /// On their way to the store now.
    pub in_flight_events: usize,
    /// Bytes of them.
    pub in_flight_bytes: usize,
}

fn as_map<S: Serializer>(refused: &[(Refusal, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(refused.iter().map(|(reason, events)| (reason.as_str(), events)))
}

impl IngestCounts {
    /// Returns how many events were refused for a reason.
    pub fn refused_for(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize].1
    }
}
