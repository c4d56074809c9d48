//! A notifier that remembers, for tests and for applications that poll.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::alerting::Channel;
use crate::error::Result;
use crate::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use crate::text::Text;

/// How many notifications are remembered.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
struct State {
    notifications: VecDeque<Notification>,
    answers: VecDeque<DeliveryOutcome>,
}

/// Remembers the last 10,000 notifications, and answers as it is told: delivered, unless a test has lined up something else.
#[derive(Debug)]
pub struct RecordingNotifier {
    kind: Text,
    state: Mutex<State>,
}

impl RecordingNotifier {
    /// Creates a notifier for channels of this kind, for example `webhook`, or the kind of a custom channel.
    pub fn new(kind: impl Into<Text>) -> Self {
        Self { kind: kind.into(), state: Mutex::default() }
    }

    /// Answers the next attempts with these outcomes, in order.
    pub fn answer(&self, outcomes: impl IntoIterator<Item = DeliveryOutcome>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answers.extend(outcomes);
    }

    /// Forgets the answers that were lined up.
    pub fn forget_answers(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answers.clear();
    }

    /// Returns the notifications remembered, the oldest first, and forgets them.
    pub fn take(&self) -> Vec<Notification> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).notifications.drain(..).collect()
    }
}

#[async_trait]
impl Notifier for RecordingNotifier {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.notifications.len() == MAX_REMEMBERED {
            state.notifications.pop_front();
        }
        state.notifications.push_back(notification.clone());
        DeliveryReport {
            outcome: state.answers.pop_front().unwrap_or(DeliveryOutcome::Delivered),
            request: Text::from("record"),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}
