//! Layers: stores around stores. A layer implements the port it wraps, so everything that takes a store takes a layered one, and it
//! passes the same conformance suite.
//!
//! ```text
//! TimeoutLayer(RetryLayer(TimeoutLayer(store)))     a deadline for the call, retries, a deadline for each attempt
//! ```
//!
//! Whether a retry helps is in the error that the store gives ([`Error::retry`](crate::Error::retry)); the layers decide nothing by
//! the text of a message.

mod limits;
mod retry;
mod timeout;

pub use limits::QueryLimitLayer;
pub use retry::{RetryLayer, RetrySettings};
pub use timeout::{TimeoutLayer, TimeoutSettings};
