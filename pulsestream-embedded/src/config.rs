//! Settings of the store.

use std::time::Duration;

use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::time::duration_text;
use pulsestream_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of an [`EmbeddedStore`](crate::EmbeddedStore); the defaults suit a machine with a few cores and gigabytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// What an acknowledgement means unless an append says otherwise: `written` or `durable`.
    pub durability: Durability,
    /// Bytes of loaded columns, and of fingerprints of ids, that are kept; default 256 MiB. The fingerprints take 5 bytes an event;
    /// appends are slow when those do not fit of segments that may have the ids of new events, which are all when ids are random, and the last
    /// few when ids begin with the time.
    pub cache_bytes: usize,
    /// Bytes of fresh events after which they are sealed into a segment; default 32 MiB. Up to three times as much is held while
    /// sealing lags, then appends wait.
    pub seal_bytes: usize,
    /// Fresh events after which they are sealed into a segment; default 65,536.
    pub seal_events: usize,
    /// Events up to which segments are merged; default 262,144.
    pub segment_events: usize,
    /// Bytes of a log file; default 16 MiB.
    pub log_file_bytes: u64,
    /// Bytes of appends that may wait for the disk before more are refused; default 64 MiB.
    pub queue_bytes: usize,
    /// Bytes of one append, encoded; default 64 MiB.
    pub batch_bytes: usize,
    /// Level of the compression of segments, 1 to 19; default 3.
    pub compression_level: i32,
    /// Threads that answer large questions; default 2. Appends, deletions, commits of rules and accounts, and the reading of the log
    /// have threads of their own.
    pub query_threads: usize,
    /// Large questions that may wait for a thread before more are refused as `Unavailable`; default 1,024.
    pub query_queue: usize,
    /// How long a question may take before it ends with `Timeout`; default 30 seconds.
    #[serde(with = "duration_text")]
    pub query_timeout: Duration,
    /// Bytes that one question may take up while it is answered before it ends with `TooLarge`: groups, numbers of percentiles, events
    /// of a page, and the columns at hand; default 512 MiB.
    pub query_bytes: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            cache_bytes: 256 << 20,
            seal_bytes: 32 << 20,
            seal_events: 65_536,
            segment_events: 262_144,
            log_file_bytes: 16 << 20,
            queue_bytes: 64 << 20,
            batch_bytes: 64 << 20,
            compression_level: 3,
            query_threads: 2,
            query_queue: 1_024,
            query_timeout: Duration::from_secs(30),
            query_bytes: 512 << 20,
        }
    }
}

/// Bytes of one event while a segment is written, beside the event itself: its share of columns, dictionaries and fingerprints.
const SEALED_EVENT_BYTES: usize = 400;
/// Bytes that a fresh event takes beside itself: its id in the table of duplicates, with room to grow, and its place in its batch.
const FRESH_EVENT_BYTES: usize = 60;
/// Buffers of the log, of sealing and of merging.
const BUFFER_BYTES: usize = 16 << 20;

impl EmbeddedConfig {
    /// Returns how much memory the store takes at most with these settings, while it appends, seals and merges at once and questions are
    /// asked: the cache, what waits for the disk, three lots of fresh events, what sealing and merging build, and buffers. The answers
    /// of questions, and what they gather for them, come on top; so does the program itself.
    pub fn memory_bytes(&self) -> usize {
        // Sealing starts with the batch after the limit.
        let fresh = 3 * (self.seal_bytes + self.seal_events * FRESH_EVENT_BYTES);
        let built = (self.seal_events + self.segment_events) * SEALED_EVENT_BYTES;
        self.cache_bytes + self.queue_bytes + fresh + built + BUFFER_BYTES
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// `Invalid` with the name of the setting.
    pub fn validate(&self) -> Result<()> {
        let refuse = |pointer: &str, message: &str| {
            Err(Error::invalid("embedded.config", pointer, "out_of_range", message.to_owned()))
        };
        if !matches!(self.durability, Durability::Written | Durability::Durable) {
            return refuse("/durability", "must be written or durable");
        }
        if self.seal_events == 0 || self.seal_events > 1 << 22 {
            return refuse("/seal_events", "must be 1 to 4,194,304");
        }
        if self.segment_events < self.seal_events || self.segment_events > 1 << 22 {
            return refuse("/segment_events", "must be seal_events to 4,194,304");
        }
        if self.log_file_bytes < 4_096 || self.log_file_bytes > 1 << 29 {
            return refuse("/log_file_bytes", "must be 4 KiB to 512 MiB");
        }
        if self.batch_bytes == 0 || self.batch_bytes > 1 << 29 {
            return refuse("/batch_bytes", "must be 1 byte to 512 MiB");
        }
        if !(1..=19).contains(&self.compression_level) {
            return refuse("/compression_level", "must be 1 to 19");
        }
        if !(1..=256).contains(&self.query_threads) {
            return refuse("/query_threads", "must be 1 to 256");
        }
        if !(1..=1 << 20).contains(&self.query_queue) {
            return refuse("/query_queue", "must be 1 to 1,048,576");
        }
        if self.query_timeout < Duration::from_millis(1) || self.query_timeout > Duration::from_secs(3_600) {
            return refuse("/query_timeout", "must be 1ms to 1h");
        }
        if self.query_bytes < 1 << 10 {
            return refuse("/query_bytes", "must be at least 1 KiB");
        }
        Ok(())
    }
}
