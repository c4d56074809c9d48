//! From a planned delivery to a receiver that has it.

mod dispatcher;
mod gate;
mod grouping;
mod guarded;
mod health;
mod operational;
mod schedule;
pub(super) mod template;

pub use dispatcher::{Dispatched, Dispatcher, DispatcherParts, DispatcherSettings};
pub use grouping::{GroupingPlanner, MAX_GROUP_ALERTS};
pub use health::FAILURE_SPAN;
pub use schedule::{MAX_RETRY_AFTER, RETRY_DELAYS, next_attempt};
pub use template::{MAX_OUTPUT_BYTES, TEMPLATE_FUEL, preview, render, render_annotations};
