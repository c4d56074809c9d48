//! The facade as an application uses it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and tell what it passed over")]

mod alert;
mod erase;
mod folder;
#[cfg(feature = "jwks")]
mod foreign;
mod forward;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod handed_over;
#[cfg(feature = "notify")]
mod hanging;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod housekeeping;
mod incident;
mod layers;
mod live;
#[cfg(feature = "notify")]
mod mail;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod nodes;
#[cfg(feature = "redis")]
mod outage;
mod processing;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod server;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod sets;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod skew;
mod status;
