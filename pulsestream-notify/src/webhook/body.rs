//! The JSON body of a webhook.

use pulsestream_core::alerting::{AlertSummary, Labels, NotificationContent};
use pulsestream_core::id::{ChannelId, DeliveryId, TenantId};
use pulsestream_core::ports::notifier::Notification;
use pulsestream_core::time::Timestamp;
use serde::Serialize;

/// The envelope that Standard Webhooks asks for: type, time of what happened, data. It is the same in every attempt.
#[derive(Serialize)]
struct Envelope<'a> {
    r#type: String,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: DeliveryId,
    tenant: TenantId,
    channel: Source<'a>,
    title: &'a str,
    message: &'a str,
    group: &'a Labels,
    alerts: &'a [AlertSummary],
    omitted: u32,
}

#[derive(Serialize)]
struct Source<'a> {
    id: ChannelId,
    name: &'a str,
}

/// Writes the body.
///
/// # Errors
/// What `serde_json` says; it has no reason to.
pub(super) fn write(notification: &Notification) -> serde_json::Result<Vec<u8>> {
    let delivery = &notification.delivery;
    let NotificationContent { kind, title, message, group, alerts, omitted } = &delivery.content;
    serde_json::to_vec(&Envelope {
        r#type: format!("notification.{}", kind.as_str()),
        timestamp: delivery.created_at,
        data: Data {
            id: delivery.id,
            tenant: notification.tenant,
            channel: Source { id: delivery.channel, name: &delivery.channel_name },
            title,
            message,
            group,
            alerts,
            omitted: *omitted,
        },
    })
}
