//! Deleting a tenant deletes what it stored.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::auth::TenantDeletionHook;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::document_store::DocumentStore;
use pulsestream_core::ports::event_store::{DeleteSelection, EventStore};
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::time::TimeRange;

/// Deletes the events, documents, rules, alerts and deliveries of a tenant that is deleted.
#[derive(Debug)]
pub(crate) struct EraseTenant {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) documents: Arc<dyn DocumentStore>,
    pub(crate) alerts: Arc<dyn AlertStore>,
    pub(crate) outbox: Arc<dyn Outbox>,
}

#[async_trait]
impl TenantDeletionHook for EraseTenant {
    async fn delete_tenant_data(&self, tenant: TenantId) -> Result<()> {
        // Rules first, so that nothing fires about what goes; deliveries after the alerts that could make more of them.
        self.alerts.erase(tenant).await?;
        self.outbox.erase(tenant).await?;
        let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        self.events.delete(tenant, &everything).await?;
        self.documents.delete_documents(tenant).await?;
        Ok(())
    }
}
