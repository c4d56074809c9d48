//! Deliveries as rows.

use std::sync::Arc;

use pulsestream_core::alerting::Delivery;
use pulsestream_core::id::TenantId;
use sqlx::PgConnection;

use crate::database::bound;
use crate::error::Fault;
use crate::record::encode;
use crate::wire::{ArrayParam, JSONB, Param, TEXT, TIMESTAMPTZ, UUID};

/// Adds deliveries that are not there yet and returns how many.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    deliveries: &[Delivery],
) -> Result<usize, Fault> {
    if deliveries.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "insert into {schema}.deliveries \
         (tenant_id, delivery_id, channel_id, status, created_at, due_at, finished_at, record) \
         select $1, input.* from unnest($2, $3, $4, $5, $6, $7, $8) as input on conflict do nothing"
    );
    let added = bound(Arc::from(sql), &arrays(tenant, deliveries)?).execute(connection).await?;
    Ok(usize::try_from(added.rows_affected()).unwrap_or(usize::MAX))
}

/// Changes deliveries that are there, and ends their leases.
pub(super) async fn update(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    deliveries: &[Delivery],
) -> Result<(), Fault> {
    let sql = format!(
        "update {schema}.deliveries as stored set channel_id = input.channel_id, status = input.status, \
         created_at = input.created_at, due_at = input.due_at, finished_at = input.finished_at, \
         record = input.record, lease_holder = null, lease_expires_at = null \
         from unnest($2, $3, $4, $5, $6, $7, $8) \
           as input (delivery_id, channel_id, status, created_at, due_at, finished_at, record) \
         where stored.tenant_id = $1 and stored.delivery_id = input.delivery_id"
    );
    bound(Arc::from(sql), &arrays(tenant, deliveries)?).execute(connection).await?;
    Ok(())
}

fn arrays(tenant: TenantId, deliveries: &[Delivery]) -> Result<Vec<Param>, Fault> {
    let mut columns = [UUID, UUID, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, JSONB].map(ArrayParam::new);
    let [ids, channels, statuses, created, due, finished, records] = &mut columns;
    for delivery in deliveries {
        ids.raw(Some(&delivery.id.to_bytes()));
        channels.raw(Some(&delivery.channel.to_bytes()));
        statuses.text(Some(delivery.status.as_str()));
        created.timestamp(delivery.created_at);
        due.timestamp(delivery.due_at);
        finished.optional_timestamp(delivery.finished_at);
        records.jsonb(Some(&encode(delivery, "delivery")?));
    }
    let mut params = vec![Param::uuid(tenant.as_u128())];
    params.extend(columns.map(Param::from));
    Ok(params)
}
