//! The log of a partition, from segments and from memory.

use pulsestream_core::ports::event_store::{Partition, Position, TailBatch, TailOptions, TailedEvent};

use crate::cache::CacheKey;
use crate::engine::Engine;
use crate::error::{Fault, FaultResult};
use crate::field::IntField;
use crate::part::Rows;
use crate::question::Question;
use crate::record::Record;
use crate::segment::Segment;

/// Rows read between two looks at whether somebody waits for them.
const ROWS_AT_ONCE: usize = 256;

/// The event at position `n` of the log has the public position `n + 1`, because 0 is before the first.
fn public(position: u64) -> Position {
    Position(u128::from(position) + 1)
}

/// Returns whether everything after a public position is in memory.
pub(crate) fn is_fresh(engine: &Engine, after: Position) -> bool {
    let view = engine.view();
    view.segments.iter().all(|segment| u128::from(segment.footer().positions.end) <= after.0)
}

/// Reads events of a partition after a public position; those that are not wanted are not decoded.
pub(crate) fn tail(
    engine: &Engine,
    question: &Question,
    partition: Partition,
    after: Position,
    options: &TailOptions,
) -> FaultResult<TailBatch> {
    // Read first: everything before it is visible in the view that is taken next.
    let horizon = engine.end_of(partition);
    let view = engine.view();
    let from = u64::try_from(after.0).unwrap_or(u64::MAX);
    engine.ensure_readable_from(from)?;
    let mut events = Vec::new();
    let mut is_full = false;
    for segment in view.segments.iter().filter(|segment| segment.footer().positions.end > from) {
        if !is_full {
            question.proceed()?;
            is_full = read_segment(engine, question, segment, partition, from, options, &mut events)?;
        }
    }
    for generation in &view.generations {
        for batch in generation.batches_from(from) {
            if is_full || Partition::of(batch.tenant) != partition || !options.wants(batch.tenant) {
                continue;
            }
            for row in 0..batch.len() {
                let position = batch.position + row as u64;
                if position < from {
                    continue;
                }
                if events.len() == options.limit {
                    is_full = true;
                    break;
                }
                let event = Record::decode(batch.record(row)).and_then(Record::to_event);
                let event = event.ok_or_else(|| Fault::corrupt("wal", position, "a row is no event"))?;
                events.push(TailedEvent { tenant: batch.tenant, position: public(position), event });
            }
        }
    }
    let last = events.last().map_or(after, |event| event.position);
    let next = if is_full { last } else { last.max(Position(u128::from(horizon))) };
    Ok(TailBatch { events, next, caught_up: !is_full })
}

/// Adds the events of a segment; returns whether there was one more than the limit.
#[allow(clippy::cast_possible_truncation, reason = "a segment has fewer than 2^32 rows")]
fn read_segment(
    engine: &Engine,
    question: &Question,
    segment: &Segment,
    partition: Partition,
    from: u64,
    options: &TailOptions,
    events: &mut Vec<TailedEvent>,
) -> FaultResult<bool> {
    let is_wanted = |tenant| Partition::of(tenant) == partition && options.wants(tenant);
    if !segment.footer().tenants.iter().any(|range| is_wanted(range.tenant)) {
        return Ok(false);
    }
    let order = engine.cache.get(segment.key(), CacheKey::TailOrder(partition.number()), || {
        let positions = segment.load_ints(IntField::Position)?;
        let mut order: Vec<(u64, u32)> = Vec::new();
        for range in &segment.footer().tenants {
            if Partition::of(range.tenant) == partition {
                order.extend(range.rows.clone().map(|row| (positions[row as usize].cast_unsigned(), row)));
            }
        }
        order.sort_unstable();
        let bytes = order.capacity() * 16;
        Ok((order, bytes))
    })?;
    let first = order.partition_point(|(position, _)| *position < from);
    let tenants = &segment.footer().tenants;
    let tenant_of = |row: u32| {
        let index = tenants.partition_point(|range| range.rows.end <= row);
        tenants.get(index).map(|range| range.tenant)
    };
    let wanted = |row: u32| tenant_of(row).is_none_or(|tenant| options.wants(tenant));
    let mut live = order[first..].iter().filter(|(_, row)| segment.is_live(*row) && wanted(*row)).peekable();
    if live.peek().is_none() {
        return Ok(false);
    }
    let mut records = segment.records(&engine.cache)?;
    for (position, row) in live {
        if events.len() == options.limit {
            return Ok(true);
        }
        if events.len().is_multiple_of(ROWS_AT_ONCE) {
            question.next_block()?;
        }
        let damaged = || Fault::corrupt(segment.name(), u64::from(*row), "a row is no event");
        let tenant = tenant_of(*row).ok_or_else(damaged)?;
        let mut event = None;
        records.visit(*row as usize, &mut |record| {
            question.hold(record.heap_bytes())?;
            event = record.to_event();
            Ok(())
        })?;
        let event = event.ok_or_else(damaged)?;
        events.push(TailedEvent { tenant, position: public(*position), event });
    }
    Ok(false)
}
