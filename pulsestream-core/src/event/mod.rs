//! The event: its parts, the paths that name them, and the values found there.

mod draft;
mod json;
mod model;
mod new_ids;
mod parse;
mod path;
mod schema;
mod size;
mod validate;
mod value;

pub use json::{JsonObject, JsonRef, MAX_DEPTH, MAX_KEYS};
pub use model::{Context, ErrorDetails, Event, Metrics, Severity, Source, Tags};
pub use parse::{BatchForm, EventParser, ParsedBatch, ParsedEvents};
pub use path::nearest_of;
pub use path::{FieldPath, FieldType};
pub use schema::{Dialect, V1_EVENT_TYPES};
pub use size::event_bytes;
pub use validate::{
    EventRules, MAX_EVENT_TYPE_BYTES, MAX_STATED_BYTES, MAX_TAG_NAME_CHARS, MAX_TAG_VALUE_CHARS,
};
pub use value::{Value, ValueRef};
