//! What is sent: the content of a notification and its durable delivery.

use serde::{Deserialize, Serialize};

use super::{Alert, AlertSeverity, AlertState, Labels};
use crate::id::{AlertId, ChannelId, DeliveryId, RuleId, derive_uuid};
use crate::text::Text;
use crate::time::Timestamp;

/// What a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// Alerts fire.
    Firing,
    /// Alerts are over.
    Resolved,
    /// Windows have no value.
    NoData,
    /// Alerts fire still.
    Repeat,
    /// Somebody tries the channel.
    Test,
    /// The product reports about itself, for example that a channel was disabled.
    Operational,
}

impl NotificationKind {
    /// Returns the snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::NoData => "no_data",
            Self::Repeat => "repeat",
            Self::Test => "test",
            Self::Operational => "operational",
        }
    }
}

/// An alert as a notification tells it: what was true when the notification was planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSummary {
    /// The episode.
    pub id: AlertId,
    /// The rule.
    pub rule: RuleId,
    /// Name of the rule.
    pub rule_name: Text,
    /// Its severity.
    pub severity: AlertSeverity,
    /// Its state.
    pub state: AlertState,
    /// Its labels.
    pub labels: Labels,
    /// Texts for people.
    pub annotations: Labels,
    /// What is measured and the threshold, in words.
    pub summary: Text,
    /// The value that decided.
    pub value: Option<f64>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it fired.
    pub fired_at: Option<Timestamp>,
    /// When it was over.
    pub resolved_at: Option<Timestamp>,
}

impl From<&Alert> for AlertSummary {
    fn from(alert: &Alert) -> Self {
        Self {
            id: alert.id,
            rule: alert.rule,
            rule_name: alert.rule_name.clone(),
            severity: alert.severity,
            state: alert.state,
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            summary: alert.summary.clone(),
            value: alert.value,
            started_at: alert.started_at,
            fired_at: alert.fired_at,
            resolved_at: alert.resolved_at,
        }
    }
}

/// What one notification says, whatever the channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationContent {
    /// What it tells.
    pub kind: NotificationKind,
    /// One line.
    pub title: Text,
    /// The text, without markup.
    pub message: Text,
    /// The labels by which the alerts were grouped.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub group: Labels,
    /// The alerts, those that fire first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<AlertSummary>,
    /// How many alerts were left out because there were too many.
    #[serde(default)]
    pub omitted: u32,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Waits for its time.
    Queued,
    /// The receiver has it.
    Delivered,
    /// Given up: the schedule ended, or the receiver refused for good. It can be replayed.
    Dead,
    /// Not wanted any more: its channel was deleted or disabled.
    Cancelled,
}

impl DeliveryStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Delivered, Self::Dead, Self::Cancelled];

    /// Returns the snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One notification to one channel, at rest until it is delivered or given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Identity, the same in every attempt and every replay of the work that made it.
    pub id: DeliveryId,
    /// The channel.
    pub channel: ChannelId,
    /// Name of the channel when it was planned.
    pub channel_name: Text,
    /// What is sent.
    pub content: NotificationContent,
    /// When it was planned.
    pub created_at: Timestamp,
    /// When the next attempt is due.
    pub due_at: Timestamp,
    /// How many attempts were made.
    #[serde(default)]
    pub attempts: u32,
    /// When the schedule of its attempts started: when it was planned, or replayed last.
    pub schedule_started_at: Timestamp,
    /// How many attempts of that schedule were made: the position in it.
    #[serde(default)]
    pub schedule_position: u32,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// When it was delivered, given up or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Why the last attempt failed, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Text>,
}

impl Delivery {
    /// Creates a delivery that is due at `due_at`.
    pub fn new(
        id: DeliveryId,
        channel: ChannelId,
        channel_name: Text,
        content: NotificationContent,
        created_at: Timestamp,
        due_at: Timestamp,
    ) -> Self {
        Self {
            id,
            channel,
            channel_name,
            content,
            created_at,
            due_at,
            attempts: 0,
            schedule_started_at: created_at,
            schedule_position: 0,
            status: DeliveryStatus::Queued,
            finished_at: None,
            last_error: None,
        }
    }

    /// Returns the id of the delivery that tells `channel` about one transition of one alert.
    pub fn id_for_transition(alert: AlertId, sequence: u32, channel: ChannelId) -> DeliveryId {
        Self::id_for(&[&alert.to_bytes(), &sequence.to_be_bytes(), &channel.to_bytes()])
    }

    /// Returns the id of a delivery that the given parts identify.
    pub fn id_for(parts: &[&[u8]]) -> DeliveryId {
        let mut name = Vec::new();
        for part in parts {
            name.extend_from_slice(&(part.len() as u64).to_be_bytes());
            name.extend_from_slice(part);
        }
        DeliveryId::from_u128(derive_uuid(b"pulsestream.delivery", &name))
    }
}
