//! The conditions of version 1, and the rule kinds that they stand for.
//!
//! Counts and patterns carry a recovery threshold equal to their value, which changes nothing about when they fire and tells
//! them from a `threshold` with the same operator when they are shown again.

use std::time::Duration;

use pulsestream_core::FieldError;
use pulsestream_core::Filter;
use pulsestream_core::alerting::{Condition, Quantity, RuleKind, Term, ThresholdOp};
use pulsestream_core::event::{FieldPath, Value as FieldValue};
use pulsestream_core::filter::{CompareOp, Expr};
use pulsestream_core::query::Measure;
use serde_json::{Map, Value, json};

const OPERATORS: [(&str, ThresholdOp); 6] = [
    (">", ThresholdOp::Above),
    ("<", ThresholdOp::Below),
    (">=", ThresholdOp::AtLeast),
    ("<=", ThresholdOp::AtMost),
    ("==", ThresholdOp::Equal),
    ("!=", ThresholdOp::NotEqual),
];

/// Returns the operator as version 1 writes it.
pub(super) fn operator_name(op: ThresholdOp) -> &'static str {
    OPERATORS.iter().find(|(_, it)| *it == op).map_or("==", |(name, _)| name)
}

/// Reads an operator.
pub(super) fn operator(name: &str) -> Option<ThresholdOp> {
    OPERATORS.iter().find(|(it, _)| *it == name).map(|(_, op)| *op)
}

/// The parts of a rule that say when it fires.
#[derive(Debug, Clone)]
pub(super) struct Stated<'r> {
    pub(super) condition: &'r Map<String, Value>,
    pub(super) threshold_value: Option<f64>,
    pub(super) threshold_operator: Option<&'r str>,
    pub(super) window: Duration,
}

impl Stated<'_> {
    /// Returns the kind of rule that the condition stands for.
    pub(super) fn kind(&self) -> Result<RuleKind, FieldError> {
        let (quantity, condition) = match self.condition.get("type").and_then(Value::as_str) {
            Some("count") => self.count()?,
            Some("threshold") => self.threshold()?,
            Some("pattern") => self.pattern()?,
            Some(_) => {
                return Err(refuse("/type", "unknown_value", "must be one of count, threshold, pattern"));
            }
            None => return Err(refuse("/type", "required", "is required")),
        };
        Ok(RuleKind::Threshold { quantity, window: self.window, condition })
    }

    fn count(&self) -> Result<(Quantity, Condition), FieldError> {
        let (least, most) = (number(self.condition, "min_count")?, number(self.condition, "max_count")?);
        let condition = match (least, most) {
            (Some(least), None) => marked(ThresholdOp::AtLeast, least),
            (None, Some(most)) => marked(ThresholdOp::AtMost, most),
            (None, None) => return Err(refuse("/min_count", "required", "is required, or max_count is")),
            (Some(least), Some(most)) if most < least => {
                return Err(refuse("/max_count", "out_of_range", "must be at least min_count"));
            }
            (Some(least), Some(most)) => {
                Condition { upto: Some(most), ..marked(ThresholdOp::AtLeast, least) }
            }
        };
        Ok((Quantity::Measure(Measure::Count), condition))
    }

    fn threshold(&self) -> Result<(Quantity, Condition), FieldError> {
        let measure = match self.condition.get("metric_field").and_then(Value::as_str) {
            Some("status_code") => Measure::Avg(FieldPath::StatusCode),
            Some("duration_ms") => Measure::Avg(FieldPath::ResponseTimeMs),
            Some("count") => Measure::Count,
            Some(_) => {
                let message = "must be one of status_code, duration_ms, count";
                return Err(refuse("/metric_field", "unknown_value", message));
            }
            None => return Err(refuse("/metric_field", "required", "is required")),
        };
        let top =
            |name: &str, code, message: &'static str| FieldError::new(format!("/{name}"), code, message);
        let value = self.threshold_value.ok_or_else(|| top("threshold_value", "required", "is required"))?;
        let name =
            self.threshold_operator.ok_or_else(|| top("threshold_operator", "required", "is required"))?;
        let op = operator(name)
            .ok_or_else(|| top("threshold_operator", "unknown_value", "must be one of > < >= <= == !="))?;
        Ok((Quantity::Measure(measure), Condition::new(op, value)))
    }

    fn pattern(&self) -> Result<(Quantity, Condition), FieldError> {
        let Some(pattern) = self.condition.get("pattern").and_then(Value::as_object) else {
            return Err(refuse("/pattern", "required", "is required"));
        };
        match pattern.get("type").and_then(Value::as_str) {
            Some("error_rate") => {
                let most = number(pattern, "max_error_rate")?.unwrap_or(0.1);
                let numerator = Term { measure: Measure::Count, filter: Some(is_failed()?) };
                let quantity = Quantity::Ratio { numerator, denominator: Term::new(Measure::Count) };
                Ok((quantity, marked(ThresholdOp::Above, most)))
            }
            Some("response_time") => {
                let most = number(pattern, "max_avg_response_time")?.unwrap_or(1_000.0);
                let quantity = Quantity::Measure(Measure::Avg(FieldPath::ResponseTimeMs));
                Ok((quantity, marked(ThresholdOp::Above, most)))
            }
            Some(_) => {
                Err(refuse("/pattern/type", "unknown_value", "must be one of error_rate, response_time"))
            }
            None => Err(refuse("/pattern/type", "required", "is required")),
        }
    }
}

/// Shows the kind of a rule as a condition; kinds that version 1 has no words for are shown as they are.
pub(super) fn shown(kind: &RuleKind) -> Value {
    let RuleKind::Threshold { quantity, condition, .. } = kind else {
        return serde_json::to_value(kind).unwrap_or_default();
    };
    let is_marked = condition.recovery == Some(condition.value);
    match quantity {
        Quantity::Measure(Measure::Count) if is_marked && condition.op == ThresholdOp::AtLeast => {
            let mut shown = json!({"type": "count", "min_count": whole(condition.value)});
            if let Some(most) = condition.upto {
                shown["max_count"] = whole(most);
            }
            shown
        }
        Quantity::Measure(Measure::Count) if is_marked && condition.op == ThresholdOp::AtMost => {
            json!({"type": "count", "max_count": whole(condition.value)})
        }
        Quantity::Measure(Measure::Avg(FieldPath::ResponseTimeMs)) if is_marked => {
            json!({"type": "pattern", "pattern": {"type": "response_time", "max_avg_response_time": condition.value}})
        }
        Quantity::Ratio { .. } if is_marked => {
            json!({"type": "pattern", "pattern": {"type": "error_rate", "max_error_rate": condition.value}})
        }
        Quantity::Measure(Measure::Count) => json!({"type": "threshold", "metric_field": "count"}),
        Quantity::Measure(Measure::Avg(FieldPath::StatusCode)) => {
            json!({"type": "threshold", "metric_field": "status_code"})
        }
        Quantity::Measure(Measure::Avg(FieldPath::ResponseTimeMs)) => {
            json!({"type": "threshold", "metric_field": "duration_ms"})
        }
        _ => serde_json::to_value(kind).unwrap_or_default(),
    }
}

/// Returns the threshold of a rule that states one.
pub(super) fn threshold(kind: &RuleKind) -> Option<(f64, &'static str)> {
    let condition = kind.condition()?;
    let stated = condition.recovery != Some(condition.value);
    stated.then(|| (condition.value, operator_name(condition.op)))
}

/// A condition that a count or a pattern stands for.
const fn marked(op: ThresholdOp, value: f64) -> Condition {
    Condition { op, value, recovery: Some(value), upto: None }
}

/// Status 400 or more.
fn is_failed() -> Result<Filter, FieldError> {
    let failed = Expr::compare(FieldPath::StatusCode, CompareOp::Ge, FieldValue::from(400.0));
    Filter::new(failed).map_err(|error| refuse("/pattern", "invalid", error.message().to_owned()))
}

fn number(object: &Map<String, Value>, name: &str) -> Result<Option<f64>, FieldError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite() && *number >= 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(refuse(&format!("/{name}"), "wrong_type", "must be a number that is not negative")),
        },
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn refuse(pointer: &str, code: &'static str, message: impl Into<String>) -> FieldError {
    FieldError::new(format!("/condition{pointer}"), code, message)
}
