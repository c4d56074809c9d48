//! Redis and what stands in for it when it misbehaves. Tests that need a server say loudly when there is none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod conformance;
mod connection;
mod coordinator;
mod durability;
mod eviction;
mod kill;
mod limiter;
mod live;
mod queue;
mod queue_faults;
mod scripted;
mod support;
