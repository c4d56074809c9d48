//! When the rules of a tenant were evaluated last.

use std::time::Duration;

use super::processor::PROCESSOR;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::coordinator::Coordinator;
use crate::ports::event_store::Partition;
use crate::time::Timestamp;

/// Returns when the processor of a tenant's partition last evaluated, on whatever node it runs; `None` when none did lately. A processor
/// renews its lease of `lease_ttl` after steps in which it evaluated, at least three times in that time, and after no others; one whose
/// first step fails gives its lease back.
///
/// # Errors
/// Those of the coordinator.
pub async fn rules_evaluated_at(
    coordinator: &dyn Coordinator,
    tenant: TenantId,
    lease_ttl: Duration,
) -> Result<Option<Timestamp>> {
    let resource = format!("{PROCESSOR}/{}", Partition::of(tenant).number());
    let leases = coordinator.leases(&resource).await?;
    // The name of one partition can be the start of another's.
    let lease = leases.into_iter().find(|lease| lease.resource == resource.as_str());
    let micros = crate::time::micros(lease_ttl);
    Ok(lease.map(|lease| Timestamp::from_micros(lease.expires_at.as_micros().saturating_sub(micros))))
}
