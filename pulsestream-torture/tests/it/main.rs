//! Short runs of the torture program.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerting;
mod postgres;
mod redis;
