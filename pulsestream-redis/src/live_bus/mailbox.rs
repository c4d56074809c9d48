//! What waits for one subscriber: bounded, and whoever fills it never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pulsestream_core::ports::live_bus::LiveMessage;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    changed: Notify,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<LiveMessage>,
    missed: u64,
    is_closed: bool,
}

impl Mailbox {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), capacity }
    }

    /// Adds a message; when it is full the oldest makes room and is counted.
    pub(super) fn push(&self, message: LiveMessage) {
        let mut state = self.state();
        if state.messages.len() >= self.capacity {
            state.messages.pop_front();
            state.missed += 1;
        }
        state.messages.push_back(message);
        drop(state);
        self.changed.notify_one();
    }

    /// Counts messages that never came here.
    pub(super) fn miss(&self, messages: u64) {
        self.state().missed += messages;
    }

    /// Ends it after what is in it.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_one();
    }

    pub(super) fn take_missed(&self) -> u64 {
        std::mem::take(&mut self.state().missed)
    }

    /// Waits for a message; nothing when it was closed. For one reader.
    pub(super) async fn next(&self) -> Option<LiveMessage> {
        loop {
            // A notification between the look and the wait is kept for the wait.
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if let Some(message) = state.messages.pop_front() {
                    return Some(message);
                }
                if state.is_closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pulsestream_core::ports::live_bus::LiveTopic;

    use super::*;

    fn message(number: u32) -> LiveMessage {
        LiveMessage { topic: LiveTopic::Event, body: number.to_string().into() }
    }

    #[tokio::test]
    async fn a_full_one_loses_the_oldest_and_counts() {
        let mailbox = Mailbox::new(3);
        for number in 0..5 {
            mailbox.push(message(number));
        }
        mailbox.miss(1);
        assert_eq!(mailbox.take_missed(), 3);
        assert_eq!(mailbox.take_missed(), 0);
        mailbox.close();
        for number in 2..5 {
            assert_eq!(mailbox.next().await, Some(message(number)));
        }
        assert_eq!(mailbox.next().await, None);
    }
}
