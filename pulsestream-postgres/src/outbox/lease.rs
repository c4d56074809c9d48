//! Leasing due deliveries, and recording what became of them.

use std::sync::Arc;

use pulsestream_core::alerting::{Delivery, DeliveryStatus};
use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::outbox::{
    AttemptRecord, DeliveryAttempt, Disposition, LeaseOptions, LeasedDelivery, RecordOutcome,
};
use sqlx::PgConnection;

use super::row::update;
use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::event_store::saturating;
use crate::record::{decode, encode};
use crate::wire::{Columns, Param};

pub(super) async fn lease(database: &Arc<Database>, options: LeaseOptions) -> Result<Vec<LeasedDelivery>> {
    let schema = database.schema();
    // One dispatcher chooses at a time, on all nodes, so that together they keep to the limit of a channel.
    let turn: Arc<str> = Arc::from("select pg_advisory_xact_lock(hashtextextended($1, 0))");
    let turn_params = [Param::text(&format!("{schema}.outbox.lease"))];
    let sql: Arc<str> = Arc::from(format!(
        "with held as (select tenant_id, channel_id, count(*) as leases from {schema}.deliveries \
           where status = 'queued' and lease_expires_at > $1 group by tenant_id, channel_id), \
         due as (select tenant_id, delivery_id, channel_id, coalesce(lease_expires_at, due_at) as at, \
           row_number() over (partition by tenant_id, channel_id \
             order by coalesce(lease_expires_at, due_at), delivery_id) as place \
           from {schema}.deliveries where status = 'queued' and coalesce(lease_expires_at, due_at) <= $1 and tenant_id <> all($6::uuid[])), \
         chosen as (select due.tenant_id, due.delivery_id, due.at from due \
           left join held on held.tenant_id = due.tenant_id and held.channel_id = due.channel_id \
           where due.place <= $2 - coalesce(held.leases, 0) order by due.at, due.tenant_id, due.delivery_id limit $3), \
         leased as (update {schema}.deliveries as d set lease_token = d.lease_token + 1, lease_holder = $4, \
           lease_expires_at = $5 from chosen where d.tenant_id = chosen.tenant_id \
           and d.delivery_id = chosen.delivery_id and d.status = 'queued' \
           and coalesce(d.lease_expires_at, d.due_at) <= $1 \
           returning d.tenant_id, d.delivery_id, d.lease_token, d.record, chosen.at) \
         select tenant_id, lease_token, record from leased order by at, tenant_id, delivery_id"
    ));
    let expires_at = options.now.plus(options.ttl);
    let params = [
        Param::timestamp(options.now),
        Param::int8(saturating(options.max_per_channel.max(1))),
        Param::int8(saturating(options.limit.max(1))),
        Param::text(&options.holder),
        Param::timestamp(expires_at),
        Param::uuids(options.full.iter().map(|tenant| tenant.as_u128())),
    ];
    database
        .write("outbox.lease", Scope::Processor, move |connection| {
            let (turn, statement) = (bound(turn.clone(), &turn_params), bound(sql.clone(), &params));
            Box::pin(async move {
                turn.execute(&mut *connection).await?;
                let mut leased = Vec::new();
                for row in statement.fetch_all(connection).await? {
                    let mut columns = Columns::new(&row);
                    let tenant = TenantId::from_u128(columns.uuid()?);
                    let lease_token = columns.int8()?.cast_unsigned();
                    let delivery = decode(columns.jsonb()?, "delivery")?;
                    leased.push(LeasedDelivery { tenant, delivery, lease_token, expires_at });
                }
                Ok(leased)
            })
        })
        .await
}

pub(super) async fn record(
    database: &Arc<Database>,
    records: Vec<AttemptRecord>,
) -> Result<Vec<RecordOutcome>> {
    let (schema, records) = (database.schema().to_owned(), Arc::new(records));
    database
        .write("outbox.record", Scope::Processor, move |connection| {
            let (schema, records) = (schema.clone(), records.clone());
            Box::pin(async move {
                let mut outcomes = Vec::with_capacity(records.len());
                for record in records.iter() {
                    outcomes.push(record_one(connection, &schema, record).await?);
                }
                Ok(outcomes)
            })
        })
        .await
}

async fn record_one(
    connection: &mut PgConnection,
    schema: &str,
    record: &AttemptRecord,
) -> Result<RecordOutcome, Fault> {
    let select = format!(
        "select record from {schema}.deliveries where tenant_id = $1 and delivery_id = $2 and lease_token = $3 \
         and lease_expires_at is not null for update"
    );
    let key = [
        Param::uuid(record.tenant.as_u128()),
        Param::uuid(record.delivery.as_u128()),
        Param::int8(i64::try_from(record.lease_token).unwrap_or(i64::MAX)),
    ];
    let rows = bound(Arc::from(select), &key).fetch_all(&mut *connection).await?;
    let Some(row) = rows.first() else { return Ok(RecordOutcome::LeaseLost) };
    let mut delivery: Delivery = decode(Columns::new(row).jsonb()?, "delivery")?;
    apply(&mut delivery, record);
    if let Some(report) = &record.report {
        let attempt = DeliveryAttempt { attempt: delivery.attempts, at: record.at, report: report.clone() };
        let sql = format!(
            "insert into {schema}.delivery_attempts (tenant_id, delivery_id, attempt, record) values ($1, $2, $3, $4)"
        );
        let params = [
            Param::uuid(record.tenant.as_u128()),
            Param::uuid(record.delivery.as_u128()),
            Param::int4(i32::try_from(delivery.attempts).unwrap_or(i32::MAX)),
            Param::jsonb(&encode(&attempt, "delivery attempt")?),
        ];
        bound(Arc::from(sql), &params).execute(&mut *connection).await?;
    }
    update(connection, schema, record.tenant, &[delivery]).await?;
    Ok(RecordOutcome::Recorded)
}

/// Moves a delivery on after an attempt.
fn apply(delivery: &mut Delivery, record: &AttemptRecord) {
    if let Some(report) = &record.report {
        delivery.attempts += 1;
        delivery.schedule_position += 1;
        delivery.last_error = report.outcome.error().cloned();
    }
    let finished = match &record.disposition {
        Disposition::Delivered => DeliveryStatus::Delivered,
        Disposition::Dead => DeliveryStatus::Dead,
        Disposition::Cancelled => DeliveryStatus::Cancelled,
        Disposition::RetryAt(at) | Disposition::Postponed(at) => {
            delivery.due_at = *at;
            return;
        }
    };
    delivery.status = finished;
    delivery.finished_at = Some(record.at);
}
