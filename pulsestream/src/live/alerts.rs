//! Tells every node what happens to alerts, and this one what is to be delivered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::AlertListener;
use pulsestream_core::id::{AlertId, TenantId};
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveTopic};
use tokio::sync::Notify;

use crate::background::{Stepped, Worker};

/// How many changes may wait; when the bus cannot keep up the oldest are dropped, because the store has them.
const MAX_WAITING: usize = 4_096;
/// How many are told in one step.
const STEP: usize = 64;

/// The alerts that changed and were not told yet, and the worker that tells them.
#[derive(Debug)]
pub(crate) struct AlertNews {
    alerts: Arc<dyn AlertStore>,
    bus: Arc<dyn LiveBus>,
    waiting: Mutex<VecDeque<(TenantId, AlertId)>>,
    arrived: Notify,
    deliveries: Arc<Notify>,
}

impl AlertNews {
    /// Creates it; `deliveries` is told when there are new ones.
    pub(crate) fn new(
        alerts: Arc<dyn AlertStore>,
        bus: Arc<dyn LiveBus>,
        deliveries: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self { alerts, bus, waiting: Mutex::default(), arrived: Notify::new(), deliveries })
    }

    fn take(&self) -> Vec<(TenantId, AlertId)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(STEP);
        waiting.drain(..count).collect()
    }
}

impl AlertListener for AlertNews {
    fn alerts_changed(&self, tenant: TenantId, alerts: &[AlertId]) {
        if alerts.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for alert in alerts {
            if waiting.len() == MAX_WAITING {
                waiting.pop_front();
                tracing::warn!("the live bus is too slow: a change of an alert is not shown live");
            }
            waiting.push_back((tenant, *alert));
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    fn deliveries_planned(&self) {
        self.deliveries.notify_one();
    }
}

#[async_trait]
impl Worker for AlertNews {
    fn name(&self) -> &str {
        "live alerts"
    }

    async fn step(&self) -> Result<Stepped> {
        let changed = self.take();
        let count = changed.len();
        for (tenant, id) in changed {
            // Whoever listens gets the alert as it is now: two changes in a row may look alike, and the last is never missed.
            let Some(alert) = self.alerts.alert(tenant, id).await? else { continue };
            let Ok(body) = serde_json::to_string(&alert) else { continue };
            let message = LiveMessage { topic: LiveTopic::Alert, body: body.into_boxed_str() };
            self.bus.publish(tenant, vec![message]).await?;
        }
        Ok(Stepped { progressed: count > 0, has_more: count == STEP, next_due: None })
    }

    async fn wait(&self) -> Result<()> {
        self.arrived.notified().await;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        Ok(())
    }
}
