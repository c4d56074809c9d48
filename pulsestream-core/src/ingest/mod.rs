//! Accepting events: validate, limit, store, answer.

mod counters;
mod gate;
mod quota;
mod service;
#[cfg(test)]
mod tests;

pub use counters::{IngestCounts, Refusal};
pub use service::{Accepted, IngestOptions, IngestService, TenantLimits};
