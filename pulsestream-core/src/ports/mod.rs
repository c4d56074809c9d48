//! The ports: what an application can plug in.
//!
//! Every port is dyn-safe, takes the tenant first, and is batch-shaped. A method's `# Contract` names what the conformance
//! suite in `testkit` proves.

pub mod alert_store;
pub mod auth;
pub mod cache;
pub mod coordinator;
pub mod document_store;
pub mod event_store;
pub mod identity;
pub mod ingest_queue;
pub mod key_value;
pub mod live_bus;
pub mod notifier;
pub mod outbox;
pub mod processor;
pub mod rate_limiter;
pub mod rule_engine;
pub mod timer;
