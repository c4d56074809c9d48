//! Drawing events, filters and questions, all small and from the same few words, so that they meet.

use std::time::Duration;

use crate::event::{ErrorDetails, Event, FieldPath, JsonObject, Severity, Value};
use crate::filter::{CompareOp, Expr, Filter};
use crate::id::EventId;
use crate::query::{AggregateOrder, AggregateQuery, Bucket, FindQuery, Measure, Order, OrderKey, ScanQuery};
use crate::testkit::events::{START, path};
use crate::testkit::generate::Random;
use crate::time::{TimeRange, Timestamp};

const WORDS: [&str; 12] =
    ["", "a", "A", "ab", "shop", "Shop %", "a_b", "it's", "\u{e9}", "\u{1f980}", "5", "true"];
const NUMBERS: [f64; 8] = [0.0, 1.0, -1.0, 5.0, 0.25, 200.0, 500.0, 1e9];
const JSON_VALUES: [&str; 14] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "5",
    "-0.25",
    "500",
    "\"\"",
    "\"a\"",
    "\"5\"",
    "[]",
    "[1,\"a\"]",
    "{\"b\":5}",
];
const KEYS: [&str; 4] = ["v", "a", "we.ird", "list"];
const PATHS: [&str; 18] = [
    "id",
    "event_type",
    "severity",
    "title",
    "message",
    "source.service",
    "user_id",
    "metrics.status_code",
    "metrics.response_time_ms",
    "metrics.cache_hit",
    "error.code",
    "context.tags.region",
    "payload.v",
    "payload.a.b",
    "payload.\"we.ird\"",
    "payload.list.0",
    "payload.list",
    "metadata.v",
];
const PATTERNS: [&str; 7] = ["a", "^a", "(?i)shop", "b$", "^$", r"\p{L}", "[0-9]"];
const BUCKETS: [&str; 6] = [
    "90m",
    "day",
    "day in Europe/Berlin",
    "day in Asia/Kathmandu",
    "week in America/New_York",
    "month in Asia/Tokyo",
];
/// How many ids a tenant uses at a time.
const IDS: u64 = 40;

/// Draws what a run needs from a seed.
#[derive(Debug)]
pub struct Draw(pub(super) Random);

impl Draw {
    /// Creates the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// Returns one of the items.
    pub(super) fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        self.0.pick(items)
    }

    /// Returns a whole number below `bound`.
    pub(super) fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or(0)
    }

    /// Returns what `draw` draws, half of the time.
    fn maybe<T>(&self, draw: impl FnOnce() -> T) -> Option<T> {
        self.0.chance(0.5).then(draw)
    }

    /// Returns an id of a generation; ids of older generations are not drawn again.
    pub fn id(&self, generation: u32) -> EventId {
        let id = format!("g{generation}-{}", self.0.below(IDS));
        EventId::new(id).expect("the id is short and plain")
    }

    /// Returns an instant within some weeks, often one that was drawn before.
    pub fn instant(&self) -> Timestamp {
        let micros = match self.below(4) {
            0 => self.below(5) * 1_000_000,
            1 => self.below(5) * 86_400_000_000,
            2 => self.below(1_000_000),
            _ => self.below(60) * 43_200_000_000,
        };
        Timestamp::from_micros(START.as_micros() + i64::try_from(micros).unwrap_or(0))
    }

    fn range(&self) -> TimeRange {
        if self.0.chance(0.6) { TimeRange::ALL } else { TimeRange::new(self.instant(), self.instant()) }
    }

    /// Returns an event in which some fields have values.
    pub fn event(&self, generation: u32) -> Event {
        let word = || (*self.pick(&WORDS)).into();
        let mut event = Event::new(self.id(generation), *self.pick(&["order", "view"]), self.instant());
        event.severity = *self.pick(&Severity::ALL);
        event.title = self.maybe(word);
        event.message = self.maybe(word);
        event.source.service = self.maybe(word);
        event.context.user_id = self.maybe(word);
        event.metrics.status_code = self.maybe(|| *self.pick(&[200, 404, 500]));
        event.metrics.response_time_ms = self.maybe(|| self.pick(&NUMBERS).abs());
        event.metrics.cache_hit = self.maybe(|| self.0.chance(0.5));
        event.error = self.maybe(|| Box::new(ErrorDetails { code: Some(word()), ..ErrorDetails::default() }));
        if self.0.chance(0.5) {
            event.context.tags.insert("region", *self.pick(&WORDS));
        }
        event.payload = self.object();
        event.metadata = self.object();
        event
    }

    fn object(&self) -> JsonObject {
        let fields: Vec<String> = KEYS
            .iter()
            .filter(|_| self.0.chance(0.4))
            .map(|key| format!(r#""{key}":{}"#, self.pick(&JSON_VALUES)))
            .collect();
        JsonObject::parse(&format!("{{{}}}", fields.join(","))).expect("the object is valid")
    }

    fn field(&self) -> FieldPath {
        path(self.pick::<&str>(&PATHS))
    }

    fn value(&self) -> Value {
        match self.below(5) {
            0 => Value::Number(*self.pick(&NUMBERS)),
            1 => Value::Bool(self.0.chance(0.5)),
            2 => Value::from(self.pick(&Severity::ALL).as_str()),
            _ => Value::from(*self.pick(&WORDS)),
        }
    }

    fn expr(&self, depth: usize) -> Expr {
        let parts = || (0..self.below(4)).map(|_| self.expr(depth - 1)).collect();
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Expr::Exists(self.field()),
            1 => Expr::Text((*self.pick(&WORDS)).into()),
            2 => Expr::In { field: self.field(), values: (0..self.below(4)).map(|_| self.value()).collect() },
            3 | 4 => {
                let op = *self.pick(&CompareOp::ALL);
                let value =
                    if op == CompareOp::Matches { Value::from(*self.pick(&PATTERNS)) } else { self.value() };
                Expr::Compare { field: self.field(), op, value }
            }
            5 => Expr::Not(Box::new(self.expr(depth - 1))),
            6 => Expr::And(parts()),
            _ => Expr::Or(parts()),
        }
    }

    /// Returns a filter: what the language refuses is drawn again.
    pub fn filter(&self) -> Filter {
        let depth = self.below(4);
        let drawn = (0..100).find_map(|_| Filter::new(self.expr(depth)).ok());
        drawn.unwrap_or_default()
    }

    /// Returns a question for a page.
    pub fn find(&self) -> FindQuery {
        FindQuery {
            range: self.range(),
            filter: self.maybe(|| self.filter()),
            order: *self.pick(&[Order::NewestFirst, Order::OldestFirst]),
            limit: self.below(8),
            skip: if self.0.chance(0.2) { self.below(6) } else { 0 },
            after: None,
            count_total: self.0.chance(0.5),
        }
    }

    /// Returns a question for a table. It is ordered by measures whose numbers are exact only, because the last bits of others may
    /// differ, and with them the order.
    pub fn aggregate(&self) -> AggregateQuery {
        let measures: Vec<Measure> = (0..1 + self.below(4)).map(|_| self.measure()).collect();
        let index = self.below(measures.len());
        let exact = !matches!(
            measures[index],
            Measure::Avg(_) | Measure::Percentile { .. } | Measure::Rate | Measure::ErrorRate
        );
        let by = *self.pick(&[OrderKey::Bucket, OrderKey::Group, OrderKey::Measure(index)]);
        let by = if exact { by } else { OrderKey::Group };
        AggregateQuery {
            range: self.range(),
            filter: self.maybe(|| self.filter()),
            group_by: (0..self.below(3)).map(|_| self.field()).collect(),
            bucket: self.maybe(|| self.bucket()),
            measures,
            order: AggregateOrder { by, descending: self.0.chance(0.5) },
            limit: self.maybe(|| self.below(5)),
            max_groups: *self.pick(&[3, 10_000, 10_000, 10_000]),
            approximate: false,
        }
    }

    fn bucket(&self) -> Bucket {
        match self.below(3) {
            0 => Bucket::Fixed(Duration::from_millis(1 + self.0.below(10_000_000))),
            _ => self.pick(&BUCKETS).parse().expect("the bucket is valid"),
        }
    }

    fn measure(&self) -> Measure {
        let field = self.field();
        match self.below(9) {
            0 => Measure::Count,
            1 => Measure::Rate,
            2 => Measure::ErrorRate,
            3 => Measure::CountDistinct(field),
            4 => Measure::Sum(field),
            5 => Measure::Avg(field),
            6 => Measure::Min(field),
            7 => Measure::Max(field),
            _ => Measure::Percentile {
                path: field,
                millipercent: *self.pick(&[0, 50_000, 95_000, 99_900, 100_000]),
            },
        }
    }

    /// Returns a question for columns.
    pub fn scan(&self) -> ScanQuery {
        ScanQuery {
            range: self.range(),
            filter: self.maybe(|| self.filter()),
            columns: (0..self.below(4)).map(|_| self.field()).collect(),
            batch_rows: self.below(6),
        }
    }

    /// Returns a range and a filter to delete by, mostly of little.
    pub(super) fn selection(&self) -> (TimeRange, Option<Filter>) {
        let start = self.instant();
        let end = start.plus(Duration::from_secs(self.0.below(86_400)));
        let narrow = TimeRange::new(start, end);
        if self.0.chance(0.8) {
            (narrow, self.maybe(|| self.filter()))
        } else {
            (self.range(), Some(self.filter()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_reach_everything() {
        let draw = |seed| {
            let draw = Draw::new(seed);
            (0..50)
                .map(|_| format!("{:?}{:?}{:?}", draw.event(0), draw.find(), draw.aggregate()))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        let random = Draw::new(1);
        let events: Vec<Event> = (0..200).map(|_| random.event(0)).collect();
        let selective = (0..500).map(|_| random.filter()).filter(|filter| {
            let matching = events.iter().filter(|event| filter.matches(event)).count();
            (1..200).contains(&matching)
        });
        assert!(selective.count() > 150, "many filters tell events apart");
        let ranges = (0..100).map(|_| random.find().range).filter(|range| *range != TimeRange::ALL);
        assert!(ranges.count() > 20);
    }
}
