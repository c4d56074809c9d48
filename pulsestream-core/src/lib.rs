//! Ports, data model, services and the memory backend of PulseStream.
//!
//! This crate opens no socket and no file. Applications use the `pulsestream` facade; whoever writes a backend, a notifier or
//! a rule engine implements a port of this crate and proves it with the conformance suite.
#![forbid(unsafe_code)]

pub mod alerting;
pub mod at_rest;
pub mod auth;
pub mod env;
pub mod error;
pub mod event;
pub mod filter;
pub mod housekeeping;
pub mod id;
pub mod ingest;
pub mod layers;
mod lease;
pub mod memory;
pub mod ports;
pub mod processing;
pub mod query;
pub mod settings;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;
pub mod time;

pub use error::{Error, ErrorKind, FieldError, Result, Retry};
pub use filter::Filter;
