//! The alerting processors as background workers, one for each partition.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::{AlertingProcessor, PROCESSOR, ProcessorParts, ProcessorSettings};
use pulsestream_core::ports::event_store::Position;
use pulsestream_core::processing::StepOutcome;

use crate::background::Worker;
use crate::partition::{self, PartitionWork};
use crate::share::Share;

/// Makes a worker for each partition.
pub(crate) fn workers(parts: &ProcessorParts, settings: ProcessorSettings) -> Vec<Arc<dyn Worker>> {
    let (coordinator, env) = (parts.coordinator.clone(), parts.env.clone());
    let share = Share::new(coordinator, env, PROCESSOR.into(), parts.holder.clone(), settings.lease_ttl);
    partition::workers(&parts.events, share, |partition| {
        AlertingProcessor::new(parts.clone(), settings, partition)
    })
}

#[async_trait]
impl PartitionWork for AlertingProcessor {
    async fn step(&mut self) -> Result<StepOutcome> {
        Self::step(self).await
    }

    fn position(&self) -> Position {
        Self::position(self)
    }

    async fn stop(&mut self) -> Result<()> {
        Self::stop(self).await
    }
}
