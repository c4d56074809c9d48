//! Moving what waits in the ingest queue into the event store, as background workers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::ingest::{IngestService, QueueDrain};
use tokio::sync::Mutex;

use crate::background::{Stepped, Worker};

/// How long one step waits for a batch: what stopping has to wait for at most, when there is nothing to do.
const WAIT: Duration = Duration::from_millis(250);
/// After which time a step gives up on a queue that waits longer than it was asked to, as the one in memory does.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Drives one drain.
#[derive(Debug)]
struct QueueWorker {
    name: String,
    drain: Mutex<QueueDrain>,
}

/// Makes the workers of this process; none when there is no queue. `holder` is unique for each process.
pub(crate) fn workers(ingest: &IngestService, holder: &str, count: usize) -> Vec<Arc<dyn Worker>> {
    let worker = |number: usize| {
        let name = format!("queue/{number}");
        let drain = Mutex::new(ingest.drain(&format!("{holder}/{number}"))?);
        Some(Arc::new(QueueWorker { name, drain }) as Arc<dyn Worker>)
    };
    (0..count).filter_map(worker).collect()
}

#[async_trait]
impl Worker for QueueWorker {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&self) -> Result<Stepped> {
        let mut drain = self.drain.lock().await;
        let Ok(batches) = tokio::time::timeout(LONGEST_WAIT, drain.take(WAIT)).await else {
            return Ok(Stepped { has_more: true, ..Stepped::default() });
        };
        let batches = batches?;
        if !batches.is_empty() {
            drain.store(batches).await?;
        }
        // Taking waits by itself.
        Ok(Stepped { has_more: true, ..Stepped::default() })
    }

    async fn wait(&self) -> Result<()> {
        std::future::pending().await
    }

    async fn stop(&self) -> Result<()> {
        Ok(())
    }
}
