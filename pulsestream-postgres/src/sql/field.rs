//! Fields of an event as SQL expressions over the table alias `e`.

use pulsestream_core::event::{FieldPath, Severity, Value};
use pulsestream_core::text::Text;

use super::Params;
use crate::wire::{Columns, Param};

/// How a field is written, by what it holds. Expressions are null where the event has no such value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// Text in the collation "C": compared byte by byte.
    Text(String),
    /// `double precision`.
    Number(String),
    /// `boolean`.
    Bool(String),
    /// The ordinal of a severity, `smallint`.
    Severity,
    /// `jsonb` of any type.
    Json(Json),
}

/// A value inside a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Json(String);

/// Positive numbers below it are zero as a double (half of the smallest, ties to even), but PostgreSQL refuses to convert them.
const UNDERFLOW: &str = "2.4703282292062328e-324";

impl Json {
    pub(crate) fn value(&self) -> &str {
        &self.0
    }

    /// Whether it is of a JSON type: `string`, `number`, `boolean`, `null`, `array`, `object`.
    pub(crate) fn has_type(&self, name: &'static str) -> String {
        format!("jsonb_typeof({}) = '{name}'", self.0)
    }

    /// The text of a string; of another type its JSON.
    fn unquoted(&self) -> String {
        format!("({} #>> '{{}}')", self.0)
    }

    pub(crate) fn text(&self) -> String {
        format!("(case when {} then {} collate \"C\" end)", self.has_type("string"), self.unquoted())
    }

    pub(crate) fn number(&self) -> String {
        let value = &self.0;
        format!(
            "(case when {} then case when abs(({value})::numeric) < {UNDERFLOW} then 0 else ({value})::double precision \
             end end)",
            self.has_type("number")
        )
    }

    /// A text that is the same for equal values: its type in one letter, then the value.
    fn tagged(&self) -> String {
        format!(
            "(case jsonb_typeof({}) when 'string' then 's' || {} when 'number' then 'n' || {}::text \
             when 'boolean' then 'b' || {} end)",
            self.0,
            self.unquoted(),
            self.number(),
            self.unquoted()
        )
    }
}

/// Returns how a field is written; `None` for one that this version does not know.
pub(crate) fn field(path: &FieldPath, params: &mut Params) -> Option<Field> {
    let number = |column: &str| Field::Number(format!("{column}::double precision"));
    Some(match path {
        FieldPath::Tag(name) if name.contains('\0') => Field::Text("null::text".to_owned()),
        FieldPath::Tag(name) => {
            Field::Text(format!("((e.tags ->> {}) collate \"C\")", params.bind(Param::text(name))))
        }
        FieldPath::Payload(path) => Field::Json(inside("e.payload", path, params)),
        FieldPath::Metadata(path) => Field::Json(inside("e.metadata", path, params)),
        FieldPath::Severity => Field::Severity,
        FieldPath::ResponseTimeMs => Field::Number("e.response_time_ms".to_owned()),
        FieldPath::StatusCode => number("e.status_code"),
        FieldPath::RequestSizeBytes => number("e.request_size_bytes"),
        FieldPath::ResponseSizeBytes => number("e.response_size_bytes"),
        FieldPath::CacheHit => Field::Bool("e.cache_hit".to_owned()),
        other => Field::Text(text_column(other)?.to_owned()),
    })
}

fn text_column(path: &FieldPath) -> Option<&'static str> {
    Some(match path {
        FieldPath::Id => "e.id",
        FieldPath::EventType => "e.event_type",
        FieldPath::Title => "e.title",
        FieldPath::Message => "e.message",
        FieldPath::SourceService => "e.source_service",
        FieldPath::SourceEndpoint => "e.source_endpoint",
        FieldPath::SourceMethod => "e.source_method",
        FieldPath::SourceVersion => "e.source_version",
        FieldPath::SourceEnvironment => "e.source_environment",
        FieldPath::UserId => "e.user_id",
        FieldPath::SessionId => "e.session_id",
        FieldPath::RequestId => "e.request_id",
        FieldPath::IpAddress => "e.ip_address",
        FieldPath::UserAgent => "e.user_agent",
        FieldPath::Referrer => "e.referrer",
        FieldPath::ErrorCode => "e.error_code",
        FieldPath::ErrorMessage => "e.error_message",
        FieldPath::ErrorType => "e.error_type",
        FieldPath::ErrorStackTrace => "e.error_stack_trace",
        _ => return None,
    })
}

/// `#>` takes a whole number as the index of an array element, as core does; but it also takes a negative one (from the end)
/// and one after white space, which core takes as keys only. Such a segment is looked up as a key with `->`.
fn inside(document: &str, path: &[Text], params: &mut Params) -> Json {
    if path.iter().any(|segment| segment.contains('\0')) {
        return Json("null::jsonb".to_owned());
    }
    let is_key_only = |segment: &Text| {
        segment.starts_with(|first: char| first == '-' || first.is_ascii_whitespace() || first == '\x0b')
    };
    let mut expression = document.to_owned();
    let mut rest = path;
    while !rest.is_empty() {
        let plain = rest.iter().take_while(|segment| !is_key_only(segment)).count();
        if plain > 0 {
            let segments = Param::texts(rest[..plain].iter().map(Text::as_str));
            expression = format!("({expression} #> {})", params.bind(segments));
            rest = &rest[plain..];
        } else {
            expression = format!("({expression} -> {})", params.bind(Param::text(&rest[0])));
            rest = &rest[1..];
        }
    }
    Json(expression)
}

/// A field as a column of a result, and how to read it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanColumn {
    Text,
    Number,
    Bool,
    Severity,
    Tagged,
}

impl Field {
    /// Returns the expression to select or to group by.
    pub(crate) fn column(&self) -> (String, ScanColumn) {
        match self {
            Self::Text(text) => (text.clone(), ScanColumn::Text),
            Self::Number(number) => (number.clone(), ScanColumn::Number),
            Self::Bool(value) => (value.clone(), ScanColumn::Bool),
            Self::Severity => ("e.severity".to_owned(), ScanColumn::Severity),
            Self::Json(json) => (json.tagged(), ScanColumn::Tagged),
        }
    }

    /// Returns the number; null for other types.
    pub(crate) fn number(&self) -> String {
        match self {
            Self::Number(number) => number.clone(),
            Self::Json(json) => json.number(),
            Self::Text(_) | Self::Bool(_) | Self::Severity => "null::double precision".to_owned(),
        }
    }
}

impl ScanColumn {
    /// Reads the value of the next column.
    pub(crate) fn read(self, columns: &mut Columns<'_>) -> Result<Value, sqlx::Error> {
        Ok(match self {
            Self::Text => columns.optional_text()?.map_or(Value::Missing, Value::Text),
            Self::Number => columns.optional_float8()?.map_or(Value::Missing, Value::Number),
            Self::Bool => columns.optional_bool()?.map_or(Value::Missing, Value::Bool),
            Self::Severity => {
                let ordinal = columns.int2()?;
                let severity = u8::try_from(ordinal).ok().and_then(Severity::from_ordinal);
                Value::from(severity.unwrap_or_default().as_str())
            }
            Self::Tagged => columns.optional_str()?.map_or(Value::Missing, untagged),
        })
    }
}

fn untagged(text: &str) -> Value {
    match text.split_at_checked(1) {
        Some(("s", text)) => Value::from(text),
        Some(("n", number)) => number.parse().map_or(Value::Missing, Value::Number),
        Some(("b", value)) => Value::Bool(value == "true"),
        _ => Value::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixed_field_has_a_column() {
        for path in FieldPath::FIXED {
            assert!(field(path, &mut Params::default()).is_some(), "{path}");
        }
    }

    #[test]
    fn only_keys_follow_segments_that_postgres_would_take_as_an_index() {
        let mut params = Params::default();
        let path = ["a", "0", "-1", " 2", "b"].map(Text::from);
        let json = inside("e.payload", &path, &mut params);
        assert_eq!(json.value(), "((((e.payload #> $1) -> $2) -> $3) #> $4)");
    }

    #[test]
    fn tagged_values_keep_their_type() {
        assert_eq!(untagged("s5"), Value::from("5"));
        assert_eq!(untagged("n5"), Value::from(5.0));
        assert_eq!(untagged("btrue"), Value::Bool(true));
        assert_eq!(untagged("s"), Value::from(""));
    }
}
