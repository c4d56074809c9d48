//! The application's own processors as background workers, one for each partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::ports::event_store::Position;
use pulsestream_core::ports::processor::Processor;
use pulsestream_core::processing::{
    FeedParts, FeedSettings, ProcessorFeed, StepOutcome, check_processor_name,
};
use pulsestream_core::text::Text;
use pulsestream_core::{Error, Result};

use crate::background::Worker;
use crate::partition::{self, PartitionWork};
use crate::share::Share;

/// Checks that each has a name of its own.
pub(crate) fn check_names(processors: &[(Text, Arc<dyn Processor>)]) -> Result<()> {
    let mut names = BTreeSet::new();
    for (name, _) in processors {
        check_processor_name(name)?;
        if !names.insert(name.as_str()) {
            let message = format!("two processors have the name '{name}'");
            return Err(Error::invalid("builder.open", "/name", "invalid_name", message));
        }
    }
    Ok(())
}

/// Makes a worker for each partition.
pub(crate) fn workers(parts: &FeedParts, settings: FeedSettings) -> Vec<Arc<dyn Worker>> {
    let (coordinator, env) = (parts.coordinator.clone(), parts.env.clone());
    let share = Share::new(coordinator, env, parts.name.clone(), parts.holder.clone(), settings.lease_ttl);
    partition::workers(&parts.events, share, |partition| {
        ProcessorFeed::new(parts.clone(), settings, partition)
    })
}

#[async_trait]
impl PartitionWork for ProcessorFeed {
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
