//! Tokens of an identity provider: a real one over TLS, with keys that the tests hold.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod attacks;
mod fetching;
mod good;
mod support;
