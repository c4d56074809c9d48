//! Timelines of alerts.

use std::collections::HashSet;
use std::sync::Arc;

use pulsestream_core::alerting::{TimelineEntry, TimelineKind};
use pulsestream_core::error::Result;
use pulsestream_core::id::{AlertId, TenantId};
use sqlx::PgConnection;

use super::alerts;
use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::record::{decode, encode};
use crate::wire::{ArrayParam, Columns, JSONB, Param, TIMESTAMPTZ, UUID};

/// How many entries of a timeline are read: the latest.
const MAX_TIMELINE: usize = 1_000;

pub(super) async fn read(
    database: &Arc<Database>,
    tenant: TenantId,
    id: AlertId,
) -> Result<Vec<TimelineEntry>> {
    let sql: Arc<str> = Arc::from(format!(
        "select record from (select record, at, number from {}.alert_timeline \
         where tenant_id = $1 and alert_id = $2 order by at desc, number desc limit {MAX_TIMELINE}) latest \
         order by at, number",
        database.schema()
    ));
    let params = [Param::uuid(tenant.as_u128()), Param::uuid(id.as_u128())];
    database
        .read("alert_store.timeline", Scope::Tenant(tenant), move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move {
                let rows = statement.fetch_all(connection).await?;
                rows.iter().map(|row| decode(Columns::new(row).jsonb()?, "timeline entry")).collect()
            })
        })
        .await
}

/// Adds entries of alerts that exist, and returns which were new.
pub(super) async fn insert(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    entries: &[TimelineEntry],
) -> Result<HashSet<(AlertId, u128)>, Fault> {
    let mut columns = [UUID, UUID, TIMESTAMPTZ, JSONB].map(ArrayParam::new);
    let [alerts, ids, instants, records] = &mut columns;
    for entry in entries {
        alerts.raw(Some(&entry.alert.to_bytes()));
        ids.raw(Some(&entry.id.to_be_bytes()));
        instants.timestamp(entry.at);
        records.jsonb(Some(&encode(entry, "timeline entry")?));
    }
    let sql = format!(
        "insert into {schema}.alert_timeline (tenant_id, alert_id, entry_id, at, record) \
         select $1, alert_id, entry_id, at, record \
         from unnest($2, $3, $4, $5) with ordinality as input (alert_id, entry_id, at, record, place) \
         order by place on conflict do nothing returning alert_id, entry_id"
    );
    let mut params = vec![Param::uuid(tenant.as_u128())];
    params.extend(columns.map(Param::from));
    let mut added = HashSet::new();
    for row in bound(Arc::from(sql), &params).fetch_all(connection).await? {
        let mut columns = Columns::new(&row);
        added.insert((AlertId::from_u128(columns.uuid()?), columns.uuid()?));
    }
    Ok(added)
}

/// Adds entries, passing over those of unknown alerts; those about deliveries count in their alerts.
pub(super) async fn record(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    entries: &[TimelineEntry],
) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    let ids: Vec<AlertId> = entries.iter().map(|entry| entry.alert).collect();
    let mut known = alerts::lock(connection, schema, tenant, &ids).await?;
    let entries: Vec<TimelineEntry> =
        entries.iter().filter(|entry| known.contains_key(&entry.alert)).cloned().collect();
    let mut added = insert(connection, schema, tenant, &entries).await?;
    let mut changed = HashSet::new();
    for entry in &entries {
        // An entry that is given twice counts once.
        if !added.remove(&(entry.alert, entry.id)) {
            continue;
        }
        let Some(alert) = known.get_mut(&entry.alert) else { continue };
        match entry.kind {
            TimelineKind::Notified { .. } => alert.notifications_sent += 1,
            TimelineKind::NotificationFailed { .. } => alert.notification_failures += 1,
            _ => continue,
        }
        changed.insert(entry.alert);
    }
    if changed.is_empty() {
        return Ok(());
    }
    alerts::store(connection, schema, tenant, changed.iter().filter_map(|id| known.get(id))).await
}
