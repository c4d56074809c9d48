//! The columns: their names and types, how an event gives their values and takes them.

use std::borrow::Cow;

use pulsestream_core::event::{ErrorDetails, Event, JsonObject, Severity, Tags};
use pulsestream_core::id::EventId;
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, Result};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Instant,
    Number,
    /// A whole number of so many bits.
    Whole(u8),
    Bool,
}

/// A value on its way into or out of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    /// Whole numbers, and instants in microseconds.
    Whole(i64),
    Number(f64),
    Bool(bool),
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether every event has it.
    pub(crate) is_required: bool,
    /// Takes the value from an event.
    pub(crate) get: for<'a> fn(&'a Event) -> Cell<'a>,
    /// Puts a value that is not null into an event.
    pub(crate) put: fn(&mut Event, Cell<'_>) -> Result<()>,
}

const fn required(
    name: &'static str,
    kind: Kind,
    get: for<'a> fn(&'a Event) -> Cell<'a>,
    put: fn(&mut Event, Cell<'_>) -> Result<()>,
) -> Column {
    Column { name, kind, is_required: true, get, put }
}

const fn optional(
    name: &'static str,
    kind: Kind,
    get: for<'a> fn(&'a Event) -> Cell<'a>,
    put: fn(&mut Event, Cell<'_>) -> Result<()>,
) -> Column {
    Column { name, kind, is_required: false, get, put }
}

/// An optional text at a place inside the event.
macro_rules! text {
    ($name:literal, $($place:ident).+) => {
        optional(
            $name,
            Kind::Text,
            |event| borrowed(event.$($place).+.as_ref()),
            |event, cell| {
                event.$($place).+ = Some(cell.text($name)?.as_ref().into());
                Ok(())
            },
        )
    };
}

/// An optional text of the error.
macro_rules! error_text {
    ($name:literal, $place:ident) => {
        optional(
            $name,
            Kind::Text,
            |event| borrowed(event.error.as_ref().and_then(|error| error.$place.as_ref())),
            |event, cell| {
                let text = Some(cell.text($name)?.as_ref().into());
                event.error.get_or_insert_with(|| Box::new(ErrorDetails::default())).$place = text;
                Ok(())
            },
        )
    };
}

/// An optional whole number of the metrics.
macro_rules! whole {
    ($name:literal, $bits:literal, $place:ident) => {
        optional(
            $name,
            Kind::Whole($bits),
            |event| {
                event
                    .metrics
                    .$place
                    .map_or(Cell::Null, |value| Cell::Whole(i64::try_from(value).unwrap_or(i64::MAX)))
            },
            |event, cell| {
                let value = cell.whole($name)?;
                event.metrics.$place = Some(value.try_into().map_err(|_| out_of_range($name, value))?);
                Ok(())
            },
        )
    };
}

/// A JSON object as text.
macro_rules! json {
    ($name:literal, $place:ident) => {
        optional(
            $name,
            Kind::Text,
            |event| match event.$place.is_empty() {
                true => Cell::Null,
                false => Cell::Text(Cow::Borrowed(event.$place.as_str())),
            },
            |event, cell| {
                event.$place = JsonObject::parse(&cell.text($name)?)?;
                Ok(())
            },
        )
    };
}

/// Every column, in the order of the file.
pub(crate) const COLUMNS: [Column; 30] = [
    required(
        "id",
        Kind::Text,
        |event| Cell::Text(Cow::Borrowed(event.id.as_str())),
        |event, cell| {
            event.id = EventId::new(&cell.text("id")?)?;
            Ok(())
        },
    ),
    required(
        "event_type",
        Kind::Text,
        |event| borrowed(Some(&event.event_type)),
        |event, cell| {
            event.event_type = cell.text("event_type")?.as_ref().into();
            Ok(())
        },
    ),
    required(
        "timestamp",
        Kind::Instant,
        |event| Cell::Whole(event.timestamp.as_micros()),
        |event, cell| {
            event.timestamp = cell.instant("timestamp")?;
            Ok(())
        },
    ),
    optional(
        "received_at",
        Kind::Instant,
        |event| Cell::Whole(event.received_at.as_micros()),
        |event, cell| {
            event.received_at = cell.instant("received_at")?;
            Ok(())
        },
    ),
    optional(
        "severity",
        Kind::Text,
        |event| Cell::Text(Cow::Borrowed(event.severity.as_str())),
        |event, cell| {
            event.severity = cell.text("severity")?.parse::<Severity>()?;
            Ok(())
        },
    ),
    text!("title", title),
    text!("message", message),
    text!("service", source.service),
    text!("endpoint", source.endpoint),
    text!("method", source.method),
    text!("version", source.version),
    text!("environment", source.environment),
    text!("user_id", context.user_id),
    text!("session_id", context.session_id),
    text!("request_id", context.request_id),
    text!("ip_address", context.ip_address),
    text!("user_agent", context.user_agent),
    text!("referrer", context.referrer),
    optional(
        "tags",
        Kind::Text,
        |event| match event.context.tags.is_empty() {
            true => Cell::Null,
            false => {
                serde_json::to_string(&event.context.tags).map_or(Cell::Null, |tags| Cell::Text(tags.into()))
            }
        },
        |event, cell| {
            let tags = serde_json::from_str::<Tags>(&cell.text("tags")?);
            event.context.tags = tags.map_err(|error| {
                Error::invalid(
                    "parquet.read",
                    "/tags",
                    "wrong_type",
                    format!("must be an object of texts: {error}"),
                )
            })?;
            Ok(())
        },
    ),
    optional(
        "response_time_ms",
        Kind::Number,
        |event| event.metrics.response_time_ms.map_or(Cell::Null, Cell::Number),
        |event, cell| {
            event.metrics.response_time_ms = Some(cell.number("response_time_ms")?);
            Ok(())
        },
    ),
    whole!("status_code", 16, status_code),
    whole!("request_size_bytes", 64, request_size_bytes),
    whole!("response_size_bytes", 64, response_size_bytes),
    optional(
        "cache_hit",
        Kind::Bool,
        |event| event.metrics.cache_hit.map_or(Cell::Null, Cell::Bool),
        |event, cell| match cell {
            Cell::Bool(value) => {
                event.metrics.cache_hit = Some(value);
                Ok(())
            }
            _ => Err(wrong_type("cache_hit", "a boolean")),
        },
    ),
    error_text!("error_code", code),
    error_text!("error_message", message),
    error_text!("error_type", error_type),
    error_text!("stack_trace", stack_trace),
    json!("payload", payload),
    json!("metadata", metadata),
];

impl<'a> Cell<'a> {
    fn text(self, name: &str) -> Result<Cow<'a, str>> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(wrong_type(name, "text")),
        }
    }

    fn whole(&self, name: &str) -> Result<i64> {
        match self {
            Self::Whole(value) => Ok(*value),
            _ => Err(wrong_type(name, "a whole number")),
        }
    }

    fn instant(&self, name: &str) -> Result<Timestamp> {
        match self {
            Self::Whole(micros) => Ok(Timestamp::from_micros(*micros)),
            _ => Err(wrong_type(name, "a timestamp")),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a whole number of milliseconds is small")]
    fn number(&self, name: &str) -> Result<f64> {
        match self {
            Self::Number(value) => Ok(*value),
            Self::Whole(value) => Ok(*value as f64),
            _ => Err(wrong_type(name, "a number")),
        }
    }
}

fn borrowed(text: Option<&Text>) -> Cell<'_> {
    text.map_or(Cell::Null, |text| Cell::Text(Cow::Borrowed(text.as_str())))
}

fn wrong_type(name: &str, expected: &str) -> Error {
    Error::invalid("parquet.read", format!("/{name}"), "wrong_type", format!("must be {expected}"))
}

fn out_of_range(name: &str, value: i64) -> Error {
    Error::invalid("parquet.read", format!("/{name}"), "out_of_range", format!("{value} is out of range"))
}
