//! Events as rows, in both directions.

use pulsestream_core::error::{Error, ErrorKind};
use pulsestream_core::event::{Context, ErrorDetails, Event, JsonObject, Metrics, Severity, Source, Tags};
use pulsestream_core::id::EventId;
use pulsestream_core::text::Text;
use sqlx::postgres::PgRow;

use crate::error::Fault;
use crate::wire::{
    ArrayParam, BOOL, Columns, FLOAT8, INT2, INT4, INT8, JSONB, Param, PgType, TEXT, TIMESTAMPTZ,
};

/// The columns of an event, in the order in which they are written and read; the tenant comes beside them.
pub(crate) const COLUMNS: &[(&str, PgType, &str)] = &[
    ("id", TEXT, "text"),
    ("\"timestamp\"", TIMESTAMPTZ, "timestamptz"),
    ("received_at", TIMESTAMPTZ, "timestamptz"),
    ("severity", INT2, "smallint"),
    ("event_type", TEXT, "text"),
    ("title", TEXT, "text"),
    ("message", TEXT, "text"),
    ("source_service", TEXT, "text"),
    ("source_endpoint", TEXT, "text"),
    ("source_method", TEXT, "text"),
    ("source_version", TEXT, "text"),
    ("source_environment", TEXT, "text"),
    ("user_id", TEXT, "text"),
    ("session_id", TEXT, "text"),
    ("request_id", TEXT, "text"),
    ("ip_address", TEXT, "text"),
    ("user_agent", TEXT, "text"),
    ("referrer", TEXT, "text"),
    ("tags", JSONB, "jsonb"),
    ("response_time_ms", FLOAT8, "double precision"),
    ("status_code", INT4, "integer"),
    ("request_size_bytes", INT8, "bigint"),
    ("response_size_bytes", INT8, "bigint"),
    ("cache_hit", BOOL, "boolean"),
    ("error_code", TEXT, "text"),
    ("error_message", TEXT, "text"),
    ("error_type", TEXT, "text"),
    ("error_stack_trace", TEXT, "text"),
    ("payload", JSONB, "jsonb"),
    ("metadata", JSONB, "jsonb"),
];

/// Returns the columns as a list, each with a prefix such as `e.`.
pub(crate) fn column_list(prefix: &str) -> String {
    let names: Vec<String> = COLUMNS.iter().map(|(name, ..)| format!("{prefix}{name}")).collect();
    names.join(", ")
}

/// Events turned into one array for each column.
#[derive(Debug)]
pub(crate) struct EventArrays(Vec<ArrayParam>);

impl EventArrays {
    pub(crate) fn new() -> Self {
        Self(COLUMNS.iter().map(|(_, kind, _)| ArrayParam::new(*kind)).collect())
    }

    /// Adds an event that [`refusal`] does not refuse.
    pub(crate) fn push(&mut self, event: &Event) {
        let mut columns = Writer(self.0.iter_mut());
        columns.text(Some(event.id.as_str()));
        columns.next(|column| column.timestamp(event.timestamp));
        columns.next(|column| column.timestamp(event.received_at));
        columns.raw(Some(&i16::from(event.severity as u8).to_be_bytes()));
        columns.text(Some(&event.event_type));
        columns.optional(&event.title);
        columns.optional(&event.message);
        let Source { service, endpoint, method, version, environment } = &event.source;
        for text in [service, endpoint, method, version, environment] {
            columns.optional(text);
        }
        let Context { user_id, session_id, request_id, ip_address, user_agent, referrer, tags } =
            &event.context;
        for text in [user_id, session_id, request_id, ip_address, user_agent, referrer] {
            columns.optional(text);
        }
        let tags = (!tags.is_empty()).then(|| serde_json::to_string(tags).ok()).flatten();
        columns.next(|column| column.jsonb(tags.as_deref()));
        let Metrics { response_time_ms, status_code, request_size_bytes, response_size_bytes, cache_hit } =
            &event.metrics;
        columns.raw(response_time_ms.map(f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        columns.raw(status_code.map(|code| i32::from(code).to_be_bytes()).as_ref().map(<[u8; 4]>::as_slice));
        for size in [request_size_bytes, response_size_bytes] {
            columns.raw(size.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        }
        columns.raw(cache_hit.map(|hit| [u8::from(hit)]).as_ref().map(<[u8; 1]>::as_slice));
        let error = event.error.as_deref();
        for text in [
            error.and_then(|error| error.code.as_deref()),
            error.and_then(|error| error.message.as_deref()),
            error.and_then(|error| error.error_type.as_deref()),
            error.and_then(|error| error.stack_trace.as_deref()),
        ] {
            columns.text(text);
        }
        for json in [&event.payload, &event.metadata] {
            columns.next(|column| column.jsonb((!json.is_empty()).then(|| json.as_str())));
        }
    }

    /// Returns one array for each column.
    pub(crate) fn into_params(self) -> impl Iterator<Item = Param> {
        self.0.into_iter().map(Param::from)
    }

    /// Returns one value for each column, when there is one event.
    pub(crate) fn into_values(self) -> impl Iterator<Item = Param> {
        self.0.into_iter().map(ArrayParam::into_only)
    }
}

/// Fills the columns of one row from left to right.
struct Writer<'a>(std::slice::IterMut<'a, ArrayParam>);

impl Writer<'_> {
    fn next(&mut self, write: impl FnOnce(&mut ArrayParam)) {
        if let Some(column) = self.0.next() {
            write(column);
        }
    }

    fn raw(&mut self, value: Option<&[u8]>) {
        self.next(|column| column.raw(value));
    }

    fn text(&mut self, text: Option<&str>) {
        self.next(|column| column.text(text));
    }

    fn optional(&mut self, text: &Option<Text>) {
        self.text(text.as_deref());
    }
}

/// Most bytes of text and JSON of one event, far below the gibibyte at which a message to PostgreSQL is no longer one.
const MAX_EVENT_BYTES: usize = 64 << 20;

/// Returns why PostgreSQL cannot hold the event: its `text` has no NUL, its `bigint` has 63 bits, its messages have a length.
pub(crate) fn refusal(event: &Event) -> Option<Error> {
    let bytes = text_bytes(event);
    if bytes > MAX_EVENT_BYTES {
        let error = Error::new(ErrorKind::TooLarge, "event_store.append", "the event has too much text");
        return Some(error.with_context("bytes", bytes).with_context("max_event_bytes", MAX_EVENT_BYTES));
    }
    let nul = texts_of(event).find(|(_, text)| text.as_bytes().contains(&0));
    if let Some((pointer, _)) = nul {
        return Some(Error::invalid(
            "event_store.append",
            pointer,
            "nul_character",
            "must not hold the character U+0000",
        ));
    }
    let sizes = [
        ("/metrics/request_size_bytes", event.metrics.request_size_bytes),
        ("/metrics/response_size_bytes", event.metrics.response_size_bytes),
    ];
    for (pointer, size) in sizes {
        if size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Some(Error::invalid(
                "event_store.append",
                pointer,
                "out_of_range",
                "must be less than 2^63",
            ));
        }
    }
    None
}

/// Returns how many bytes of text and JSON an event has.
pub(crate) fn text_bytes(event: &Event) -> usize {
    let texts: usize = texts_of(event).map(|(_, text)| text.len()).sum();
    texts + event.payload.as_str().len() + event.metadata.as_str().len()
}

fn texts_of(event: &Event) -> impl Iterator<Item = (&'static str, &str)> {
    let error = event.error.as_deref();
    let optional = [
        ("/title", &event.title),
        ("/message", &event.message),
        ("/source/service", &event.source.service),
        ("/source/endpoint", &event.source.endpoint),
        ("/source/method", &event.source.method),
        ("/source/version", &event.source.version),
        ("/source/environment", &event.source.environment),
        ("/context/user_id", &event.context.user_id),
        ("/context/session_id", &event.context.session_id),
        ("/context/request_id", &event.context.request_id),
        ("/context/ip_address", &event.context.ip_address),
        ("/context/user_agent", &event.context.user_agent),
        ("/context/referrer", &event.context.referrer),
    ];
    let of_error = error.into_iter().flat_map(|error| {
        [
            ("/error/code", &error.code),
            ("/error/message", &error.message),
            ("/error/type", &error.error_type),
            ("/error/stack_trace", &error.stack_trace),
        ]
    });
    let tags = event
        .context
        .tags
        .iter()
        .flat_map(|(key, value)| [("/context/tags", key.as_str()), ("/context/tags", value.as_str())]);
    optional
        .into_iter()
        .chain(of_error)
        .filter_map(|(pointer, text)| Some((pointer, text.as_deref()?)))
        .chain(tags)
        .chain([("/event_type", event.event_type.as_str())])
}

/// Reads an event from a row whose columns start with [`COLUMNS`].
pub(crate) fn event_of(row: &PgRow) -> Result<Event, Fault> {
    event_from(&mut Columns::new(row))
}

/// Reads an event from the next columns of a row.
pub(crate) fn event_from(columns: &mut Columns<'_>) -> Result<Event, Fault> {
    let id = EventId::new(columns.str()?)?;
    let timestamp = columns.timestamp()?;
    let received_at = columns.timestamp()?;
    let severity = u8::try_from(columns.int2()?).ok().and_then(Severity::from_ordinal).unwrap_or_default();
    let event_type = Text::from(columns.str()?);
    let mut event = Event::new(id, event_type, timestamp);
    event.received_at = received_at;
    event.severity = severity;
    event.title = columns.optional_text()?;
    event.message = columns.optional_text()?;
    event.source = Source {
        service: columns.optional_text()?,
        endpoint: columns.optional_text()?,
        method: columns.optional_text()?,
        version: columns.optional_text()?,
        environment: columns.optional_text()?,
    };
    event.context = Context {
        user_id: columns.optional_text()?,
        session_id: columns.optional_text()?,
        request_id: columns.optional_text()?,
        ip_address: columns.optional_text()?,
        user_agent: columns.optional_text()?,
        referrer: columns.optional_text()?,
        tags: tags_of(columns.optional_jsonb()?)?,
    };
    event.metrics = Metrics {
        response_time_ms: columns.optional_float8()?,
        status_code: columns.optional_int4()?.and_then(|code| u16::try_from(code).ok()),
        request_size_bytes: columns.optional_int8()?.and_then(|size| u64::try_from(size).ok()),
        response_size_bytes: columns.optional_int8()?.and_then(|size| u64::try_from(size).ok()),
        cache_hit: columns.optional_bool()?,
    };
    let error = ErrorDetails {
        code: columns.optional_text()?,
        message: columns.optional_text()?,
        error_type: columns.optional_text()?,
        stack_trace: columns.optional_text()?,
    };
    event.error = (error != ErrorDetails::default()).then(|| Box::new(error));
    event.payload = json_of(columns.optional_jsonb()?)?;
    event.metadata = json_of(columns.optional_jsonb()?)?;
    Ok(event)
}

fn tags_of(json: Option<&str>) -> Result<Tags, Fault> {
    json.map_or_else(
        || Ok(Tags::default()),
        |json| serde_json::from_str(json).map_err(|error| Fault::Sql(sqlx::Error::Decode(Box::new(error)))),
    )
}

/// `jsonb` orders keys and spaces its text in its own way; reading it restores the normal form.
fn json_of(json: Option<&str>) -> Result<JsonObject, Fault> {
    Ok(json.map_or_else(|| Ok(JsonObject::default()), JsonObject::parse)?)
}

#[cfg(test)]
mod tests {
    use pulsestream_core::time::Timestamp;

    use super::*;

    #[test]
    fn an_event_at_the_limit_is_taken_and_one_above_refused() {
        let mut event = Event::new(EventId::new("large").unwrap(), "test", Timestamp::EPOCH);
        let rest = text_bytes(&event);
        event.message = Some("x".repeat(MAX_EVENT_BYTES - rest).into());
        assert_eq!(text_bytes(&event), MAX_EVENT_BYTES);
        assert!(refusal(&event).is_none());
        event.context.user_id = Some("x".into());
        assert_eq!(refusal(&event).map(|error| error.kind()), Some(ErrorKind::TooLarge));
    }
}
