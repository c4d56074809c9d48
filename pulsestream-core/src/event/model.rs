//! The event and its parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::JsonObject;
use crate::error::{Error, Result};
use crate::id::EventId;
use crate::text::Text;
use crate::time::Timestamp;

/// How serious an event is, in ascending order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Severity {
    /// Normal operation.
    #[default]
    Info = 0,
    /// Worth a look.
    Warning = 1,
    /// Something failed.
    Error = 2,
    /// Something failed that people must act on.
    Critical = 3,
}

impl Severity {
    /// All severities, ascending.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Returns the lower-case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// Returns the severity with this ordinal (0 info to 3 critical).
    pub const fn from_ordinal(ordinal: u8) -> Option<Self> {
        match ordinal {
            0 => Some(Self::Info),
            1 => Some(Self::Warning),
            2 => Some(Self::Error),
            3 => Some(Self::Critical),
            _ => None,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text).ok_or_else(|| {
            Error::invalid(
                "severity.parse",
                "",
                "unknown_value",
                "must be one of info, warning, error, critical",
            )
        })
    }
}

/// Where an event comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// Name of the service, for example `checkout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Text>,
    /// Endpoint or operation, for example `/cart/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Text>,
    /// HTTP method or verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Text>,
    /// Version of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Text>,
    /// Deployment environment, for example `production`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Text>,
}

/// Tags: text keys with text values, sorted by key, each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tags(Vec<(Text, Text)>);

impl Tags {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&Text> {
        let index = self.0.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        Some(&self.0[index].1)
    }

    /// Sets `key` to `value` and returns the value that was there.
    pub fn insert(&mut self, key: impl Into<Text>, value: impl Into<Text>) -> Option<Text> {
        let (key, value) = (key.into(), value.into());
        match self.0.binary_search_by(|(name, _)| name.as_str().cmp(&key)) {
            Ok(index) => Some(std::mem::replace(&mut self.0[index].1, value)),
            Err(index) => {
                self.0.insert(index, (key, value));
                None
            }
        }
    }

    /// Iterates in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.0.iter().map(|(key, value)| (key, value))
    }
}

impl<K: Into<Text>, V: Into<Text>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut tags = Self::default();
        for (key, value) in pairs {
            tags.insert(key, value);
        }
        tags
    }
}

impl Serialize for Tags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<Text, Text>::deserialize(deserializer)?;
        Ok(Self(map.into_iter().collect()))
    }
}

/// Who and what was involved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// The application's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Text>,
    /// The user's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    /// Request or trace id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text>,
    /// Address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Text>,
    /// User agent of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// Page or resource that led here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrer: Option<Text>,
    /// Free labels.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Response time in milliseconds, finite and not negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_time_ms: Option<f64>,
    /// HTTP status code, 100 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Size of the request body in bytes, at most 2^53.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_size_bytes: Option<u64>,
    /// Size of the response body in bytes, at most 2^53.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_size_bytes: Option<u64>,
    /// Whether a cache answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_hit: Option<bool>,
}

/// What failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetails {
    /// Code of the application, for example `E_TIMEOUT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Text>,
    /// Message of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Text>,
    /// Type or class of the error.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub error_type: Option<Text>,
    /// Stack trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_trace: Option<Text>,
}

/// One event of a tenant: normalised, validated, ready to be stored.
///
/// Identity is `(tenant, id)`; the tenant is not part of the event but of the call that carries it. An empty part and an
/// absent part are the same: `error: Some(default)` is never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The client's id, or a UUIDv7 of ours.
    pub id: EventId,
    /// What happened, for example `api_call` or `order_placed`; 1 to 100 bytes.
    pub event_type: Text,
    /// When it happened.
    pub timestamp: Timestamp,
    /// When it was received.
    pub received_at: Timestamp,
    /// How serious it is.
    #[serde(default)]
    pub severity: Severity,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Text>,
    /// More text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Text>,
    /// Where it comes from.
    #[serde(default)]
    pub source: Source,
    /// Who and what was involved.
    #[serde(default)]
    pub context: Context,
    /// What was measured.
    #[serde(default)]
    pub metrics: Metrics,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<ErrorDetails>>,
    /// The application's own data.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub payload: JsonObject,
    /// Data about the event rather than of it.
    #[serde(default, skip_serializing_if = "JsonObject::is_empty")]
    pub metadata: JsonObject,
}

impl Event {
    /// Creates an event with an id, a type and a time; everything else is empty.
    pub fn new(id: EventId, event_type: impl Into<Text>, timestamp: Timestamp) -> Self {
        Self {
            id,
            event_type: event_type.into(),
            timestamp,
            received_at: timestamp,
            severity: Severity::Info,
            title: None,
            message: None,
            source: Source::default(),
            context: Context::default(),
            metrics: Metrics::default(),
            error: None,
            payload: JsonObject::default(),
            metadata: JsonObject::default(),
        }
    }

    /// Returns whether the measure `error_rate` counts this event: severity error or critical, or a status code of 500 or more.
    pub fn is_error(&self) -> bool {
        self.severity >= Severity::Error || self.metrics.status_code.is_some_and(|code| code >= 500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_and_unique() {
        let tags: Tags = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
        assert_eq!(tags.iter().map(|(key, value)| format!("{key}{value}")).collect::<String>(), "a2b3");
        assert_eq!(tags.get("b").map(Text::as_str), Some("3"));
        assert_eq!(tags.get("c"), None);
    }

    #[test]
    fn json_form_round_trips() {
        let mut event = Event::new(EventId::new("e1").unwrap(), "order", Timestamp::from_seconds(5));
        event.payload = JsonObject::parse(r#"{"plan": "free"}"#).unwrap();
        event.context.tags.insert("region", "eu");
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        assert!(!text.contains("null"));
    }
}
