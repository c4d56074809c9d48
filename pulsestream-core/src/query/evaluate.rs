//! The reference evaluation of aggregates: pure, exact, and the meaning of every measure.

use std::collections::{HashMap, HashSet};

use super::{AggregateQuery, AggregateRow, AggregateTable, Measure, percentile_of_sorted};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, FieldPath, Value, ValueRef};
use crate::time::{TimeRange, Timestamp};

/// Takes events, or rows of their values, and yields the table that answers an [`AggregateQuery`].
///
/// The order in which events come does not matter, except for the last bits of sums. Parts that were aggregated apart, for
/// example one segment each, are joined with [`merge`](Self::merge).
///
/// ```
/// use pulsestream_core::event::Event;
/// use pulsestream_core::id::EventId;
/// use pulsestream_core::query::{AggregateQuery, Aggregator};
/// use pulsestream_core::time::Timestamp;
///
/// let query = AggregateQuery { group_by: vec!["event_type".parse()?], ..AggregateQuery::default() };
/// let mut aggregator = Aggregator::new(&query)?;
/// aggregator.add_event(&Event::new(EventId::new("1")?, "order", Timestamp::EPOCH))?;
/// assert_eq!(aggregator.finish().rows[0].values, [Some(1.0)]);
/// # Ok::<(), pulsestream_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Aggregator {
    query: AggregateQuery,
    /// The different paths that are measured; a group holds one tally for each.
    measured: Vec<FieldPath>,
    needs: Vec<Needs>,
    groups: HashMap<Key, Group>,
    /// The bucket of the last event: the next one mostly falls into it, and the calendar is slow.
    last_bucket: Option<TimeRange>,
}

type Key = (Option<Timestamp>, Vec<Value>);

/// What the measures of one path need beyond the running figures.
#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    numbers: bool,
    distinct: bool,
}

#[derive(Debug, Clone, Default)]
struct Group {
    events: u64,
    errors: u64,
    tallies: Vec<Tally>,
}

/// What is known of the values at one path in one group.
#[derive(Debug, Clone, Default)]
struct Tally {
    count: u64,
    sum: CompensatedSum,
    min: Option<f64>,
    max: Option<f64>,
    numbers: Vec<f64>,
    distinct: HashSet<Value>,
}

/// A sum with the correction of A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen" (1974):
/// the error does not grow with the number of terms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompensatedSum {
    sum: f64,
    correction: f64,
}

impl CompensatedSum {
    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        let total = self.sum + number;
        // What the addition rounded away comes from the smaller of the two.
        self.correction += if self.sum.abs() >= number.abs() {
            (self.sum - total) + number
        } else {
            (number - total) + self.sum
        };
        self.sum = total;
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.correction += other.correction;
    }

    /// Returns the sum; infinite when it exceeds the largest double.
    pub fn total(&self) -> f64 {
        if self.sum.is_finite() { self.sum + self.correction } else { self.sum }
    }
}

impl Aggregator {
    /// Starts the evaluation of a query.
    ///
    /// # Errors
    /// Those of [`AggregateQuery::validate`].
    pub fn new(query: &AggregateQuery) -> Result<Self> {
        query.validate()?;
        let mut measured: Vec<FieldPath> = Vec::new();
        let mut needs: Vec<Needs> = Vec::new();
        for measure in &query.measures {
            let Some(path) = measure.path() else { continue };
            let index = measured.iter().position(|known| known == path).unwrap_or_else(|| {
                measured.push(path.clone());
                needs.push(Needs::default());
                measured.len() - 1
            });
            needs[index].numbers |= matches!(measure, Measure::Percentile { .. });
            needs[index].distinct |= matches!(measure, Measure::CountDistinct(_));
        }
        Ok(Self { query: query.clone(), measured, needs, groups: HashMap::new(), last_bucket: None })
    }

    /// Returns the different paths that are measured, in the order in which [`add_row`](Self::add_row) takes their values.
    pub fn measured_paths(&self) -> &[FieldPath] {
        &self.measured
    }

    /// Adds an event when it lies in the range of the query and matches its filter.
    ///
    /// # Errors
    /// `TooLarge` when there are more groups than the query allows.
    pub fn add_event(&mut self, event: &Event) -> Result<()> {
        let filter = self.query.filter.as_ref();
        if !self.query.range.contains(event.timestamp) || filter.is_some_and(|filter| !filter.matches(event))
        {
            return Ok(());
        }
        let group = self.query.group_by.iter().map(|path| path.value(event).to_value()).collect();
        let bucket = self.bucket_of(event.timestamp);
        let values: Vec<ValueRef<'_>> = self.measured.iter().map(|path| path.value(event)).collect();
        let (needs, group) = self.group((bucket, group))?;
        group.add(event.is_error(), values.iter(), needs);
        Ok(())
    }

    /// Adds a row of a store that holds columns: it must lie in the range and match the filter. `group` has one value for each path
    /// of `group_by`, `measured` one for each of [`measured_paths`](Self::measured_paths).
    ///
    /// # Errors
    /// `TooLarge` when there are more groups than the query allows.
    pub fn add_row(
        &mut self,
        timestamp: Timestamp,
        is_error: bool,
        group: Vec<Value>,
        measured: &[ValueRef<'_>],
    ) -> Result<()> {
        let bucket = self.bucket_of(timestamp);
        let (needs, group) = self.group((bucket, group))?;
        group.add(is_error, measured.iter(), needs);
        Ok(())
    }

    /// Adds what another evaluation of the same query has found over other events.
    ///
    /// # Errors
    /// `TooLarge` when there are more groups than the query allows.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (key, part) in other.groups {
            let (_, group) = self.group(key)?;
            group.merge(part);
        }
        Ok(())
    }

    /// Returns the answer.
    pub fn finish(mut self) -> AggregateTable {
        if self.query.group_by.is_empty() && self.query.bucket.is_none() {
            let tallies = vec![Tally::default(); self.measured.len()];
            self.groups.entry((None, Vec::new())).or_insert(Group { tallies, ..Group::default() });
        }
        let Self { query, measured, groups, .. } = self;
        let rows = groups.into_iter().map(|((bucket, values), mut group)| {
            for tally in &mut group.tallies {
                tally.numbers.sort_unstable_by(f64::total_cmp);
            }
            let measures = query.measures.iter();
            let values_of =
                measures.map(|measure| group.value(measure, &measured, || query.rate_seconds(bucket)));
            AggregateRow { bucket, values: values_of.collect(), group: values }
        });
        AggregateTable::finish(&query, rows.collect())
    }

    fn bucket_of(&mut self, at: Timestamp) -> Option<Timestamp> {
        let bucket = self.query.bucket.as_ref()?;
        if let Some(last) = self.last_bucket.filter(|last| last.contains(at)) {
            return Some(last.start);
        }
        let range = bucket.range_from(bucket.start_of(at));
        self.last_bucket = Some(range);
        Some(range.start)
    }

    fn group(&mut self, key: Key) -> Result<(&[Needs], &mut Group)> {
        let max_groups = self.query.max_groups;
        if self.groups.len() >= max_groups && !self.groups.contains_key(&key) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "event_store.aggregate",
                "the question has too many groups; group by less, or shorten the range",
            )
            .with_context("max_groups", max_groups));
        }
        let paths = self.measured.len();
        let group = self
            .groups
            .entry(key)
            .or_insert_with(|| Group { tallies: vec![Tally::default(); paths], ..Group::default() });
        Ok((&self.needs, group))
    }
}

impl Group {
    fn add<'v>(&mut self, is_error: bool, values: impl Iterator<Item = &'v ValueRef<'v>>, needs: &[Needs]) {
        self.events += 1;
        self.errors += u64::from(is_error);
        for ((tally, value), needs) in self.tallies.iter_mut().zip(values).zip(needs) {
            tally.add(value, *needs);
        }
    }

    fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.errors += other.errors;
        for (tally, other) in self.tallies.iter_mut().zip(other.tallies) {
            tally.merge(other);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    fn value(&self, measure: &Measure, measured: &[FieldPath], seconds: impl Fn() -> f64) -> Option<f64> {
        let tally = |path: &FieldPath| {
            let index = measured.iter().position(|known| known == path)?;
            self.tallies.get(index)
        };
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let events = self.events as f64;
        match measure {
            Measure::Count => Some(events),
            Measure::Rate => ratio(events, seconds()),
            Measure::ErrorRate => ratio(self.errors as f64, events),
            Measure::CountDistinct(path) => Some(tally(path)?.distinct.len() as f64),
            Measure::Sum(path) => tally(path).filter(|tally| tally.count > 0).map(|tally| tally.sum.total()),
            Measure::Avg(path) => tally(path).and_then(|tally| ratio(tally.sum.total(), tally.count as f64)),
            Measure::Min(path) => tally(path)?.min,
            Measure::Max(path) => tally(path)?.max,
            Measure::Percentile { path, millipercent } => {
                percentile_of_sorted(&tally(path)?.numbers, *millipercent)
            }
        }
    }
}

impl Tally {
    fn add(&mut self, value: &ValueRef<'_>, needs: Needs) {
        if needs.distinct && !matches!(value, ValueRef::Missing | ValueRef::Composite) {
            self.distinct.insert(value.to_value());
        }
        let Some(number) = value.as_number() else { return };
        self.count += 1;
        self.sum.add(number);
        self.min = Some(self.min.map_or(number, |min| min.min(number)));
        self.max = Some(self.max.map_or(number, |max| max.max(number)));
        if needs.numbers {
            self.numbers.push(number);
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum.merge(other.sum);
        self.min = [self.min, other.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, other.max].into_iter().flatten().reduce(f64::max);
        self.numbers.extend(other.numbers);
        self.distinct.extend(other.distinct);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{EventGenerator, compare_tables};

    fn query() -> AggregateQuery {
        let measures = [
            "count",
            "sum(metrics.response_time_ms)",
            "p90(metrics.response_time_ms)",
            "count_distinct(user_id)",
        ];
        AggregateQuery {
            group_by: vec!["source.service".parse().unwrap()],
            bucket: Some("1h".parse().unwrap()),
            measures: measures.iter().map(|text| text.parse().unwrap()).collect(),
            filter: Some("metrics.status_code < 500".parse().unwrap()),
            ..AggregateQuery::default()
        }
    }

    fn evaluate(query: &AggregateQuery, events: &[Event]) -> Aggregator {
        let mut aggregator = Aggregator::new(query).unwrap();
        events.iter().for_each(|event| aggregator.add_event(event).unwrap());
        aggregator
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let events: Vec<Event> = EventGenerator::new(1).take(2_000).collect();
        let whole = evaluate(&query(), &events).finish();
        for parts in [2, 7, 500] {
            let mut merged = Aggregator::new(&query()).unwrap();
            for part in events.chunks(events.len().div_ceil(parts)) {
                merged.merge(evaluate(&query(), part)).unwrap();
            }
            compare_tables(&merged.finish(), &whole).unwrap();
        }
    }

    #[test]
    fn rows_count_as_their_events_do() {
        let events: Vec<Event> = EventGenerator::new(2).take(500).collect();
        let query = query();
        let mut aggregator = Aggregator::new(&query).unwrap();
        let paths = aggregator.measured_paths().to_vec();
        for event in
            events.iter().filter(|event| query.filter.as_ref().is_none_or(|filter| filter.matches(event)))
        {
            let group = query.group_by.iter().map(|path| path.value(event).to_value()).collect();
            let measured: Vec<ValueRef<'_>> = paths.iter().map(|path| path.value(event)).collect();
            aggregator.add_row(event.timestamp, event.is_error(), group, &measured).unwrap();
        }
        assert_eq!(aggregator.finish(), evaluate(&query, &events).finish());
    }

    #[test]
    fn merging_keeps_to_the_limit_of_groups() {
        let events: Vec<Event> = EventGenerator::new(3).take(200).collect();
        let query =
            AggregateQuery { group_by: vec![FieldPath::Id], max_groups: 100, ..AggregateQuery::default() };
        let mut merged = evaluate(&query, &events[..100]);
        let error = merged.merge(evaluate(&query, &events[100..])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn sums_keep_what_a_plain_addition_loses() {
        let total = |numbers: &[f64]| {
            let (mut left, mut right) = (CompensatedSum::default(), CompensatedSum::default());
            numbers.iter().for_each(|number| left.add(*number));
            numbers.iter().rev().for_each(|number| right.add(*number));
            assert_eq!(left.total(), right.total());
            left.total()
        };
        assert_eq!(total(&[1e16, 1.0, -1e16]), 1.0);
        assert_eq!(total(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(total(&[0.1; 10]), 1.0);
        assert_eq!(total(&[f64::MAX, f64::MAX]), f64::INFINITY);
    }
}
