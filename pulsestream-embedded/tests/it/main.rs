//! The embedded store against what it promises.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alerting;
mod backup;
mod conformance;
mod crash;
mod damage;
mod faults;
mod format;
mod key_value;
mod questions;
