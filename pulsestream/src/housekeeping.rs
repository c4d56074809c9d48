//! Housekeeping as a background worker.

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::housekeeping::Housekeeper;
use tokio::sync::Mutex;

use crate::background::{Stepped, Worker};

/// Drives the housekeeper.
#[derive(Debug)]
pub(crate) struct HousekeepingWorker(Mutex<Housekeeper>);

impl HousekeepingWorker {
    pub(crate) fn new(housekeeper: Housekeeper) -> Self {
        Self(Mutex::new(housekeeper))
    }
}

#[async_trait]
impl Worker for HousekeepingWorker {
    fn name(&self) -> &str {
        "housekeeping"
    }

    async fn step(&self) -> Result<Stepped> {
        let outcome = self.0.lock().await.step().await?;
        Ok(Stepped { progressed: true, has_more: outcome.has_more, next_due: Some(outcome.next_due) })
    }

    async fn wait(&self) -> Result<()> {
        std::future::pending().await
    }

    async fn stop(&self) -> Result<()> {
        Ok(())
    }
}
