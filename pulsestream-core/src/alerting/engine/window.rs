//! One measure over one sliding window.

use std::collections::HashMap;

use super::histogram::{Cell, Histogram};
use super::shape::WindowShape;
use crate::alerting::codec::{Reader, Writer};
use crate::error::Result;
use crate::event::{Event, ValueRef};
use crate::id::derive_uuid;
use crate::query::Measure;

/// Most different values that one window tells apart; further ones are not counted.
pub(super) const MAX_DISTINCT: usize = 100_000;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Total {
    sum: f64,
    count: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Store {
    Count(Box<[u32]>),
    Totals(Box<[Total]>),
    /// NaN where there is no number.
    Extremes(Box<[f64]>),
    /// Errors and all.
    Errors(Box<[[u32; 2]]>),
    Distinct(Box<Distinct>),
    Percentile(Box<Percentile>),
}

/// For each value the last step that saw it, and for each step the number of values seen there last: the sum over the window is
/// the number of different values.
#[derive(Debug, Clone, PartialEq)]
struct Distinct {
    last_seen: HashMap<u64, i64>,
    counts: Box<[u32]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Percentile {
    steps: Box<[Histogram]>,
    /// All steps together; rebuilt, not subtracted from, so that no rounding error stays behind.
    total: Histogram,
    is_stale: bool,
}

/// One measure over one sliding window: a ring of steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    /// The newest step.
    head: i64,
    store: Store,
}

/// A 64-bit hash that stays the same between releases, because snapshots hold it.
#[allow(clippy::cast_possible_truncation, reason = "the low half is the hash")]
pub(super) fn stable_hash(value: &ValueRef<'_>) -> Option<u64> {
    let mut bytes = Vec::with_capacity(40);
    super::group::encode_value(value, &mut bytes);
    (bytes.first() != Some(&0)).then(|| derive_uuid(b"pulsestream.value", &bytes) as u64)
}

impl Window {
    pub(super) fn new(measure: &Measure, shape: WindowShape, head: i64) -> Self {
        let length = shape.buckets;
        let store = match measure {
            Measure::Count | Measure::Rate => Store::Count(vec![0; length].into()),
            Measure::Sum(_) | Measure::Avg(_) => Store::Totals(vec![Total::default(); length].into()),
            Measure::Min(_) | Measure::Max(_) => Store::Extremes(vec![f64::NAN; length].into()),
            Measure::ErrorRate => Store::Errors(vec![[0; 2]; length].into()),
            Measure::CountDistinct(_) => Store::Distinct(Box::new(Distinct {
                last_seen: HashMap::new(),
                counts: vec![0; length].into(),
            })),
            Measure::Percentile { .. } => Store::Percentile(Box::new(Percentile {
                steps: vec![Histogram::default(); length].into(),
                total: Histogram::default(),
                is_stale: false,
            })),
        };
        Self { head, store }
    }

    /// Slides the window so that `bucket` is its newest step; it never slides back.
    pub(super) fn advance(&mut self, bucket: i64, shape: WindowShape) {
        let length = i64::try_from(shape.buckets).unwrap_or(1);
        if bucket <= self.head {
            return;
        }
        for passed in (self.head + 1).max(bucket - length + 1)..=bucket {
            self.clear(slot(passed, shape));
        }
        self.head = bucket;
        if let Store::Distinct(distinct) = &mut self.store {
            distinct.forget_before(bucket - length + 1);
        }
    }

    fn clear(&mut self, slot: usize) {
        match &mut self.store {
            Store::Count(steps) => steps[slot] = 0,
            Store::Totals(steps) => steps[slot] = Total::default(),
            Store::Extremes(steps) => steps[slot] = f64::NAN,
            Store::Errors(steps) => steps[slot] = [0; 2],
            Store::Distinct(distinct) => distinct.counts[slot] = 0,
            Store::Percentile(percentile) => {
                percentile.is_stale |= !percentile.steps[slot].cells.is_empty();
                percentile.steps[slot].clear();
            }
        }
    }

    /// Adds an event to a step; one that has left the window already changes nothing.
    pub(super) fn add(&mut self, event: &Event, bucket: i64, measure: &Measure, shape: WindowShape) {
        self.advance(bucket, shape);
        if bucket <= self.head - i64::try_from(shape.buckets).unwrap_or(1) {
            return;
        }
        let slot = slot(bucket, shape);
        let number = || measure.path().and_then(|path| path.value(event).as_number());
        match &mut self.store {
            Store::Count(steps) => steps[slot] = steps[slot].saturating_add(1),
            Store::Totals(steps) => {
                if let Some(number) = number() {
                    steps[slot].sum += number;
                    steps[slot].count = steps[slot].count.saturating_add(1);
                }
            }
            Store::Extremes(steps) => {
                if let Some(number) = number() {
                    let there = steps[slot];
                    let keep =
                        if matches!(measure, Measure::Max(_)) { there >= number } else { there <= number };
                    if !keep {
                        steps[slot] = number;
                    }
                }
            }
            Store::Errors(steps) => {
                let [errors, all] = &mut steps[slot];
                *errors = errors.saturating_add(u32::from(event.is_error()));
                *all = all.saturating_add(1);
            }
            Store::Distinct(distinct) => {
                if let Some(hash) = measure.path().and_then(|path| stable_hash(&path.value(event))) {
                    distinct.add(hash, bucket, shape);
                }
            }
            Store::Percentile(percentile) => {
                if let Some(number) = number() {
                    percentile.steps[slot].add(number);
                    if !percentile.is_stale {
                        percentile.total.add(number);
                    }
                }
            }
        }
    }

    /// Returns the value of the window, `None` where the measure has none.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(super) fn value(&mut self, measure: &Measure, shape: WindowShape) -> Option<f64> {
        match &mut self.store {
            Store::Count(steps) => {
                let count = steps.iter().map(|count| u64::from(*count)).sum::<u64>() as f64;
                let is_rate = matches!(measure, Measure::Rate);
                Some(if is_rate { count * 1e6 / shape.span() as f64 } else { count })
            }
            Store::Totals(steps) => {
                // Oldest first, so that the order of addition does not depend on where the ring starts.
                let oldest = slot(self.head + 1, shape);
                let (newer, older) = steps.split_at(oldest);
                let (mut sum, mut count) = (0.0, 0_u64);
                for step in older.iter().chain(newer) {
                    sum += step.sum;
                    count += u64::from(step.count);
                }
                let divisor = if matches!(measure, Measure::Avg(_)) { count as f64 } else { 1.0 };
                (count > 0).then(|| sum / divisor)
            }
            Store::Extremes(steps) => {
                let numbers = steps.iter().copied().filter(|number| !number.is_nan());
                if matches!(measure, Measure::Max(_)) {
                    numbers.reduce(f64::max)
                } else {
                    numbers.reduce(f64::min)
                }
            }
            Store::Errors(steps) => {
                let sum = |index: usize| steps.iter().map(|step| u64::from(step[index])).sum::<u64>() as f64;
                let all = sum(1);
                (all > 0.0).then(|| sum(0) / all)
            }
            Store::Distinct(distinct) => {
                Some(distinct.counts.iter().map(|count| u64::from(*count)).sum::<u64>() as f64)
            }
            Store::Percentile(percentile) => {
                let Measure::Percentile { millipercent, .. } = measure else { return None };
                percentile.refresh();
                percentile.total.percentile(*millipercent)
            }
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.signed(self.head);
        match &self.store {
            Store::Count(steps) => steps.iter().for_each(|count| out.unsigned(u64::from(*count))),
            Store::Totals(steps) => {
                for step in steps {
                    out.unsigned(u64::from(step.count));
                    if step.count > 0 {
                        out.double(step.sum);
                    }
                }
            }
            Store::Extremes(steps) => {
                for number in steps {
                    out.flag(number.is_nan());
                    if !number.is_nan() {
                        out.double(*number);
                    }
                }
            }
            Store::Errors(steps) => {
                steps.as_flattened().iter().for_each(|count| out.unsigned(u64::from(*count)));
            }
            Store::Distinct(distinct) => {
                let mut values: Vec<_> = distinct.last_seen.iter().collect();
                values.sort_unstable();
                out.unsigned(values.len() as u64);
                for (hash, bucket) in values {
                    out.bytes(&hash.to_le_bytes());
                    out.signed(self.head - bucket);
                }
            }
            Store::Percentile(percentile) => {
                for step in &percentile.steps {
                    out.unsigned(step.cells.len() as u64);
                    for cell in &step.cells {
                        out.unsigned(u64::from(cell.key));
                        out.unsigned(u64::from(cell.count));
                        out.double(cell.sum);
                    }
                }
            }
        }
    }

    pub(super) fn read(input: &mut Reader<'_>, measure: &Measure, shape: WindowShape) -> Result<Self> {
        let mut window = Self::new(measure, shape, input.signed()?);
        match &mut window.store {
            Store::Count(steps) => {
                for count in steps {
                    *count = input.small()?;
                }
            }
            Store::Totals(steps) => {
                for step in steps {
                    step.count = input.small()?;
                    if step.count > 0 {
                        step.sum = input.double()?;
                    }
                }
            }
            Store::Extremes(steps) => {
                for number in steps {
                    if !input.flag()? {
                        *number = input.double()?;
                    }
                }
            }
            Store::Errors(steps) => {
                for count in steps.as_flattened_mut() {
                    *count = input.small()?;
                }
            }
            Store::Distinct(distinct) => {
                for _ in 0..input.length(9)? {
                    let hash = u64::from_le_bytes(input.array()?);
                    let bucket = window.head.wrapping_sub(input.signed()?);
                    distinct.add(hash, bucket, shape);
                }
            }
            Store::Percentile(percentile) => {
                for step in &mut percentile.steps {
                    for _ in 0..input.length(10)? {
                        step.cells.push(Cell {
                            key: input.small()?,
                            count: input.small()?,
                            sum: input.double()?,
                        });
                    }
                }
                percentile.is_stale = true;
            }
        }
        Ok(window)
    }
}

fn slot(bucket: i64, shape: WindowShape) -> usize {
    let length = i64::try_from(shape.buckets).unwrap_or(1);
    usize::try_from(bucket.rem_euclid(length)).unwrap_or(0)
}

impl Distinct {
    fn add(&mut self, hash: u64, bucket: i64, shape: WindowShape) {
        let is_full = self.last_seen.len() >= MAX_DISTINCT;
        match self.last_seen.get_mut(&hash) {
            Some(last) if *last >= bucket => return,
            Some(last) => {
                let before = &mut self.counts[slot(*last, shape)];
                *before = before.saturating_sub(1);
                *last = bucket;
            }
            None if is_full => return,
            None => {
                self.last_seen.insert(hash, bucket);
            }
        }
        self.counts[slot(bucket, shape)] += 1;
    }

    fn forget_before(&mut self, oldest: i64) {
        self.last_seen.retain(|_, last| *last >= oldest);
    }
}

impl Percentile {
    fn refresh(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            self.total.clear();
            for step in &self.steps {
                self.total.merge(step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::EventId;
    use crate::time::Timestamp;

    fn event(value: f64) -> Event {
        let mut event = Event::new(EventId::from_u128(1), "e", Timestamp::EPOCH);
        event.metrics.response_time_ms = Some(value);
        event.metrics.status_code = Some(if value > 10.0 { 500 } else { 200 });
        event
    }

    /// For every measure: the value after each event, against a recount of the steps still inside.
    #[test]
    fn slides_as_a_recount_does() {
        let shape = WindowShape { step: 10, buckets: 5 };
        let measures = [
            "count",
            "rate",
            "error_rate",
            "sum(metrics.response_time_ms)",
            "avg(metrics.response_time_ms)",
            "min(metrics.response_time_ms)",
            "max(metrics.response_time_ms)",
            "p50(metrics.response_time_ms)",
            "count_distinct(metrics.response_time_ms)",
        ];
        for text in measures {
            let measure: Measure = text.parse().unwrap();
            let mut window = Window::new(&measure, shape, -3);
            let mut seen: Vec<(i64, f64)> = Vec::new();
            let mut bucket = -3_i64;
            for index in 0..200_i64 {
                bucket += [0, 0, 1, 0, 3, 0, 0, 9][usize::try_from(index % 8).unwrap()];
                let number = f64::from(u8::try_from(index * 7 % 20).unwrap());
                window.add(&event(number), bucket, &measure, shape);
                seen.push((bucket, number));
                seen.retain(|(at, _)| *at > bucket - 5);
                let mut numbers: Vec<f64> = seen.iter().map(|(_, number)| *number).collect();
                numbers.sort_by(f64::total_cmp);
                let count = f64::from(u32::try_from(numbers.len()).unwrap());
                let expected = match &measure {
                    Measure::Count => count,
                    Measure::Rate => count / 0.000_05,
                    Measure::ErrorRate => {
                        numbers.iter().map(|number| f64::from(u8::from(*number > 10.0))).sum::<f64>() / count
                    }
                    Measure::Sum(_) => numbers.iter().sum(),
                    Measure::Avg(_) => numbers.iter().sum::<f64>() / count,
                    Measure::Min(_) => numbers[0],
                    Measure::Max(_) => numbers[numbers.len() - 1],
                    Measure::Percentile { .. } => {
                        crate::query::percentile_of_sorted(&numbers, 50_000).unwrap()
                    }
                    Measure::CountDistinct(_) => {
                        numbers.dedup();
                        f64::from(u32::try_from(numbers.len()).unwrap())
                    }
                };
                let found = window.value(&measure, shape).unwrap();
                assert!(
                    (found - expected).abs() <= 1e-9 * expected.abs(),
                    "{text} at {index}: {found} {expected}"
                );
                let mut out = Writer::default();
                window.write(&mut out);
                let bytes = out.into_bytes();
                let mut again = Window::read(&mut Reader::new(&bytes), &measure, shape).unwrap();
                assert_eq!(again.value(&measure, shape), Some(found), "{text}");
            }
            window.advance(bucket + 100, shape);
            let is_extensive = matches!(measure, Measure::Count | Measure::Rate | Measure::CountDistinct(_));
            assert_eq!(window.value(&measure, shape), is_extensive.then_some(0.0), "{text}");
        }
    }
}
