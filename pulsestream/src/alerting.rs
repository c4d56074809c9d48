//! The alerting processors as background workers, one for each partition.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::{AlertingProcessor, PROCESSOR, ProcessorParts, ProcessorSettings};
use pulsestream_core::ports::event_store::Position;
use tokio::sync::Notify;

use crate::background::{Stepped, Worker};
use crate::partition::{self, PartitionWork};
use crate::share::Share;

#[derive(Debug)]
struct Alerting {
    processor: AlertingProcessor,
    planned: Arc<Notify>,
}

/// Makes a worker for each partition; `planned` is told when there are new deliveries.
pub(crate) fn workers(
    parts: &ProcessorParts,
    settings: ProcessorSettings,
    planned: &Arc<Notify>,
) -> Vec<Arc<dyn Worker>> {
    let (coordinator, env) = (parts.coordinator.clone(), parts.env.clone());
    let share = Share::new(coordinator, env, PROCESSOR.into(), parts.holder.clone(), settings.lease_ttl);
    partition::workers(&parts.events, share, |partition| Alerting {
        processor: AlertingProcessor::new(parts.clone(), settings, partition),
        planned: planned.clone(),
    })
}

#[async_trait]
impl PartitionWork for Alerting {
    async fn step(&mut self) -> Result<(Stepped, bool)> {
        let outcome = self.processor.step().await?;
        if outcome.deliveries > 0 {
            self.planned.notify_one();
        }
        let stepped = Stepped {
            progressed: outcome.events > 0,
            has_more: outcome.has_more,
            next_due: Some(outcome.next_due),
        };
        Ok((stepped, outcome.holds_lease))
    }

    fn position(&self) -> Position {
        self.processor.position()
    }

    async fn stop(&mut self) -> Result<()> {
        self.processor.stop().await
    }
}
