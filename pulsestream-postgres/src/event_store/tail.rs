//! The log of a partition.
//!
//! A position is the id of the transaction that appended, then the place in it. Transactions commit in another order than they
//! began in, so a reader sees only those that began before every transaction that is still running: what it has not seen
//! then is behind it for good. A transaction that writes for long, of whatever application on the server, delays the tail
//! for as long.

use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{Partition, Position, TailBatch, TailedEvent};

use super::PostgresEventStore;
use super::read::saturating;
use crate::database::{Scope, bound};
use crate::event_row::{column_list, event_from};
use crate::wire::{Columns, Param};

/// How soon to look again when events are there and older transactions still run.
const SETTLE: Duration = Duration::from_millis(5);

/// How often `tail` looks again for them before it answers with what is settled.
const SETTLE_WAITS: u32 = 200;

/// The oldest transaction that still runs; rows of older ones are settled.
const HORIZON: &str = "(select pg_snapshot_xmin(pg_current_snapshot())::text::bigint)";

/// What a partition holds after a position.
struct Pending {
    settled: bool,
    unsettled: bool,
}

/// What a read of the log found.
struct Found {
    events: Vec<TailedEvent>,
    /// Whether there are more that are acknowledged, but not settled.
    unsettled: bool,
}

impl PostgresEventStore {
    pub(super) async fn tail_batch(
        &self,
        partition: Partition,
        after: Position,
        limit: usize,
    ) -> Result<TailBatch> {
        let mut waits_left = SETTLE_WAITS;
        loop {
            let Found { mut events, unsettled } = self.read_log(partition, after, limit).await?;
            // What was acknowledged is found by the next call, also while other transactions run: they mostly end soon.
            if unsettled && waits_left > 0 {
                waits_left -= 1;
                tokio::time::sleep(SETTLE).await;
                continue;
            }
            let caught_up = events.len() <= limit && !unsettled;
            events.truncate(limit);
            let next = events.last().map_or(after, |event| event.position);
            return Ok(TailBatch { events, next, caught_up });
        }
    }

    /// Reads up to one event more than the limit.
    async fn read_log(&self, partition: Partition, after: Position, limit: usize) -> Result<Found> {
        let schema = self.schema();
        let read: Arc<str> = Arc::from(format!(
            "select k.tenant_id, k.xid, k.seq, {columns} from \
             (select tenant_id, event_id, \"timestamp\", xid, seq from {schema}.event_keys \
              where partition = $1 and (xid, seq) > ($2, $3) and xid < {HORIZON} order by xid, seq limit $4) k \
             cross join lateral (select * from {schema}.events e where e.tenant_id = k.tenant_id \
              and e.\"timestamp\" = k.\"timestamp\" and e.id = k.event_id limit 1) e order by k.xid, k.seq",
            columns = column_list("e."),
        ));
        let look: Arc<str> = Arc::from(format!(
            "select exists (select from {schema}.event_keys where partition = $1 and (xid, seq) > ($2, $3) \
             and xid >= {HORIZON})"
        ));
        let (xid, seq) = unpack(after);
        let place = [number_of(partition), Param::int8(xid), Param::int8(seq)];
        let mut params = place.to_vec();
        params.push(Param::int8(saturating(limit.saturating_add(1))));
        self.database
            .read("event_store.tail", Scope::Processor, move |connection| {
                let (read, look) = (bound(read.clone(), &params), bound(look.clone(), &place));
                Box::pin(async move {
                    let rows = read.fetch_all(&mut *connection).await?;
                    let mut events = Vec::with_capacity(rows.len());
                    for row in &rows {
                        let mut columns = Columns::new(row);
                        let tenant = TenantId::from_u128(columns.uuid()?);
                        let position = pack(columns.int8()?, columns.int8()?);
                        events.push(TailedEvent { tenant, position, event: event_from(&mut columns)? });
                    }
                    let unsettled = if events.len() > limit {
                        false
                    } else {
                        Columns::new(&look.fetch_one(connection).await?).bool()?
                    };
                    Ok(Found { events, unsettled })
                })
            })
            .await
    }

    pub(super) async fn wait_until_events(&self, partition: Partition, after: Position) -> Result<()> {
        loop {
            // Before looking, so that an append between the look and the wait is not missed.
            let arrival = self.arrivals.of(partition).notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let pending = self.pending(partition, after).await?;
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

    async fn pending(&self, partition: Partition, after: Position) -> Result<Pending> {
        let keys = format!("{}.event_keys where partition = $1 and (xid, seq) > ($2, $3)", self.schema());
        let sql: Arc<str> = Arc::from(format!(
            "select exists (select from {keys} and xid < {HORIZON}), exists (select from {keys} and xid >= {HORIZON})"
        ));
        let (xid, seq) = unpack(after);
        let params = [number_of(partition), Param::int8(xid), Param::int8(seq)];
        self.database
            .read("event_store.wait_for_events", Scope::Processor, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let row = statement.fetch_one(connection).await?;
                    let mut columns = Columns::new(&row);
                    Ok(Pending { settled: columns.bool()?, unsettled: columns.bool()? })
                })
            })
            .await
    }
}

fn number_of(partition: Partition) -> Param {
    Param::int2(i16::try_from(partition.number()).unwrap_or_default())
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
