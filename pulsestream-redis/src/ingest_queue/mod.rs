//! The ingest queue on a stream: one entry for each batch, one consumer group, and a second stream for dead letters.
//!
//! A batch is removed by `acknowledge` only, in the same step that takes it off the list of what is being worked on. The
//! stream is bounded by refusing, never by trimming.

mod dead;
mod entry;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::error::{Error, ErrorKind, Result, Retry};
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::ports::ingest_queue::{DeadLetter, IngestQueue, QueueDepth, QueuedBatch};
use pulsestream_core::text::Text;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use self::entry::{Fields, Receipt, decode, encode, number, tenant};
use crate::config::QueueConfig;
use crate::connect::{Link, Request};
use crate::durability::ServerFacts;
use crate::error::{Effect, code, failed, is_lost};
use crate::keys::Keys;
use crate::script::{Invocation, Script};

static ENQUEUE: Script = Script::new(include_str!("../scripts/queue_enqueue.lua"));
static TAKE: Script = Script::new(include_str!("../scripts/queue_take.lua"));
static ACKNOWLEDGE: Script = Script::new(include_str!("../scripts/queue_acknowledge.lua"));
static REJECT: Script = Script::new(include_str!("../scripts/queue_reject.lua"));

const GROUP: &str = "store";
/// The longest wait of one command; between two of them the batches of silent workers are looked for.
const LONGEST_BLOCK: Duration = Duration::from_secs(1);
/// Waiting for longer than a day is waiting for a day.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// Batches of one `take`, whatever is asked for.
const MOST_BATCHES: usize = 1_000;
/// Connections that are kept for workers that will wait again.
const IDLE_CONNECTIONS: usize = 16;
/// Why a batch became a dead letter without anybody burying it.
const GIVEN_UP: &str = "it was handed out too often and not stored";
const TAKE_OPERATION: &str = "ingest_queue.take";

/// A durable queue that all nodes share.
#[derive(Debug)]
pub struct RedisIngestQueue {
    link: Link,
    keys: Keys,
    config: QueueConfig,
    /// Connections for commands that block: one for each worker that waits.
    waiting: Mutex<Vec<MultiplexedConnection>>,
}

/// Id, deliveries before this one as this entry, fields.
type Entry = (String, u64, Fields);

/// Key, and id and fields of each entry.
type Stream = (String, Vec<(String, Fields)>);

impl RedisIngestQueue {
    pub(crate) fn new(link: Link, keys: Keys, config: QueueConfig) -> Self {
        Self { link, keys, config, waiting: Mutex::new(Vec::new()) }
    }

    /// Refuses a server that keeps less than what was asked for.
    pub(crate) fn check(&self, facts: &ServerFacts) -> Result<()> {
        let class = self.class(facts);
        if class >= self.config.required_durability {
            return Ok(());
        }
        let error = Error::new(
            ErrorKind::Unavailable,
            "ingest_queue.durability",
            "this redis keeps accepted events less safely than is required",
        );
        Err(error
            .with_context("required", name(self.config.required_durability))
            .with_context("found", name(class))
            .with_context("because", &facts.reason))
    }

    fn class(&self, facts: &ServerFacts) -> Durability {
        facts.durability.or(self.config.promised_durability).unwrap_or(Durability::Accepted)
    }

    fn stream_keys(&self) -> [String; 3] {
        [self.keys.batches(), self.keys.dead_batches(), self.keys.queue_used()]
    }

    /// Takes what is there, without waiting.
    async fn take_now(&self, worker: &str, limit: usize) -> Result<Vec<Entry>> {
        let silent_ms = self.config.visibility_timeout_ms.to_string();
        let (limit, most) = (limit.to_string(), self.config.max_deliveries.to_string());
        let request = Request::Script(Invocation {
            script: &TAKE,
            keys: &self.stream_keys(),
            arguments: &[
                GROUP.as_bytes(),
                worker.as_bytes(),
                silent_ms.as_bytes(),
                limit.as_bytes(),
                most.as_bytes(),
                GIVEN_UP.as_bytes(),
            ],
        });
        // What was taken by a first attempt is handed out again after the visibility timeout.
        let (gone, dead, entries): (u64, u64, Vec<Entry>) =
            self.link.send(request, Effect::Repeatable, TAKE_OPERATION).await?;
        if gone > 0 {
            tracing::error!(batches = gone, "accepted batches were removed from the stream by somebody else");
        }
        report_dead(dead);
        Ok(entries)
    }

    /// Waits for a new entry, on a connection of its own.
    ///
    /// A connection is kept only after its reply has come. One that is dropped while it waits is closed, and what the server
    /// may still send to it is handed out again after the visibility timeout.
    async fn take_next(&self, worker: &str, limit: usize, wait: Duration) -> Result<Vec<Entry>> {
        let idle = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let timeout = LONGEST_BLOCK + self.link.response_timeout();
                self.link.dedicated(timeout, TAKE_OPERATION).await?
            }
        };
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(worker).arg("COUNT").arg(limit);
        // Zero would mean forever.
        let block_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        read.arg("BLOCK").arg(block_ms).arg("STREAMS").arg(self.keys.batches()).arg(">");
        let outcome = read.query_async(&mut connection).await;
        let streams: Option<Vec<Stream>> = match outcome {
            Ok(streams) => streams,
            // The stream was removed while we waited: taking again makes it anew.
            Err(error) if matches!(code(&error).as_deref(), Some("NOGROUP" | "UNBLOCKED")) => None,
            // Connections that waited for their next use broke with it. Taking again connects, or says why it cannot.
            Err(error) if is_lost(&error) => {
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(&error, Effect::Read, TAKE_OPERATION)),
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < IDLE_CONNECTIONS {
            waiting.push(connection);
        }
        drop(waiting);
        let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
        Ok(entries.map(|(id, fields)| (id, 0, fields)).collect())
    }

    /// Reads entries; one that cannot be read becomes a dead letter, and the others go on.
    async fn read(&self, entries: Vec<Entry>) -> Result<Vec<QueuedBatch>> {
        let mut batches = Vec::with_capacity(entries.len());
        for (id, deliveries, fields) in entries {
            let earlier = deliveries.saturating_add(number(&fields, "d"));
            let body = fields.get("b").map(Vec::as_slice).unwrap_or_default();
            let events = match (tenant(&fields), decode(body)) {
                (Some(tenant), Ok(events)) => Ok((tenant, events)),
                (None, _) => Err("no tenant".to_owned()),
                (_, Err(problem)) => Err(problem),
            };
            match events {
                Ok((tenant, events)) => batches.push(QueuedBatch {
                    receipt: Receipt::of(id, &fields).text(),
                    tenant,
                    events,
                    earlier_deliveries: u32::try_from(earlier).unwrap_or(u32::MAX),
                }),
                Err(problem) => {
                    tracing::error!(entry = id, problem, "an accepted batch cannot be read");
                    self.put_back(&[id], Return::Dead(&format!("it cannot be read: {problem}"))).await?;
                }
            }
        }
        Ok(batches)
    }

    /// Puts entries back, or makes dead letters of them.
    async fn put_back(&self, ids: &[String], how: Return<'_>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let most = self.config.max_deliveries.to_string();
        let (most, counted, reason) = match how {
            Return::Counted => (most.as_str(), "1", GIVEN_UP),
            Return::Uncounted => (most.as_str(), "0", ""),
            Return::Dead(reason) => ("0", "1", reason),
        };
        let mut arguments = vec![GROUP.as_bytes(), most.as_bytes(), counted.as_bytes(), reason.as_bytes()];
        arguments.extend(ids.iter().map(String::as_bytes));
        let request =
            Request::Script(Invocation { script: &REJECT, keys: &self.stream_keys(), arguments: &arguments });
        let dead: u64 = self.link.send(request, Effect::Repeatable, "ingest_queue.reject").await?;
        report_dead(dead);
        Ok(())
    }
}

/// How entries leave the list of what is being worked on without being stored.
enum Return<'r> {
    /// To be taken again, unless they were handed out too often.
    Counted,
    /// To be taken again, as if they had not been.
    Uncounted,
    /// To the dead letters, with a reason.
    Dead(&'r str),
}

fn report_dead(batches: u64) {
    if batches > 0 {
        tracing::error!(batches, "accepted batches became dead letters");
    }
}

/// The name of a class as settings spell it.
fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::Accepted => "accepted",
        Durability::Written => "written",
        Durability::Durable => "durable",
        Durability::Replicated => "replicated",
    }
}

#[async_trait]
impl IngestQueue for RedisIngestQueue {
    fn durability(&self) -> Durability {
        self.link.known_facts().map_or(Durability::Accepted, |facts| self.class(&facts))
    }

    async fn enqueue(&self, tenant: TenantId, events: Vec<Event>) -> Result<()> {
        const OPERATION: &str = "ingest_queue.enqueue";
        if events.is_empty() {
            return Ok(());
        }
        let body = encode(&events)?;
        let (count, bytes) = (events.len() as u64, body.len() as u64);
        if count > self.config.max_events || bytes > self.config.max_bytes {
            return Err(Error::new(
                ErrorKind::TooLarge,
                OPERATION,
                "the batch is larger than the whole queue",
            )
            .with_context("events", count)
            .with_context("bytes", bytes));
        }
        let numbers = [self.config.max_events, self.config.max_bytes, count, bytes].map(|n| n.to_string());
        let tenant = tenant.to_string();
        let mut arguments: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
        arguments.extend([tenant.as_bytes(), body.as_slice(), GROUP.as_bytes()]);
        let request = Request::Script(Invocation {
            script: &ENQUEUE,
            keys: &self.stream_keys(),
            arguments: &arguments,
        });
        // A batch that is in the queue twice is stored once: the store knows its events by their ids.
        let accepted: bool =
            self.link.send_if(|facts| self.check(facts), request, Effect::Repeatable, OPERATION).await?;
        if accepted {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, OPERATION, "the ingest queue is full")
            .with_retry(Retry::After(self.config.full_retry_after()))
            .with_context("max_events", self.config.max_events)
            .with_context("max_bytes", self.config.max_bytes))
    }

    async fn take(&self, worker: &str, limit: usize, wait: Duration) -> Result<Vec<QueuedBatch>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let limit = limit.min(MOST_BATCHES);
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        let look_again =
            Duration::from_millis((self.config.visibility_timeout_ms / 4).max(10)).min(LONGEST_BLOCK);
        loop {
            let mut batches = self.read(self.take_now(worker, limit).await?).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if batches.is_empty() && !left.is_zero() {
                let entries = self.take_next(worker, limit, left.min(look_again)).await?;
                batches = self.read(entries).await?;
            }
            if !batches.is_empty() || Instant::now() >= deadline {
                return Ok(batches);
            }
        }
    }

    async fn acknowledge(&self, receipts: &[Text]) -> Result<()> {
        let words = removal(receipts);
        if words.is_empty() {
            return Ok(());
        }
        let mut arguments = vec![GROUP.as_bytes()];
        arguments.extend(words.iter().map(String::as_bytes));
        let request = Request::Script(Invocation {
            script: &ACKNOWLEDGE,
            keys: &self.stream_keys(),
            arguments: &arguments,
        });
        self.link.send(request, Effect::Repeatable, "ingest_queue.acknowledge").await
    }

    async fn reject(&self, receipts: &[Text]) -> Result<()> {
        self.put_back(&ids(receipts), Return::Counted).await
    }

    async fn release(&self, receipts: &[Text]) -> Result<()> {
        self.put_back(&ids(receipts), Return::Uncounted).await
    }

    async fn bury(&self, receipts: &[Text], reason: &str) -> Result<()> {
        self.put_back(&ids(receipts), Return::Dead(reason)).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        self.read_dead(limit).await
    }

    async fn replay(&self, receipts: &[Text]) -> Result<u64> {
        self.end_dead("replay", receipts, "ingest_queue.replay").await
    }

    async fn discard(&self, receipts: &[Text]) -> Result<u64> {
        self.end_dead("discard", receipts, "ingest_queue.discard").await
    }

    async fn depth(&self) -> Result<QueueDepth> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XLEN").arg(self.keys.batches()).cmd("XLEN").arg(self.keys.dead_batches());
        pipeline.cmd("HGET").arg(self.keys.queue_used()).arg("events");
        let (batches, dead, events): (u64, u64, Option<i64>) =
            self.link.send(Request::Pipeline(&pipeline), Effect::Read, "ingest_queue.depth").await?;
        Ok(QueueDepth {
            batches,
            dead,
            events: u64::try_from(events.unwrap_or_default()).unwrap_or_default(),
        })
    }
}

/// The entries that receipts name.
fn ids(receipts: &[Text]) -> Vec<String> {
    receipts.iter().filter_map(|receipt| Receipt::parse(receipt)).map(|receipt| receipt.id).collect()
}

/// Id, events and bytes of each receipt, as the scripts that remove batches read them.
fn removal(receipts: &[Text]) -> Vec<String> {
    let receipts = receipts.iter().filter_map(|receipt| Receipt::parse(receipt));
    receipts.flat_map(|receipt| [receipt.id, receipt.events.to_string(), receipt.bytes.to_string()]).collect()
}
