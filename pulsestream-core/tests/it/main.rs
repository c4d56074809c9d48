//! Integration tests of the core, one module per behaviour.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerting_processor;
mod alerting_service;
mod bounds;
mod broken;
mod contracts;
mod dispatcher;
mod filter;
mod housekeeping;
mod layers;
mod memory;
mod processing;
mod turns;
