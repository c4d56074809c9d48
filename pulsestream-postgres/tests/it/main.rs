//! Tests against a real PostgreSQL, named by `PULSESTREAM_TEST_POSTGRES_URL`; `cargo xtask test` starts one.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail loudly")]

mod alerting;
mod alerting_conformance;
mod cancellation;
mod cancellation_operations;
mod conflicts;
mod conformance;
mod failover;
mod faults;
mod host;
mod isolation;
mod isolation_tables;
mod live;
mod migrations;
mod mutant;
mod mutant_at_rest;
mod pooler;
mod restart;
mod retention;
mod support;
mod tail;
mod text_search;
