//! The ingest queue port: a durable buffer in front of a slow event store.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::event_store::Durability;
use crate::error::Result;
use crate::event::Event;
use crate::id::TenantId;
use crate::text::Text;

/// Accepted events that wait to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedBatch {
    /// Names the batch to `acknowledge` and `reject`.
    pub receipt: Text,
    /// Whose events they are.
    pub tenant: TenantId,
    /// The events.
    pub events: Vec<Event>,
    /// How often it was handed out before.
    pub earlier_deliveries: u32,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Batches that wait or are being worked on.
    pub batches: u64,
    /// Batches that were given up, kept for inspection.
    pub dead: u64,
}

/// Accepts events durably and hands each batch to one worker at a time until it is acknowledged.
#[async_trait]
pub trait IngestQueue: fmt::Debug + Send + Sync + 'static {
    /// Returns what an accepted batch survives.
    fn durability(&self) -> Durability;

    /// Accepts a batch; when it returns the batch is as safe as [`Self::durability`] says.
    ///
    /// # Contract
    /// - A full queue refuses with `Unavailable` and a retry time, and keeps nothing (`queue_is_bounded`).
    async fn enqueue(&self, tenant: TenantId, events: Vec<Event>) -> Result<()>;

    /// Takes up to `limit` batches for `worker`, waiting up to `wait` for the first.
    ///
    /// # Contract
    /// - A batch that was taken is not handed to another worker before the visibility timeout (`queue_hands_out_once`).
    /// - A batch whose worker died is handed out again (`queue_redelivers`).
    /// - A batch that was handed out too often becomes a dead letter (`queue_gives_up`).
    async fn take(&self, worker: &str, limit: usize, wait: Duration) -> Result<Vec<QueuedBatch>>;

    /// Removes batches that are stored.
    async fn acknowledge(&self, receipts: &[Text]) -> Result<()>;

    /// Puts batches back at once, to be taken again.
    async fn reject(&self, receipts: &[Text]) -> Result<()>;

    /// Returns how full it is.
    async fn depth(&self) -> Result<QueueDepth>;
}
