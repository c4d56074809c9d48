//! Dead letters: batches that were handed out too often, or that cannot be read. They are kept until somebody decides.

use pulsestream_core::error::Result;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::text::Text;

use super::entry::{Fields, Receipt, decode, number, tenant};
use super::{RedisIngestQueue, removal};
use crate::connect::Request;
use crate::error::Effect;
use crate::script::{Invocation, Script};

static DEAD: Script = Script::new(include_str!("../scripts/queue_dead.lua"));

/// A batch that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadBatch {
    /// Names it to [`RedisIngestQueue::replay_dead`] and [`RedisIngestQueue::discard_dead`].
    pub receipt: Text,
    /// Whose events they are, when that can be read.
    pub tenant: Option<TenantId>,
    /// The events, or why they cannot be read.
    pub events: Result<Vec<Event>, String>,
    /// How often it was handed out.
    pub deliveries: u32,
}

impl RedisIngestQueue {
    /// Returns up to `limit` dead letters, the oldest first.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when Redis does not answer.
    pub async fn dead_batches(&self, limit: usize) -> Result<Vec<DeadBatch>> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.keys.dead_batches()).arg("-").arg("+").arg("COUNT").arg(limit);
        let entries: Vec<(String, Fields)> =
            self.link.send(Request::Command(&range), Effect::Read, "ingest_queue.dead_batches").await?;
        let read = |(id, fields): (String, Fields)| DeadBatch {
            tenant: tenant(&fields),
            events: decode(fields.get("b").map(Vec::as_slice).unwrap_or_default()),
            deliveries: u32::try_from(number(&fields, "r")).unwrap_or(u32::MAX),
            receipt: Receipt::of(id, &fields).text(),
        };
        Ok(entries.into_iter().map(read).collect())
    }

    /// Puts dead letters back into the queue, as if they had never been handed out, and returns how many were there.
    ///
    /// # Errors
    /// `Unavailable` when Redis cannot be reached; `OutcomeUnknown` when the reply was lost, and doing it again is safe.
    pub async fn replay_dead(&self, receipts: &[Text]) -> Result<u64> {
        self.end_dead("replay", receipts, "ingest_queue.replay_dead").await
    }

    /// Removes dead letters for good, and returns how many were there.
    ///
    /// # Errors
    /// As for [`Self::replay_dead`].
    pub async fn discard_dead(&self, receipts: &[Text]) -> Result<u64> {
        self.end_dead("discard", receipts, "ingest_queue.discard_dead").await
    }

    async fn end_dead(&self, what: &str, receipts: &[Text], operation: &'static str) -> Result<u64> {
        let words = removal(receipts);
        let mut arguments = vec![what.as_bytes()];
        arguments.extend(words.iter().map(String::as_bytes));
        let request =
            Request::Script(Invocation { script: &DEAD, keys: &self.stream_keys(), arguments: &arguments });
        self.link.send(request, Effect::Repeatable, operation).await
    }
}
