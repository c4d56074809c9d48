//! From a planned delivery to a receiver that has it.

mod dispatcher;
mod schedule;

pub use dispatcher::{Dispatched, Dispatcher, DispatcherParts, DispatcherSettings};
pub use schedule::{MAX_RETRY_AFTER, RETRY_DELAYS, next_attempt};
