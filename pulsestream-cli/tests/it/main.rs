//! The program as its users run it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and reads what it has written"
)]

mod alerts;
mod files;
mod identity;
mod overload;
mod page;
mod pool;
mod program;
mod server;
mod settings;
mod setup;
mod stop;
