//! The memory backend: every port, nothing durable; the reference that other backends are compared with.

mod cache;
mod event_log;
mod event_store;
mod ingest_queue;
mod key_value;
mod live_bus;
mod notifier;
mod rate_limiter;
pub(crate) mod signal;

pub use cache::MemoryCache;
pub use event_store::{MemoryEventStore, MemoryEventStoreLimits};
pub use ingest_queue::{MemoryIngestQueue, MemoryIngestQueueSettings};
pub use key_value::MemoryKeyValue;
pub use live_bus::MemoryLiveBus;
pub use notifier::RecordingNotifier;
pub use rate_limiter::MemoryRateLimiter;
