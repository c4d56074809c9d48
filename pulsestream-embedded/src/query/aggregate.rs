//! Grouped and bucketed measures over columns.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulsestream_core::event::Value;
use pulsestream_core::id::TenantId;
use pulsestream_core::query::{AggregateQuery, AggregateRow, AggregateTable, Bucket, Measure};
use pulsestream_core::time::{TimeRange, Timestamp};

use super::accumulate::{Groups, IntegerHash, Measured, Slots};
use super::columns::{Columns, Rows};
use super::filter::FilterPlan;
use super::intern::{Interner, Interners};
use super::kernels;
use super::range::{blocks, rows_in};
use super::slots::SlotFinder;
use crate::crew::Crew;
use crate::error::FaultResult;
use crate::part::Part;
use crate::question::Question;

/// Pieces for each thread when there are fewer parts: who ends early takes another one.
const PIECES_PER_THREAD: usize = 4;

/// Rows that a piece should have at least.
const PIECE_ROWS: usize = 32_768;

/// Answers a question over parts.
///
/// # Errors
/// `Invalid` for a question that makes no sense, `TooLarge` for too many groups, and those of reading columns and of the question.
pub(crate) fn aggregate(
    parts: Vec<Part>,
    question: &Arc<Question>,
    crew: &Crew,
    interners: &Interners,
    tenant: TenantId,
    query: AggregateQuery,
) -> FaultResult<AggregateTable> {
    query.validate()?;
    let pieces = pieces(&parts, tenant, query.range, crew.threads());
    let plan = Arc::new(Plan::new(query, interners)?);
    let next = AtomicUsize::new(0);
    let work = {
        let (plan, question) = (Arc::clone(&plan), Arc::clone(question));
        move || {
            let mut run = Run::new(&plan);
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                question.proceed()?;
                run.add_piece(&parts[piece.part], tenant, piece)?;
            }
            Ok(run.groups)
        }
    };
    let mut all = crew.run(work)?.into_iter();
    let mut groups = all.next().unwrap_or_else(|| plan.no_groups());
    for other in all {
        question.proceed()?;
        groups.merge(other)?;
    }
    plan.finish(groups, question, crew)
}

/// The rows of a part, or a share of them.
struct Piece {
    part: usize,
    /// Which share of how many.
    share: (usize, usize),
}

/// Divides the work among threads.
fn pieces(parts: &[Part], tenant: TenantId, range: TimeRange, threads: usize) -> Vec<Piece> {
    let overlaps = |part: &Part| {
        let bounds = part.rows.time_bounds(tenant);
        bounds.is_some_and(|(min, max)| max >= range.start.as_micros() && min < range.end.as_micros())
    };
    let touched: Vec<usize> = (0..parts.len()).filter(|index| overlaps(&parts[*index])).collect();
    let wanted = if threads > 1 { threads * PIECES_PER_THREAD } else { 1 };
    let shares_each = wanted.div_ceil(touched.len().max(1));
    let mut pieces = Vec::new();
    for part in touched {
        let rows: usize = parts[part].rows.live_rows(tenant).iter().map(Range::len).sum();
        let shares = shares_each.min(rows / PIECE_ROWS).max(1);
        pieces.extend((0..shares).map(|share| Piece { part, share: (share, shares) }));
    }
    pieces
}

impl Piece {
    /// Cuts the share of the piece out of the rows of its part.
    fn of(&self, ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
        let (share, shares) = self.share;
        if shares == 1 {
            return ranges;
        }
        let rows: usize = ranges.iter().map(Range::len).sum();
        let (from, to) = (rows * share / shares, rows * (share + 1) / shares);
        let mut cut = Vec::new();
        let mut before = 0;
        for range in ranges {
            let first = range.start + from.saturating_sub(before).min(range.len());
            let last = range.start + to.saturating_sub(before).min(range.len());
            before += range.len();
            if first < last {
                cut.push(first..last);
            }
        }
        cut
    }
}

/// What is asked, prepared for all parts.
pub(super) struct Plan {
    pub(super) query: AggregateQuery,
    filter: FilterPlan,
    pub(super) measured: Vec<Measured>,
    pub(super) group_interners: Vec<Arc<Interner>>,
    pub(super) distinct_interners: Vec<Option<Arc<Interner>>>,
    pub(super) counts_errors: bool,
}

impl Plan {
    fn new(query: AggregateQuery, interners: &Interners) -> FaultResult<Self> {
        let measured = Measured::of(&query);
        Ok(Self {
            filter: FilterPlan::new(query.filter.as_ref())?,
            group_interners: query.group_by.iter().map(|path| interners.of(path)).collect(),
            distinct_interners: measured
                .iter()
                .map(|one| one.distinct.then(|| interners.of(&one.path)))
                .collect(),
            counts_errors: query.measures.contains(&Measure::ErrorRate),
            measured,
            query,
        })
    }

    fn no_groups(&self) -> Groups {
        Groups::new(self.measured.len(), self.query.max_groups)
    }

    fn finish(
        &self,
        mut groups: Groups,
        question: &Arc<Question>,
        crew: &Crew,
    ) -> FaultResult<AggregateTable> {
        if self.query.group_by.is_empty() && self.query.bucket.is_none() && groups.keys.is_empty() {
            // The one row that is there over no events does not count against the limit.
            let mut empty = Groups::new(self.measured.len(), 1);
            empty.slot((None, [0; 3]))?;
            groups = empty;
        }
        groups.find_percentiles(question, &self.measured, crew)?;
        let mut rows = Vec::with_capacity(groups.keys.len());
        let ranked: Vec<Ranked> = self
            .group_interners
            .iter()
            .enumerate()
            .map(|(index, interner)| Ranked::new(interner, groups.keys.iter().map(|key| key.1[index])))
            .collect();
        // In the usual order already, so that ordering the rows themselves has little to do.
        let mut order: Vec<(Option<Timestamp>, [u32; 3], usize)> = Vec::with_capacity(groups.keys.len());
        for (slot, (bucket, numbers)) in groups.keys.iter().enumerate() {
            let mut ranks = [0; 3];
            for ((rank, ranked), number) in ranks.iter_mut().zip(&ranked).zip(numbers) {
                *rank = ranked.ranks.get(number).copied().unwrap_or(0);
            }
            order.push((*bucket, ranks, slot));
        }
        order.sort_unstable();
        for (bucket, ranks, slot) in order {
            let value = |(ranked, rank): (&Ranked, u32)| ranked.values[rank as usize].clone();
            let group = ranked.iter().zip(ranks).map(value).collect();
            rows.push(AggregateRow {
                bucket,
                group,
                values: groups.values(slot, &self.query, &self.measured),
            });
        }
        Ok(AggregateTable::finish(&self.query, rows))
    }
}

/// The values of one dimension of the groups, in their order.
struct Ranked {
    values: Vec<Value>,
    /// The index of the value of each number.
    ranks: HashMap<u32, u32, IntegerHash>,
}

impl Ranked {
    #[allow(clippy::cast_possible_truncation, reason = "there are fewer values than groups")]
    fn new(interner: &Interner, numbers: impl Iterator<Item = u32>) -> Self {
        let numbers: HashSet<u32, IntegerHash> = numbers.collect();
        let mut values = interner.values_of(numbers);
        values.sort_unstable();
        let ranks = values.iter().enumerate().map(|(rank, (_, number))| (*number, rank as u32)).collect();
        Self { values: values.into_iter().map(|(value, _)| value).collect(), ranks }
    }
}

/// One thread's share of the work.
struct Run<'a> {
    plan: &'a Plan,
    groups: Groups,
    /// The buckets seen, by their start: the calendar is slow.
    buckets: BTreeMap<i64, TimeRange>,
    /// Slot of each row of the block at hand.
    slots: Vec<u32>,
    gathered: Vec<f64>,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Self {
        let (groups, buckets) = (plan.no_groups(), BTreeMap::new());
        Self { plan, groups, buckets, slots: Vec::new(), gathered: Vec::new() }
    }

    fn add_piece(&mut self, part: &Part, tenant: TenantId, piece: &Piece) -> FaultResult<()> {
        let ranges = piece.of(rows_in(part, tenant, self.plan.query.range)?);
        if ranges.is_empty() {
            return Ok(());
        }
        let mut filter = self.plan.filter.bind(part)?;
        if filter.is_none() {
            return Ok(());
        }
        let columns = Columns::load(self.plan, part)?;
        let held_bytes = filter.heap_bytes() + columns.heap_bytes();
        part.question.hold(held_bytes)?;
        let mut finder = SlotFinder::new(&columns);
        let (mut mask, mut matching) = (Vec::new(), Vec::new());
        for range in ranges {
            for (bucket, rows) in self.cut(&columns, range) {
                finder.reset();
                for block in blocks(rows) {
                    part.question.next_block()?;
                    let selected = if filter.is_all() {
                        Rows::All(block)
                    } else {
                        mask.clear();
                        mask.resize(block.len(), 1);
                        filter.keep(block.start, &mut mask)?;
                        matching.clear();
                        kernels::collect(&mask, block.start, &mut matching);
                        Rows::Some(&matching)
                    };
                    if selected.len() > 0 {
                        self.add_rows(&columns, &mut finder, bucket, &selected)?;
                        part.question.hold(self.groups.new_bytes())?;
                    }
                }
            }
        }
        part.question.release(held_bytes);
        Ok(())
    }

    /// Cuts rows, which ascend in time, at the buckets.
    fn cut(&mut self, columns: &Columns, rows: Range<usize>) -> Vec<(Option<Timestamp>, Range<usize>)> {
        let (Some(bucket), Some(times)) = (&self.plan.query.bucket, &columns.times) else {
            return vec![(None, rows)];
        };
        let mut cuts = Vec::new();
        let mut start = rows.start;
        while start < rows.end {
            let range = bucket_of(&mut self.buckets, bucket, times[start]);
            let end = range.end.as_micros();
            // Buckets are mostly short against the part, so look near first.
            let mut step = 64;
            while start + step < rows.end && times[start + step] < end {
                step *= 2;
            }
            let until = (start + step).min(rows.end);
            let stop = start + times[start..until].partition_point(|time| *time < end);
            cuts.push((Some(range.start), start..stop));
            start = stop;
        }
        cuts
    }

    fn add_rows(
        &mut self,
        columns: &Columns,
        finder: &mut SlotFinder,
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
    ) -> FaultResult<()> {
        let single =
            if columns.groups.is_empty() { Some(self.groups.slot((bucket, [0; 3]))? as usize) } else { None };
        if let Some(slot) = single {
            self.groups.events[slot] += rows.len() as u64;
            if let Some(errors) = &columns.errors {
                self.groups.errors[slot] += match rows {
                    Rows::All(range) => kernels::count(&errors[range.clone()]) as u64,
                    Rows::Some(rows) => rows.iter().map(|row| u64::from(errors[*row as usize])).sum(),
                };
            }
        } else {
            let needs_slots = !self.plan.measured.is_empty();
            finder.find(columns, bucket, rows, &mut self.groups, needs_slots, &mut self.slots)?;
        }
        for index in 0..self.plan.measured.len() {
            if let Some(values) = &columns.numbers[index] {
                let values = match rows {
                    Rows::All(range) => &values[range.clone()],
                    Rows::Some(rows) => {
                        self.gathered.clear();
                        self.gathered.extend(rows.iter().map(|row| values[*row as usize]));
                        &self.gathered
                    }
                };
                let slots = single.map_or(Slots::Each(&self.slots), Slots::One);
                self.groups.add_numbers(index, &self.plan.measured[index], slots, values);
            }
            if let Some((column, numbers, size)) = &columns.distinct[index] {
                let distinct = &mut self.groups.tallies[index].distinct;
                let (mut at, mut grown) = (0, 0);
                rows.for_each(|row| {
                    let slot = single.unwrap_or_else(|| self.slots[at] as usize);
                    grown += distinct[slot].add(numbers[column.codes.get(row) as usize], *size);
                    at += 1;
                });
                self.groups.grow(grown);
            }
        }
        Ok(())
    }
}

fn bucket_of(known: &mut BTreeMap<i64, TimeRange>, bucket: &Bucket, time: i64) -> TimeRange {
    let at = Timestamp::from_micros(time);
    if let Some((_, range)) = known.range(..=time).next_back()
        && range.contains(at)
    {
        return *range;
    }
    let range = bucket.range_from(bucket.start_of(at));
    known.insert(range.start.as_micros(), range);
    range
}
