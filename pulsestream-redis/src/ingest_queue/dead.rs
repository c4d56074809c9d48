//! Dead letters: batches that were handed out too often, that the store refuses, or that cannot be read. They are kept until
//! somebody decides.

use pulsestream_core::error::Result;
use pulsestream_core::ports::ingest_queue::DeadLetter;
use pulsestream_core::text::Text;

use super::entry::{Fields, Receipt, decode, number, tenant, text};
use super::{RedisIngestQueue, removal};
use crate::connect::Request;
use crate::error::Effect;
use crate::script::{Invocation, Script};

static DEAD: Script = Script::new(include_str!("../scripts/queue_dead.lua"));

impl RedisIngestQueue {
    pub(super) async fn read_dead(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut range = redis::cmd("XRANGE");
        range.arg(self.keys.dead_batches()).arg("-").arg("+").arg("COUNT").arg(limit);
        let entries: Vec<(String, Fields)> =
            self.link.send(Request::Command(&range), Effect::Read, "ingest_queue.dead_letters").await?;
        let read = |(id, fields): (String, Fields)| DeadLetter {
            tenant: tenant(&fields),
            events: decode(fields.get("b").map(Vec::as_slice).unwrap_or_default()),
            deliveries: u32::try_from(number(&fields, "r")).unwrap_or(u32::MAX),
            reason: text(&fields, "w").unwrap_or_default().into(),
            receipt: Receipt::of(id, &fields).text(),
        };
        Ok(entries.into_iter().map(read).collect())
    }

    /// Ends dead letters by `replay` or `discard`; doing it twice is as good as once.
    pub(super) async fn end_dead(
        &self,
        what: &str,
        receipts: &[Text],
        operation: &'static str,
    ) -> Result<u64> {
        let words = removal(receipts);
        let mut arguments = vec![what.as_bytes()];
        arguments.extend(words.iter().map(String::as_bytes));
        let request =
            Request::Script(Invocation { script: &DEAD, keys: &self.stream_keys(), arguments: &arguments });
        self.link.send(request, Effect::Repeatable, operation).await
    }
}
