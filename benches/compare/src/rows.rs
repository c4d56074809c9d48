//! An event as a row of typed columns, which is how the other stores get it.

use std::borrow::Cow;

use pulsestream_core::event::{ErrorDetails, Event, ValueRef};
use pulsestream_core::testkit::EventGenerator;
use pulsestream_core::text::Text;
use serde_json::{Map, Value};

/// Type of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Real,
}

/// Names and types of the columns; the first two are the key.
pub(crate) const COLUMNS: [(&str, Kind); 31] = [
    ("tenant", Kind::Text),
    ("id", Kind::Text),
    ("event_type", Kind::Text),
    ("timestamp", Kind::Integer),
    ("received_at", Kind::Integer),
    ("severity", Kind::Integer),
    ("title", Kind::Text),
    ("message", Kind::Text),
    ("service", Kind::Text),
    ("endpoint", Kind::Text),
    ("method", Kind::Text),
    ("version", Kind::Text),
    ("environment", Kind::Text),
    ("user_id", Kind::Text),
    ("session_id", Kind::Text),
    ("request_id", Kind::Text),
    ("ip_address", Kind::Text),
    ("user_agent", Kind::Text),
    ("referrer", Kind::Text),
    ("error_code", Kind::Text),
    ("error_message", Kind::Text),
    ("error_type", Kind::Text),
    ("stack_trace", Kind::Text),
    ("tags", Kind::Text),
    ("payload", Kind::Text),
    ("metadata", Kind::Text),
    ("response_time_ms", Kind::Real),
    ("status_code", Kind::Integer),
    ("request_size_bytes", Kind::Integer),
    ("response_size_bytes", Kind::Integer),
    ("cache_hit", Kind::Integer),
];

/// Columns of the paths into tags, payload and metadata that a segment has columns for too: those that one event in 64 has.
pub(crate) const PATHS: [(&str, Kind); 12] = [
    ("context.tags.experiment", Kind::Text),
    ("context.tags.region", Kind::Text),
    ("metadata.host", Kind::Text),
    ("metadata.region", Kind::Text),
    ("metadata.schema", Kind::Real),
    ("payload.coupon", Kind::Text),
    ("payload.currency", Kind::Text),
    ("payload.gift", Kind::Integer),
    ("payload.plan", Kind::Text),
    ("payload.product.category", Kind::Text),
    ("payload.product.sku", Kind::Text),
    ("payload.total", Kind::Real),
];

/// Which columns a table has.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    /// Those of the event's own fields.
    Fields,
    /// [`PATHS`] as well.
    Paths,
}

impl Width {
    /// Returns names and types.
    pub(crate) fn columns(self) -> impl Iterator<Item = (&'static str, Kind)> {
        let paths = match self {
            Self::Fields => &[][..],
            Self::Paths => &PATHS,
        };
        COLUMNS.iter().chain(paths).copied()
    }

    /// Returns the columns of a `CREATE TABLE`, with the types of a store.
    pub(crate) fn types(self, name: impl Fn(Kind) -> &'static str) -> String {
        let columns: Vec<String> =
            self.columns().map(|(column, kind)| format!("\"{column}\" {}", name(kind))).collect();
        columns.join(", ")
    }

    /// Returns an event as a row of one tenant; this is part of what the other stores are timed for, as encoding is for ours.
    pub(crate) fn row(self, event: &Event) -> Row<'_> {
        let mut row = fields(event);
        if let Self::Paths = self {
            row.extend(paths(event));
        }
        row
    }
}

/// A value of a row, borrowed from its event.
pub(crate) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i64),
    Real(f64),
}

/// A row, in the order of the columns.
pub(crate) type Row<'a> = Vec<Cell<'a>>;

/// Returns batches of events that nobody else of the run has.
pub(crate) fn batches(seed: u64, events: u64, size: u64) -> Vec<Vec<Event>> {
    let mut generator = EventGenerator::new(seed);
    (0..events / size).map(|_| (0..size).map(|_| generator.event()).collect()).collect()
}

/// Returns the values at [`PATHS`], each object read once.
fn paths(event: &Event) -> [Cell<'_>; PATHS.len()] {
    fn cell(value: ValueRef<'_>) -> Cell<'_> {
        match value {
            ValueRef::Text(text) => Cell::Text(text),
            ValueRef::Number(number) => Cell::Real(number),
            ValueRef::Bool(value) => Cell::Integer(value.into()),
            _ => Cell::Null,
        }
    }
    let mut cells = [const { Cell::Null }; PATHS.len()];
    for (place, tag) in ["experiment", "region"].iter().enumerate() {
        cells[place] =
            event.context.tags.get(tag).map_or(Cell::Null, |value| Cell::Text(value.as_str().into()));
    }
    event.metadata.leaves(&mut |path, value| match path {
        ["host"] => cells[2] = cell(value),
        ["region"] => cells[3] = cell(value),
        ["schema"] => cells[4] = cell(value),
        _ => {}
    });
    event.payload.leaves(&mut |path, value| match path {
        ["coupon"] => cells[5] = cell(value),
        ["currency"] => cells[6] = cell(value),
        ["gift"] => cells[7] = cell(value),
        ["plan"] => cells[8] = cell(value),
        ["product", "category"] => cells[9] = cell(value),
        ["product", "sku"] => cells[10] = cell(value),
        ["total"] => cells[11] = cell(value),
        _ => {}
    });
    cells
}

fn fields(event: &Event) -> Row<'_> {
    fn text(text: &Option<Text>) -> Cell<'_> {
        text.as_ref().map_or(Cell::Null, |text| Cell::Text(text.as_str().into()))
    }
    let integer = |number: Option<i64>| number.map_or(Cell::Null, Cell::Integer);
    let size = |size: Option<u64>| integer(size.and_then(|size| i64::try_from(size).ok()));
    let error = |part: fn(&ErrorDetails) -> &Option<Text>| {
        event.error.as_deref().map_or(Cell::Null, |error| text(part(error)))
    };
    let (source, context, metrics) = (&event.source, &event.context, &event.metrics);
    let tags: Map<String, Value> =
        context.tags.iter().map(|(key, value)| (key.to_string(), value.as_str().into())).collect();
    vec![
        Cell::Text("bench".into()),
        Cell::Text(event.id.as_str().into()),
        Cell::Text(event.event_type.as_str().into()),
        Cell::Integer(event.timestamp.as_micros()),
        Cell::Integer(event.received_at.as_micros()),
        Cell::Integer(i64::from(event.severity as u8)),
        text(&event.title),
        text(&event.message),
        text(&source.service),
        text(&source.endpoint),
        text(&source.method),
        text(&source.version),
        text(&source.environment),
        text(&context.user_id),
        text(&context.session_id),
        text(&context.request_id),
        text(&context.ip_address),
        text(&context.user_agent),
        text(&context.referrer),
        error(|error| &error.code),
        error(|error| &error.message),
        error(|error| &error.error_type),
        error(|error| &error.stack_trace),
        Cell::Text(Value::Object(tags).to_string().into()),
        Cell::Text(event.payload.as_str().into()),
        Cell::Text(event.metadata.as_str().into()),
        metrics.response_time_ms.map_or(Cell::Null, Cell::Real),
        integer(metrics.status_code.map(i64::from)),
        size(metrics.request_size_bytes),
        size(metrics.response_size_bytes),
        integer(metrics.cache_hit.map(i64::from)),
    ]
}
