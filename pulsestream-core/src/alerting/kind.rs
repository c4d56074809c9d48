//! The kinds of rules.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Condition, Quantity, ThresholdOp};
use crate::event::FieldPath;
use crate::filter::Filter;
use crate::id::RuleId;
use crate::time::duration_text;

/// How the current window is compared with an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeMode {
    /// Current less previous.
    Absolute,
    /// `(current - previous) / |previous| * 100`; no value when previous is zero.
    Percent,
}

/// Which side of the baseline is an anomaly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyDirection {
    /// Too high.
    Above,
    /// Too low.
    Below,
    /// Either.
    #[default]
    Both,
}

/// A boolean expression over the states of other rules of the tenant.
///
/// A rule counts as true while at least one of its instances is firing or recovering.
/// In JSON, a list of one means its element: both forms of a rule say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "RuleExprForm")]
pub enum RuleExpr {
    /// The rule with this id fires; not itself composite.
    Rule(RuleId),
    /// All of them hold, at least one.
    All(Vec<Self>),
    /// At least one of them holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
}

/// A [`RuleExpr`] as JSON may write it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RuleExprForm {
    Rule(RuleId),
    All(Vec<RuleExpr>),
    Any(Vec<RuleExpr>),
    Not(Box<RuleExpr>),
}

impl From<RuleExprForm> for RuleExpr {
    fn from(form: RuleExprForm) -> Self {
        match form {
            RuleExprForm::Rule(rule) => Self::Rule(rule),
            RuleExprForm::All(mut parts) | RuleExprForm::Any(mut parts) if parts.len() == 1 => {
                parts.remove(0)
            }
            RuleExprForm::All(parts) => Self::All(parts),
            RuleExprForm::Any(parts) => Self::Any(parts),
            RuleExprForm::Not(part) => Self::Not(part),
        }
    }
}

impl RuleExpr {
    /// Calls `visit` for every rule named.
    pub fn for_each_rule(&self, visit: &mut dyn FnMut(RuleId)) {
        match self {
            Self::Rule(rule) => visit(*rule),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.for_each_rule(visit)),
            Self::Not(inner) => inner.for_each_rule(visit),
        }
    }

    /// Evaluates the expression, given whether a rule fires.
    pub fn holds(&self, fires: &dyn Fn(RuleId) -> bool) -> bool {
        match self {
            Self::Rule(rule) => fires(*rule),
            Self::All(parts) => parts.iter().all(|part| part.holds(fires)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(fires)),
            Self::Not(inner) => !inner.holds(fires),
        }
    }
}

fn default_baseline_periods() -> u32 {
    7
}

fn default_score() -> f64 {
    3.5
}

fn default_missed() -> Condition {
    Condition::new(ThresholdOp::AtLeast, 1.0)
}

/// What makes a rule fire. Windows slide; see the engine for their exact edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleKind {
    /// The quantity in the window fulfils the condition.
    Threshold {
        /// What is measured.
        quantity: Quantity,
        /// Over how long.
        #[serde(with = "duration_text")]
        window: Duration,
        /// When that is a breach.
        condition: Condition,
    },
    /// No matching event arrived for as long as the window.
    Absence {
        /// How long nothing may arrive.
        #[serde(with = "duration_text")]
        window: Duration,
    },
    /// The quantity changed against the same quantity an `offset` earlier.
    Change {
        /// What is measured.
        quantity: Quantity,
        /// Over how long.
        #[serde(with = "duration_text")]
        window: Duration,
        /// How far back the other window lies, a multiple of the window; `None`: directly before.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
        offset: Option<Duration>,
        /// Difference or percentage.
        mode: ChangeMode,
        /// When the change is a breach.
        condition: Condition,
    },
    /// The quantity is far from what it was in the same season, by a robust z-score: `0.6745 * (x - median) / MAD` (Iglewicz
    /// and Hoaglin, 1993) over the earlier values.
    Anomaly {
        /// What is measured.
        quantity: Quantity,
        /// Over how long; time is cut into windows aligned to the epoch.
        #[serde(with = "duration_text")]
        window: Duration,
        /// The length of a season, a multiple of the window, for example `1d` or `7d`; `None` compares with the windows
        /// directly before.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
        season: Option<Duration>,
        /// How many earlier seasons (or windows) make the baseline; at least 3 must have been seen.
        #[serde(default = "default_baseline_periods")]
        periods: u32,
        /// The absolute score from which a value is an anomaly.
        #[serde(default = "default_score")]
        score: f64,
        /// On which side.
        #[serde(default)]
        direction: AnomalyDirection,
    },
    /// An event matched `first`, and none with the same key matched `then` within the time. The value is the number of keys
    /// that missed their deadline within the last `within`.
    Sequence {
        /// What starts the wait, besides the filter of the rule.
        first: Filter,
        /// What ends it.
        then: Filter,
        /// How long it may take.
        #[serde(with = "duration_text")]
        within: Duration,
        /// The field that both events share; events without it are passed over.
        by: FieldPath,
        /// How many missed keys are a breach.
        #[serde(default = "default_missed")]
        condition: Condition,
    },
    /// Other rules fire in a combination.
    Composite {
        /// The combination.
        expression: RuleExpr,
    },
}

impl RuleKind {
    /// Returns the snake_case name of the kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "threshold",
            Self::Absence { .. } => "absence",
            Self::Change { .. } => "change",
            Self::Anomaly { .. } => "anomaly",
            Self::Sequence { .. } => "sequence",
            Self::Composite { .. } => "composite",
        }
    }

    /// Returns the window, when the kind has one.
    pub const fn window(&self) -> Option<Duration> {
        match self {
            Self::Threshold { window, .. }
            | Self::Absence { window }
            | Self::Change { window, .. }
            | Self::Anomaly { window, .. } => Some(*window),
            Self::Sequence { within, .. } => Some(*within),
            Self::Composite { .. } => None,
        }
    }

    /// Returns the quantity measured, when the kind has one.
    pub const fn quantity(&self) -> Option<&Quantity> {
        match self {
            Self::Threshold { quantity, .. }
            | Self::Change { quantity, .. }
            | Self::Anomaly { quantity, .. } => Some(quantity),
            Self::Absence { .. } | Self::Sequence { .. } | Self::Composite { .. } => None,
        }
    }

    /// Returns the condition on the value, when the kind has one.
    pub const fn condition(&self) -> Option<&Condition> {
        match self {
            Self::Threshold { condition, .. }
            | Self::Change { condition, .. }
            | Self::Sequence { condition, .. } => Some(condition),
            Self::Absence { .. } | Self::Anomaly { .. } | Self::Composite { .. } => None,
        }
    }
}

impl fmt::Display for ChangeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "absolute",
            Self::Percent => "percent",
        })
    }
}

/// Serde form of an optional duration as text.
mod optional_duration {
    use super::{Deserialize, Duration};
    use crate::time::{duration_text, format_duration};

    pub(super) fn serialize<S: serde::Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.serialize_some(&format_duration(*span)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "duration_text")] Duration);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}
