//! Values found at a path of an event.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize, Serializer};

use super::Severity;
use crate::text::Text;

/// A value borrowed from an event.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueRef<'a> {
    /// Nothing there, or a JSON null.
    Missing,
    /// A boolean.
    Bool(bool),
    /// A finite number; integers beyond 2^53 are compared as the nearest double.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// The severity: compares by rank with a severity, and groups as its name.
    Severity(Severity),
    /// A JSON array or object: it exists, and equals nothing.
    Composite,
}

impl ValueRef<'_> {
    /// Returns the owned value to group by; an array or object groups as missing.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Missing | Self::Composite => Value::Missing,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(*value),
            Self::Text(value) => Value::Text(Text::from(value.as_ref())),
            Self::Severity(value) => Value::Text(Text::from(value.as_str())),
        }
    }

    /// Returns the number, when it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }
}

impl<'a> From<&'a Option<Text>> for ValueRef<'a> {
    fn from(text: &'a Option<Text>) -> Self {
        text.as_ref().map_or(Self::Missing, |text| Self::Text(Cow::Borrowed(text.as_str())))
    }
}

/// An owned scalar: a group key, a column value, a literal.
///
/// Ordered and hashed as data: missing, then booleans, then numbers, then text in byte order. Numbers are never NaN.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing there.
    #[default]
    Missing,
    /// A boolean.
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// A text.
    Text(Text),
}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
        }
    }

    /// Returns the text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Returns the number, when it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// Zero of either sign is one value.
fn canonical_bits(number: f64) -> u64 {
    if number == 0.0 { 0 } else { number.to_bits() }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => {
                left.partial_cmp(right).unwrap_or_else(|| left.total_cmp(right))
            }
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Missing => {}
            Self::Bool(value) => value.hash(state),
            Self::Number(value) => canonical_bits(*value).hash(state),
            Self::Text(value) => value.hash(state),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Text::from(text))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Largest integer up to which every integer has a double of its own.
const EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Missing => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
            Self::Number(value) if value.fract() == 0.0 && value.abs() <= EXACT_INTEGER => {
                serializer.serialize_i64(*value as i64)
            }
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Bool(bool),
            Number(f64),
            Text(Text),
        }
        Ok(match Option::<Wire>::deserialize(deserializer)? {
            None => Self::Missing,
            Some(Wire::Bool(value)) => Self::Bool(value),
            Some(Wire::Number(value)) => Self::Number(value),
            Some(Wire::Text(value)) => Self::Text(value),
        })
    }
}
