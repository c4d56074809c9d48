//! The timer port: waiting, which core cannot do by itself.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

/// Lets time pass. The facade brings tokio's timer; a test brings one that it drives.
#[async_trait]
pub trait Timer: fmt::Debug + Send + Sync + 'static {
    /// Completes when `duration` has passed since the first poll, and not before.
    ///
    /// # Cancel safety
    /// Dropping the future ends the waiting; nothing else happens.
    async fn sleep(&self, duration: Duration);
}
