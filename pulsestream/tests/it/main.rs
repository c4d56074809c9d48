//! The facade as an application uses it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod alert;
mod folder;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod postgres;
