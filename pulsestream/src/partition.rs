//! Drives what works on partitions of the log, one worker for each partition, within this process's share of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::ports::event_store::{EventStore, Partition, Position};
use pulsestream_core::processing::StepOutcome;
use tokio::sync::Mutex;

use crate::background::{Stepped, Worker};
use crate::share::{Share, Turn};

/// Works on one partition under a lease, a step at a time.
#[async_trait]
pub(crate) trait PartitionWork: fmt::Debug + Send + 'static {
    /// Does what is due, and says whether this process holds the partition.
    async fn step(&mut self) -> Result<StepOutcome>;

    /// Returns up to where events were taken.
    fn position(&self) -> Position;

    /// Gives the partition back.
    async fn stop(&mut self) -> Result<()>;
}

#[derive(Debug)]
struct PartitionWorker<W> {
    name: String,
    events: Arc<dyn EventStore>,
    partition: Partition,
    work: Mutex<W>,
    holds_lease: AtomicBool,
    share: Arc<Share>,
}

/// Makes a worker for each partition.
pub(crate) fn workers<W: PartitionWork>(
    events: &Arc<dyn EventStore>,
    share: Share,
    work: impl Fn(Partition) -> W,
) -> Vec<Arc<dyn Worker>> {
    let share = Arc::new(share);
    let worker = |partition: Partition| {
        Arc::new(PartitionWorker {
            name: format!("{}/{}", share.processor(), partition.number()),
            events: events.clone(),
            partition,
            work: Mutex::new(work(partition)),
            holds_lease: AtomicBool::new(false),
            share: share.clone(),
        }) as Arc<dyn Worker>
    };
    Partition::all().map(worker).collect()
}

#[async_trait]
impl<W: PartitionWork> Worker for PartitionWorker<W> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&self) -> Result<Stepped> {
        let mut work = self.work.lock().await;
        match self.share.turn(self.partition).await? {
            Turn::Work => {}
            turn => {
                if turn == Turn::GiveBack {
                    tracing::info!(worker = self.name, "given back: this process has more than its share");
                    work.stop().await?;
                    self.share.without(self.partition).await;
                }
                self.holds_lease.store(false, Ordering::Relaxed);
                return Ok(Stepped::default());
            }
        }
        let StepOutcome { events, holds_lease, has_more, next_due, .. } = work.step().await?;
        if !holds_lease {
            self.share.without(self.partition).await;
        }
        self.holds_lease.store(holds_lease, Ordering::Relaxed);
        Ok(Stepped { progressed: events > 0, has_more, next_due: Some(next_due) })
    }

    async fn wait(&self) -> Result<()> {
        if !self.holds_lease.load(Ordering::Relaxed) {
            // Events do not matter to a node without the lease, only its next attempt to get it does.
            return std::future::pending().await;
        }
        let position = self.work.lock().await.position();
        self.events.wait_for_events(self.partition, position).await
    }

    async fn stop(&self) -> Result<()> {
        self.work.lock().await.stop().await?;
        self.share.leave().await
    }
}
