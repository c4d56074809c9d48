//! JSON objects in their normal form.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ValueRef;
use crate::error::{Error, Result};
use crate::text::Text;

/// A JSON object in normal form, kept as text: the same meaning on every backend.
///
/// Normal form: no white space, keys sorted by their UTF-8 bytes and each there once, strings with the fewest escapes,
/// numbers as written but without a negative zero and without an exponent. What has no normal form is refused: NUL characters,
/// lone surrogates, a depth above 64, more than 2,000 keys, infinite numbers, duplicate keys.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct JsonObject(Box<str>);

impl JsonObject {
    /// Reads and normalises one JSON object.
    ///
    /// # Errors
    /// `Invalid` with one field error per refused value, pointers relative to the object.
    pub fn parse(text: &str) -> Result<Self> {
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
            .map_err(|error| Error::invalid("json.parse", "", "invalid_json", error.to_string()))?;
        if value.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(serde_json::to_string(&value).unwrap_or_default().into()))
    }

    /// Returns the normal form; `{}` for the empty object.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "{}" } else { &self.0 }
    }

    /// Returns whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value at a path of keys; a whole number also selects an array element, counted from 0.
    pub fn get(&self, path: &[Text]) -> ValueRef<'_> {
        let mut found: serde_json::Value = serde_json::from_str(self.as_str()).unwrap_or_default();
        for segment in path {
            found = match &found {
                serde_json::Value::Object(map) => map.get(segment.as_str()).cloned().unwrap_or_default(),
                serde_json::Value::Array(items) => segment
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .cloned()
                    .unwrap_or_default(),
                _ => serde_json::Value::Null,
            };
        }
        match found {
            serde_json::Value::Null => ValueRef::Missing,
            serde_json::Value::Bool(value) => ValueRef::Bool(value),
            serde_json::Value::Number(value) => ValueRef::Number(value.as_f64().unwrap_or_default()),
            serde_json::Value::String(value) => ValueRef::Text(value.into()),
            _ => ValueRef::Composite,
        }
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(|error| serde::de::Error::custom(error.message()))
    }
}
