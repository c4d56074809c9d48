//! Notifications as lines on the terminal.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::Channel;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};

/// Prints each notification on standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TerminalNotifier;

#[async_trait]
impl Notifier for TerminalNotifier {
    fn kind(&self) -> &'static str {
        "terminal"
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let content = &notification.delivery.content;
        let line = |text: &str| text.replace(|char: char| char.is_control(), " ");
        say!("[{}] {}: {}", content.kind.as_str(), line(&content.title), line(&content.message));
        DeliveryReport {
            outcome: DeliveryOutcome::Delivered,
            request: "print".into(),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}
