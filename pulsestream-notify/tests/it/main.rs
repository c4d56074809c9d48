//! Notifiers against real receivers.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by a panic too")]

mod email;
mod guard;
mod log;
mod secrets;
mod slack;
mod support;
mod webhook;
