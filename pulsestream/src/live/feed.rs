//! Events and alerts of one tenant in one subscription.

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::ports::live_bus::{LiveMessage, LiveSubscription};
use tokio::sync::watch;

use super::events::EventFeed;

/// Receives what happens to one tenant.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) events: EventFeed,
    /// What comes over the bus.
    pub(crate) bus: Box<dyn LiveSubscription>,
    pub(crate) stopped: watch::Receiver<bool>,
}

#[async_trait]
impl LiveSubscription for Feed {
    async fn next(&mut self) -> Result<Option<LiveMessage>> {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stopped| *stopped) => Ok(None),
            // First, because there are few of them.
            message = self.bus.next() => message,
            message = self.events.messages.next() => message,
        }
    }

    fn missed(&mut self) -> u64 {
        self.events.messages.missed() + self.bus.missed()
    }
}
