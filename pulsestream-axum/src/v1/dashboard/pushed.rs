//! Live messages in the shapes of this version.

use pulsestream_core::alerting::Alert;
use pulsestream_core::event::Event;
use pulsestream_core::ports::live_bus::{LiveMessage, LiveTopic};
use pulsestream_core::time::Timestamp;
use serde::Serialize;

use super::overview::StreamEvent;
use crate::v1::alerting::AlertOut;

/// What is pushed to a client.
#[derive(Serialize)]
struct Pushed<T> {
    r#type: &'static str,
    data: T,
    /// How many messages were lost before this one, because the client reads too slowly.
    missed: u64,
    timestamp: Timestamp,
}

/// Returns a message as a client reads it, an event or an alert as the calls that list them show it; `None` for a body that another
/// release or the host wrote in a form of its own.
pub(super) fn text(message: &LiveMessage, missed: u64, at: Timestamp) -> Option<String> {
    let text = match message.topic {
        LiveTopic::Event => {
            let event: Event = serde_json::from_str(&message.body).ok()?;
            let data = StreamEvent::from(event);
            serde_json::to_string(&Pushed { r#type: "event", data, missed, timestamp: at })
        }
        LiveTopic::Alert => {
            let alert: Alert = serde_json::from_str(&message.body).ok()?;
            let data = AlertOut::new(&alert, at);
            serde_json::to_string(&Pushed { r#type: "alert", data, missed, timestamp: at })
        }
    };
    text.ok()
}
