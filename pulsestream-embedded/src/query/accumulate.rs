//! Groups and what is known of each while a question is answered.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use pulsestream_core::error::{Error, ErrorKind};
use pulsestream_core::event::FieldPath;
use pulsestream_core::query::{AggregateQuery, CompensatedSum, Measure};
use pulsestream_core::time::Timestamp;

use super::percentile::Numbers;
use crate::crew::Crew;
use crate::error::FaultResult;
use crate::question::Question;

/// A bucket and the numbers of the values grouped by.
pub(super) type GroupKey = (Option<Timestamp>, [u32; 3]);

/// Mixes integers that callers cannot choose: numbers that the store gave out, and starts of buckets.
#[derive(Debug, Default)]
pub(super) struct IntegerHasher(u64);

impl Hasher for IntegerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

pub(super) type IntegerHash = BuildHasherDefault<IntegerHasher>;

/// A path that is measured, and what its measures need.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) path: FieldPath,
    pub(super) sum: bool,
    pub(super) extremes: bool,
    pub(super) numbers: bool,
    pub(super) distinct: bool,
    /// The percentiles asked, in thousandths of a percent.
    pub(super) percentiles: Vec<u32>,
}

impl Measured {
    /// Returns the different paths of a question.
    pub(super) fn of(query: &AggregateQuery) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for measure in &query.measures {
            let Some(path) = measure.path() else { continue };
            let index = all.iter().position(|known| known.path == *path).unwrap_or_else(|| {
                let path = path.clone();
                let percentiles = Vec::new();
                all.push(Self {
                    path,
                    sum: false,
                    extremes: false,
                    numbers: false,
                    distinct: false,
                    percentiles,
                });
                all.len() - 1
            });
            let known = &mut all[index];
            match measure {
                Measure::Sum(_) | Measure::Avg(_) => known.sum = true,
                Measure::Min(_) | Measure::Max(_) => known.extremes = true,
                Measure::Percentile { millipercent, .. } => {
                    known.numbers = true;
                    known.percentiles.push(*millipercent);
                }
                Measure::CountDistinct(_) => known.distinct = true,
                Measure::Count | Measure::Rate | Measure::ErrorRate => {}
            }
        }
        all
    }

    /// Returns whether the numbers themselves are looked at.
    pub(super) fn reads_numbers(&self) -> bool {
        self.sum || self.extremes || self.numbers
    }
}

/// Different values of one group, by their numbers.
#[derive(Debug, Clone)]
pub(super) enum Distinct {
    Few(Vec<u32>),
    Many(Vec<u64>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Distinct {
    /// Adds a number below `numbers`; 0 is no value. Returns how many bytes that took.
    pub(super) fn add(&mut self, number: u32, numbers: usize) -> usize {
        match self {
            Self::Few(few) => {
                few.push(number);
                if few.len() >= 64 && few.len() >= numbers / 32 {
                    let mut bits = vec![0; numbers.div_ceil(64)];
                    few.iter().for_each(|number| set(&mut bits, *number));
                    *self = Self::Many(bits);
                    return numbers / 8;
                }
                4
            }
            Self::Many(bits) => {
                set(bits, number);
                0
            }
        }
    }

    /// Adds the values of another thread.
    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Few(few), Self::Few(more)) => few.extend(more),
            (Self::Few(few), Self::Many(mut bits)) => {
                few.iter().for_each(|number| set(&mut bits, *number));
                *self = Self::Many(bits);
            }
            (Self::Many(bits), Self::Few(few)) => few.iter().for_each(|number| set(bits, *number)),
            (Self::Many(bits), Self::Many(more)) => {
                bits.resize(bits.len().max(more.len()), 0);
                bits.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
            }
        }
    }

    fn count(&mut self) -> usize {
        match self {
            Self::Few(few) => {
                few.sort_unstable();
                few.dedup();
                few.len() - usize::from(few.first() == Some(&0))
            }
            Self::Many(bits) => {
                let all: u32 = bits.iter().map(|word| word.count_ones()).sum();
                all as usize - usize::from(bits.first().is_some_and(|word| word & 1 == 1))
            }
        }
    }
}

/// Sets a bit, for which the words may have to grow: values got numbers meanwhile.
fn set(bits: &mut Vec<u64>, number: u32) {
    let word = number as usize / 64;
    if word >= bits.len() {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (number % 64);
}

/// What is known of the values at one path, by group.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) count: Vec<u64>,
    pub(super) sum: Vec<CompensatedSum>,
    pub(super) min: Vec<f64>,
    pub(super) max: Vec<f64>,
    numbers: Numbers,
    pub(super) distinct: Vec<Distinct>,
    /// The percentiles asked, of one group after the other.
    percentiles: Vec<Option<f64>>,
}

/// The slots of rows: all in one group, or each in its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slots<'a> {
    One(usize),
    Each(&'a [u32]),
}

impl Slots<'_> {
    /// Returns the slot of a row.
    pub(super) fn of(&self, at: usize) -> usize {
        match self {
            Self::One(slot) => *slot,
            Self::Each(slots) => slots[at] as usize,
        }
    }
}

/// Groups up to which sums are kept in four lanes.
const FEW_GROUPS: usize = 256;

impl Tallies {
    /// Adds numbers to sums of few groups. Four sums of each group take turns, because neighbours mostly belong to the same group,
    /// and each addition waits for the one before it.
    fn add_to_few(&mut self, slots: Slots<'_>, values: &[f64]) {
        const LANES: usize = 4;
        let mut lanes = vec![(0_u64, CompensatedSum::default()); self.count.len() * LANES];
        for (at, value) in values.iter().enumerate() {
            if !value.is_nan() {
                let (count, sum) = &mut lanes[slots.of(at) * LANES + at % LANES];
                *count += 1;
                sum.add(*value);
            }
        }
        for (slot, lanes) in lanes.chunks(LANES).enumerate() {
            for (count, sum) in lanes {
                self.count[slot] += count;
                self.sum[slot].merge(*sum);
            }
        }
    }

    fn add_each(&mut self, slots: Slots<'_>, values: &[f64], extremes: bool) {
        for (at, value) in values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            let slot = slots.of(at);
            self.count[slot] += 1;
            self.sum[slot].add(*value);
            if extremes {
                self.min[slot] = self.min[slot].min(*value);
                self.max[slot] = self.max[slot].max(*value);
            }
        }
    }
}

impl Tallies {
    /// Adds what is known of groups that have these slots here.
    fn merge(&mut self, other: Self, slots: &[usize]) {
        for (from, slot) in slots.iter().copied().enumerate() {
            self.count[slot] += other.count[from];
            self.sum[slot].merge(other.sum[from]);
            self.min[slot] = self.min[slot].min(other.min[from]);
            self.max[slot] = self.max[slot].max(other.max[from]);
        }
        self.numbers.merge(other.numbers, slots);
        for (slot, distinct) in slots.iter().zip(other.distinct) {
            self.distinct[*slot].merge(distinct);
        }
    }
}

/// All groups, each with a slot.
#[derive(Debug)]
pub(super) struct Groups {
    slots: HashMap<GroupKey, u32, IntegerHash>,
    pub(super) keys: Vec<GroupKey>,
    pub(super) events: Vec<u64>,
    pub(super) errors: Vec<u64>,
    pub(super) tallies: Vec<Tallies>,
    max_groups: usize,
    /// Bytes taken since this was last asked.
    new_bytes: usize,
}

/// Bytes that a group takes, and a measured path of it.
const GROUP_BYTES: usize = 2 * size_of::<(GroupKey, u32)>() + 16;
const TALLY_BYTES: usize = 24 + size_of::<CompensatedSum>() + size_of::<Distinct>();

impl Groups {
    pub(super) fn new(measured: usize, max_groups: usize) -> Self {
        Self {
            slots: HashMap::default(),
            keys: Vec::new(),
            events: Vec::new(),
            errors: Vec::new(),
            tallies: (0..measured).map(|_| Tallies::default()).collect(),
            max_groups,
            new_bytes: 0,
        }
    }

    /// Counts bytes that were taken.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.new_bytes += bytes;
    }

    /// Returns the bytes taken since the last call.
    pub(super) fn new_bytes(&mut self) -> usize {
        std::mem::take(&mut self.new_bytes)
    }

    /// Returns the slot of a group, a new one if it was not seen.
    ///
    /// # Errors
    /// `TooLarge` when there would be more groups than the question allows.
    #[allow(clippy::cast_possible_truncation, reason = "memory ends before 2^32 groups")]
    pub(super) fn slot(&mut self, key: GroupKey) -> FaultResult<u32> {
        if let Some(slot) = self.slots.get(&key) {
            return Ok(*slot);
        }
        if self.keys.len() >= self.max_groups {
            return Err(too_many_groups(self.max_groups).into());
        }
        let slot = self.keys.len() as u32;
        self.new_bytes += GROUP_BYTES + self.tallies.len() * TALLY_BYTES;
        self.slots.insert(key, slot);
        self.keys.push(key);
        self.events.push(0);
        self.errors.push(0);
        for tallies in &mut self.tallies {
            tallies.count.push(0);
            tallies.sum.push(CompensatedSum::default());
            tallies.min.push(f64::INFINITY);
            tallies.max.push(f64::NEG_INFINITY);
            tallies.distinct.push(Distinct::default());
        }
        Ok(slot)
    }

    /// Adds the numbers of rows at a measured path; NaN is none.
    pub(super) fn add_numbers(
        &mut self,
        index: usize,
        measured: &Measured,
        slots: Slots<'_>,
        values: &[f64],
    ) {
        let tallies = &mut self.tallies[index];
        if measured.numbers {
            tallies.numbers.add(slots, values);
            self.new_bytes += values.len() * Numbers::BYTES;
        }
        if measured.sum && !measured.extremes && self.keys.len() <= FEW_GROUPS.min(values.len() / 4) {
            tallies.add_to_few(slots, values);
        } else if measured.sum || measured.extremes {
            tallies.add_each(slots, values, measured.extremes);
        }
    }

    /// Adds the groups of another thread.
    ///
    /// # Errors
    /// Those of [`Self::slot`].
    pub(super) fn merge(&mut self, other: Self) -> FaultResult<()> {
        let slots =
            other.keys.iter().map(|key| Ok(self.slot(*key)? as usize)).collect::<FaultResult<Vec<_>>>()?;
        for (from, slot) in slots.iter().enumerate() {
            self.events[*slot] += other.events[from];
            self.errors[*slot] += other.errors[from];
        }
        for (tallies, more) in self.tallies.iter_mut().zip(other.tallies) {
            tallies.merge(more, &slots);
        }
        Ok(())
    }

    /// Finds the percentiles of all groups; the numbers themselves are gone after it.
    ///
    /// # Errors
    /// Those of the question.
    pub(super) fn find_percentiles(
        &mut self,
        question: &Arc<Question>,
        measured: &[Measured],
        crew: &Crew,
    ) -> FaultResult<()> {
        let groups = self.keys.len();
        for (tallies, measured) in self.tallies.iter_mut().zip(measured) {
            if measured.numbers {
                let numbers = std::mem::take(&mut tallies.numbers);
                tallies.percentiles = numbers.percentiles(groups, &measured.percentiles, question, crew)?;
            }
        }
        Ok(())
    }

    /// Returns the measures of a group, in the order asked.
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    pub(super) fn values(
        &mut self,
        slot: usize,
        query: &AggregateQuery,
        measured: &[Measured],
    ) -> Vec<Option<f64>> {
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let events = self.events[slot] as f64;
        let mut values = Vec::with_capacity(query.measures.len());
        for measure in &query.measures {
            let index = measure.path().and_then(|path| measured.iter().position(|known| known.path == *path));
            let index = index.unwrap_or(0);
            let Some(tallies) = self.tallies.get_mut(index).filter(|_| measure.path().is_some()) else {
                values.push(match measure {
                    Measure::Rate => ratio(events, query.rate_seconds(self.keys[slot].0)),
                    Measure::ErrorRate => ratio(self.errors[slot] as f64, events),
                    _ => Some(events),
                });
                continue;
            };
            let count = tallies.count[slot];
            values.push(match measure {
                Measure::CountDistinct(_) => Some(tallies.distinct[slot].count() as f64),
                Measure::Sum(_) => (count > 0).then(|| tallies.sum[slot].total()),
                Measure::Avg(_) => ratio(tallies.sum[slot].total(), count as f64),
                Measure::Min(_) => (count > 0).then_some(tallies.min[slot]),
                Measure::Max(_) => (count > 0).then_some(tallies.max[slot]),
                Measure::Percentile { millipercent, .. } => {
                    let all = &measured[index].percentiles;
                    let asked = all.iter().position(|asked| asked == millipercent);
                    asked.and_then(|asked| *tallies.percentiles.get(slot * all.len() + asked)?)
                }
                Measure::Count | Measure::Rate | Measure::ErrorRate => None,
            });
        }
        values
    }
}

fn too_many_groups(max_groups: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "event_store.aggregate",
        "the question has too many groups; group by less, or shorten the range",
    )
    .with_context("setting", "query.max_groups")
    .with_context("max_groups", max_groups)
}
