//! The log of a partition.
//!
//! A position is the id of the transaction that appended, then the place in it. Transactions commit in another order than they
//! began in, so a reader sees only those that began before every transaction that is still running: what it has not seen
//! then is behind it for good. A transaction that writes for long, of whatever application on the server, delays the tail
//! for as long.
//!
//! A node reads 16 partitions, so what is asked of several of them at the same time goes to the server in one statement. Of tenants that
//! nobody wants to hear of only the keys are walked over, to know where the reader is then.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{
    PARTITIONS, Partition, Position, TailBatch, TailOptions, TailedEvent,
};

use sqlx::postgres::PgRow;

use super::PostgresEventStore;
use super::read::saturating;
use crate::database::{Database, FOR_ALL_TENANTS, first_param};
use crate::error::{Fault, Phase};
use crate::event_row::{column_list, event_from};
use crate::together::Together;
use crate::wire::{Columns, Param};

/// How soon to look again when events are there and older transactions still run.
const SETTLE: Duration = Duration::from_millis(5);

/// How often `tail` looks again for them before it answers with what is settled.
const SETTLE_WAITS: u32 = 200;

/// Most events of one statement, for all partitions that it reads: a bound for memory.
const MAX_STATEMENT_EVENTS: usize = 10_000;

/// The oldest transaction that still runs; rows of older ones are settled.
const HORIZON: &str = "(select pg_snapshot_xmin(pg_current_snapshot())::text::bigint)";

/// Up to where a reader of a partition has come.
#[derive(Debug, Clone)]
struct Place {
    partition: i16,
    after: (i64, i64),
    /// How many keys it takes at most.
    limit: usize,
    /// Whose events it wants; `None` for everybody's.
    tenants: Option<Arc<BTreeSet<TenantId>>>,
}

impl Place {
    fn new(partition: Partition, after: Position, options: TailOptions) -> Self {
        let TailOptions { limit, tenants } = options;
        let partition = i16::try_from(partition.number()).unwrap_or_default();
        Self { partition, after: unpack(after), limit, tenants }
    }
}

/// What a partition holds after a position.
#[derive(Debug, Clone, Copy)]
struct Pending {
    settled: bool,
    unsettled: bool,
}

/// What a read of the log found.
#[derive(Debug, Default)]
struct Found {
    events: Vec<TailedEvent>,
    /// The place of the last key that was read, whoever wants it.
    read_to: Option<Position>,
    has_more: bool,
    /// The oldest and the newest transaction whose events are acknowledged, but not settled.
    unsettled: Option<(i64, i64)>,
}

/// The questions that processors ask all the time.
#[derive(Debug)]
pub(super) struct Log {
    read: Arc<Together<Place, Found>>,
    look: Arc<Together<Place, Pending>>,
    /// For each partition where its end was when it was read last, and how many arrivals this node had heard of before.
    ends: [Mutex<Option<(Position, u64)>>; PARTITIONS as usize],
}

impl Log {
    pub(super) fn new(database: &Arc<Database>) -> Self {
        let (reading, looking) = (database.clone(), database.clone());
        let read: Arc<str> = Arc::from(read_sql(database.schema()));
        let look: Arc<str> = Arc::from(look_sql(database.schema()));
        Self {
            read: Together::new(move |places| read_all(reading.clone(), read.clone(), places)),
            look: Together::new(move |places| look_at_all(looking.clone(), look.clone(), places)),
            ends: Default::default(),
        }
    }

    fn end_of(&self, partition: Partition) -> &Mutex<Option<(Position, u64)>> {
        &self.ends[usize::from(partition.number())]
    }
}

/// Returns places as a table.
fn asked() -> String {
    let numbers = first_param("smallint");
    format!(
        "scope cross join lateral unnest({numbers}, $2::bigint[], $3::bigint[]) with ordinality \
         as asked (number, xid, seq, place)"
    )
}

/// Returns places as a table, with how many keys each takes, and whether it wants the events of everybody.
fn asked_to_read() -> String {
    let numbers = first_param("smallint");
    format!(
        "scope cross join lateral unnest({numbers}, $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[]) \
         with ordinality as asked (number, xid, seq, most, is_for_all, place)"
    )
}

/// Rows of the log behind the place asked.
const BEHIND: &str = "partition = asked.number and (xid, seq) > (asked.xid, asked.seq)";

/// Those of them that are not settled, with one bound: of two the index takes the weaker one, and a reader that is far behind would
/// walk over all that it has not read yet.
fn unsettled() -> String {
    let last = i64::MAX;
    format!(
        "partition = asked.number and (xid, seq) > \
         (greatest(asked.xid, {HORIZON} - 1), case when asked.xid < {HORIZON} then {last} else asked.seq end)"
    )
}

/// One row for each event that is wanted, one for the last key that was read, and one for a place without any. Who wants whom is a
/// list of pairs that is hashed once; one key more than asked for is read, to know whether there are more.
fn read_sql(schema: &str) -> String {
    format!(
        "{FOR_ALL_TENANTS} select asked.place, unsettled.oldest, unsettled.newest, found.xid, found.seq, found.has_more, \
          found.id is not null, found.tenant_id, {columns} from {asked} \
         cross join lateral (select min(xid) as oldest, max(xid) as newest from {schema}.event_keys \
          where {unsettled}) unsettled \
         left join lateral (select k.xid, k.seq, k.total > asked.most as has_more, e.* from \
          (select near.*, asked.is_for_all or (asked.place, near.tenant_id) in \
            (select place, tenant_id from unnest($6::bigint[], $7::uuid[]) as wanted (place, tenant_id)) as is_wanted, \
            row_number() over (order by near.xid, near.seq) as number, count(*) over () as total from \
            (select tenant_id, event_id, \"timestamp\", xid, seq from {schema}.event_keys \
             where {BEHIND} and xid < {HORIZON} order by xid, seq limit $8) near) k \
          left join lateral (select * from {schema}.events e where k.is_wanted and e.tenant_id = k.tenant_id \
           and e.\"timestamp\" = k.\"timestamp\" and e.id = k.event_id limit 1) e on true \
          where k.number <= asked.most and (k.is_wanted or k.number = least(k.total, asked.most))) found on true \
         order by asked.place, found.xid, found.seq",
        asked = asked_to_read(),
        unsettled = unsettled(),
        columns = column_list("found."),
    )
}

/// Whether there are rows is asked as for the first one in order: without an order the server expects one soon and reads the table
/// from its start, all of it when there is none.
fn look_sql(schema: &str) -> String {
    format!(
        "{FOR_ALL_TENANTS} select (select true from {schema}.event_keys where {BEHIND} and xid < {HORIZON} order by xid, seq limit 1) \
          is not null, \
         (select true from {schema}.event_keys where {unsettled} order by xid, seq limit 1) is not null \
         from {asked} order by asked.place",
        asked = asked(),
        unsettled = unsettled(),
    )
}

fn params_of(places: &[Place]) -> Vec<Param> {
    vec![
        Param::int2s(places.iter().map(|place| place.partition)),
        Param::int8s(places.iter().map(|place| place.after.0)),
        Param::int8s(places.iter().map(|place| place.after.1)),
    ]
}

/// What places ask, as [`read_sql`] takes it.
fn reading_params_of(places: &[Place]) -> Vec<Param> {
    let share = (MAX_STATEMENT_EVENTS / places.len().max(1)).max(1);
    let limits: Vec<usize> = places.iter().map(|place| place.limit.min(share)).collect();
    let most = limits.iter().copied().max().unwrap_or_default();
    let mut params = params_of(places);
    params.push(Param::int8s(limits.into_iter().map(saturating)));
    params.push(Param::bools(places.iter().map(|place| place.tenants.is_none())));
    let wanted = places.iter().zip(1_i64..).flat_map(|(place, ordinal)| {
        place.tenants.iter().flat_map(|tenants| tenants.iter()).map(move |tenant| (ordinal, tenant.as_u128()))
    });
    let (ordinals, tenants): (Vec<i64>, Vec<u128>) = wanted.unzip();
    // One limit for all, so that the server knows it when it plans.
    params.extend([
        Param::int8s(ordinals),
        Param::uuids(tenants),
        Param::int8(saturating(most.saturating_add(1))),
    ]);
    params
}

/// Reads up to as many keys as each wants; fewer when many ask.
async fn read_all(database: Arc<Database>, sql: Arc<str>, places: Vec<Place>) -> Result<Vec<Found>> {
    const OPERATION: &str = "event_store.tail";
    let params = reading_params_of(&places);
    let rows = database.statement_for_all(OPERATION, sql, params, Phase::BeforeCommit).await?;
    found_in(&rows, places.len()).map_err(|fault| fault.into_error(OPERATION, Phase::BeforeCommit))
}

fn found_in(rows: &[PgRow], places: usize) -> Result<Vec<Found>, Fault> {
    let mut found: Vec<Found> = (0..places).map(|_| Found::default()).collect();
    for row in rows {
        let mut columns = Columns::new(row);
        let ordinal = usize::try_from(columns.int8()?).unwrap_or_default();
        let Some(found) = found.get_mut(ordinal.wrapping_sub(1)) else { continue };
        found.unsettled = columns.optional_int8()?.zip(columns.optional_int8()?);
        let Some((xid, seq)) = columns.optional_int8()?.zip(columns.optional_int8()?) else { continue };
        let position = pack(xid, seq);
        found.read_to = Some(position);
        found.has_more = columns.bool()?;
        if columns.bool()? {
            let tenant = TenantId::from_u128(columns.uuid()?);
            found.events.push(TailedEvent { tenant, position, event: event_from(&mut columns)? });
        }
    }
    Ok(found)
}

async fn look_at_all(database: Arc<Database>, sql: Arc<str>, places: Vec<Place>) -> Result<Vec<Pending>> {
    const OPERATION: &str = "event_store.wait_for_events";
    let rows = database.statement_for_all(OPERATION, sql, params_of(&places), Phase::BeforeCommit).await?;
    let pending = |row| {
        let mut columns = Columns::new(row);
        Ok(Pending { settled: columns.bool()?, unsettled: columns.bool()? })
    };
    let pending: Result<_, Fault> = rows.iter().map(pending).collect();
    pending.map_err(|fault| fault.into_error(OPERATION, Phase::BeforeCommit))
}

impl PostgresEventStore {
    pub(super) async fn tail_batch(
        &self,
        partition: Partition,
        after: Position,
        options: TailOptions,
    ) -> Result<TailBatch> {
        let place = Place::new(partition, after, options);
        let (mut newest, mut waits_left) = (None, SETTLE_WAITS);
        loop {
            let arrivals = self.arrivals.count(partition);
            let Found { events, read_to, has_more, unsettled } =
                self.log.read.ask("event_store.tail", place.clone()).await?;
            // What was acknowledged before the call is waited for, also while other transactions run: they mostly end soon. What
            // came since then is the next call's.
            let newest = *newest.get_or_insert(unsettled.map(|(_, newest)| newest));
            let is_missing =
                unsettled.is_some_and(|(oldest, _)| newest.is_some_and(|newest| oldest <= newest));
            if is_missing && !has_more && waits_left > 0 {
                waits_left -= 1;
                tokio::time::sleep(SETTLE).await;
                continue;
            }
            let next = read_to.unwrap_or(after);
            let is_end = !has_more && unsettled.is_none();
            *lock(self.log.end_of(partition)) = is_end.then_some((next, arrivals));
            return Ok(TailBatch { events, next, caught_up: !has_more && !is_missing });
        }
    }

    pub(super) async fn wait_until_events(&self, partition: Partition, after: Position) -> Result<()> {
        let operation = "event_store.wait_for_events";
        let mut end = *lock(self.log.end_of(partition));
        loop {
            // Before looking, so that an append between the look and the wait is not missed.
            let arrival = self.arrivals.of(partition).notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            // Who has just read up to the end need not look: whatever came since then was heard of, or is found after the time-out.
            if end.take() == Some((after, self.arrivals.count(partition))) {
                let _ = tokio::time::timeout(self.database.config().poll_interval, arrival).await;
                continue;
            }
            let pending =
                self.log.look.ask(operation, Place::new(partition, after, TailOptions::default())).await?;
            if pending.settled {
                return Ok(());
            }
            if pending.unsettled {
                tokio::time::sleep(SETTLE).await;
            } else {
                // A time-out is the poll that makes up for a lost notification.
                let _ = tokio::time::timeout(self.database.config().poll_interval, arrival).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pack(xid: i64, seq: i64) -> Position {
    Position(u128::from(xid.cast_unsigned()) << 64 | u128::from(seq.cast_unsigned()))
}

#[allow(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
fn unpack(position: Position) -> (i64, i64) {
    (((position.0 >> 64) as u64).cast_signed(), (position.0 as u64).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_ascend_by_transaction_then_place() {
        assert!(pack(1, i64::MAX) < pack(2, 0));
        assert!(pack(2, 0) < pack(2, 1));
        assert_eq!(unpack(pack(77, 5 << 20 | 3)), (77, 5 << 20 | 3));
        assert_eq!(unpack(Position::START), (0, 0));
    }
}
