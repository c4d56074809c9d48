//! Deleting, and dropping partitions that became empty.

use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::event::Event;
use pulsestream_core::filter::Filter;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::query::{Cursor, FindQuery, Order};
use pulsestream_core::time::{TimeRange, Timestamp};

use super::PostgresEventStore;
use super::read::{Selection, each_match};
use crate::database::{Scope, bound, bound_once};
use crate::wire::{Columns, Param};

/// Events deleted in one transaction: short enough to stay below the statement timeout and to hold locks briefly.
const CHUNK: usize = 10_000;

impl PostgresEventStore {
    pub(super) async fn delete_ids(
        &self,
        operation: &'static str,
        tenant: TenantId,
        ids: &[EventId],
    ) -> Result<u64> {
        let schema = self.schema();
        let sql: Arc<str> = Arc::from(format!(
            "with keys as (delete from {schema}.event_keys where tenant_id = $1 and event_id = any($2) \
               returning event_id, \"timestamp\"), \
             gone as (delete from {schema}.events e using keys where e.tenant_id = $1 \
               and e.\"timestamp\" = keys.\"timestamp\" and e.id = keys.event_id) \
             select count(*) from keys"
        ));
        let mut sorted: Vec<&str> = ids.iter().map(EventId::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut deleted = 0;
        for chunk in sorted.chunks(CHUNK) {
            let params = [Param::uuid(tenant.as_u128()), Param::texts(chunk.iter().copied())];
            let sql = sql.clone();
            deleted += self
                .database
                .write(operation, Scope::Tenant(tenant), move |connection| {
                    let statement = bound(sql.clone(), &params);
                    Box::pin(async move {
                        let row = statement.fetch_one(connection).await?;
                        Ok(u64::try_from(Columns::new(&row).int8()?).unwrap_or_default())
                    })
                })
                .await?;
        }
        Ok(deleted)
    }

    pub(super) async fn delete_matching(
        &self,
        operation: &'static str,
        tenant: TenantId,
        range: TimeRange,
        filter: Option<Filter>,
    ) -> Result<u64> {
        let selection = Selection::new(tenant, range, filter.as_ref());
        if selection.residual.is_some() {
            return self.delete_sifted(operation, tenant, range, filter).await;
        }
        let schema = self.schema();
        let sql = format!(
            "with doomed as materialized (select e.\"timestamp\", e.id from {schema}.events e where {conditions} \
               order by e.\"timestamp\", e.id limit {CHUNK}), \
             gone as (delete from {schema}.events e using doomed where e.tenant_id = $1 \
               and e.\"timestamp\" = doomed.\"timestamp\" and e.id = doomed.id returning e.id), \
             keys as (delete from {schema}.event_keys k using gone where k.tenant_id = $1 and k.event_id = gone.id) \
             select (select count(*) from doomed), (select count(*) from gone)",
            conditions = selection.conditions,
        );
        let params = Arc::new(selection.params);
        let mut deleted = 0;
        loop {
            let (sql, params) = (sql.clone(), params.clone());
            let (doomed, gone) = self
                .database
                .write(operation, Scope::Tenant(tenant), move |connection| {
                    let statement = bound_once(sql.clone(), params.as_slice());
                    Box::pin(async move {
                        let row = statement.fetch_one(connection).await?;
                        let mut columns = Columns::new(&row);
                        Ok((columns.int8()?, columns.int8()?))
                    })
                })
                .await?;
            deleted += u64::try_from(gone).unwrap_or_default();
            if usize::try_from(doomed).unwrap_or_default() < CHUNK {
                return Ok(deleted);
            }
        }
    }

    /// As above, for a filter that is evaluated here.
    async fn delete_sifted(
        &self,
        operation: &'static str,
        tenant: TenantId,
        range: TimeRange,
        filter: Option<Filter>,
    ) -> Result<u64> {
        let query = FindQuery { range, filter, order: Order::OldestFirst, ..FindQuery::default() };
        let mut after: Option<Cursor> = None;
        let mut deleted = 0;
        loop {
            let tables = self.tables.clone();
            let (query, start) = (query.clone(), after.clone());
            let matches: Vec<(Timestamp, EventId)> = self
                .database
                .read(operation, Scope::Tenant(tenant), move |connection| {
                    let (tables, query, start) = (tables.clone(), query.clone(), start.clone());
                    Box::pin(async move {
                        let mut matches = Vec::new();
                        each_match(connection, &tables, tenant, &query, start, |event: Event| {
                            matches.push((event.timestamp, event.id));
                            Ok(matches.len() < CHUNK)
                        })
                        .await?;
                        Ok(matches)
                    })
                })
                .await?;
            let Some((timestamp, id)) = matches.last().cloned() else { return Ok(deleted) };
            let is_last = matches.len() < CHUNK;
            after = Some(Cursor { timestamp, id });
            let ids: Vec<EventId> = matches.into_iter().map(|(_, id)| id).collect();
            deleted += self.delete_ids(operation, tenant, &ids).await?;
            if is_last {
                return Ok(deleted);
            }
        }
    }

    /// Drops partitions that hold nothing of any tenant any more; those in use at the moment stay until the next time.
    pub(super) async fn drop_empty_partitions(&self, before: Timestamp) {
        let before = before.min(self.database.env().now());
        let sql: Arc<str> = Arc::from(format!("select {}.drop_empty_partitions($1)", self.schema()));
        let params = [Param::timestamp(before)];
        let dropped = self
            .database
            .write("postgres.drop_partitions", Scope::Processor, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let row = statement.fetch_one(connection).await?;
                    Ok(Columns::new(&row).int4()?)
                })
            })
            .await;
        match dropped {
            Ok(0) => {}
            Ok(_) => self.forget_weeks(),
            Err(error) => tracing::warn!(%error, "empty partitions stay until the next retention"),
        }
    }
}
