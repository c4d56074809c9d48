//! What a notification says, as lines for people.

use pulsestream_core::alerting::{AlertSummary, Labels, NotificationContent};
use pulsestream_core::ports::notifier::Notification;

/// How many alerts a message for people lists; the rest is counted.
pub(crate) const MAX_ALERTS: usize = 20;

/// Returns how many alerts are not listed.
pub(crate) fn left_out(content: &NotificationContent) -> u64 {
    content.alerts.len().saturating_sub(MAX_ALERTS) as u64 + u64::from(content.omitted)
}

/// Returns the facts of an alert: name and value of each.
pub(crate) fn facts(alert: &AlertSummary) -> Vec<(&str, String)> {
    let mut facts =
        vec![("Severity", alert.severity.as_str().to_owned()), ("State", alert.state.as_str().to_owned())];
    if let Some(value) = alert.value {
        facts.push(("Value", value.to_string()));
    }
    if !alert.labels.is_empty() {
        facts.push(("Labels", labels(&alert.labels)));
    }
    facts.push(("Started", alert.started_at.to_string()));
    if let Some(at) = alert.fired_at {
        facts.push(("Fired", at.to_string()));
    }
    if let Some(at) = alert.resolved_at {
        facts.push(("Resolved", at.to_string()));
    }
    facts.extend(alert.annotations.iter().map(|(name, text)| (name.as_str(), text.as_str().to_owned())));
    facts
}

/// Writes labels as `name=value, name=value`.
pub(crate) fn labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(", ")
}

/// Returns the line that identifies a notification, so that a repeated one is recognised.
pub(crate) fn identity(notification: &Notification) -> String {
    format!("Notification {} of {}", notification.delivery.id, notification.delivery.created_at)
}
