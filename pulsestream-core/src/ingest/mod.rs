//! Accepting events: validate, limit, store, answer.

mod counters;
mod gate;
mod queue;
mod quota;
mod service;
#[cfg(test)]
mod tests;

pub use counters::{IngestCounts, Refusal};
pub use queue::{Drained, QueueDrain};
pub use service::{Accepted, IngestOptions, IngestService, TenantLimits};
