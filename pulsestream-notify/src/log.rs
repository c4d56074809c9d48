//! Notifications as lines in the log of the server.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::alerting::{AlertSeverity, Channel, ChannelConfig, NotificationKind};
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_core::{Error, Result};

use crate::report::{cut, one_line};

const MAX_MESSAGE_BYTES: usize = 2_048;

/// Writes each notification as one `tracing` event with target `pulsestream::notification`: `error` when something critical or
/// an error fires, `warn` for the rest that fires, `info` otherwise. Line ends and control characters become spaces.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogNotifier;

impl LogNotifier {
    /// Creates the notifier.
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Notifier for LogNotifier {
    fn kind(&self) -> &'static str {
        "log"
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()?;
        match channel.config {
            ChannelConfig::Log {} => Ok(()),
            _ => Err(wrong_kind("log")),
        }
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        write(notification);
        DeliveryReport {
            outcome: DeliveryOutcome::Delivered,
            request: "log".into(),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}

fn write(notification: &Notification) {
    macro_rules! event {
        ($level:ident) => {{
            let content = &notification.delivery.content;
            tracing::$level!(
                target: "pulsestream::notification",
                tenant = %notification.tenant,
                delivery = %notification.delivery.id,
                channel = one_line(&notification.channel.name),
                kind = content.kind.as_str(),
                alerts = content.alerts.len() as u64 + u64::from(content.omitted),
                title = cut(&one_line(&content.title), MAX_MESSAGE_BYTES),
                message = cut(&one_line(&content.message), MAX_MESSAGE_BYTES),
            );
        }};
    }
    let content = &notification.delivery.content;
    let tells_of_trouble = matches!(
        content.kind,
        NotificationKind::Firing | NotificationKind::Repeat | NotificationKind::NoData
    );
    let is_grave = content
        .alerts
        .iter()
        .any(|alert| matches!(alert.severity, AlertSeverity::Critical | AlertSeverity::High));
    match (tells_of_trouble, is_grave) {
        (true, true) => event!(error),
        (true, false) => event!(warn),
        (false, _) => event!(info),
    }
}

pub(crate) fn wrong_kind(kind: &'static str) -> Error {
    Error::invalid("channels.validate", "/config/type", "wrong_kind", format!("must be {kind}"))
}
