//! The output of a rule engine: changes of alert instances, with identities that a replay reproduces.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AlertSeverity, Labels, Rule};
use crate::id::{AlertId, RuleId, TenantId, derive_uuid};
use crate::text::Text;
use crate::time::Timestamp;

/// The state of an alert episode. An instance without an episode is inactive and has no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// In breach, not yet for as long as the rule's `for`.
    Pending,
    /// In breach.
    Firing,
    /// The breach is over, not yet for as long as the rule's `keep_firing_for`.
    Recovering,
    /// The episode is over.
    Resolved,
    /// Windows have no value, and the rule makes that a state of its own.
    NoData,
}

impl AlertState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Firing, Self::Recovering, Self::Resolved, Self::NoData];

    /// Returns the snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Recovering => "recovering",
            Self::Resolved => "resolved",
            Self::NoData => "no_data",
        }
    }

    /// Returns whether the episode goes on.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Resolved)
    }

    /// Returns whether people see it as active: firing, recovering, or without data.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Firing | Self::Recovering | Self::NoData)
    }

    /// Returns the name that `/api/v1` uses: pending, active, resolved or suppressed.
    pub const fn v1_name(self, suppressed: bool) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            _ if suppressed => "suppressed",
            Self::Pending => "pending",
            Self::Firing | Self::Recovering | Self::NoData => "active",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Identifies an instance of a rule: a hash of its sorted group labels, the same on every node and in every release.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Hashes the labels of a group; no labels for a rule without groups.
    #[allow(clippy::cast_possible_truncation, reason = "the low half of the hash is the fingerprint")]
    pub fn of(labels: &Labels) -> Self {
        let mut name = Vec::new();
        for (key, value) in labels {
            for text in [key, value] {
                name.extend_from_slice(&(text.len() as u64).to_be_bytes());
                name.extend_from_slice(text.as_bytes());
            }
        }
        Self(derive_uuid(b"pulsestream.fingerprint", &name) as u64)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let bits = (text.len() == 16).then(|| u64::from_str_radix(&text, 16).ok()).flatten();
        bits.map(Self).ok_or_else(|| serde::de::Error::custom("a fingerprint has 16 hexadecimal digits"))
    }
}

/// Returns the id of the episode of an instance that started at `started_at`.
pub fn alert_id(tenant: TenantId, rule: RuleId, fingerprint: Fingerprint, started_at: Timestamp) -> AlertId {
    let mut name = Vec::with_capacity(48);
    name.extend_from_slice(&tenant.to_bytes());
    name.extend_from_slice(&rule.to_bytes());
    name.extend_from_slice(&fingerprint.0.to_be_bytes());
    name.extend_from_slice(&started_at.as_micros().to_be_bytes());
    AlertId::from_u128(derive_uuid(b"pulsestream.alert", &name))
}

/// Why an instance changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionReason {
    /// The value crossed the threshold, or a duration passed.
    Condition,
    /// An event that arrived late changed the verdict.
    Correction,
    /// The window has no value.
    NoData,
    /// The group stopped to send events.
    Stale,
    /// The rule was changed so that its old state means nothing any more.
    RuleChanged,
    /// The rule was deleted or switched off.
    RuleRemoved,
    /// A person resolved it.
    ResolvedByHand,
}

impl TransitionReason {
    /// Returns the snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Correction => "correction",
            Self::NoData => "no_data",
            Self::Stale => "stale",
            Self::RuleChanged => "rule_changed",
            Self::RuleRemoved => "rule_removed",
            Self::ResolvedByHand => "resolved_by_hand",
        }
    }
}

/// Why a transition that would notify must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Muted {
    /// The rule's `cooldown` has not passed since the last firing notification of the instance.
    Cooldown,
    /// The rule sent `max_alerts_per_hour` firing notifications within the last hour.
    HourlyCap,
}

/// One change of one alert instance: pure output of a rule engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// The episode, see [`alert_id`].
    pub alert: AlertId,
    /// Number of the transition within the episode, from 1 without gaps.
    pub sequence: u32,
    /// The rule.
    pub rule: RuleId,
    /// The version of the rule that judged.
    pub rule_version: u64,
    /// The instance.
    pub fingerprint: Fingerprint,
    /// The labels of the group, empty without groups.
    pub group: Labels,
    /// The state before; `None`: the instance was inactive.
    pub from: Option<AlertState>,
    /// The state after.
    pub to: AlertState,
    /// When it happened, in the time of the events.
    pub at: Timestamp,
    /// When the episode started.
    pub started_at: Timestamp,
    /// When the episode fired first; `None` while it never did.
    pub fired_at: Option<Timestamp>,
    /// The value that decided; `None` when there was none.
    pub value: Option<f64>,
    /// Why.
    pub reason: TransitionReason,
    /// Why nobody is notified although the state would; set for transitions to firing, and carried to the resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<Muted>,
}

/// A transition with what the rule said at that moment: what a store needs to open or change the record of the alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertChange {
    /// The transition.
    pub transition: Transition,
    /// Name of the rule.
    pub rule_name: Text,
    /// Severity of the rule.
    pub severity: AlertSeverity,
    /// Labels of the rule and of the group; the group's win.
    pub labels: Labels,
    /// Texts for people: the rule's annotations, rendered.
    pub annotations: Labels,
    /// What is measured and the threshold in words, for example `count > 10 over 5m`.
    pub summary: Text,
    /// What mutes its notifications now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<super::Suppression>,
}

impl AlertChange {
    /// Joins a transition with its rule; annotations are taken as they are.
    pub fn new(transition: Transition, rule: &Rule, summary: impl Into<Text>) -> Self {
        let mut labels = rule.labels.clone();
        labels.extend(transition.group.clone());
        let suppressed_by = transition.muted.map(super::Suppression::from);
        Self {
            transition,
            rule_name: rule.name.clone(),
            severity: rule.severity,
            labels,
            annotations: rule.annotations.clone(),
            summary: summary.into(),
            suppressed_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_do_not_change_between_releases() {
        let labels: Labels = [(Text::from("source.service"), Text::from("shop"))].into();
        let fingerprint = Fingerprint::of(&labels);
        assert_eq!(fingerprint.to_string(), "be71a42b3119172a");
        let tenant = TenantId::from_u128(1);
        let id = alert_id(tenant, RuleId::from_u128(2), fingerprint, Timestamp::from_seconds(3));
        assert_eq!(id.to_string(), "d8b238db-6418-8649-9bb0-f9b780db84e7");
    }

    #[test]
    fn v1_names() {
        let names: Vec<_> = AlertState::ALL.iter().map(|state| state.v1_name(false)).collect();
        assert_eq!(names, ["pending", "active", "active", "resolved", "active"]);
        assert_eq!(AlertState::Firing.v1_name(true), "suppressed");
        assert_eq!(AlertState::Resolved.v1_name(true), "resolved");
    }
}
