//! What layers are tested with: a timer without waiting, and a store that fails for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::intercept::{EventStoreCall, Intercept, InterceptedEventStore, Interception};
use crate::error::{Error, ErrorKind};
use crate::ports::event_store::EventStore;
use crate::ports::timer::Timer;

/// A timer that lets no time pass: every sleep is over at once, or none ever is.
#[derive(Debug, Default)]
pub struct TestTimer {
    stands_still: bool,
    slept_micros: AtomicU64,
}

impl TestTimer {
    /// Creates a timer whose sleeps are over at once.
    pub fn instant() -> Self {
        Self::default()
    }

    /// Creates a timer whose sleeps never end.
    pub fn standing_still() -> Self {
        Self { stands_still: true, ..Self::default() }
    }

    /// Returns the time that was slept in total.
    pub fn slept(&self) -> Duration {
        Duration::from_micros(self.slept_micros.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Timer for TestTimer {
    async fn sleep(&self, duration: Duration) {
        if self.stands_still {
            std::future::pending::<()>().await;
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.slept_micros.fetch_add(micros, Ordering::SeqCst);
    }
}

/// A store of which some calls fail with `Unavailable` before anything happens; see [`FlakyEventStore::new`].
pub type FlakyEventStore = InterceptedEventStore<FailUntilLast>;

/// Lets one call in so many pass.
#[derive(Debug)]
pub struct FailUntilLast {
    every: u64,
    calls: AtomicU64,
}

impl FlakyEventStore {
    /// Wraps a store; of `every` calls all but the last fail, so that `every` attempts always suffice for one caller.
    pub fn new(inner: Arc<dyn EventStore>, every: u64) -> Self {
        Self::around(inner, FailUntilLast { every: every.max(1), calls: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Intercept for FailUntilLast {
    async fn intercept(&self, call: EventStoreCall) -> Interception {
        if matches!(call, EventStoreCall::Check | EventStoreCall::Close) {
            return Interception::Pass;
        }
        if (self.calls.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(self.every) {
            return Interception::Pass;
        }
        Interception::Fail(Error::new(ErrorKind::Unavailable, "testkit.flaky", "this call fails"))
    }
}
