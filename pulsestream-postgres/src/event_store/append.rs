//! Appending, and the partitions that appends need.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOutcome, Partition};
use pulsestream_core::time::Timestamp;
use sqlx::postgres::PgRow;

use super::PostgresEventStore;
use crate::database::{Scope, bound, bound_once};
use crate::error::{Fault, Phase, from_sqlx};
use crate::event_row::{COLUMNS, EventArrays, column_list, refusal, text_bytes};
use crate::listen::{events_channel, events_payload};
use crate::wire::{ArrayParam, Columns, INT4, Param};

const OPERATION: &str = "event_store.append";

/// Most events of one call: the ordinal has 20 bits in the log.
const MAX_CALL_EVENTS: usize = 1 << 20;

/// Most events of one statement.
const MAX_STATEMENT_EVENTS: usize = 10_000;

/// Most bytes of text and JSON of one statement, far below the gibibyte that PostgreSQL takes.
const MAX_STATEMENT_BYTES: usize = 64 << 20;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// From Thursday, 1970-01-01, back to Monday.
const EPOCH_WEEKDAY: Duration = Duration::from_secs(3 * 86_400);

/// Weeks that get a partition when an event needs one: this many before and after the current one. Others share a partition, so
/// that a client with a wild clock cannot make thousands.
const PARTITION_WEEKS: (i64, i64) = (60, 2);

/// The texts of the statements that append. Each is one statement and commits by itself, so it costs one round trip; and it
/// is one plan, in which only the events whose identity was new reach the events table.
#[derive(Debug, Clone)]
pub(super) struct AppendSql {
    /// Takes the tenant, the partition, the ordinal, and one value for each column.
    one: Arc<str>,
    /// Takes the tenant, the partition, the ordinals, and one array for each column.
    many: Arc<str>,
}

impl AppendSql {
    pub(super) fn new(schema: &str) -> Self {
        Self { one: Arc::from(one(schema)), many: Arc::from(many(schema)) }
    }
}

const SCOPE: &str = "scope as materialized (select set_config('pulsestream.tenant', $1, true))";

/// Without arrays, which cost the server a quarter of the time that a single event takes.
fn one(schema: &str) -> String {
    let values: Vec<String> =
        COLUMNS.iter().enumerate().map(|(index, (.., kind))| format!("${}::{kind}", index + 4)).collect();
    format!(
        "with {SCOPE}, keys as (insert into {schema}.event_keys (tenant_id, event_id, \"timestamp\", partition, seq) \
           select $1::uuid, $4::text, $5::timestamptz, $2, (nextval('{schema}.append_calls') << 20) + $3::integer from scope \
           on conflict do nothing returning seq), \
         stored as (insert into {schema}.events (tenant_id, {columns}) select $1::uuid, {values} from keys) \
         select (seq & 1048575)::integer from keys",
        columns = column_list(""),
        values = values.join(", "),
    )
}

/// The wide arrays are taken apart in the list of columns: as a table, `unnest` would write all rows to a temporary store first.
fn many(schema: &str) -> String {
    let elements: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(index, (name, _, kind))| format!("unnest(${}::{kind}[]) as {name}", index + 4))
        .collect();
    format!(
        "with {SCOPE}, call as materialized (select nextval('{schema}.append_calls') << 20 as first from scope), \
         keys as (insert into {schema}.event_keys (tenant_id, event_id, \"timestamp\", partition, seq) \
           select $1::uuid, input.id, input.\"timestamp\", $2, call.first + input.ordinal \
           from call, unnest($3::integer[], $4::text[], $5::timestamptz[]) as input (ordinal, id, \"timestamp\") \
           on conflict do nothing returning event_id, seq), \
         stored as (insert into {schema}.events (tenant_id, {columns}) \
           select $1::uuid, {columns} from (select {elements}) as input where id in (select event_id from keys)) \
         select (seq & 1048575)::integer from keys",
        columns = column_list(""),
        elements = elements.join(", "),
    )
}

/// One statement's worth of events, encoded.
struct Chunk {
    sql: Arc<str>,
    params: Vec<Param>,
    timestamps: Vec<Timestamp>,
}

/// What became of the events before any statement ran, and what is left to do.
struct Prepared {
    outcomes: Vec<AppendOutcome>,
    chunks: Vec<Chunk>,
}

impl PostgresEventStore {
    pub(super) async fn append_all(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
    ) -> Result<Vec<AppendOutcome>> {
        let Prepared { mut outcomes, chunks } = prepare(&self.append_sql, tenant, &events)?;
        drop(events);
        for Chunk { sql, params, timestamps } in chunks {
            self.prepare_partitions(&timestamps).await;
            let rows = if self.database.has_own_sessions() {
                self.database.statement(OPERATION, sql, params).await?
            } else {
                self.database
                    .write(OPERATION, Scope::Tenant(tenant), move |connection| {
                        let statement = bound(sql.clone(), &params);
                        Box::pin(async move { Ok(statement.fetch_all(connection).await?) })
                    })
                    .await?
            };
            mark_stored(&mut outcomes, &rows).map_err(|error| from_sqlx(OPERATION, Phase::Commit, error))?;
            self.arrivals.appended(Partition::of(tenant));
        }
        Ok(outcomes)
    }

    /// Appends events within a transaction of the host's own: they are there when it commits, and not when it rolls back.
    ///
    /// Sets `pulsestream.tenant` until the transaction ends. Events of weeks that have no partition yet go to the common one.
    ///
    /// # Errors
    /// After an error the transaction can only be rolled back, as after any failed statement.
    pub async fn append_in(
        &self,
        transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>,
        tenant: TenantId,
        events: Vec<Event>,
    ) -> Result<Vec<AppendOutcome>> {
        self.database.ensure_open(OPERATION)?;
        let failed = |error| Fault::Sql(error).into_error(OPERATION, Phase::BeforeCommit);
        let Prepared { mut outcomes, chunks } = prepare(&self.append_sql, tenant, &events)?;
        for chunk in chunks {
            // A name that stays in the session would meet another of the same name behind a pooler.
            let statement = bound(chunk.sql.clone(), &chunk.params).persistent(!self.database.is_pooled());
            let rows = statement.fetch_all(&mut **transaction).await.map_err(failed)?;
            mark_stored(&mut outcomes, &rows).map_err(failed)?;
        }
        let channel = Param::text(&events_channel(self.schema()));
        let payload = Param::text(&events_payload(Partition::of(tenant)));
        bound_once("select pg_notify($1, $2)".to_owned(), &[channel, payload])
            .execute(&mut **transaction)
            .await
            .map_err(failed)?;
        Ok(outcomes)
    }

    /// Makes the partitions of the current week and the next ones, and of the weeks of `timestamps`. A failure is no reason to
    /// refuse events: they go to the common partition, and move when theirs is made.
    pub(super) async fn prepare_partitions(&self, timestamps: &[Timestamp]) {
        let now = week_of(self.database.env().now());
        let missing: Vec<i64> = {
            let known = self.weeks.lock().unwrap_or_else(PoisonError::into_inner);
            if known.contains(&(now + 1)) && timestamps.iter().all(|at| known.contains(&week_of(*at))) {
                return;
            }
            let (before, after) = PARTITION_WEEKS;
            let wanted: HashSet<i64> = timestamps
                .iter()
                .map(|at| week_of(*at))
                .filter(|week| (now - before..=now + after).contains(week))
                .chain(now..=now + after)
                .collect();
            wanted.difference(&known).copied().collect()
        };
        for week in missing {
            let sql: Arc<str> = Arc::from(format!("select {}.ensure_partition($1, $2)", self.schema()));
            let params = [Param::timestamp(week_start(week)), Param::timestamp(week_start(week + 1))];
            let made = self
                .database
                .write("postgres.ensure_partition", Scope::Processor, move |connection| {
                    let statement = bound(sql.clone(), &params);
                    Box::pin(async move {
                        statement.execute(connection).await?;
                        Ok(())
                    })
                })
                .await;
            match made {
                Ok(()) => {
                    self.weeks.lock().unwrap_or_else(PoisonError::into_inner).insert(week);
                }
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    tracing::warn!(%error, week_start = %week_start(week), "no partition for the week; using the common one");
                    return;
                }
            }
        }
    }
}

impl PostgresEventStore {
    /// Makes the next append look again which partitions there are.
    pub(super) fn forget_weeks(&self) {
        self.weeks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Returns the number of the week, Monday to Monday in UTC, that holds `at`.
fn week_of(at: Timestamp) -> i64 {
    at.plus(EPOCH_WEEKDAY).as_seconds().div_euclid(WEEK.as_secs().cast_signed())
}

fn week_start(week: i64) -> Timestamp {
    Timestamp::from_seconds(week * WEEK.as_secs().cast_signed()).minus(EPOCH_WEEKDAY)
}

/// Refuses what cannot be stored, drops what comes twice, and encodes the rest.
fn prepare(sql: &AppendSql, tenant: TenantId, events: &[Event]) -> Result<Prepared> {
    if events.len() > MAX_CALL_EVENTS {
        return Err(Error::new(ErrorKind::TooLarge, OPERATION, "too many events in one call")
            .with_context("events", events.len())
            .with_context("max_events", MAX_CALL_EVENTS));
    }
    let mut outcomes = Vec::with_capacity(events.len());
    let mut first_of: HashMap<&str, usize> = HashMap::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        outcomes.push(match refusal(event) {
            Some(error) => AppendOutcome::Refused(error),
            None => {
                first_of.entry(event.id.as_str()).or_insert(index);
                AppendOutcome::Duplicate
            }
        });
    }
    // Sorted by id: two appends that have ids in common wait for each other in one order and cannot deadlock.
    let mut order: Vec<usize> = first_of.into_values().collect();
    order.sort_unstable_by(|left, right| events[*left].id.cmp(&events[*right].id));
    let mut chunks = Vec::new();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(MAX_STATEMENT_EVENTS).take_while(|index| {
            let fits = bytes < MAX_STATEMENT_BYTES;
            bytes += text_bytes(&events[**index]);
            fits
        });
        let (now, later) = rest.split_at(fitting.count());
        chunks.push(encode(sql, tenant, events, now));
        rest = later;
    }
    Ok(Prepared { outcomes, chunks })
}

fn encode(sql: &AppendSql, tenant: TenantId, events: &[Event], order: &[usize]) -> Chunk {
    let mut ordinals = ArrayParam::new(INT4);
    let mut arrays = EventArrays::new();
    for index in order {
        // The place in the call, so that the log keeps the caller's order.
        let ordinal = i32::try_from(*index).unwrap_or_default();
        ordinals.raw(Some(&ordinal.to_be_bytes()));
        arrays.push(&events[*index]);
    }
    let partition = i16::try_from(Partition::of(tenant).number()).unwrap_or_default();
    let mut params = vec![Param::text(&tenant.to_string()), Param::int2(partition)];
    let sql = if order.len() == 1 {
        params.push(ordinals.into_only());
        params.extend(arrays.into_values());
        &sql.one
    } else {
        params.push(ordinals.into());
        params.extend(arrays.into_params());
        &sql.many
    };
    let timestamps = order.iter().map(|index| events[*index].timestamp).collect();
    Chunk { sql: sql.clone(), params, timestamps }
}

fn mark_stored(outcomes: &mut [AppendOutcome], rows: &[PgRow]) -> Result<(), sqlx::Error> {
    for row in rows {
        let ordinal = usize::try_from(Columns::new(row).int4()?).unwrap_or(usize::MAX);
        if let Some(outcome) = outcomes.get_mut(ordinal) {
            *outcome = AppendOutcome::Stored;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_start_on_monday() {
        for (at, start) in [
            ("2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z"),
            ("1969-12-31T00:00:00Z", "1969-12-29T00:00:00Z"),
        ] {
            assert_eq!(week_start(week_of(at.parse().unwrap())).to_string(), start);
        }
    }
}
