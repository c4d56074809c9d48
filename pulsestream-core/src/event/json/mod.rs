//! JSON objects in their normal form.

mod normalise;
mod number;
mod reader;
mod scan;
mod string;
#[cfg(test)]
mod tests;
mod walk;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ValueRef;
use crate::error::{Error, FieldError, Result};
use crate::text::Text;

pub(crate) use normalise::Normaliser;
pub(crate) use reader::{Kind, Reader, Step, Stop, push_segment};
pub use walk::JsonRef;

/// How deep objects and arrays may be nested in a document; the document itself is 1 deep.
pub const MAX_DEPTH: usize = 64;

/// How many keys all objects of a document may have together.
pub const MAX_KEYS: usize = 2_000;

/// A JSON object in normal form, kept as text: the same meaning on every backend.
///
/// Normal form: no white space, keys sorted by their UTF-8 bytes and each there once, strings with the fewest escapes,
/// numbers as written but without a negative zero and without an exponent. What has no normal form is refused: NUL characters,
/// lone surrogates, a depth above 64, more than 2,000 keys, infinite numbers, numbers of more than 400 bytes, duplicate keys.
///
/// Two objects are equal when their normal forms are the same text; `1` and `1.0` are two texts.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct JsonObject(Box<str>);

impl JsonObject {
    /// Reads and normalises one JSON object.
    ///
    /// # Errors
    /// `Invalid` with one field error per refused value, pointers relative to the object.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader::new(text);
        let mut read = || {
            if reader.peek() != Some(b'{') {
                return reader.fault("an object");
            }
            let object = Normaliser::with_capacity(text.len()).object(&mut reader)?;
            reader.end()?;
            Ok(object)
        };
        let object = read();
        match (object, reader.take_refusals()) {
            (Ok(object), refusals) if refusals.is_empty() => Ok(object),
            (_, refusals) => Err(Error::invalid_fields("json.parse", refusals)),
        }
    }

    /// Wraps a text that is in normal form already: what a store got from [`Self::as_str`] and checked for damage.
    pub fn from_normal_form(text: &str) -> Self {
        if text == "{}" { Self::default() } else { Self(text.into()) }
    }

    /// Normalises a tree.
    ///
    /// # Errors
    /// `Invalid` as for [`Self::parse`], and when the value is no object.
    pub fn from_value(value: &serde_json::Value) -> Result<Self> {
        if !value.is_object() {
            return Err(Error::invalid("json.from_value", "", "wrong_type", "must be an object"));
        }
        // The tree may be deeper than the stack: its depth is known before anything recurses into it.
        if !is_within_depth(value, MAX_DEPTH) {
            let message = format!("objects and arrays may be nested {MAX_DEPTH} deep");
            return Err(Error::invalid("json.from_value", "", "depth", message));
        }
        let text = serde_json::to_string(value).map_err(|error| {
            Error::invalid("json.from_value", "", "invalid_json", "the tree cannot be written")
                .with_source(error)
        })?;
        Self::parse(&text)
    }

    /// Returns the object as a tree.
    pub fn to_value(&self) -> serde_json::Value {
        // A normal form is JSON whose numbers are finite, so that reading it back cannot fail.
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// Returns the normal form; `{}` for the empty object.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "{}" } else { &self.0 }
    }

    /// Returns whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes allocated on the heap, 0 for the empty object.
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }

    /// Returns the value at a path of keys; a whole number also selects an array element, counted from 0.
    ///
    /// Scans the text, and allocates only for a string with escapes.
    pub fn get(&self, path: &[Text]) -> ValueRef<'_> {
        JsonRef::of_normal_form(self.as_str()).find(path).map_or(ValueRef::Missing, JsonRef::value)
    }

    /// Iterates over the members of the object itself, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, JsonRef<'_>)> {
        walk::members(JsonRef::of_normal_form(self.as_str()))
    }

    /// Visits every leaf of the tree of objects with its path, in the order of keys: scalars, nulls as missing, and arrays and
    /// empty objects as composite. What is inside arrays is not visited.
    pub fn leaves<'a>(&'a self, visit: &mut dyn FnMut(&[&str], ValueRef<'a>)) {
        walk::leaves(JsonRef::of_normal_form(self.as_str()), visit);
    }
}

/// Returns whether a tree is nested at most `depth` deep, going no deeper than that.
fn is_within_depth(value: &serde_json::Value, depth: usize) -> bool {
    match value {
        serde_json::Value::Array(items) => {
            depth > 0 && items.iter().all(|item| is_within_depth(item, depth - 1))
        }
        serde_json::Value::Object(map) => {
            depth > 0 && map.values().all(|item| is_within_depth(item, depth - 1))
        }
        _ => true,
    }
}

/// Reads bytes as UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, FieldError> {
    std::str::from_utf8(bytes).map_err(|error| {
        FieldError::new(
            "",
            "invalid_utf8",
            format!("the text is not UTF-8 from byte {} on", error.valid_up_to()),
        )
    })
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
