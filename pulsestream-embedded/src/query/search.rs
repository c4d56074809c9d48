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
use crate::question::Question;

/// Rows of the first block that is looked at in a part; following blocks grow, so that a page found early costs little and a
/// rare match does not cost many small steps.
const FIRST_BLOCK_ROWS: usize = 256;
const LARGEST_BLOCK_ROWS: usize = 16_384;

/// Matches of all parts, merged in order. Nothing is looked at before it is needed.
#[derive(Debug)]
pub(crate) struct Search {
    question: Arc<Question>,
    look: Look,
    sources: Vec<Source>,
    /// Bytes of the columns at hand.
    held_bytes: usize,
}

/// What is looked for.
#[derive(Debug)]
struct Look {
    tenant: TenantId,
    range: TimeRange,
    plan: FilterPlan,
    order: Order,
    after: Option<Cursor>,
}

/// A part and how far it was looked at.
#[derive(Debug)]
struct Source {
    part: Part,
    /// The first instant at which the part may have a row.
    bound: i64,
    state: SourceState,
}

#[derive(Debug)]
enum SourceState {
    /// Its times are not loaded yet.
    Untouched,
    Open(OpenPart),
    /// Nothing is left, and its columns are let go.
    Done,
}

/// What is left to look at in a part.
#[derive(Debug)]
struct OpenPart {
    times: Arc<Vec<i64>>,
    ranges: VecDeque<Range<usize>>,
    /// Rows that match, the next one at the front.
    matches: VecDeque<u32>,
    block_rows: usize,
    /// Bound when the first block is filtered.
    filter: Option<BoundFilter>,
    held_bytes: usize,
}

/// A match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Index of the part.
    pub(crate) source: usize,
    pub(crate) row: usize,
    pub(crate) time: Timestamp,
}

impl Search {
    /// Starts a search.
    pub(crate) fn new(
        parts: Vec<Part>,
        question: Arc<Question>,
        tenant: TenantId,
        range: TimeRange,
        plan: FilterPlan,
        order: Order,
        after: Option<Cursor>,
    ) -> Self {
        let look = Look { tenant, range, plan, order, after };
        let source = |part: Part| {
            let bound = look.bound(part.rows.time_bounds(tenant)?)?;
            Some(Source { part, bound, state: SourceState::Untouched })
        };
        let sources = parts.into_iter().filter_map(source).collect();
        Self { question, look, sources, held_bytes: 0 }
    }

    /// Goes on for another question: each batch of a scan has a time of its own.
    ///
    /// # Errors
    /// `TooLarge` when the columns at hand are too much for it.
    pub(crate) fn resume(&mut self, question: &Arc<Question>) -> FaultResult<()> {
        self.question = Arc::clone(question);
        for source in &mut self.sources {
            source.part.question = Arc::clone(question);
        }
        self.question.hold(self.held_bytes)
    }

    /// Returns the next match.
    ///
    /// # Errors
    /// Those of reading columns, and of the question.
    pub(crate) fn next(&mut self) -> FaultResult<Option<Found>> {
        loop {
            let Some(best) = self.best()? else { return Ok(None) };
            let source = &mut self.sources[best];
            let SourceState::Open(open) = &mut source.state else {
                self.open(best)?;
                continue;
            };
            if let Some(row) = open.matches.pop_front() {
                let row = row as usize;
                return Ok(Some(Found { source: best, row, time: Timestamp::from_micros(open.times[row]) }));
            }
            self.look_on(best)?;
        }
    }

    /// Returns the part of a match.
    pub(crate) fn part(&self, source: usize) -> &Part {
        &self.sources[source].part
    }

    /// Loads the times of a part and finds the rows to look at.
    fn open(&mut self, source: usize) -> FaultResult<()> {
        self.question.proceed()?;
        let Source { part, state, .. } = &mut self.sources[source];
        *state = match self.look.open(part)? {
            None => SourceState::Done,
            Some(open) => {
                self.held_bytes += open.held_bytes;
                self.question.hold(open.held_bytes)?;
                SourceState::Open(open)
            }
        };
        Ok(())
    }

    /// Filters the next block of rows of an open part.
    fn look_on(&mut self, source: usize) -> FaultResult<()> {
        self.question.next_block()?;
        let Source { part, state, .. } = &mut self.sources[source];
        let SourceState::Open(open) = state else { return Ok(()) };
        let held_before = open.held_bytes;
        let is_left = open.look(part, &self.look)?;
        let more = open.held_bytes - held_before;
        self.held_bytes += more;
        self.question.hold(more)?;
        if !is_left {
            self.held_bytes -= open.held_bytes;
            self.question.release(open.held_bytes);
            *state = SourceState::Done;
        }
        Ok(())
    }

    /// Returns the part whose next row, matching or not yet looked at, comes first.
    fn best(&self) -> FaultResult<Option<usize>> {
        let mut best: Option<(usize, i64, bool)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some((time, is_match)) = source.head(self.look.order) else { continue };
            let Some((other, other_time, other_is_match)) = best else {
                best = Some((index, time, is_match));
                continue;
            };
            let ordering = match self.look.order {
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
            let row = match &source.state {
                SourceState::Open(open) => open.matches.front().copied().unwrap_or(0) as usize,
                SourceState::Untouched | SourceState::Done => 0,
            };
            read_id(&source.part, row)
        };
        let ordering = id(left)?.cmp(&id(right)?);
        Ok(match self.look.order {
            Order::NewestFirst => ordering == Ordering::Greater,
            Order::OldestFirst => ordering == Ordering::Less,
        })
    }
}

impl Look {
    /// Returns the first instant at which a part with these bounds may have a row, `None` when it has none.
    fn bound(&self, (min, max): (i64, i64)) -> Option<i64> {
        let (mut first, mut last) =
            (self.range.start.as_micros(), self.range.end.as_micros().checked_sub(1)?);
        if let Some(cursor) = &self.after {
            match self.order {
                Order::NewestFirst => last = last.min(cursor.timestamp.as_micros()),
                Order::OldestFirst => first = first.max(cursor.timestamp.as_micros()),
            }
        }
        let (first, last) = (first.max(min), last.min(max));
        (first <= last).then_some(match self.order {
            Order::NewestFirst => last,
            Order::OldestFirst => first,
        })
    }

    fn open(&self, part: &Part) -> FaultResult<Option<OpenPart>> {
        let mut ranges = rows_in(part, self.tenant, self.range)?;
        if ranges.is_empty() {
            return Ok(None);
        }
        let times = part.ints(IntField::Timestamp)?;
        if let Some(cursor) = &self.after {
            ranges = cut(part, &times, ranges, self.order, cursor)?;
        }
        let held_bytes = times.capacity() * 8;
        Ok((!ranges.is_empty()).then(|| OpenPart {
            times,
            ranges: ranges.into(),
            matches: VecDeque::new(),
            block_rows: FIRST_BLOCK_ROWS,
            filter: None,
            held_bytes,
        }))
    }
}

impl Source {
    /// Returns the time of the next row, and whether it is known to match.
    fn head(&self, order: Order) -> Option<(i64, bool)> {
        let open = match &self.state {
            SourceState::Untouched => return Some((self.bound, false)),
            SourceState::Done => return None,
            SourceState::Open(open) => open,
        };
        if let Some(row) = open.matches.front() {
            return Some((open.times[*row as usize], true));
        }
        let row = match order {
            Order::NewestFirst => open.ranges.back().map(|range| range.end - 1),
            Order::OldestFirst => open.ranges.front().map(|range| range.start),
        };
        // A part without a row left ends when it is looked at: at once.
        let bound = match order {
            Order::NewestFirst => i64::MAX,
            Order::OldestFirst => i64::MIN,
        };
        Some((row.map_or(bound, |row| open.times[row]), false))
    }
}

impl OpenPart {
    /// Filters the next block of rows; returns whether something is left.
    fn look(&mut self, part: &Part, look: &Look) -> FaultResult<bool> {
        let mut filter = match self.filter.take() {
            Some(filter) => filter,
            None => {
                let filter = look.plan.bind(part)?;
                self.held_bytes += filter.heap_bytes();
                filter
            }
        };
        if filter.is_none() {
            return Ok(false);
        }
        let Some(block) = self.next_block(look.order) else { return Ok(false) };
        let mut mask = vec![1; block.len()];
        let filtered = filter.keep(block.start, &mut mask);
        self.filter = Some(filter);
        if let Err(fault) = filtered {
            // Whoever goes on after a failure must not miss these rows.
            match look.order {
                Order::NewestFirst => self.ranges.push_back(block),
                Order::OldestFirst => self.ranges.push_front(block),
            }
            return Err(fault);
        }
        let mut rows = Vec::new();
        kernels::collect(&mask, block.start, &mut rows);
        match look.order {
            Order::NewestFirst => self.matches.extend(rows.into_iter().rev()),
            Order::OldestFirst => self.matches.extend(rows),
        }
        Ok(!self.matches.is_empty() || !self.ranges.is_empty())
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
    part.rows.gather(&[row], &part.cache, &mut |_, record| {
        found = record.to_event();
        Ok(())
    })?;
    found.ok_or_else(|| Fault::corrupt("segment", row as u64, "a row is no event"))
}

/// Finds one page.
///
/// # Errors
/// Those of reading columns, and of the question.
pub(crate) fn find(
    parts: Vec<Part>,
    question: &Arc<Question>,
    tenant: TenantId,
    query: &FindQuery,
) -> FaultResult<FindPage> {
    let plan = FilterPlan::new(query.filter.as_ref())?;
    let mut total = None;
    if query.count_total {
        let mut count = 0;
        for part in &parts {
            count += count_matching(part, tenant, query.range, &plan)?;
        }
        total = Some(count);
    }
    let (order, after) = (query.order, query.after.clone());
    let mut search = Search::new(parts, Arc::clone(question), tenant, query.range, plan, order, after);
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

/// Rows of a part that are read together, so that what is copied of them stays small beside a page.
const ROWS_TOGETHER: usize = 256;

/// Reads the events of matches, those of a part together.
fn read_events(search: &Search, found: &[Found]) -> FaultResult<Vec<Event>> {
    let placeholder = || Fault::corrupt("segment", 0, "a row is no event");
    let mut events: Vec<Option<Event>> = vec![None; found.len()];
    for source in 0..search.sources.len() {
        let (places, rows): (Vec<usize>, Vec<usize>) = found
            .iter()
            .enumerate()
            .filter(|(_, one)| one.source == source)
            .map(|(place, one)| (place, one.row))
            .unzip();
        let part = search.part(source);
        for (places, rows) in places.chunks(ROWS_TOGETHER).zip(rows.chunks(ROWS_TOGETHER)) {
            search.question.proceed()?;
            part.rows.gather(rows, &part.cache, &mut |place, record| {
                search.question.hold(record.heap_bytes())?;
                events[places[place]] = record.to_event();
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
        part.question.proceed()?;
        if let Some(row) = part.rows.find_id(&part.cache, hasher, tenant, bytes, hash)? {
            return read_event(part, row as usize).map(Some);
        }
    }
    Ok(None)
}
