//! HTTP requests of notifiers: guarded, bounded, classified.

mod config;
mod outcome;
mod permits;
mod reader;
mod retry_after;
mod sender;

pub use config::{HttpConfig, MAX_DEADLINE};
pub(crate) use outcome::{classify, refuse_forever};
pub use reader::DocumentReader;
pub(crate) use sender::{HttpSender, Outgoing};
