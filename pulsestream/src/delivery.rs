//! The dispatcher as a background worker: attempts run side by side, so that a slow receiver delays nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::delivery::Dispatcher;
use pulsestream_core::env::Env;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;

use crate::background::{Stepped, Worker};

/// How many attempts are under way at once.
const MAX_ATTEMPTS: usize = 256;

/// Drives the dispatcher.
#[derive(Debug)]
pub(crate) struct DeliveryWorker {
    dispatcher: Arc<Dispatcher>,
    env: Env,
    room: Arc<Semaphore>,
    attempts: Mutex<JoinSet<()>>,
    wake: Arc<Notify>,
    /// There may be work, so leasing is tried without asking first.
    expects_work: AtomicBool,
}

impl DeliveryWorker {
    /// Creates the worker; `wake` tells it that there are new deliveries.
    pub(crate) fn new(dispatcher: Dispatcher, env: Env, wake: Arc<Notify>) -> Self {
        Self {
            dispatcher: Arc::new(dispatcher),
            env,
            room: Arc::new(Semaphore::new(MAX_ATTEMPTS)),
            attempts: Mutex::new(JoinSet::new()),
            wake,
            expects_work: AtomicBool::new(true),
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
        if !self.expects_work.swap(false, Ordering::AcqRel) {
            // Most looks find nothing, and looking costs the store less than choosing.
            let next_due = self.dispatcher.next_due().await?;
            if next_due.is_none_or(|due| due > self.env.now()) {
                return Ok(Stepped { next_due, ..Stepped::default() });
            }
        }
        let leased = self.dispatcher.lease_due(room.min(64)).await?;
        let progressed = !leased.is_empty();
        self.expects_work.fetch_or(progressed, Ordering::AcqRel);
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
        self.expects_work.store(true, Ordering::Release);
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        let mut attempts = self.attempts.lock().await;
        while attempts.join_next().await.is_some() {}
        Ok(())
    }
}
