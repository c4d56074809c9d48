//! The proxy against an echo server, and the servers against themselves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod proxy;
mod servers;
