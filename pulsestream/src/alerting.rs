//! The alerting processors as background workers, one for each partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::{AlertingProcessor, ProcessorParts, ProcessorSettings};
use pulsestream_core::ports::event_store::{EventStore, Partition};
use tokio::sync::{Mutex, Notify};

use crate::background::{Stepped, Worker};
use crate::share::{Share, Turn};

/// Drives the processor of one partition.
#[derive(Debug)]
struct AlertingWorker {
    name: String,
    events: Arc<dyn EventStore>,
    partition: Partition,
    processor: Mutex<AlertingProcessor>,
    holds_lease: AtomicBool,
    share: Arc<Share>,
    planned: Arc<Notify>,
}

/// Makes a worker for each partition; `planned` is told when there are new deliveries.
pub(crate) fn workers(
    parts: &ProcessorParts,
    settings: ProcessorSettings,
    planned: &Arc<Notify>,
) -> Vec<Arc<dyn Worker>> {
    let (coordinator, env) = (parts.coordinator.clone(), parts.env.clone());
    let share = Arc::new(Share::new(coordinator, env, parts.holder.clone(), settings.lease_ttl));
    Partition::all()
        .map(|partition| {
            let processor = AlertingProcessor::new(parts.clone(), settings, partition);
            Arc::new(AlertingWorker {
                name: format!("alerting/{}", partition.number()),
                events: parts.events.clone(),
                partition,
                processor: Mutex::new(processor),
                holds_lease: AtomicBool::new(false),
                share: share.clone(),
                planned: planned.clone(),
            }) as Arc<dyn Worker>
        })
        .collect()
}

#[async_trait]
impl Worker for AlertingWorker {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&self) -> Result<Stepped> {
        let mut processor = self.processor.lock().await;
        match self.share.turn(self.partition).await? {
            Turn::Work => {}
            turn => {
                if turn == Turn::GiveBack {
                    tracing::info!(worker = self.name, "given back: this process has more than its share");
                    processor.stop().await?;
                    self.share.without(self.partition).await;
                }
                self.holds_lease.store(false, Ordering::Relaxed);
                return Ok(Stepped::default());
            }
        }
        let outcome = processor.step().await?;
        if !outcome.holds_lease {
            self.share.without(self.partition).await;
        }
        self.holds_lease.store(outcome.holds_lease, Ordering::Relaxed);
        if outcome.deliveries > 0 {
            self.planned.notify_one();
        }
        Ok(Stepped {
            progressed: outcome.events > 0,
            has_more: outcome.has_more,
            next_due: Some(outcome.next_due),
        })
    }

    async fn wait(&self) -> Result<()> {
        if !self.holds_lease.load(Ordering::Relaxed) {
            // Events do not matter to a node without the lease, only its next attempt to get it does.
            return std::future::pending().await;
        }
        let position = self.processor.lock().await.position();
        self.events.wait_for_events(self.partition, position).await
    }

    async fn stop(&self) -> Result<()> {
        self.processor.lock().await.stop().await?;
        self.share.leave().await
    }
}
