//! What alerting looks like on the wire; the core writes it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::ToSchema;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident as $shown:ident { $($variant:ident),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, ToSchema)]
        #[schema(as = $shown, rename_all = "snake_case")]
        #[allow(dead_code, reason = "a schema")]
        pub(super) enum $name {
            $($variant),*
        }
    )*};
}

names! {
    /// How serious an alert is.
    AlertSeverityName as AlertSeverity { Low, Medium, High, Critical }
    /// What a window without a value means.
    NoDataName as NoDataPolicy { NoData, Ok, Firing, KeepLast }
    /// The state of an alert.
    AlertStateName as AlertState { Pending, Firing, Recovering, Resolved, NoData }
    /// Where a delivery stands.
    DeliveryStatusName as DeliveryStatus { Queued, Delivered, Dead, Cancelled }
}

/// A rule, as shown. Durations are texts such as `5m`.
#[derive(Debug, ToSchema)]
#[schema(as = Rule)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct RuleView {
    id: String,
    /// The value of `ETag`.
    version: u64,
    name: String,
    description: Option<String>,
    /// The canonical text of what it measures.
    expression: String,
    kind: Map<String, Value>,
    /// The text form.
    filter: Option<Value>,
    group_by: Option<Vec<String>>,
    max_groups: u32,
    r#for: String,
    keep_firing_for: String,
    evaluation_interval: String,
    no_data: NoDataName,
    severity: AlertSeverityName,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    channels: Option<Vec<String>>,
    cooldown: String,
    max_alerts_per_hour: Option<u32>,
    notify_at_once: bool,
    is_active: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
    /// How many episodes fired.
    total_fired: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_fired_at: Option<String>,
}

/// One episode of one instance of a rule.
#[derive(Debug, ToSchema)]
#[schema(as = Alert)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct AlertView {
    id: String,
    /// The rule.
    rule: String,
    rule_version: u64,
    rule_name: String,
    severity: AlertSeverityName,
    /// The instance.
    fingerprint: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// What is measured and the threshold, in words.
    summary: String,
    state: AlertStateName,
    value: Option<f64>,
    /// Why the state is what it is.
    reason: String,
    #[schema(value_type = String, format = DateTime)]
    started_at: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    fired_at: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
    sequence: u32,
    resolved_by: Option<Map<String, Value>>,
    acknowledgement: Option<Map<String, Value>>,
    /// What keeps its notifications back.
    suppressed_by: Option<Value>,
    notifications_sent: u32,
    notification_failures: u32,
}

/// An alert with what happened to it, oldest first.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct AlertWithTimeline {
    #[serde(flatten)]
    alert: AlertView,
    timeline: Vec<TimelineView>,
}

/// One entry of a timeline.
#[derive(Debug, ToSchema)]
#[schema(as = TimelineEntry)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct TimelineView {
    id: String,
    alert: String,
    #[schema(value_type = String, format = DateTime)]
    at: String,
    /// Who; absent for the engine.
    actor: Option<String>,
    note: Option<String>,
    /// What happened, by its `type`.
    kind: Map<String, Value>,
}

/// Keeps the notifications of matching alerts back for a time.
#[derive(Debug, ToSchema)]
#[schema(as = Silence)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct SilenceView {
    id: String,
    /// The value of `ETag`.
    version: u64,
    matchers: Vec<Map<String, Value>>,
    #[schema(value_type = String, format = DateTime)]
    starts_at: String,
    #[schema(value_type = String, format = DateTime)]
    ends_at: String,
    created_by: String,
    comment: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
}

/// A channel; every secret is `***`.
#[derive(Debug, ToSchema)]
#[schema(as = Channel)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct ChannelView {
    id: String,
    /// The value of `ETag`.
    version: u64,
    name: String,
    config: Map<String, Value>,
    send_resolved: bool,
    max_concurrency: Option<u16>,
    /// Why and since when it delivers nothing.
    disabled: Option<Map<String, Value>>,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
}

/// One notification to one channel.
#[derive(Debug, ToSchema)]
#[schema(as = Delivery)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct DeliveryView {
    id: String,
    /// The channel.
    channel: String,
    channel_name: String,
    content: Map<String, Value>,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = String, format = DateTime)]
    due_at: String,
    attempts: u32,
    #[schema(value_type = String, format = DateTime)]
    schedule_started_at: String,
    schedule_position: u32,
    status: DeliveryStatusName,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<String>,
    last_error: Option<String>,
}

/// A delivery with the log of its attempts, oldest first.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct DeliveryWithAttempts {
    #[serde(flatten)]
    delivery: DeliveryView,
    log: Vec<AttemptView>,
}

/// One attempt.
#[derive(Debug, ToSchema)]
#[schema(as = DeliveryAttempt)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct AttemptView {
    attempt: u32,
    #[schema(value_type = String, format = DateTime)]
    at: String,
    report: Map<String, Value>,
}
