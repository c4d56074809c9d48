//! The live bus on publish and subscribe: one channel for each tenant, one subscribing connection for each node.
//!
//! A task owns the connection. When it breaks, the task connects again and subscribes to everything anew; messages of that
//! gap are gone, and each subscriber's `missed` grows by one, because nobody knows how many there were.

mod mailbox;
mod session;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription, LiveTopic};
use tokio::sync::{mpsc, oneshot};

use self::mailbox::Mailbox;
use self::session::{Command, Listener};
use crate::config::LiveConfig;
use crate::connect::{Link, Request};
use crate::error::Effect;
use crate::keys::Keys;

const SUBSCRIBE_OPERATION: &str = "live_bus.subscribe";
const VERSION: char = '1';

/// Fans messages out to the subscribers of every node.
#[derive(Debug)]
pub struct RedisLiveBus {
    link: Link,
    keys: Keys,
    buffer_messages: usize,
    subscribers: Arc<Subscribers>,
    commands: mpsc::UnboundedSender<Command>,
}

/// The mailboxes of this node.
#[derive(Debug, Default)]
struct Subscribers(Mutex<HashMap<TenantId, Vec<Arc<Mailbox>>>>);

impl RedisLiveBus {
    /// Starts the task that listens, in the present runtime; it connects with the first subscriber.
    pub(crate) fn start(link: Link, keys: Keys, config: &LiveConfig) -> Self {
        let subscribers = Arc::new(Subscribers::default());
        let (commands, receiver) = mpsc::unbounded_channel();
        let listener = Listener::new(link.clone(), keys.clone(), config, subscribers.clone());
        tokio::spawn(listener.run(receiver));
        Self { link, keys, buffer_messages: config.buffer_messages, subscribers, commands }
    }
}

impl Drop for RedisLiveBus {
    fn drop(&mut self) {
        self.subscribers.for_each(Mailbox::close);
    }
}

#[async_trait]
impl LiveBus for RedisLiveBus {
    async fn publish(&self, tenant: TenantId, messages: Vec<LiveMessage>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let channel = self.keys.live(tenant);
        let mut pipeline = redis::pipe();
        for message in &messages {
            pipeline.cmd("PUBLISH").arg(&channel).arg(write_message(message)).ignore();
        }
        self.link.send(Request::Pipeline(&pipeline), Effect::Once, "live_bus.publish").await
    }

    async fn subscribe(&self, tenant: TenantId) -> Result<Box<dyn LiveSubscription>> {
        let mailbox = Arc::new(Mailbox::new(self.buffer_messages));
        self.subscribers.add(tenant, mailbox.clone());
        // From here on dropping it takes it off the list, also when this future is dropped.
        let subscription = RedisSubscription {
            tenant,
            mailbox,
            subscribers: self.subscribers.clone(),
            commands: self.commands.downgrade(),
        };
        let (reply, is_subscribed) = oneshot::channel();
        let closed = || Error::new(ErrorKind::Closed, SUBSCRIBE_OPERATION, "the live bus was closed");
        self.commands.send(Command::Subscribe(tenant, reply)).map_err(|_| closed())?;
        is_subscribed.await.map_err(|_| closed())??;
        Ok(Box::new(subscription))
    }

    fn subscribers(&self, tenant: TenantId) -> usize {
        self.subscribers.count(tenant)
    }
}

#[derive(Debug)]
struct RedisSubscription {
    tenant: TenantId,
    mailbox: Arc<Mailbox>,
    subscribers: Arc<Subscribers>,
    /// Weak, so that the task ends with the bus.
    commands: mpsc::WeakUnboundedSender<Command>,
}

#[async_trait]
impl LiveSubscription for RedisSubscription {
    async fn next(&mut self) -> Result<Option<LiveMessage>> {
        Ok(self.mailbox.next().await)
    }

    fn missed(&mut self) -> u64 {
        self.mailbox.take_missed()
    }
}

impl Drop for RedisSubscription {
    fn drop(&mut self) {
        if self.subscribers.remove(self.tenant, &self.mailbox)
            && let Some(commands) = self.commands.upgrade()
        {
            // When the task is gone, so is the subscription.
            let _ = commands.send(Command::Unsubscribe(self.tenant));
        }
    }
}

impl Subscribers {
    fn add(&self, tenant: TenantId, mailbox: Arc<Mailbox>) {
        self.map().entry(tenant).or_default().push(mailbox);
    }

    /// Returns whether it was the last one of the tenant.
    fn remove(&self, tenant: TenantId, mailbox: &Arc<Mailbox>) -> bool {
        let mut map = self.map();
        let Some(mailboxes) = map.get_mut(&tenant) else { return false };
        mailboxes.retain(|other| !Arc::ptr_eq(other, mailbox));
        let is_last = mailboxes.is_empty();
        if is_last {
            map.remove(&tenant);
        }
        is_last
    }

    fn count(&self, tenant: TenantId) -> usize {
        self.map().get(&tenant).map_or(0, Vec::len)
    }

    fn tenants(&self) -> Vec<TenantId> {
        self.map().keys().copied().collect()
    }

    fn deliver(&self, tenant: TenantId, message: &LiveMessage) {
        for mailbox in self.map().get(&tenant).into_iter().flatten() {
            mailbox.push(message.clone());
        }
    }

    fn miss(&self, tenant: TenantId) {
        for mailbox in self.map().get(&tenant).into_iter().flatten() {
            mailbox.miss(1);
        }
    }

    fn for_each(&self, act: impl Fn(&Mailbox)) {
        for mailbox in self.map().values().flatten() {
            act(mailbox);
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<TenantId, Vec<Arc<Mailbox>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Version, topic, body.
fn write_message(message: &LiveMessage) -> String {
    let topic = match message.topic {
        LiveTopic::Event => 'e',
        LiveTopic::Alert => 'a',
    };
    let mut text = String::with_capacity(message.body.len() + 2);
    // Writing to a string cannot fail.
    let _ = write!(text, "{VERSION}{topic}{}", message.body);
    text
}

/// Nothing for what another version has written.
fn read_message(bytes: &[u8]) -> Option<LiveMessage> {
    let text = std::str::from_utf8(bytes).ok()?.strip_prefix(VERSION)?;
    let topic = match text.chars().next()? {
        'e' => LiveTopic::Event,
        'a' => LiveTopic::Alert,
        _ => return None,
    };
    Some(LiveMessage { topic, body: text[1..].into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_foreign_ones_passed_over() {
        for topic in [LiveTopic::Event, LiveTopic::Alert] {
            for body in ["", "{\"a\": \"\u{e9}\"}"] {
                let message = LiveMessage { topic, body: body.into() };
                assert_eq!(read_message(write_message(&message).as_bytes()), Some(message));
            }
        }
        for foreign in ["", "1", "1x{}", "2e{}"] {
            assert_eq!(read_message(foreign.as_bytes()), None);
        }
        assert_eq!(read_message(b"1e\xff"), None);
    }
}
