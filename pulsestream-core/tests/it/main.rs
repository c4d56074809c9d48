//! Integration tests of the core, one module per behaviour.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken;
mod filter;
mod memory;
