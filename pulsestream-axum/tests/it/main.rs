//! Tests of the HTTP interface over the memory backend.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answered;
mod asvs;
mod contract;
mod dashboard;
mod held;
mod host_identity;
mod isolation;
mod limits;
mod listener;
mod openapi;
mod prober;
mod queue;
mod rate_limit;
mod record;
mod security;
mod server;
mod service;
mod threats;
mod v1;
mod v2;
