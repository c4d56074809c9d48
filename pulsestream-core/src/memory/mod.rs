//! The memory backend: every port, nothing durable; the reference that other backends are compared with.

mod event_log;
mod event_store;
mod key_value;
mod rate_limiter;
pub(crate) mod signal;

pub use event_store::{MemoryEventStore, MemoryEventStoreLimits};
pub use key_value::MemoryKeyValue;
pub use rate_limiter::MemoryRateLimiter;
