//! Paths that name the fields of an event.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Event, ValueRef};
use crate::error::{Error, Result};
use crate::text::Text;

/// What a field can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// Text only.
    Text,
    /// Numbers only.
    Number,
    /// Booleans only.
    Bool,
    /// A severity.
    Severity,
    /// Whatever the application put there.
    Any,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident => $name:literal, $kind:ident;)*) => {
        /// A path to a field of an event, for example `metrics.status_code` or `payload.cart."unit price"`.
        ///
        /// Segments under `context.tags`, `payload` and `metadata` are the application's: letters, digits, `_` and `-`, or
        /// anything in double quotes. A whole number also selects an array element.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FieldPath {
            $($(#[$doc])* $variant,)*
            /// One tag: `context.tags.NAME`.
            Tag(Text),
            /// A value inside the payload, at least one segment.
            Payload(Vec<Text>),
            /// A value inside the metadata, at least one segment.
            Metadata(Vec<Text>),
        }

        impl FieldPath {
            /// Every field with a fixed name.
            pub const FIXED: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the fixed name, or the prefix for the application's own fields.
            pub const fn base_name(&self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Tag(_) => "context.tags",
                    Self::Payload(_) => "payload",
                    Self::Metadata(_) => "metadata",
                }
            }

            /// Returns what the field can hold.
            pub const fn field_type(&self) -> FieldType {
                match self {
                    $(Self::$variant => FieldType::$kind,)*
                    Self::Tag(_) => FieldType::Text,
                    Self::Payload(_) | Self::Metadata(_) => FieldType::Any,
                }
            }
        }
    };
}

fields! {
    /// The event id.
    Id => "id", Text;
    /// The event type.
    EventType => "event_type", Text;
    /// The severity.
    Severity => "severity", Severity;
    /// The title.
    Title => "title", Text;
    /// The message.
    Message => "message", Text;
    /// The source's service.
    SourceService => "source.service", Text;
    /// The source's endpoint.
    SourceEndpoint => "source.endpoint", Text;
    /// The source's method.
    SourceMethod => "source.method", Text;
    /// The source's version.
    SourceVersion => "source.version", Text;
    /// The source's environment.
    SourceEnvironment => "source.environment", Text;
    /// The user; `user_id` is short for it.
    UserId => "context.user_id", Text;
    /// The session.
    SessionId => "context.session_id", Text;
    /// The request.
    RequestId => "context.request_id", Text;
    /// The client's address.
    IpAddress => "context.ip_address", Text;
    /// The client's user agent.
    UserAgent => "context.user_agent", Text;
    /// The referrer.
    Referrer => "context.referrer", Text;
    /// Response time in milliseconds.
    ResponseTimeMs => "metrics.response_time_ms", Number;
    /// HTTP status code.
    StatusCode => "metrics.status_code", Number;
    /// Request size in bytes.
    RequestSizeBytes => "metrics.request_size_bytes", Number;
    /// Response size in bytes.
    ResponseSizeBytes => "metrics.response_size_bytes", Number;
    /// Whether a cache answered.
    CacheHit => "metrics.cache_hit", Bool;
    /// The error's code.
    ErrorCode => "error.code", Text;
    /// The error's message.
    ErrorMessage => "error.message", Text;
    /// The error's type.
    ErrorType => "error.type", Text;
    /// The error's stack trace.
    ErrorStackTrace => "error.stack_trace", Text;
}

/// Longest dynamic path, in segments.
const MAX_SEGMENTS: usize = 16;

impl FieldPath {
    /// Returns the value that `event` has at this path.
    pub fn value<'a>(&self, event: &'a Event) -> ValueRef<'a> {
        fn number<N: Copy>(value: Option<N>, as_f64: impl Fn(N) -> f64) -> ValueRef<'static> {
            value.map_or(ValueRef::Missing, |value| ValueRef::Number(as_f64(value)))
        }
        #[allow(clippy::cast_precision_loss, reason = "numbers are compared as doubles, as documented")]
        let size = |value: u64| value as f64;
        let error = event.error.as_deref();
        match self {
            Self::Id => ValueRef::Text(Cow::Borrowed(event.id.as_str())),
            Self::EventType => ValueRef::Text(Cow::Borrowed(event.event_type.as_str())),
            Self::Severity => ValueRef::Severity(event.severity),
            Self::Title => (&event.title).into(),
            Self::Message => (&event.message).into(),
            Self::SourceService => (&event.source.service).into(),
            Self::SourceEndpoint => (&event.source.endpoint).into(),
            Self::SourceMethod => (&event.source.method).into(),
            Self::SourceVersion => (&event.source.version).into(),
            Self::SourceEnvironment => (&event.source.environment).into(),
            Self::UserId => (&event.context.user_id).into(),
            Self::SessionId => (&event.context.session_id).into(),
            Self::RequestId => (&event.context.request_id).into(),
            Self::IpAddress => (&event.context.ip_address).into(),
            Self::UserAgent => (&event.context.user_agent).into(),
            Self::Referrer => (&event.context.referrer).into(),
            Self::ResponseTimeMs => number(event.metrics.response_time_ms, |value| value),
            Self::StatusCode => number(event.metrics.status_code, f64::from),
            Self::RequestSizeBytes => number(event.metrics.request_size_bytes, size),
            Self::ResponseSizeBytes => number(event.metrics.response_size_bytes, size),
            Self::CacheHit => event.metrics.cache_hit.map_or(ValueRef::Missing, ValueRef::Bool),
            Self::ErrorCode => error.map_or(ValueRef::Missing, |error| (&error.code).into()),
            Self::ErrorMessage => error.map_or(ValueRef::Missing, |error| (&error.message).into()),
            Self::ErrorType => error.map_or(ValueRef::Missing, |error| (&error.error_type).into()),
            Self::ErrorStackTrace => error.map_or(ValueRef::Missing, |error| (&error.stack_trace).into()),
            Self::Tag(name) => event
                .context
                .tags
                .get(name)
                .map_or(ValueRef::Missing, |value| ValueRef::Text(Cow::Borrowed(value.as_str()))),
            Self::Payload(path) => event.payload.get(path),
            Self::Metadata(path) => event.metadata.get(path),
        }
    }

    /// Returns the segments of the application's own part: empty for fields with a fixed name.
    pub fn segments(&self) -> &[Text] {
        match self {
            Self::Tag(name) => std::slice::from_ref(name),
            Self::Payload(path) | Self::Metadata(path) => path,
            _ => &[],
        }
    }

    /// Returns the valid name nearest to `name`, when one is near enough to be a slip of the keyboard.
    pub fn nearest(name: &str) -> Option<&'static str> {
        let names =
            Self::FIXED.iter().map(Self::base_name).chain(["user_id", "context.tags", "payload", "metadata"]);
        nearest_of(name, names)
    }
}

/// Returns the candidate with the smallest edit distance to `name`, at most a third of its length (rounded up) and 3 edits away.
pub fn nearest_of<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3).clamp(1, 3);
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two names, of the first 64 characters of each: insert, delete, replace, or swap two neighbours (the optimal
/// string alignment distance).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (line, from) in left.chars().take(64).enumerate() {
        let mut next = vec![line + 1];
        for (column, to) in right.iter().enumerate() {
            let replaced = row[column] + usize::from(from != *to);
            let mut best = replaced.min(row[column + 1] + 1).min(next[column] + 1);
            if column > 0 && previous == Some(*to) && right[column - 1] == from {
                best = best.min(above[column - 1] + 1);
            }
            next.push(best);
        }
        above = std::mem::replace(&mut row, next);
        previous = Some(from);
    }
    row[right.len()]
}

fn is_bare(segment: &str) -> bool {
    !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base_name())?;
        for segment in self.segments() {
            if is_bare(segment) {
                write!(f, ".{segment}")?;
            } else {
                write!(f, ".\"{}\"", segment.replace('\\', "\\\\").replace('"', "\\\""))?;
            }
        }
        Ok(())
    }
}

/// Splits `a."b.c".d` into its segments.
fn split_path(text: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut segment = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => segment.push(chars.next()?),
                    other => segment.push(other),
                }
            }
        } else {
            while let Some(next) = chars.next_if(|next| *next != '.') {
                segment.push(next);
            }
            if !is_bare(&segment) {
                return None;
            }
        }
        segments.push(segment);
        match chars.next() {
            None => return Some(segments),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

impl FromStr for FieldPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(fixed) = Self::FIXED.iter().find(|field| field.base_name() == text) {
            return Ok(fixed.clone());
        }
        if text == "user_id" {
            return Ok(Self::UserId);
        }
        let unknown = || {
            let mut message = format!("unknown field `{}`", text.chars().take(100).collect::<String>());
            if let Some(near) = Self::nearest(text) {
                message.push_str(&format!("; did you mean `{near}`"));
            }
            let names: Vec<_> = Self::FIXED.iter().map(Self::base_name).collect();
            message.push_str(&format!(
                "; valid fields are {}, context.tags.*, payload.*, metadata.*",
                names.join(", ")
            ));
            Error::invalid("field_path.parse", "", "unknown_field", message)
        };
        let segments =
            split_path(text).filter(|segments| segments.len() <= MAX_SEGMENTS).ok_or_else(unknown)?;
        let dynamic =
            |skip: usize| segments[skip..].iter().map(|segment| Text::from(segment.as_str())).collect();
        match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["context", "tags", name] => Ok(Self::Tag(Text::from(*name))),
            ["payload", _, ..] => Ok(Self::Payload(dynamic(1))),
            ["metadata", _, ..] => Ok(Self::Metadata(dynamic(1))),
            _ => Err(unknown()),
        }
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip() {
        for text in [
            "severity",
            "context.user_id",
            "context.tags.region",
            "payload.a.b-c.0",
            r#"payload."a.b"."c\"d""#,
        ] {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
        assert_eq!("user_id".parse::<FieldPath>().unwrap(), FieldPath::UserId);
        for field in FieldPath::FIXED {
            assert_eq!(field.base_name().parse::<FieldPath>().unwrap(), *field);
        }
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, edits) in [
            ("", "", 0),
            ("", "ab", 2),
            ("abc", "abc", 0),
            ("adn", "and", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!(
                (edit_distance(left, right), edit_distance(right, left)),
                (edits, edits),
                "{left} {right}"
            );
        }
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let error = "source.servise".parse::<FieldPath>().unwrap_err();
        assert!(error.message().contains("did you mean `source.service`"), "{error}");
        for text in
            ["", "payload", "payload.", "payload..a", "context.tags", "context.tags.a.b", "payload.\"a"]
        {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
    }
}
