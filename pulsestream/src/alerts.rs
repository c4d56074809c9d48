//! The alerts of one tenant.

use pulsestream_core::Result;
use pulsestream_core::alerting::{Alert, AlertAction, TimelineEntry};
use pulsestream_core::id::{AlertId, TenantId};
use pulsestream_core::ports::alert_store::{AlertPage, AlertQuery};

use crate::PulseStream;

/// The alerts of one tenant; cheap to clone.
#[derive(Debug, Clone)]
pub struct Alerts {
    pulsestream: PulseStream,
    tenant: TenantId,
}

impl Alerts {
    pub(crate) fn new(pulsestream: PulseStream, tenant: TenantId) -> Self {
        Self { pulsestream, tenant }
    }

    /// Lists alerts, those that started last first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, query: &AlertQuery) -> Result<AlertPage> {
        self.pulsestream.alert_store().alerts(self.tenant, query).await
    }

    /// Returns an alert.
    ///
    /// # Errors
    /// `NotFound` for an unknown alert.
    pub async fn get(&self, id: AlertId) -> Result<Alert> {
        self.pulsestream.alerting().alert(self.tenant, id).await
    }

    /// Returns everything that happened to an alert, oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn timeline(&self, id: AlertId) -> Result<Vec<TimelineEntry>> {
        self.pulsestream.alert_store().timeline(self.tenant, id).await
    }

    /// Acknowledges, resolves, or comments on an alert.
    ///
    /// # Errors
    /// `NotFound` for an unknown alert; `Conflict` when the action does not apply to its state.
    pub async fn act(&self, id: AlertId, action: &AlertAction) -> Result<Alert> {
        self.pulsestream.alerting().act(self.tenant, id, action).await
    }
}
