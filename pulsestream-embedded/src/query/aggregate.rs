//! Grouped and bucketed measures over columns.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::event::Value;
use pulsestream_core::id::TenantId;
use pulsestream_core::query::{AggregateQuery, AggregateRow, AggregateTable, Bucket, Measure};
use pulsestream_core::time::{TimeRange, Timestamp};

use super::accumulate::{Groups, IntegerHash, Measured};
use super::filter::FilterPlan;
use super::intern::{Interner, Interners};
use super::kernels;
use super::range::{blocks, rows_in};
use crate::column::DictColumn;
use crate::error::FaultResult;
use crate::field::IntField;
use crate::part::Part;

/// Combinations of codes up to which a table finds the slot of a group; above it a hash map does.
const MAX_TABLE: usize = 1 << 18;
const NO_SLOT: u32 = u32::MAX;

/// Answers a question over parts.
///
/// # Errors
/// `Invalid` for a question that makes no sense, `TooLarge` for too many groups, and those of reading columns.
pub(crate) fn aggregate(
    parts: &[Part],
    interners: &Interners,
    tenant: TenantId,
    query: &AggregateQuery,
) -> FaultResult<AggregateTable> {
    query.validate()?;
    let measured = Measured::of(query);
    let mut run = Run {
        query,
        plan: FilterPlan::new(query.filter.as_ref())?,
        group_interners: query.group_by.iter().map(|path| interners.of(path)).collect(),
        distinct_interners: measured
            .iter()
            .map(|one| one.distinct.then(|| interners.of(&one.path)))
            .collect(),
        counts_errors: query.measures.contains(&Measure::ErrorRate),
        groups: Groups::new(measured.len(), query.max_groups),
        measured,
        buckets: BTreeMap::new(),
        slots: Vec::new(),
        gathered: Vec::new(),
    };
    for part in parts {
        part.question.proceed()?;
        run.add_part(part, tenant)?;
    }
    run.finish()
}

struct Run<'a> {
    query: &'a AggregateQuery,
    plan: FilterPlan,
    measured: Vec<Measured>,
    group_interners: Vec<Arc<Interner>>,
    distinct_interners: Vec<Option<Arc<Interner>>>,
    counts_errors: bool,
    groups: Groups,
    /// The buckets seen, by their start: the calendar is slow.
    buckets: BTreeMap<i64, TimeRange>,
    /// Slot of each row of the block at hand.
    slots: Vec<u32>,
    gathered: Vec<f64>,
}

/// The columns of a part that a question reads.
struct Columns {
    times: Option<Arc<Vec<i64>>>,
    groups: Vec<GroupColumn>,
    errors: Option<Arc<Vec<u8>>>,
    numbers: Vec<Option<Arc<Vec<f64>>>>,
    distinct: Vec<Option<DistinctColumn>>,
}

impl Columns {
    fn heap_bytes(&self) -> usize {
        let dict = |column: &DictColumn, numbers: &[u32]| column.heap_bytes() + numbers.len() * 4;
        self.times.as_ref().map_or(0, |times| times.len() * 8)
            + self.errors.as_ref().map_or(0, |errors| errors.len())
            + self.groups.iter().map(|(column, numbers)| dict(column, numbers)).sum::<usize>()
            + self.numbers.iter().flatten().map(|values| values.len() * 8).sum::<usize>()
            + self.distinct.iter().flatten().map(|(column, numbers, _)| dict(column, numbers)).sum::<usize>()
    }
}

/// Codes and their numbers.
type GroupColumn = (Arc<DictColumn>, Arc<Vec<u32>>);

/// Codes, their numbers, and how many numbers there are.
type DistinctColumn = (Arc<DictColumn>, Arc<Vec<u32>>, usize);

/// Finds the slot of the codes of a row.
struct SlotFinder {
    /// Number of codes of each column.
    widths: [usize; 3],
    table: Vec<u32>,
    touched: Vec<usize>,
    map: HashMap<u64, u32, IntegerHash>,
}

/// Rows of a block that match.
enum Rows<'a> {
    All(Range<usize>),
    Some(&'a [u32]),
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Self::All(range) => range.len(),
            Self::Some(rows) => rows.len(),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(usize)) {
        match self {
            Self::All(range) => range.clone().for_each(visit),
            Self::Some(rows) => rows.iter().for_each(|row| visit(*row as usize)),
        }
    }
}

impl Run<'_> {
    fn add_part(&mut self, part: &Part, tenant: TenantId) -> FaultResult<()> {
        let ranges = rows_in(part, tenant, self.query.range)?;
        if ranges.is_empty() {
            return Ok(());
        }
        let mut filter = self.plan.bind(part)?;
        if filter.is_none() {
            return Ok(());
        }
        let columns = self.columns(part)?;
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

    fn columns(&self, part: &Part) -> FaultResult<Columns> {
        let mut groups = Vec::new();
        for (path, interner) in self.query.group_by.iter().zip(&self.group_interners) {
            let column = part.dict(path)?;
            let numbers = interner.numbers_of(part, path, &column)?;
            groups.push((column, numbers));
        }
        let (mut numbers, mut distinct) = (Vec::new(), Vec::new());
        for (measured, interner) in self.measured.iter().zip(&self.distinct_interners) {
            numbers.push(if measured.reads_numbers() { Some(part.numbers(&measured.path)?) } else { None });
            distinct.push(match interner {
                Some(interner) => {
                    let column = part.dict(&measured.path)?;
                    let numbers = interner.numbers_of(part, &measured.path, &column)?;
                    Some((column, numbers, interner.numbers()))
                }
                None => None,
            });
        }
        Ok(Columns {
            times: if self.query.bucket.is_some() { Some(part.ints(IntField::Timestamp)?) } else { None },
            groups,
            errors: if self.counts_errors { Some(part.errors()?) } else { None },
            numbers,
            distinct,
        })
    }

    /// Cuts rows, which ascend in time, at the buckets.
    fn cut(&mut self, columns: &Columns, rows: Range<usize>) -> Vec<(Option<Timestamp>, Range<usize>)> {
        let (Some(bucket), Some(times)) = (&self.query.bucket, &columns.times) else {
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
        let count = rows.len();
        let single =
            if columns.groups.is_empty() { Some(self.groups.slot((bucket, [0; 3]))? as usize) } else { None };
        if let Some(slot) = single {
            self.groups.events[slot] += count as u64;
        } else {
            finder.find(&columns.groups, bucket, rows, &mut self.groups, &mut self.slots)?;
            for slot in &self.slots {
                self.groups.events[*slot as usize] += 1;
            }
        }
        if let Some(errors) = &columns.errors {
            match (single, rows) {
                (Some(slot), Rows::All(range)) => {
                    self.groups.errors[slot] += kernels::count(&errors[range.clone()]) as u64;
                }
                _ => {
                    let mut index = 0;
                    rows.for_each(|row| {
                        let slot = single.unwrap_or_else(|| self.slots[index] as usize);
                        self.groups.errors[slot] += u64::from(errors[row]);
                        index += 1;
                    });
                }
            }
        }
        for index in 0..self.measured.len() {
            if let Some(values) = &columns.numbers[index] {
                self.gathered.clear();
                match rows {
                    Rows::All(range) => self.gathered.extend_from_slice(&values[range.clone()]),
                    Rows::Some(rows) => self.gathered.extend(rows.iter().map(|row| values[*row as usize])),
                }
                self.add_numbers(index, single);
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

    /// Adds the gathered numbers to their groups.
    fn add_numbers(&mut self, index: usize, single: Option<usize>) {
        let measured = &self.measured[index];
        if measured.numbers {
            self.groups.grow(self.gathered.len() * 8);
        }
        let tallies = &mut self.groups.tallies[index];
        for (at, value) in self.gathered.iter().enumerate() {
            if value.is_nan() {
                continue;
            }
            let slot = single.unwrap_or_else(|| self.slots[at] as usize);
            tallies.count[slot] += 1;
            if measured.sum {
                tallies.sum[slot].add(*value);
            }
            if measured.extremes {
                tallies.min[slot] = tallies.min[slot].min(*value);
                tallies.max[slot] = tallies.max[slot].max(*value);
            }
            if measured.numbers {
                tallies.numbers[slot].push(*value);
            }
        }
    }

    fn finish(mut self) -> FaultResult<AggregateTable> {
        if self.query.group_by.is_empty() && self.query.bucket.is_none() && self.groups.keys.is_empty() {
            // The one row that is there over no events does not count against the limit.
            let mut empty = Groups::new(self.measured.len(), 1);
            empty.slot((None, [0; 3]))?;
            self.groups = empty;
        }
        let mut rows = Vec::with_capacity(self.groups.keys.len());
        for slot in 0..self.groups.keys.len() {
            let (bucket, numbers) = self.groups.keys[slot];
            let group: Vec<Value> = self
                .group_interners
                .iter()
                .zip(numbers)
                .map(|(interner, number)| interner.value(number))
                .collect();
            let values = self.groups.values(slot, self.query, &self.measured);
            rows.push(AggregateRow { bucket, group, values });
        }
        Ok(AggregateTable::finish(self.query, rows))
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

impl SlotFinder {
    fn new(columns: &Columns) -> Self {
        let mut widths = [1; 3];
        for (width, (column, _)) in widths.iter_mut().zip(&columns.groups) {
            *width = column.dictionary.codes();
        }
        let size = widths.iter().try_fold(1_usize, |size, width| size.checked_mul(*width));
        let table = match size {
            Some(size) if size <= MAX_TABLE => vec![NO_SLOT; size],
            _ => Vec::new(),
        };
        Self { widths, table, touched: Vec::new(), map: HashMap::default() }
    }

    /// Forgets the slots: they belong to a bucket.
    fn reset(&mut self) {
        for index in self.touched.drain(..) {
            self.table[index] = NO_SLOT;
        }
        self.map.clear();
    }

    /// Fills `slots` with the slot of each row.
    fn find(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
        groups: &mut Groups,
        slots: &mut Vec<u32>,
    ) -> FaultResult<()> {
        slots.clear();
        slots.resize(rows.len(), 0);
        if self.table.is_empty() {
            return self.find_by_map(columns, bucket, rows, groups, slots);
        }
        let mut width = 1;
        for ((column, _), codes) in columns.iter().zip(self.widths) {
            match rows {
                Rows::All(range) => kernels::add_codes(&column.codes, range.start, width, slots),
                Rows::Some(rows) => kernels::add_listed_codes(&column.codes, rows, width, slots),
            }
            width = width.wrapping_mul(u32::try_from(codes).unwrap_or(u32::MAX));
        }
        for slot in slots.iter_mut() {
            let combined = *slot as usize;
            let known = self.table[combined];
            *slot = if known == NO_SLOT { self.add(columns, bucket, combined, groups)? } else { known };
        }
        Ok(())
    }

    /// Gives a combination of codes its slot.
    fn add(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        combined: usize,
        groups: &mut Groups,
    ) -> FaultResult<u32> {
        let mut numbers = [0; 3];
        let mut rest = combined;
        for (index, (_, interned)) in columns.iter().enumerate() {
            numbers[index] = interned[rest % self.widths[index]];
            rest /= self.widths[index];
        }
        let slot = groups.slot((bucket, numbers))?;
        self.table[combined] = slot;
        self.touched.push(combined);
        Ok(slot)
    }

    fn find_by_map(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
        groups: &mut Groups,
        slots: &mut [u32],
    ) -> FaultResult<()> {
        let mut outcome = Ok(());
        let mut at = 0;
        rows.for_each(|row| {
            let (mut combined, mut numbers) = (0_u64, [0; 3]);
            for (index, (column, interned)) in columns.iter().enumerate() {
                let code = column.codes.get(row);
                combined = combined * self.widths[index] as u64 + u64::from(code);
                numbers[index] = interned[code as usize];
            }
            slots[at] = match self.map.get(&combined) {
                Some(slot) => *slot,
                None => match groups.slot((bucket, numbers)) {
                    Ok(slot) => {
                        self.map.insert(combined, slot);
                        slot
                    }
                    Err(fault) => {
                        outcome = Err(fault);
                        0
                    }
                },
            };
            at += 1;
        });
        outcome
    }
}
