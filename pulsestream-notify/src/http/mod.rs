//! HTTP requests of notifiers: guarded, bounded, classified.

mod config;
mod outcome;
mod permits;
mod retry_after;
mod sender;

pub use config::{HttpConfig, MAX_DEADLINE};
pub(crate) use outcome::{classify, refuse_forever};
pub(crate) use sender::{HttpSender, Outgoing};
