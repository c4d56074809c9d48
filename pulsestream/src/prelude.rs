//! What most programs need: `use pulsestream::prelude::*`.

pub use pulsestream_core::event::{Event, JsonObject, Severity};
pub use pulsestream_core::filter::Filter;
pub use pulsestream_core::id::{EventId, TenantId};
pub use pulsestream_core::query::{AggregateQuery, Bucket, FindQuery, Measure, Order};
pub use pulsestream_core::time::{TimeRange, Timestamp};

pub use crate::{PulseStream, Tenant};
