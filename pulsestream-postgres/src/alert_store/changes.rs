//! The log of changes to rules, channels, silences and routing.

use std::sync::Arc;

use pulsestream_core::alerting::{Author, ConfigChange, Configured};
use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::alert_store::{ConfigChangePage, ConfigChangeQuery};
use pulsestream_core::time::Timestamp;
use sqlx::PgConnection;

use super::DEFAULT_LIMIT;
use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::event_store::saturating;
use crate::record::{decode, encode};
use crate::wire::{Columns, Param};

/// Writes down what a put or a delete changes, in its transaction.
pub(super) async fn log<C: Configured>(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    revision: u64,
    author: &Author,
    before: Option<&C>,
    after: Option<&C>,
) -> Result<(), Fault> {
    let Some(change) = ConfigChange::between(revision, author, before, after) else { return Ok(()) };
    let sql = format!(
        "insert into {schema}.config_changes (tenant_id, revision, at, object, object_id, record) \
         values ($1, $2, $3, $4, $5, $6)"
    );
    let params = [
        Param::uuid(tenant.as_u128()),
        Param::int8(revision.cast_signed()),
        Param::timestamp(author.at),
        Param::text(change.object.kind()),
        Param::uuid(change.object.id()),
        Param::jsonb(&encode(&change, "change")?),
    ];
    bound(Arc::from(sql), &params).execute(connection).await?;
    Ok(())
}

pub(super) async fn list(
    database: &Arc<Database>,
    tenant: TenantId,
    query: ConfigChangeQuery,
) -> Result<ConfigChangePage> {
    let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
    let sql: Arc<str> = Arc::from(format!(
        "select record from {}.config_changes where tenant_id = $1 and revision < $2 \
         and ($3 is null or (object = $3 and object_id = $4)) order by revision desc limit $5",
        database.schema()
    ));
    let params = [
        Param::uuid(tenant.as_u128()),
        Param::int8(query.before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX))),
        Param::optional_text(query.object.map(|object| object.kind())),
        Param::uuid(query.object.map_or(0, |object| object.id())),
        Param::int8(saturating(limit.saturating_add(1))),
    ];
    database
        .read("alert_store.changes", Scope::Tenant(tenant), move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move {
                let rows = statement.fetch_all(connection).await?;
                let mut changes = rows
                    .iter()
                    .map(|row| decode(Columns::new(row).jsonb()?, "change"))
                    .collect::<Result<Vec<ConfigChange>, Fault>>()?;
                let more = changes.len() > limit;
                changes.truncate(limit);
                let next = changes.last().filter(|_| more).map(|last| last.revision);
                Ok(ConfigChangePage { changes, next })
            })
        })
        .await
}

pub(super) async fn prune(
    database: &Arc<Database>,
    tenant: TenantId,
    before: Timestamp,
    limit: usize,
) -> Result<u64> {
    let sql: Arc<str> = Arc::from(format!(
        "delete from {schema}.config_changes where tenant_id = $1 and revision in (select revision from \
         {schema}.config_changes where tenant_id = $1 and at < $2 order by revision limit $3)",
        schema = database.schema(),
    ));
    let params = [Param::uuid(tenant.as_u128()), Param::timestamp(before), Param::int8(saturating(limit))];
    database
        .write("alert_store.prune_changes", Scope::Tenant(tenant), move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
        })
        .await
}
