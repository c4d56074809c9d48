//! The processor port: something of the application's own that is done with every acknowledged event.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::ports::event_store::{Partition, Position, TailedEvent};

/// Where a processor begins on a partition on which it never was before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProcessorStart {
    /// With the oldest event that the store still has.
    #[default]
    Oldest,
    /// With the events that come from now on.
    Now,
}

/// Events of one partition, in the order of the log.
#[derive(Debug, Clone, Copy)]
pub struct ProcessorBatch<'a> {
    /// The partition. Only one process of all works on it at a time.
    pub partition: Partition,
    /// Ascends each time another process takes the partition over. Whatever outside remembers the highest it has seen can refuse a
    /// process that was slow and comes too late.
    pub fencing_token: u64,
    /// The events, of all tenants of the partition; never empty.
    pub events: &'a [TailedEvent],
    /// The place in the log after them: where the next batch begins.
    pub end: Position,
}

/// Does something with every acknowledged event, on one node at a time for each partition, and goes on after a crash where it was.
///
/// An event comes again when the process dies, or the call fails, before its place in the log was saved: always the same events, in the
/// same order, from an earlier place on, perhaps cut into other batches. So an effect must either be harmless twice, or be
/// written in one transaction with [`ProcessorBatch::end`], and events at or before the last written place be passed over.
#[async_trait]
pub trait Processor: fmt::Debug + Send + Sync + 'static {
    /// Says where to begin on a partition on which it never was before.
    fn start(&self) -> ProcessorStart;

    /// Handles events. Calls for one partition never overlap; those for different partitions do. A call must take well below
    /// `alerting.lease_ttl`: on many nodes another takes the partition over after that, and only the fencing token tells them apart.
    ///
    /// # Errors
    /// Whatever stopped it. The same events come again, later and later up to half a minute, or after what
    /// [`Error::retry_after`](crate::Error::retry_after) says; the partition waits meanwhile, so an event that can never
    /// be handled must be put aside and answered with `Ok`.
    async fn process(&self, batch: ProcessorBatch<'_>) -> Result<()>;
}
