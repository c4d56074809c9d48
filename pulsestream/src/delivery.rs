//! The dispatcher as a background worker: attempts run side by side, so that a slow receiver delays nobody else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::delivery::Dispatcher;
use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;

use crate::background::{Stepped, Worker};

/// How many attempts are under way at once.
const MAX_ATTEMPTS: usize = 256;

/// Once a tenant has so many of them under way, it gets no more: one whose receivers all hang leaves most of the room to others.
const ENOUGH_FOR_ONE: usize = 64;

/// How many are leased at once.
const LEASED_AT_ONCE: usize = 64;

/// How many attempts of each tenant are under way.
type UnderWay = Arc<std::sync::Mutex<BTreeMap<TenantId, usize>>>;

/// Counts an attempt until it is dropped, also when the attempt panics.
struct Counted {
    tenant: TenantId,
    under_way: UnderWay,
}

impl Counted {
    fn new(tenant: TenantId, under_way: &UnderWay) -> Self {
        *held(under_way).entry(tenant).or_default() += 1;
        Self { tenant, under_way: under_way.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut under_way = held(&self.under_way);
        if let Some(count) = under_way.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

fn held(under_way: &UnderWay) -> MutexGuard<'_, BTreeMap<TenantId, usize>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drives the dispatcher.
#[derive(Debug)]
pub(crate) struct DeliveryWorker {
    dispatcher: Arc<Dispatcher>,
    env: Env,
    room: Arc<Semaphore>,
    under_way: UnderWay,
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
            under_way: UnderWay::default(),
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
        let full = held(&self.under_way)
            .iter()
            .filter(|(_, count)| **count >= ENOUGH_FOR_ONE)
            .map(|(tenant, _)| *tenant)
            .collect();
        let leased = self.dispatcher.lease_due(room.min(LEASED_AT_ONCE), full).await?;
        let progressed = !leased.is_empty();
        self.expects_work.fetch_or(progressed, Ordering::AcqRel);
        for delivery in leased {
            let Ok(permit) = self.room.clone().try_acquire_owned() else { break };
            let (dispatcher, wake) = (self.dispatcher.clone(), self.wake.clone());
            let counted = Counted::new(delivery.tenant, &self.under_way);
            attempts.spawn(async move {
                let id = delivery.delivery.id;
                if let Err(error) = dispatcher.attempt(delivery).await {
                    // The lease ends by itself and the delivery is tried again under the same id.
                    tracing::warn!(%id, %error, "a delivery could not be recorded");
                }
                drop((permit, counted));
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
