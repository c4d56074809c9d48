//! The outbox: deliveries with lease, schedule, attempts and log.

mod lease;
mod replay;
mod row;

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::alerting::Delivery;
use pulsestream_core::error::Result;
use pulsestream_core::id::{DeliveryId, TenantId};
use pulsestream_core::ports::outbox::{
    AttemptRecord, DeliveryAttempt, DeliveryCounts, DeliveryCursor, DeliveryPage, DeliveryQuery,
    LeaseOptions, LeasedDelivery, Outbox, RecordOutcome, ReplaySelection,
};
use pulsestream_core::time::Timestamp;

pub(crate) use self::row::insert;
use crate::alert_store::DEFAULT_LIMIT;
use crate::database::{Database, FOR_ALL_TENANTS, Scope, bound, bound_once};
use crate::error::{Fault, Phase, from_sqlx};
use crate::event_store::saturating;
use crate::record::decode;
use crate::sql::Params;
use crate::wire::{Columns, Param};

/// How many attempts of a delivery are read: the latest.
const MAX_LOG: usize = 200;

/// Deliveries deleted or replayed in one transaction.
const CHUNK: usize = 1_000;

/// Keeps deliveries in PostgreSQL, in the tables that [`PostgresAlertStore`](crate::PostgresAlertStore) commits them to.
#[derive(Debug)]
pub struct PostgresOutbox {
    database: Arc<Database>,
}

impl PostgresOutbox {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    fn schema(&self) -> &str {
        self.database.schema()
    }
}

#[async_trait]
impl Outbox for PostgresOutbox {
    async fn enqueue(&self, tenant: TenantId, deliveries: Vec<Delivery>) -> Result<usize> {
        let (schema, deliveries) = (self.schema().to_owned(), Arc::new(deliveries));
        self.database
            .write("outbox.enqueue", Scope::Tenant(tenant), move |connection| {
                let (schema, deliveries) = (schema.clone(), deliveries.clone());
                Box::pin(async move { insert(connection, &schema, tenant, &deliveries).await })
            })
            .await
    }

    async fn lease(&self, options: &LeaseOptions) -> Result<Vec<LeasedDelivery>> {
        lease::lease(&self.database, options.clone()).await
    }

    async fn record(&self, records: Vec<AttemptRecord>) -> Result<Vec<RecordOutcome>> {
        lease::record(&self.database, records).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        const OPERATION: &str = "outbox.next_due";
        let sql: Arc<str> = Arc::from(format!(
            "{FOR_ALL_TENANTS} select found.due from scope cross join lateral \
             (select min(coalesce(lease_expires_at, due_at)) as due from {}.deliveries \
              where status = 'queued' and scope.processor = 'on') found",
            self.schema()
        ));
        let rows = self.database.statement_for_all(OPERATION, sql, Vec::new(), Phase::BeforeCommit).await?;
        let due = rows.first().map(|row| Columns::new(row).optional_timestamp()).transpose();
        due.map(Option::flatten).map_err(|error| from_sqlx(OPERATION, Phase::BeforeCommit, error))
    }

    async fn deliveries(&self, tenant: TenantId, query: &DeliveryQuery) -> Result<DeliveryPage> {
        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
        let mut params = Params::default();
        let mut conditions = vec![format!("tenant_id = {}", params.bind(Param::uuid(tenant.as_u128())))];
        if let Some(status) = query.status {
            conditions.push(format!("status = {}", params.bind(Param::text(status.as_str()))));
        }
        if let Some(channel) = query.channel {
            conditions.push(format!("channel_id = {}", params.bind(Param::uuid(channel.as_u128()))));
        }
        if let Some(alert) = query.alert {
            let told = format!(r#"{{"content": {{"alerts": [{{"id": "{alert}"}}]}}}}"#);
            conditions.push(format!("record @> {}", params.bind(Param::jsonb(&told))));
        }
        if let Some(range) = query.range {
            conditions.push(format!("created_at >= {}", params.bind(Param::timestamp(range.start))));
            conditions.push(format!("created_at < {}", params.bind(Param::timestamp(range.end))));
        }
        if let Some(cursor) = query.after {
            let at = params.bind(Param::timestamp(cursor.created_at));
            let id = params.bind(Param::uuid(cursor.id.as_u128()));
            conditions.push(format!("(created_at, delivery_id) < ({at}, {id})"));
        }
        let size = params.bind(Param::int8(saturating(limit.saturating_add(1))));
        let sql = format!(
            "select record from {}.deliveries where {} order by created_at desc, delivery_id desc limit {size}",
            self.schema(),
            conditions.join(" and "),
        );
        let mut deliveries: Vec<Delivery> = self
            .database
            .read("outbox.deliveries", Scope::Tenant(tenant), move |connection| {
                let statement = bound_once(sql.clone(), params.as_slice());
                Box::pin(async move {
                    let rows = statement.fetch_all(connection).await?;
                    rows.iter().map(|row| decode(Columns::new(row).jsonb()?, "delivery")).collect()
                })
            })
            .await?;
        let more = deliveries.len() > limit;
        deliveries.truncate(limit);
        let next = deliveries
            .last()
            .filter(|_| more)
            .map(|last| DeliveryCursor { created_at: last.created_at, id: last.id });
        Ok(DeliveryPage { deliveries, next })
    }

    async fn delivery(
        &self,
        tenant: TenantId,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<DeliveryAttempt>)>> {
        let schema = self.schema();
        let read: Arc<str> = Arc::from(format!(
            "select record from {schema}.deliveries where tenant_id = $1 and delivery_id = $2"
        ));
        let log: Arc<str> = Arc::from(format!(
            "select record from (select record, attempt from {schema}.delivery_attempts \
             where tenant_id = $1 and delivery_id = $2 order by attempt desc limit {MAX_LOG}) latest order by attempt"
        ));
        let params = [Param::uuid(tenant.as_u128()), Param::uuid(id.as_u128())];
        self.database
            .read("outbox.delivery", Scope::Tenant(tenant), move |connection| {
                let (read, log) = (bound(read.clone(), &params), bound(log.clone(), &params));
                Box::pin(async move {
                    let rows = read.fetch_all(&mut *connection).await?;
                    let Some(row) = rows.first() else { return Ok(None) };
                    let delivery = decode(Columns::new(row).jsonb()?, "delivery")?;
                    let rows = log.fetch_all(connection).await?;
                    let attempts = rows
                        .iter()
                        .map(|row| decode(Columns::new(row).jsonb()?, "delivery attempt"))
                        .collect::<Result<Vec<_>, Fault>>()?;
                    Ok(Some((delivery, attempts)))
                })
            })
            .await
    }

    async fn replay(&self, tenant: TenantId, selection: &ReplaySelection, now: Timestamp) -> Result<u64> {
        replay::replay(&self.database, tenant, selection, now).await
    }

    async fn counts(&self, tenant: TenantId) -> Result<DeliveryCounts> {
        let sql: Arc<str> = Arc::from(format!(
            "select status, count(*) from {}.deliveries where tenant_id = $1 group by status",
            self.schema()
        ));
        let params = [Param::uuid(tenant.as_u128())];
        self.database
            .read("outbox.counts", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let mut counts = DeliveryCounts::default();
                    for row in statement.fetch_all(connection).await? {
                        let mut columns = Columns::new(&row);
                        let status = columns.str()?;
                        let count = u64::try_from(columns.int8()?).unwrap_or_default();
                        match status {
                            "queued" => counts.queued = count,
                            "delivered" => counts.delivered = count,
                            "dead" => counts.dead = count,
                            "cancelled" => counts.cancelled = count,
                            _ => {}
                        }
                    }
                    Ok(counts)
                })
            })
            .await
    }

    async fn prune(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64> {
        // Logs go with their deliveries, through the foreign key.
        let sql: Arc<str> = Arc::from(format!(
            "delete from {schema}.deliveries where tenant_id = $1 and delivery_id in \
             (select delivery_id from {schema}.deliveries where tenant_id = $1 and finished_at < $2 limit $3)",
            schema = self.schema(),
        ));
        let params =
            [Param::uuid(tenant.as_u128()), Param::timestamp(before), Param::int8(saturating(limit))];
        self.database
            .write("outbox.prune", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
            })
            .await
    }

    async fn erase(&self, tenant: TenantId) -> Result<()> {
        // Logs go with their deliveries, through the foreign key.
        let sql: Arc<str> = Arc::from(format!(
            "delete from {schema}.deliveries where tenant_id = $1 and delivery_id in \
             (select delivery_id from {schema}.deliveries where tenant_id = $1 limit {CHUNK})",
            schema = self.schema(),
        ));
        let params = [Param::uuid(tenant.as_u128())];
        loop {
            let (sql, params) = (sql.clone(), params.clone());
            let gone = self
                .database
                .write("outbox.erase", Scope::Tenant(tenant), move |connection| {
                    let statement = bound(sql.clone(), &params);
                    Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
                })
                .await?;
            if gone == 0 {
                return Ok(());
            }
        }
    }
}
