//! Records the requests of a host application as events.
//!
//! [`RequestRecorder`] owns a bounded queue and the task that empties it; [`RecordRequests`] is the tower layer that fills it.
//! A request never waits for the queue: what does not fit is counted as dropped, by reason.

mod body;
mod event;
mod layer;
mod recorder;

pub use body::RecordedBody;
pub use layer::{RecordRequests, RecordService};
pub use recorder::{RecordedCounts, RecorderConfig, RequestRecorder};
