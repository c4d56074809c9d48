//! A notifier that hands on what it is given.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream::core::alerting::{Channel, ChannelConfig};
use pulsestream::core::id::ChannelId;
use pulsestream::core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream::prelude::*;
use tokio::sync::mpsc;

const KIND: &str = "forward";

/// Hands on what it is given, as long as somebody takes it.
#[derive(Debug)]
pub(crate) struct Forward(mpsc::UnboundedSender<Notification>);

impl Forward {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Notification>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self(sender)), receiver)
    }

    /// Returns a channel that leads to it.
    pub(crate) fn channel(number: u128, name: &str) -> Channel {
        let config = ChannelConfig::Custom { kind: KIND.into(), settings: JsonObject::default() };
        Channel::new(ChannelId::from_u128(number), name, config)
    }
}

#[async_trait]
impl Notifier for Forward {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn validate(&self, channel: &Channel) -> pulsestream::Result<()> {
        channel.validate()
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let _ = self.0.send(notification.clone());
        DeliveryReport {
            outcome: DeliveryOutcome::Delivered,
            request: KIND.into(),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}
