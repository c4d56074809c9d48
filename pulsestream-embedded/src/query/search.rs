//! Finding events in order, stopping when the page is full.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::query::{Cursor, FindPage, FindQuery, Order};
use pulsestream_core::time::{TimeRange, Timestamp};

use super::filter::{BoundFilter, FilterPlan};
use super::kernels;
use super::range::{count_matching, rows_in};
use crate::error::{Fault, FaultResult};
use crate::field::IntField;
use crate::part::Part;

/// Rows of the first block that is looked at in a part; following blocks grow, so that a page found early costs little and a
/// rare match does not cost many small steps.
const FIRST_BLOCK_ROWS: usize = 256;
const LARGEST_BLOCK_ROWS: usize = 16_384;

/// Matches of all parts, merged in order. Nothing is looked at before it is needed.
#[derive(Debug)]
pub(crate) struct Search {
    plan: FilterPlan,
    order: Order,
    sources: Vec<SourcePart>,
}

/// What is left to look at in a part.
#[derive(Debug)]
struct SourcePart {
    part: Part,
    times: Arc<Vec<i64>>,
    ranges: VecDeque<Range<usize>>,
    /// Rows that match, the next one at the front.
    matches: VecDeque<u32>,
    block_rows: usize,
    /// Bound when the part is first looked at.
    filter: Option<BoundFilter>,
}

/// A match: index of the part, row.
pub(crate) type Found = (usize, usize);

impl Search {
    /// Starts a search.
    ///
    /// # Errors
    /// Those of reading columns.
    pub(crate) fn new(
        parts: Vec<Part>,
        tenant: TenantId,
        range: TimeRange,
        plan: FilterPlan,
        order: Order,
        after: Option<&Cursor>,
    ) -> FaultResult<Self> {
        let mut sources = Vec::new();
        for part in parts {
            let mut ranges = rows_in(&part, tenant, range)?;
            if ranges.is_empty() {
                continue;
            }
            let times = part.ints(IntField::Timestamp)?;
            if let Some(cursor) = after {
                ranges = cut(&part, &times, ranges, order, cursor)?;
            }
            let (matches, block_rows) = (VecDeque::new(), FIRST_BLOCK_ROWS);
            sources.push(SourcePart {
                part,
                times,
                ranges: ranges.into(),
                matches,
                block_rows,
                filter: None,
            });
        }
        Ok(Self { plan, order, sources })
    }

    /// Returns the next match.
    ///
    /// # Errors
    /// Those of reading columns.
    pub(crate) fn next(&mut self) -> FaultResult<Option<Found>> {
        loop {
            let Some(best) = self.best()? else { return Ok(None) };
            let source = &mut self.sources[best];
            if let Some(row) = source.matches.pop_front() {
                return Ok(Some((best, row as usize)));
            }
            source.look(&self.plan, self.order)?;
        }
    }

    /// Returns the part of a match.
    pub(crate) fn part(&self, source: usize) -> &Part {
        &self.sources[source].part
    }

    /// Returns the time of a match.
    pub(crate) fn time(&self, (source, row): Found) -> Timestamp {
        Timestamp::from_micros(self.sources[source].times[row])
    }

    /// Returns the part whose next row, matching or not yet looked at, comes first.
    fn best(&mut self) -> FaultResult<Option<usize>> {
        let mut best: Option<(usize, i64, bool)> = None;
        for index in 0..self.sources.len() {
            let Some((time, is_match)) = self.sources[index].head(self.order) else { continue };
            let Some((other, other_time, other_is_match)) = best else {
                best = Some((index, time, is_match));
                continue;
            };
            let ordering = match self.order {
                Order::NewestFirst => other_time.cmp(&time),
                Order::OldestFirst => time.cmp(&other_time),
            };
            let comes_first = match ordering {
                Ordering::Less => true,
                Ordering::Greater => false,
                // At the same instant, rows not looked at yet must be before ids can be compared.
                Ordering::Equal if !other_is_match => false,
                Ordering::Equal if !is_match => true,
                Ordering::Equal => self.id_comes_first(index, other)?,
            };
            if comes_first {
                best = Some((index, time, is_match));
            }
        }
        Ok(best.map(|(index, ..)| index))
    }

    fn id_comes_first(&self, left: usize, right: usize) -> FaultResult<bool> {
        let id = |index: usize| {
            let source = &self.sources[index];
            let row = source.matches.front().copied().unwrap_or(0) as usize;
            read_id(&source.part, row)
        };
        let ordering = id(left)?.cmp(&id(right)?);
        Ok(match self.order {
            Order::NewestFirst => ordering == Ordering::Greater,
            Order::OldestFirst => ordering == Ordering::Less,
        })
    }
}

impl SourcePart {
    /// Returns the time of the next row, and whether it is known to match.
    fn head(&self, order: Order) -> Option<(i64, bool)> {
        if let Some(row) = self.matches.front() {
            return Some((self.times[*row as usize], true));
        }
        let row = match order {
            Order::NewestFirst => self.ranges.back()?.end - 1,
            Order::OldestFirst => self.ranges.front()?.start,
        };
        Some((self.times[row], false))
    }

    /// Filters the next block of rows.
    fn look(&mut self, plan: &FilterPlan, order: Order) -> FaultResult<()> {
        let mut filter = match self.filter.take() {
            Some(filter) => filter,
            None => plan.bind(&self.part)?,
        };
        if filter.is_none() {
            self.ranges.clear();
            return Ok(());
        }
        let Some(block) = self.next_block(order) else { return Ok(()) };
        let mut mask = vec![1; block.len()];
        filter.keep(block.start, &mut mask)?;
        self.filter = Some(filter);
        let mut rows = Vec::new();
        kernels::collect(&mask, block.start, &mut rows);
        match order {
            Order::NewestFirst => self.matches.extend(rows.into_iter().rev()),
            Order::OldestFirst => self.matches.extend(rows),
        }
        Ok(())
    }

    fn next_block(&mut self, order: Order) -> Option<Range<usize>> {
        let length = self.block_rows;
        self.block_rows = (self.block_rows * 2).min(LARGEST_BLOCK_ROWS);
        Some(match order {
            Order::NewestFirst => {
                let range = self.ranges.pop_back()?;
                let start = range.end.saturating_sub(length).max(range.start);
                if start > range.start {
                    self.ranges.push_back(range.start..start);
                }
                start..range.end
            }
            Order::OldestFirst => {
                let range = self.ranges.pop_front()?;
                let end = (range.start + length).min(range.end);
                if end < range.end {
                    self.ranges.push_front(end..range.end);
                }
                range.start..end
            }
        })
    }
}

/// Keeps the rows that come after the cursor in the order asked.
fn cut(
    part: &Part,
    times: &[i64],
    ranges: Vec<Range<usize>>,
    order: Order,
    cursor: &Cursor,
) -> FaultResult<Vec<Range<usize>>> {
    let time = cursor.timestamp.as_micros();
    let mut kept = Vec::with_capacity(ranges.len());
    for range in ranges {
        let inside = &times[range.clone()];
        let mut low = range.start + inside.partition_point(|other| *other < time);
        let mut high = range.start + inside.partition_point(|other| *other <= time);
        // Rows of the cursor's instant are sorted by id: find the first one that is not before it.
        while low < high {
            let middle = low + (high - low) / 2;
            let ordering = read_id(part, middle)?.as_slice().cmp(cursor.id.as_str().as_bytes());
            let is_before = match order {
                Order::NewestFirst => ordering == Ordering::Less,
                Order::OldestFirst => ordering != Ordering::Greater,
            };
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let rest = match order {
            Order::NewestFirst => range.start..low,
            Order::OldestFirst => low..range.end,
        };
        if !rest.is_empty() {
            kept.push(rest);
        }
    }
    Ok(kept)
}

fn read_id(part: &Part, row: usize) -> FaultResult<Vec<u8>> {
    Ok(part.rows.ids(&part.cache)?.get(row)?.unwrap_or_default().to_vec())
}

/// Reads a whole event.
///
/// # Errors
/// `Corrupt` when the row is no event, and those of reading.
fn read_event(part: &Part, row: usize) -> FaultResult<Event> {
    let mut found = None;
    part.rows.records(&part.cache)?.visit(row, &mut |record| {
        found = record.to_event();
        Ok(())
    })?;
    found.ok_or_else(|| Fault::corrupt("segment", row as u64, "a row is no event"))
}

/// Finds one page.
///
/// # Errors
/// Those of reading columns.
pub(crate) fn find(parts: Vec<Part>, tenant: TenantId, query: &FindQuery) -> FaultResult<FindPage> {
    let plan = FilterPlan::new(query.filter.as_ref())?;
    let mut total = None;
    if query.count_total {
        let mut count = 0;
        for part in &parts {
            count += count_matching(part, tenant, query.range, &plan)?;
        }
        total = Some(count);
    }
    let mut search = Search::new(parts, tenant, query.range, plan, query.order, query.after.as_ref())?;
    for _ in 0..query.skip {
        if search.next()?.is_none() {
            return Ok(FindPage { events: Vec::new(), next: None, total });
        }
    }
    let mut found = Vec::new();
    while found.len() < query.limit {
        let Some(one) = search.next()? else { break };
        found.push(one);
    }
    let has_more = found.len() == query.limit && search.next()?.is_some();
    let events = read_events(&search, &found)?;
    let next = events
        .last()
        .filter(|_| has_more)
        .map(|last| Cursor { timestamp: last.timestamp, id: last.id.clone() });
    Ok(FindPage { events, next, total })
}

/// Reads the events of matches, each part opened once.
fn read_events(search: &Search, found: &[Found]) -> FaultResult<Vec<Event>> {
    let placeholder = || Fault::corrupt("segment", 0, "a row is no event");
    let mut events: Vec<Option<Event>> = vec![None; found.len()];
    for source in 0..search.sources.len() {
        let mut mine = found.iter().enumerate().filter(|(_, one)| one.0 == source).peekable();
        if mine.peek().is_none() {
            continue;
        }
        let part = search.part(source);
        let mut records = part.rows.records(&part.cache)?;
        for (index, (_, row)) in mine {
            records.visit(*row, &mut |record| {
                events[index] = record.to_event();
                Ok(())
            })?;
        }
    }
    events.into_iter().map(|event| event.ok_or_else(placeholder)).collect()
}

/// Looks ids up.
pub(crate) fn get(
    parts: &[Part],
    hasher: crate::segment::IdHasher,
    tenant: TenantId,
    id: &EventId,
) -> FaultResult<Option<Event>> {
    let bytes = id.as_str().as_bytes();
    let hash = hasher.hash(tenant, bytes);
    for part in parts.iter().rev() {
        if let Some(row) = part.rows.find_id(&part.cache, hasher, tenant, bytes, hash)? {
            return read_event(part, row as usize).map(Some);
        }
    }
    Ok(None)
}
