//! Deleting a tenant deletes its events.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::auth::TenantDeletionHook;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{DeleteSelection, EventStore};
use pulsestream_core::time::TimeRange;

/// Deletes the events of a tenant that is deleted.
#[derive(Debug)]
pub(crate) struct EraseEvents(pub(crate) Arc<dyn EventStore>);

#[async_trait]
impl TenantDeletionHook for EraseEvents {
    async fn delete_tenant_data(&self, tenant: TenantId) -> Result<()> {
        let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        self.0.delete(tenant, &everything).await.map(drop)
    }
}
