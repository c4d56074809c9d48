//! What a rule measures and when that is too much or too little.

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::query::Measure;
use crate::text::Text;

/// How a measured value is compared with the threshold of a [`Condition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThresholdOp {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
}

impl ThresholdOp {
    /// All operators.
    pub const ALL: [Self; 6] =
        [Self::Above, Self::AtLeast, Self::Below, Self::AtMost, Self::Equal, Self::NotEqual];

    /// Returns the operator as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::NotEqual => "!=",
        }
    }

    /// Returns whether `value` stands in this relation to `threshold`.
    #[allow(clippy::float_cmp, reason = "equality of doubles is what the rule asks for")]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }

    /// Returns whether a growing value can make it true: `>` and `>=`.
    pub const fn is_upper(self) -> bool {
        matches!(self, Self::Above | Self::AtLeast)
    }

    /// Returns whether a falling value can make it true: `<` and `<=`.
    pub const fn is_lower(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

impl fmt::Display for ThresholdOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ThresholdOp {
    type Err = Error;

    /// Reads the written form; `==` is another spelling of `=`.
    fn from_str(text: &str) -> Result<Self> {
        let text = if text == "==" { "=" } else { text };
        Self::ALL.into_iter().find(|op| op.as_str() == text).ok_or_else(|| {
            Error::invalid("threshold_op.parse", "", "unknown_value", "must be one of >, >=, <, <=, =, !=")
        })
    }
}

impl Serialize for ThresholdOp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ThresholdOp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// When a value is a breach, and when the breach is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// How the value is compared.
    pub op: ThresholdOp,
    /// What it is compared with, finite.
    pub value: f64,
    /// The threshold that ends a breach, on the quiet side of `value`: a rule `> 100` with recovery 80 stays in breach until
    /// the value is 80 or less. Without it `value` itself ends the breach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<f64>,
    /// The largest value that is still a breach, for `>` and `>=`: a band from `value` up to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto: Option<f64>,
}

impl Condition {
    /// Creates a condition without a recovery threshold.
    pub const fn new(op: ThresholdOp, value: f64) -> Self {
        Self { op, value, recovery: None, upto: None }
    }

    /// Returns whether `measured` is a breach, given whether there was one before.
    pub fn is_breached(&self, measured: f64, before: bool) -> bool {
        let threshold = if before { self.recovery.unwrap_or(self.value) } else { self.value };
        self.op.holds(measured, threshold) && self.upto.is_none_or(|upto| measured <= upto)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op, self.value)?;
        self.upto.map_or(Ok(()), |upto| write!(f, " upto {upto}"))?;
        self.recovery.map_or(Ok(()), |recovery| write!(f, " recover {recovery}"))
    }
}

/// One side of a ratio: a measure over the events that match a filter besides the filter of the rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// What is measured.
    pub measure: Measure,
    /// Which events it is measured over; `None` takes all events of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

impl Term {
    /// Creates a term over all events of the rule.
    pub const fn new(measure: Measure) -> Self {
        Self { measure, filter: None }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.measure.fmt(f)?;
        self.filter.as_ref().map_or(Ok(()), |filter| write!(f, "[{filter}]"))
    }
}

/// What a rule measures in its window: one measure, or the ratio of two.
///
/// JSON form: the text of the measure, or `{"numerator": {...}, "denominator": {...}}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantity {
    /// One measure over the events of the rule.
    Measure(Measure),
    /// The numerator divided by the denominator; no value when the denominator is zero or has none.
    Ratio {
        /// What is divided.
        numerator: Term,
        /// What it is divided by.
        denominator: Term,
    },
}

impl Quantity {
    /// Returns the terms: one, or numerator and denominator.
    pub fn terms(&self) -> Vec<Term> {
        match self {
            Self::Measure(measure) => vec![Term::new(measure.clone())],
            Self::Ratio { numerator, denominator } => vec![numerator.clone(), denominator.clone()],
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measure(measure) => measure.fmt(f),
            Self::Ratio { numerator, denominator } => write!(f, "{numerator} / {denominator}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RatioForm {
    numerator: Term,
    denominator: Term,
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Measure(measure) => measure.serialize(serializer),
            Self::Ratio { numerator, denominator } => {
                RatioForm { numerator: numerator.clone(), denominator: denominator.clone() }
                    .serialize(serializer)
            }
        }
    }
}

struct QuantityVisitor;

impl<'de> Visitor<'de> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a measure such as \"p95(metrics.response_time_ms)\", or a numerator and a denominator")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.parse().map(Quantity::Measure).map_err(|error: Error| E::custom(error.message()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Quantity, A::Error> {
        let form = RatioForm::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Quantity::Ratio { numerator: form.numerator, denominator: form.denominator })
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_holds_the_breach() {
        let condition = Condition { recovery: Some(80.0), ..Condition::new(ThresholdOp::Above, 100.0) };
        assert!(!condition.is_breached(90.0, false));
        assert!(condition.is_breached(90.0, true));
        assert!(!condition.is_breached(80.0, true));
        assert_eq!(condition.to_string(), "> 100 recover 80");
    }

    #[test]
    fn quantities_have_two_json_forms() {
        for text in [
            r#""p95(metrics.response_time_ms)""#,
            r#"{"numerator":{"measure":"count"},"denominator":{"measure":"sum(payload.total)"}}"#,
        ] {
            let quantity: Quantity = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), text);
        }
        let error = serde_json::from_str::<Quantity>(r#"{"numerator":{"measure":"count"},"over":1}"#);
        assert!(error.unwrap_err().to_string().contains("over"));
    }
}
