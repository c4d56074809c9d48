//! What is said over a WebSocket of the dashboard.

use pulsestream_core::ports::live_bus::LiveTopic;
use pulsestream_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientMessage {
    Subscribe {
        #[serde(default)]
        subscription: Option<Topic>,
    },
    Unsubscribe {
        #[serde(default)]
        subscription: Option<Topic>,
    },
    GetData {
        #[serde(default)]
        data_type: DataType,
    },
    Heartbeat {},
}

/// What a client can follow; without a name it is everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Topic {
    Events,
    Alerts,
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DataType {
    #[default]
    Overview,
    Events,
    Alerts,
}

/// What a client follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Following {
    events: bool,
    alerts: bool,
}

impl Following {
    /// Follows a topic, or all of them, or stops to.
    pub(super) fn set(&mut self, topic: Option<Topic>, follow: bool) {
        if topic != Some(Topic::Alerts) {
            self.events = follow;
        }
        if topic != Some(Topic::Events) {
            self.alerts = follow;
        }
    }

    pub(super) fn wants(self, topic: LiveTopic) -> bool {
        match topic {
            LiveTopic::Event => self.events,
            LiveTopic::Alert => self.alerts,
        }
    }

    fn names(self) -> Vec<Topic> {
        let all = [(self.events, Topic::Events), (self.alerts, Topic::Alerts)];
        all.into_iter().filter(|(follows, _)| *follows).map(|(_, topic)| topic).collect()
    }
}

/// Answers a subscription or its end.
pub(super) fn confirmed(kind: &'static str, following: Following, at: Timestamp) -> String {
    json!({"type": kind, "subscriptions": following.names(), "timestamp": at}).to_string()
}

/// Answers a heartbeat.
pub(super) fn heartbeat(at: Timestamp) -> String {
    json!({"type": "heartbeat_response", "timestamp": at}).to_string()
}

/// Answers a question for data.
pub(super) fn data(data_type: DataType, data: &Value, at: Timestamp) -> String {
    json!({"type": "data_response", "data_type": data_type, "data": data, "timestamp": at}).to_string()
}

/// Says what was wrong with a message.
pub(super) fn error(message: &str, at: Timestamp) -> String {
    json!({"type": "error", "message": message, "timestamp": at}).to_string()
}
