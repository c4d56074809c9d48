//! What the product tells about its own deliveries.

use std::time::Duration;

use crate::alerting::{Channel, Delivery, Labels, NotificationContent, NotificationKind};
use crate::text::Text;
use crate::time::Timestamp;

/// Messages to one channel that are given up within this span are told once.
const GIVEN_UP_SPAN: Duration = Duration::from_secs(3_600);

/// Something about deliveries that people should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incident {
    /// The channel was disabled.
    Disabled,
    /// A message to the channel was given up.
    GivenUp,
}

/// Returns the deliveries that tell the other channels of a tenant about an incident of `channel`. They have the same ids when
/// they are planned again; nothing is told about messages that are operational themselves, or tests.
pub(super) fn tell_others(
    incident: Incident,
    delivery: &Delivery,
    channel: &Channel,
    others: &[Channel],
    reason: &str,
    now: Timestamp,
) -> Vec<Delivery> {
    if matches!(delivery.content.kind, NotificationKind::Operational | NotificationKind::Test) {
        return Vec::new();
    }
    let name = &channel.name;
    let (label, title, message, once): (&[u8], _, _, _) = match incident {
        Incident::Disabled => (
            b"disabled",
            format!("the notification channel {name} was disabled"),
            format!("Nothing is sent to {name} until somebody enables it again.\nReason: {reason}"),
            channel.version.to_be_bytes(),
        ),
        Incident::GivenUp => (
            b"given_up",
            format!("a notification to {name} was given up"),
            format!(
                "{}\nReason: {reason}\nIt can be replayed from the delivery log.",
                delivery.content.title
            ),
            now.floor(GIVEN_UP_SPAN).as_micros().to_be_bytes(),
        ),
    };
    let content = NotificationContent {
        kind: NotificationKind::Operational,
        title: title.into(),
        message: message.into(),
        group: Labels::from([(Text::from("channel"), name.clone())]),
        alerts: Vec::new(),
        omitted: 0,
    };
    let tell = |other: &Channel| {
        let parts: [&[u8]; 5] = [b"operational", label, &channel.id.to_bytes(), &once, &other.id.to_bytes()];
        Delivery::new(Delivery::id_for(&parts), other.id, other.name.clone(), content.clone(), now, now)
    };
    others.iter().filter(|other| other.id != channel.id && other.disabled.is_none()).map(tell).collect()
}
