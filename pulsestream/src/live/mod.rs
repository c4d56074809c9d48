//! What happens now: events from the log, alerts from the live bus.
//!
//! Each node reads the log itself, and only while somebody follows a tenant of the partition (ADR 7): whoever stored an event, on
//! whichever node and by whichever way, it is seen, and an append does no work for listeners that are not there. Alerts change
//! seldom, on the one node that holds the partition or where a person acts, and go to all nodes through the bus.

mod alerts;
mod events;
mod feed;

pub(crate) use alerts::AlertNews;
pub(crate) use events::LiveEvents;
pub(crate) use feed::Feed;
