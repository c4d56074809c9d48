//! The event: its parts, the paths that name them, and the values found there.

mod json;
mod model;
mod path;
mod value;

pub use json::{JsonObject, JsonRef, MAX_DEPTH, MAX_KEYS};
pub use model::{Context, ErrorDetails, Event, Metrics, Severity, Source, Tags};
pub(crate) use path::nearest_of;
pub use path::{FieldPath, FieldType};
pub use value::{Value, ValueRef};
