//! Which rows of a part lie in a range of time.

use std::ops::Range;

use pulsestream_core::id::TenantId;
use pulsestream_core::time::TimeRange;

use super::filter::FilterPlan;
use super::kernels;
use crate::error::FaultResult;
use crate::field::IntField;
use crate::part::Part;

/// Rows that are filtered at once: their masks and codes stay in the cache of the processor.
pub(super) const BLOCK_ROWS: usize = 16_384;

/// Returns the live rows of a tenant in a range of time, ascending and apart.
pub(super) fn rows_in(part: &Part, tenant: TenantId, range: TimeRange) -> FaultResult<Vec<Range<usize>>> {
    let Some((min, max)) = part.rows.time_bounds(tenant) else { return Ok(Vec::new()) };
    let (start, end) = (range.start.as_micros(), range.end.as_micros());
    if max < start || min >= end {
        return Ok(Vec::new());
    }
    let live = part.rows.live_rows(tenant);
    if start <= min && max < end {
        return Ok(live);
    }
    let times = part.ints(IntField::Timestamp)?;
    let mut rows = Vec::with_capacity(live.len());
    for range in live {
        let inside = &times[range.clone()];
        let first = range.start + inside.partition_point(|time| *time < start);
        let last = range.start + inside.partition_point(|time| *time < end);
        if first < last {
            rows.push(first..last);
        }
    }
    Ok(rows)
}

/// Cuts rows into blocks.
pub(super) fn blocks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(BLOCK_ROWS).map(move |start| start..(start + BLOCK_ROWS).min(end))
}

/// Returns the rows of a tenant that match.
#[allow(clippy::cast_possible_truncation, reason = "a part has fewer than 2^32 rows")]
pub(crate) fn matching_rows(
    part: &Part,
    tenant: TenantId,
    range: TimeRange,
    plan: &FilterPlan,
) -> FaultResult<Vec<u32>> {
    let ranges = rows_in(part, tenant, range)?;
    let mut rows = Vec::new();
    if ranges.is_empty() {
        return Ok(rows);
    }
    let mut filter = plan.bind(part)?;
    let mut mask = Vec::new();
    for block in ranges.into_iter().flat_map(blocks) {
        part.question.next_block()?;
        mask.clear();
        mask.resize(block.len(), 1);
        filter.keep(block.start, &mut mask)?;
        kernels::collect(&mask, block.start, &mut rows);
    }
    Ok(rows)
}

/// Counts the rows of a tenant that match.
pub(super) fn count_matching(
    part: &Part,
    tenant: TenantId,
    range: TimeRange,
    plan: &FilterPlan,
) -> FaultResult<u64> {
    let ranges = rows_in(part, tenant, range)?;
    if ranges.is_empty() {
        return Ok(0);
    }
    part.question.proceed()?;
    let mut filter = plan.bind(part)?;
    let held_bytes = filter.heap_bytes();
    part.question.hold(held_bytes)?;
    let mut count = 0;
    let mut mask = Vec::new();
    for rows in ranges {
        if filter.is_all() {
            count += rows.len() as u64;
            continue;
        }
        for block in blocks(rows) {
            part.question.next_block()?;
            mask.clear();
            mask.resize(block.len(), 1);
            filter.keep(block.start, &mut mask)?;
            count += kernels::count(&mask) as u64;
        }
    }
    part.question.release(held_bytes);
    Ok(count)
}
