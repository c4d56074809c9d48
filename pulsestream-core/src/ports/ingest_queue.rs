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
    /// Batches that were given up, kept until somebody decides.
    pub dead: u64,
    /// The events of both, which is what the limit counts.
    pub events: u64,
}

/// A batch that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Names it to `replay` and `discard`.
    pub receipt: Text,
    /// Whose events they are, when that can be read.
    pub tenant: Option<TenantId>,
    /// The events, or why they cannot be read.
    pub events: Result<Vec<Event>, String>,
    /// How often it was handed out.
    pub deliveries: u32,
    /// Why it was given up.
    pub reason: Text,
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

    /// Puts batches back at once, to be taken again; that they were handed out counts.
    ///
    /// # Contract
    /// - A rejected batch is there again at once (`queue_rejects`).
    async fn reject(&self, receipts: &[Text]) -> Result<()>;

    /// Puts batches back at once as if they had not been taken: what failed had nothing to do with them.
    ///
    /// # Contract
    /// - However often a batch is released, it is not given up (`queue_releases`).
    async fn release(&self, receipts: &[Text]) -> Result<()>;

    /// Gives batches up at once: they become dead letters with this reason.
    ///
    /// # Contract
    /// - A dead letter is not handed out, and keeps its room until somebody decides (`queue_buries`).
    async fn bury(&self, receipts: &[Text], reason: &str) -> Result<()>;

    /// Returns up to `limit` dead letters, the oldest first.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>>;

    /// Puts dead letters back into the queue, as if they had never been handed out, and returns how many were there.
    ///
    /// # Contract
    /// - A replayed batch is handed out again, with its tenant and its events (`queue_replays`).
    async fn replay(&self, receipts: &[Text]) -> Result<u64>;

    /// Removes dead letters for good, and returns how many were there.
    ///
    /// # Contract
    /// - Discarding makes room (`queue_discards`).
    async fn discard(&self, receipts: &[Text]) -> Result<u64>;

    /// Returns how full it is.
    async fn depth(&self) -> Result<QueueDepth>;
}
