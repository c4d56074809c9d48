//! The dispatcher as a background worker: attempts run side by side, so that a slow receiver delays nobody else.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::delivery::Dispatcher;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;

use crate::background::{Stepped, Worker};

/// How many attempts are under way at once.
const MAX_ATTEMPTS: usize = 256;

/// Drives the dispatcher.
#[derive(Debug)]
pub(crate) struct DeliveryWorker {
    dispatcher: Arc<Dispatcher>,
    room: Arc<Semaphore>,
    attempts: Mutex<JoinSet<()>>,
    wake: Arc<Notify>,
}

impl DeliveryWorker {
    /// Creates the worker; `wake` tells it that there are new deliveries.
    pub(crate) fn new(dispatcher: Dispatcher, wake: Arc<Notify>) -> Self {
        Self {
            dispatcher: Arc::new(dispatcher),
            room: Arc::new(Semaphore::new(MAX_ATTEMPTS)),
            attempts: Mutex::new(JoinSet::new()),
            wake,
        }
    }
}

#[async_trait]
impl Worker for DeliveryWorker {
    fn name(&self) -> &str {
        "delivery"
    }

    async fn step(&self) -> Result<Stepped> {
        let mut attempts = self.attempts.lock().await;
        while attempts.try_join_next().is_some() {}
        let room = self.room.available_permits();
        if room == 0 {
            return Ok(Stepped { progressed: true, ..Stepped::default() });
        }
        let leased = self.dispatcher.lease_due(room.min(64)).await?;
        let progressed = !leased.is_empty();
        for delivery in leased {
            let Ok(permit) = self.room.clone().try_acquire_owned() else { break };
            let (dispatcher, wake) = (self.dispatcher.clone(), self.wake.clone());
            attempts.spawn(async move {
                let id = delivery.delivery.id;
                if let Err(error) = dispatcher.attempt(delivery).await {
                    // The lease ends by itself and the delivery is tried again under the same id.
                    tracing::warn!(%id, %error, "a delivery could not be recorded");
                }
                drop(permit);
                wake.notify_one();
            });
        }
        let next_due = self.dispatcher.next_due().await?;
        Ok(Stepped { progressed, has_more: progressed, next_due })
    }

    async fn wait(&self) -> Result<()> {
        self.wake.notified().await;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        let mut attempts = self.attempts.lock().await;
        while attempts.join_next().await.is_some() {}
        Ok(())
    }
}
