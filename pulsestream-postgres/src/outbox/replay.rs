//! Sending deliveries again.

use std::sync::Arc;

use pulsestream_core::alerting::{Delivery, DeliveryStatus};
use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::outbox::ReplaySelection;
use pulsestream_core::time::Timestamp;

use super::CHUNK;
use super::row::update;
use crate::database::{Database, Scope, bound_once};
use crate::error::Fault;
use crate::record::decode;
use crate::sql::Params;
use crate::wire::{Columns, Param};

/// Replays a chunk at a time: what was replayed is queued, and so not selected again.
pub(super) async fn replay(
    database: &Arc<Database>,
    tenant: TenantId,
    selection: &ReplaySelection,
    now: Timestamp,
) -> Result<u64> {
    let mut params = Params::default();
    let mut conditions = vec![format!("tenant_id = {}", params.bind(Param::uuid(tenant.as_u128())))];
    let channel = match selection {
        ReplaySelection::Ids(ids) => {
            let ids = Param::uuids(ids.iter().map(|id| id.as_u128()));
            conditions.push(format!("delivery_id = any({})", params.bind(ids)));
            conditions.push("status <> 'queued'".to_owned());
            None
        }
        ReplaySelection::Range { range, channel } => {
            conditions.push(format!("created_at >= {}", params.bind(Param::timestamp(range.start))));
            conditions.push(format!("created_at < {}", params.bind(Param::timestamp(range.end))));
            conditions.push("status <> 'queued'".to_owned());
            *channel
        }
        ReplaySelection::Dead { channel } => {
            conditions.push("status = 'dead'".to_owned());
            *channel
        }
    };
    if let Some(channel) = channel {
        conditions.push(format!("channel_id = {}", params.bind(Param::uuid(channel.as_u128()))));
    }
    let schema = database.schema().to_owned();
    let sql = format!(
        "select record from {schema}.deliveries where {} order by delivery_id limit {CHUNK} for update",
        conditions.join(" and ")
    );
    let params = Arc::new(params);
    let mut replayed = 0;
    loop {
        let (schema, sql, params) = (schema.clone(), sql.clone(), params.clone());
        let found = database
            .write("outbox.replay", Scope::Tenant(tenant), move |connection| {
                let (schema, statement) = (schema.clone(), bound_once(sql.clone(), params.as_slice()));
                Box::pin(async move {
                    let rows = statement.fetch_all(&mut *connection).await?;
                    let deliveries = rows
                        .iter()
                        .map(|row| Ok(again(decode(Columns::new(row).jsonb()?, "delivery")?, now)))
                        .collect::<Result<Vec<Delivery>, Fault>>()?;
                    update(connection, &schema, tenant, &deliveries).await?;
                    Ok(deliveries.len())
                })
            })
            .await?;
        replayed += found as u64;
        if found < CHUNK {
            return Ok(replayed);
        }
    }
}

/// Returns the delivery with a new schedule from now on.
fn again(delivery: Delivery, now: Timestamp) -> Delivery {
    Delivery {
        status: DeliveryStatus::Queued,
        due_at: now,
        schedule_started_at: now,
        schedule_position: 0,
        finished_at: None,
        ..delivery
    }
}
