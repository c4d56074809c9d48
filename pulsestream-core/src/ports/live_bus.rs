//! The live bus port: what happens now, fanned out to every node.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::TenantId;

/// What a live message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LiveTopic {
    /// An event that was stored.
    Event,
    /// A change of an alert.
    Alert,
}

/// One live message. Delivery is best effort: whoever must not miss anything reads the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveMessage {
    /// What it is about.
    pub topic: LiveTopic,
    /// JSON body.
    pub body: Box<str>,
}

/// Receives the live messages of one tenant.
#[async_trait]
pub trait LiveSubscription: fmt::Debug + Send {
    /// Waits for the next message; `None` when the bus was closed.
    ///
    /// # Contract
    /// - A receiver that falls behind loses the oldest messages and learns how many from [`Self::missed`], and slows nobody
    ///   else down (`live_slow_receiver`).
    async fn next(&mut self) -> Result<Option<LiveMessage>>;

    /// Returns how many messages were lost since the last call.
    fn missed(&mut self) -> u64;
}

/// Fans messages out to the subscribers of a tenant on every node.
#[async_trait]
pub trait LiveBus: fmt::Debug + Send + Sync + 'static {
    /// Sends messages to whoever is subscribed now.
    ///
    /// # Contract
    /// - Subscribers of other tenants see nothing (`live_is_isolated`).
    async fn publish(&self, tenant: TenantId, messages: Vec<LiveMessage>) -> Result<()>;

    /// Subscribes to the messages of a tenant from now on.
    async fn subscribe(&self, tenant: TenantId) -> Result<Box<dyn LiveSubscription>>;

    /// Returns how many subscribers of the tenant this node has.
    fn subscribers(&self, tenant: TenantId) -> usize;
}
