//! Waiting, with tokio's timer.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::ports::timer::Timer;

/// The timer of the tokio runtime that polls it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokioTimer;

#[async_trait]
impl Timer for TokioTimer {
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
