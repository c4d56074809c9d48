//! The alert rule.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RuleKind;
use crate::error::{Error, Result};
use crate::event::FieldPath;
use crate::filter::Filter;
use crate::id::RuleId;
use crate::text::Text;
use crate::time::{Timestamp, duration_text};

/// Names with values, sorted by name: the labels by which alerts are routed, or the annotations that people read.
pub type Labels = BTreeMap<Text, Text>;

/// How serious an alert is, in ascending order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// For the record.
    Low,
    /// Worth a look.
    #[default]
    Medium,
    /// People should act.
    High,
    /// People must act now.
    Critical,
}

impl AlertSeverity {
    /// All severities, ascending.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Returns the lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for AlertSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AlertSeverity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text).ok_or_else(|| {
            Error::invalid(
                "alert_severity.parse",
                "",
                "unknown_value",
                "must be one of low, medium, high, critical",
            )
        })
    }
}

/// What a window without a value means. Count, rate and count_distinct over no events are 0, which is a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoDataPolicy {
    /// It is a state of its own.
    NoData,
    /// It is no breach.
    #[default]
    Ok,
    /// It is a breach.
    Firing,
    /// The verdict stays what it was.
    KeepLast,
}

/// A channel by its id or by its name; a name that the tenant has not configured means the server's channel of that name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelRef(Text);

impl ChannelRef {
    /// Refers to the channel with this id or name.
    pub fn new(id_or_name: impl Into<Text>) -> Self {
        Self(id_or_name.into())
    }

    /// Returns the id or the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Default of [`Rule::evaluation_interval`].
pub const DEFAULT_EVALUATION_INTERVAL: Duration = Duration::from_secs(10);
/// Default of [`Rule::max_groups`].
pub const DEFAULT_MAX_GROUPS: u32 = 1_000;

fn default_evaluation_interval() -> Duration {
    DEFAULT_EVALUATION_INTERVAL
}

fn default_max_groups() -> u32 {
    DEFAULT_MAX_GROUPS
}

fn default_true() -> bool {
    true
}

/// When people are alerted, as data. JSON with unknown fields is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Identity.
    pub id: RuleId,
    /// Ascends by one with every change, from 1; set by the store.
    #[serde(default)]
    pub version: u64,
    /// Name for people, unique within the tenant, 1 to 200 bytes.
    pub name: Text,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text>,
    /// What makes it fire.
    pub kind: RuleKind,
    /// Which events it looks at.
    #[serde(default, skip_serializing_if = "Filter::is_all")]
    pub filter: Filter,
    /// Each combination of values is an alert instance of its own; at most 3 paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<FieldPath>,
    /// How many instances at most; events of further ones are counted in one instance whose values are `__other__`.
    #[serde(default = "default_max_groups")]
    pub max_groups: u32,
    /// How long a breach must last before the alert fires; zero fires at once.
    #[serde(rename = "for", default, with = "duration_text")]
    pub hold_for: Duration,
    /// How long the breach must be over before the alert is resolved.
    #[serde(default, with = "duration_text")]
    pub keep_firing_for: Duration,
    /// How often windows are evaluated as time passes; events that cause a breach are evaluated at once besides.
    #[serde(default = "default_evaluation_interval", with = "duration_text")]
    pub evaluation_interval: Duration,
    /// What a window without a value means.
    #[serde(default)]
    pub no_data: NoDataPolicy,
    /// How serious its alerts are.
    #[serde(default)]
    pub severity: AlertSeverity,
    /// Labels of its alerts, besides those of the group.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Templates of texts for people, for example `title` and `message`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    /// Where its notifications go; empty: where the routes of the tenant say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelRef>,
    /// How long after a firing notification an instance sends no further one; its state is not affected.
    #[serde(default, with = "duration_text")]
    pub cooldown: Duration,
    /// How many firing notifications the rule sends in any hour; `None`: as many as there are. States are not affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_alerts_per_hour: Option<u32>,
    /// Whether notifications skip grouping and its waits.
    #[serde(default)]
    pub notify_at_once: bool,
    /// Whether it is evaluated.
    #[serde(default = "default_true")]
    pub is_active: bool,
    /// When it was created.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[serde(default)]
    pub updated_at: Timestamp,
}

impl Rule {
    /// Creates an active rule over all events, with the defaults of the JSON form.
    pub fn new(id: RuleId, name: impl Into<Text>, kind: RuleKind) -> Self {
        Self {
            id,
            version: 0,
            name: name.into(),
            description: None,
            kind,
            filter: Filter::all(),
            group_by: Vec::new(),
            max_groups: DEFAULT_MAX_GROUPS,
            hold_for: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            evaluation_interval: DEFAULT_EVALUATION_INTERVAL,
            no_data: NoDataPolicy::default(),
            severity: AlertSeverity::default(),
            labels: Labels::new(),
            annotations: Labels::new(),
            channels: Vec::new(),
            cooldown: Duration::ZERO,
            max_alerts_per_hour: None,
            notify_at_once: false,
            is_active: true,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    /// Returns whether `other` measures and judges the same, so that the state of one is the state of the other.
    pub fn evaluates_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.filter == other.filter
            && self.group_by == other.group_by
            && self.max_groups == other.max_groups
            && self.evaluation_interval == other.evaluation_interval
            && self.no_data == other.no_data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_KIND: [&str; 6] = [
        r#"{"type":"threshold","quantity":"p95(metrics.response_time_ms)","window":"5m","condition":{"op":">","value":800.0,"recovery":600.0}}"#,
        r#"{"type":"absence","window":"15m"}"#,
        r#"{"type":"change","quantity":"count","window":"1h","offset":"1d","mode":"percent","condition":{"op":"<","value":-50.0}}"#,
        r#"{"type":"anomaly","quantity":"error_rate","window":"5m","season":"1d","periods":7,"score":3.5,"direction":"above"}"#,
        r#"{"type":"sequence","first":"event_type = 'order'","then":"event_type = 'payment'","within":"10m","by":"payload.order_id","condition":{"op":">=","value":1.0}}"#,
        r#"{"type":"composite","expression":{"all":[{"rule":"00000000-0000-0000-0000-000000000001"},{"not":{"rule":"00000000-0000-0000-0000-000000000002"}}]}}"#,
    ];

    #[test]
    fn every_kind_has_a_strict_json_form() {
        for text in EVERY_KIND {
            let kind: RuleKind = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let again: RuleKind = serde_json::from_str(&serde_json::to_string(&kind).unwrap()).unwrap();
            assert_eq!(again, kind);
            let unknown = format!("{},\"extra\":1}}", &text[..text.len() - 1]);
            assert!(serde_json::from_str::<RuleKind>(&unknown).is_err(), "{unknown}");
            let mut rule = Rule::new(RuleId::from_u128(9), "r", kind);
            rule.group_by.clear();
            rule.validate().unwrap();
            let form = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&form).unwrap(), rule);
        }
    }

    #[test]
    fn a_rule_needs_little() {
        let text = format!(
            r#"{{"id":"00000000-0000-0000-0000-000000000009","name":"r","kind":{},"for":"2m"}}"#,
            EVERY_KIND[1]
        );
        let rule: Rule = serde_json::from_str(&text).unwrap();
        assert_eq!(rule.hold_for, Duration::from_secs(120));
        assert!(rule.is_active && rule.filter.is_all());
        assert!(serde_json::from_str::<Rule>(&text.replace("\"for\"", "\"four\"")).is_err());
    }
}
