//! Grouped and bucketed measures over events.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::event::{FieldPath, Value};
use crate::filter::Filter;
use crate::text::Text;
use crate::time::{TimeRange, Timestamp, format_duration, micros, parse_duration};

/// Largest number of paths to group by.
pub const MAX_GROUP_PATHS: usize = 3;
/// Largest number of measures of one question.
pub const MAX_MEASURES: usize = 32;

/// The name of a time zone of the IANA database that is known to exist, for example `Europe/Berlin`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct TimeZoneName(Text);

impl TimeZoneName {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(Text::from("UTC"))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the zone's rules; UTC should the name have vanished from the database.
    pub(crate) fn rules(&self) -> jiff::tz::TimeZone {
        jiff::tz::TimeZone::get(&self.0).unwrap_or(jiff::tz::TimeZone::UTC)
    }
}

impl FromStr for TimeZoneName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = jiff::tz::TimeZone::get(text).map_err(|_| {
            Error::invalid(
                "time_zone.parse",
                "",
                "unknown_time_zone",
                format!(
                    "unknown time zone `{}`; use an IANA name such as Europe/Berlin or UTC",
                    text.chars().take(64).collect::<String>()
                ),
            )
        })?;
        Ok(Self(Text::from(known.iana_name().unwrap_or("UTC"))))
    }
}

impl<'de> Deserialize<'de> for TimeZoneName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalendarUnit {
    /// Midnight to midnight; 23 or 25 hours when clocks change.
    Day,
    /// Monday to Monday (ISO 8601).
    Week,
    /// First of the month to first of the month.
    Month,
}

/// How time is cut; each event belongs to the bucket whose start is at or before its timestamp. Empty buckets have no row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Equal lengths, aligned to 1970-01-01T00:00:00Z; at least one millisecond, whole milliseconds.
    Fixed(Duration),
    /// Units of the calendar in a time zone.
    Calendar {
        /// The unit.
        unit: CalendarUnit,
        /// The time zone.
        time_zone: TimeZoneName,
    },
}

impl Bucket {
    /// Returns the start of the bucket that holds `at`.
    pub fn start_of(&self, at: Timestamp) -> Timestamp {
        match self {
            Self::Fixed(length) => at.floor(*length),
            Self::Calendar { unit, time_zone } => calendar_start(*unit, &time_zone.rules(), at),
        }
    }

    /// Returns the half-open range of the bucket that starts at `start`.
    pub fn range_from(&self, start: Timestamp) -> TimeRange {
        let end = match self {
            Self::Fixed(length) => start.plus(*length),
            Self::Calendar { unit, time_zone } => {
                // The middle of the following unit lies inside it whatever the clocks do.
                let hours = match unit {
                    CalendarUnit::Day => 36,
                    CalendarUnit::Week => 7 * 24 + 84,
                    CalendarUnit::Month => 45 * 24,
                };
                calendar_start(*unit, &time_zone.rules(), start.plus(Duration::from_secs(hours * 3_600)))
            }
        };
        TimeRange::new(start, end)
    }
}

fn calendar_start(unit: CalendarUnit, zone: &jiff::tz::TimeZone, at: Timestamp) -> Timestamp {
    let Ok(instant) = jiff::Timestamp::from_microsecond(at.as_micros()) else { return at };
    let date = zone.to_datetime(instant).date();
    let first = match unit {
        CalendarUnit::Day => Some(date),
        CalendarUnit::Week => {
            let back = i64::from(date.weekday().to_monday_zero_offset());
            date.checked_sub(jiff::Span::new().days(back)).ok()
        }
        CalendarUnit::Month => Some(date.first_of_month()),
    };
    first
        .and_then(|date| zone.to_zoned(date.at(0, 0, 0, 0)).ok())
        .map_or(at, |zoned| Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => f.write_str(&format_duration(*length)),
            Self::Calendar { unit, time_zone } => {
                let unit = match unit {
                    CalendarUnit::Day => "day",
                    CalendarUnit::Week => "week",
                    CalendarUnit::Month => "month",
                };
                write!(f, "{unit} in {}", time_zone.as_str())
            }
        }
    }
}

impl FromStr for Bucket {
    type Err = Error;

    /// Reads `5m`, or `day`, `week`, `month`, with ` in ZONE` (UTC when absent).
    fn from_str(text: &str) -> Result<Self> {
        let (head, zone) = match text.split_once(" in ") {
            Some((head, zone)) => (head.trim(), Some(zone.trim())),
            None => (text.trim(), None),
        };
        let unit = match head {
            "day" => CalendarUnit::Day,
            "week" => CalendarUnit::Week,
            "month" => CalendarUnit::Month,
            _ if zone.is_some() => {
                return Err(Error::invalid(
                    "bucket.parse",
                    "",
                    "invalid_bucket",
                    "only day, week and month take a time zone",
                ));
            }
            _ => {
                let length = parse_duration(head)?;
                if length.is_zero() {
                    return Err(Error::invalid(
                        "bucket.parse",
                        "",
                        "invalid_bucket",
                        "a bucket must be at least 1ms long",
                    ));
                }
                return Ok(Self::Fixed(length));
            }
        };
        let time_zone = zone.map_or_else(|| Ok(TimeZoneName::utc()), str::parse)?;
        Ok(Self::Calendar { unit, time_zone })
    }
}

/// What to measure in each group. Values of another type than the measure needs are passed over, as missing ones are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Number of events.
    Count,
    /// Number of different values at a path; missing does not count as one.
    CountDistinct(FieldPath),
    /// Sum of the numbers; null when there are none.
    Sum(FieldPath),
    /// Mean of the numbers; null when there are none.
    Avg(FieldPath),
    /// Smallest number; null when there are none.
    Min(FieldPath),
    /// Largest number; null when there are none.
    Max(FieldPath),
    /// Percentile of the numbers, by linear interpolation between the closest ranks (SQL `percentile_cont`); null when
    /// there are none.
    Percentile {
        /// Where the numbers are.
        path: FieldPath,
        /// Thousandths of a percent: 95,000 is the 95th, 99,900 the 99.9th; 0 to 100,000.
        millipercent: u32,
    },
    /// Events per second of the bucket, or of the whole range without buckets; a bucket cut by the range counts its part inside.
    Rate,
    /// Share of events, 0 to 1, that [`Event::is_error`](crate::event::Event::is_error) counts.
    ErrorRate,
}

impl Measure {
    /// Returns the path it measures, when it has one.
    pub fn path(&self) -> Option<&FieldPath> {
        match self {
            Self::Count | Self::Rate | Self::ErrorRate => None,
            Self::CountDistinct(path)
            | Self::Sum(path)
            | Self::Avg(path)
            | Self::Min(path)
            | Self::Max(path)
            | Self::Percentile { path, .. } => Some(path),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Rate => f.write_str("rate"),
            Self::ErrorRate => f.write_str("error_rate"),
            Self::CountDistinct(path) => write!(f, "count_distinct({path})"),
            Self::Sum(path) => write!(f, "sum({path})"),
            Self::Avg(path) => write!(f, "avg({path})"),
            Self::Min(path) => write!(f, "min({path})"),
            Self::Max(path) => write!(f, "max({path})"),
            Self::Percentile { path, millipercent } => {
                let (whole, part) = (millipercent / 1_000, millipercent % 1_000);
                if part == 0 {
                    write!(f, "p{whole}({path})")
                } else {
                    write!(f, "p{whole}.{}({path})", format!("{part:03}").trim_end_matches('0'))
                }
            }
        }
    }
}

/// Reads the `95` of `p95` or the `99.9` of `p99.9`, in thousandths of a percent.
fn parse_millipercent(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits_only = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !digits_only(part) || whole.len() > 3 || part.len() > 3 {
        return None;
    }
    let total = whole.parse::<u32>().ok()? * 1_000 + format!("{part:0<3}").parse::<u32>().ok()?;
    (total <= 100_000).then_some(total)
}

impl FromStr for Measure {
    type Err = Error;

    /// Reads `count`, `rate`, `error_rate`, or `count_distinct`, `sum`, `avg`, `min`, `max`, `pNN` with a path in parentheses.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            let shown = text.chars().take(100).collect::<String>();
            let name = shown.split('(').next().unwrap_or_default().trim().to_owned();
            let names = ["count", "count_distinct", "sum", "avg", "min", "max", "p95", "rate", "error_rate"];
            let hint = crate::event::nearest_of(&name, names.into_iter())
                .map(|near| format!("; did you mean `{near}`"))
                .unwrap_or_default();
            Error::invalid(
                "measure.parse",
                "",
                "unknown_measure",
                format!(
                    "`{shown}` is no measure{hint}; valid are count, rate, error_rate, count_distinct(path), sum(path), \
                     avg(path), min(path), max(path), pNN(path) with NN from 0 to 100"
                ),
            )
        };
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else {
            return match text {
                "count" => Ok(Self::Count),
                "rate" => Ok(Self::Rate),
                "error_rate" => Ok(Self::ErrorRate),
                _ => Err(refuse()),
            };
        };
        let name = name.trim();
        let path: FieldPath = rest.strip_suffix(')').ok_or_else(refuse)?.trim().parse()?;
        match name {
            "count_distinct" => Ok(Self::CountDistinct(path)),
            "sum" => Ok(Self::Sum(path)),
            "avg" => Ok(Self::Avg(path)),
            "min" => Ok(Self::Min(path)),
            "max" => Ok(Self::Max(path)),
            _ => {
                let millipercent = name.strip_prefix('p').and_then(parse_millipercent).ok_or_else(refuse)?;
                Ok(Self::Percentile { path, millipercent })
            }
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = Text::deserialize(deserializer)?;
                text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
            }
        }
    )*};
}

serde_as_text!(Bucket, Measure);

/// What rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKey {
    /// The bucket, then the group.
    Bucket,
    /// The group, then the bucket.
    Group,
    /// The measure with this index; null sorts as the smallest.
    Measure(usize),
}

/// The order of the rows; ties are broken by bucket and group, ascending, so that it is total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AggregateOrder {
    /// What to order by.
    pub by: OrderKey,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Default for AggregateOrder {
    fn default() -> Self {
        Self { by: OrderKey::Bucket, descending: false }
    }
}

/// What to aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateQuery {
    /// When the events happened.
    pub range: TimeRange,
    /// What they must match; `None` matches all.
    pub filter: Option<Filter>,
    /// What to group by, at most [`MAX_GROUP_PATHS`].
    pub group_by: Vec<FieldPath>,
    /// How to cut time; `None` does not.
    pub bucket: Option<Bucket>,
    /// What to measure, 1 to [`MAX_MEASURES`].
    pub measures: Vec<Measure>,
    /// The order of the rows.
    pub order: AggregateOrder,
    /// How many rows at most, after ordering; `None`: all.
    pub limit: Option<usize>,
    /// How many (bucket, group) pairs may arise at most; beyond it the question fails with `TooLarge`.
    pub max_groups: usize,
    /// Whether percentiles and distinct counts may come from a sketch with a stated error.
    pub approximate: bool,
}

impl Default for AggregateQuery {
    fn default() -> Self {
        Self {
            range: TimeRange::ALL,
            filter: None,
            group_by: Vec::new(),
            bucket: None,
            measures: vec![Measure::Count],
            order: AggregateOrder::default(),
            limit: None,
            max_groups: 10_000,
            approximate: false,
        }
    }
}

impl AggregateQuery {
    /// Checks what every backend must refuse the same way.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut refuse = |pointer: &str, code: &'static str, message: String| {
            fields.push(crate::error::FieldError::new(pointer, code, message));
        };
        if self.measures.is_empty() || self.measures.len() > MAX_MEASURES {
            refuse("/measures", "length", format!("must have 1 to {MAX_MEASURES} measures"));
        }
        if self.group_by.len() > MAX_GROUP_PATHS {
            refuse("/group_by", "length", format!("must have at most {MAX_GROUP_PATHS} paths"));
        }
        if let OrderKey::Measure(index) = self.order.by
            && index >= self.measures.len()
        {
            refuse("/order/by", "out_of_range", format!("there is no measure with index {index}"));
        }
        if let Some(Bucket::Fixed(length)) = &self.bucket
            && (length.is_zero() || micros(*length) % 1_000 != 0)
        {
            refuse("/bucket", "out_of_range", "must be at least 1ms long, in whole milliseconds".to_owned());
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("event_store.aggregate", fields)) }
    }

    /// Returns the seconds that [`Measure::Rate`] divides by for the bucket that starts at `bucket_start`.
    #[allow(
        clippy::cast_precision_loss,
        reason = "a range of microseconds fits a double to the microsecond for 285 years"
    )]
    pub fn rate_seconds(&self, bucket_start: Option<Timestamp>) -> f64 {
        let span = match (&self.bucket, bucket_start) {
            (Some(bucket), Some(start)) => {
                let whole = bucket.range_from(start);
                TimeRange::new(whole.start.max(self.range.start), whole.end.min(self.range.end)).span()
            }
            _ => self.range.span(),
        };
        micros(span) as f64 / 1e6
    }
}

/// One row of an aggregate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AggregateRow {
    /// Start of the bucket, when time was cut.
    pub bucket: Option<Timestamp>,
    /// The values grouped by, in the order asked.
    pub group: Vec<Value>,
    /// The measures, in the order asked; null where there was nothing to measure.
    pub values: Vec<Option<f64>>,
}

/// The answer to an aggregate question. Without groups and buckets there is exactly one row, also over no events.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AggregateTable {
    /// The rows, ordered and limited.
    pub rows: Vec<AggregateRow>,
    /// How many rows there were before the limit.
    pub total_rows: usize,
}

impl AggregateTable {
    /// Orders `rows`, applies the limit, and counts: what every backend does last.
    pub fn finish(query: &AggregateQuery, mut rows: Vec<AggregateRow>) -> Self {
        fn by_place(left: &AggregateRow, right: &AggregateRow) -> std::cmp::Ordering {
            left.bucket.cmp(&right.bucket).then_with(|| left.group.cmp(&right.group))
        }
        let descending = query.order.descending;
        let directed = |ordering: std::cmp::Ordering| if descending { ordering.reverse() } else { ordering };
        rows.sort_by(|left, right| match query.order.by {
            OrderKey::Bucket => directed(left.bucket.cmp(&right.bucket)).then_with(|| by_place(left, right)),
            OrderKey::Group => directed(left.group.cmp(&right.group)).then_with(|| by_place(left, right)),
            OrderKey::Measure(index) => {
                let number = |row: &AggregateRow| row.values.get(index).copied().flatten();
                let ordering = match (number(left), number(right)) {
                    (Some(left), Some(right)) => left.total_cmp(&right),
                    (left, right) => left.is_some().cmp(&right.is_some()),
                };
                directed(ordering).then_with(|| by_place(left, right))
            }
        });
        let total_rows = rows.len();
        rows.truncate(query.limit.unwrap_or(usize::MAX));
        Self { rows, total_rows }
    }
}

/// Returns the percentile of ascending `numbers` by linear interpolation (SQL `percentile_cont`), `None` for none.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies between 0 and the number of values"
)]
pub fn percentile_of_sorted(numbers: &[f64], millipercent: u32) -> Option<f64> {
    let last = numbers.len().checked_sub(1)?;
    let rank = last as f64 * (f64::from(millipercent) / 100_000.0);
    let below = (rank.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let share = rank - below as f64;
    Some(numbers[below] + (numbers[above] - numbers[below]) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_round_trip() {
        for text in [
            "count",
            "error_rate",
            "p95(metrics.response_time_ms)",
            "p99.9(payload.a)",
            "sum(payload.\"a b\")",
        ] {
            assert_eq!(text.parse::<Measure>().unwrap().to_string(), text);
        }
        let error = "cuont".parse::<Measure>().unwrap_err();
        assert!(error.message().contains("did you mean `count`"), "{error}");
        for text in ["p101(payload.a)", "p(payload.a)", "avg", "avg(", "p-1(payload.a)"] {
            assert!(text.parse::<Measure>().is_err(), "{text}");
        }
    }

    #[test]
    fn days_follow_the_clocks() {
        let bucket: Bucket = "day in Europe/Berlin".parse().unwrap();
        let at: Timestamp = "2026-03-29T12:00:00Z".parse().unwrap();
        let start = bucket.start_of(at);
        assert_eq!(start.to_string(), "2026-03-28T23:00:00Z");
        assert_eq!(bucket.range_from(start).span(), Duration::from_secs(23 * 3_600));
        let autumn = bucket.start_of("2026-10-25T12:00:00Z".parse().unwrap());
        assert_eq!(bucket.range_from(autumn).span(), Duration::from_secs(25 * 3_600));
    }

    #[test]
    fn weeks_start_on_monday_and_months_on_the_first() {
        let at: Timestamp = "2026-11-22T23:30:00Z".parse().unwrap();
        let week: Bucket = "week".parse().unwrap();
        assert_eq!(week.start_of(at).to_string(), "2026-11-16T00:00:00Z");
        let month: Bucket = "month in America/New_York".parse().unwrap();
        assert_eq!(month.start_of(at).to_string(), "2026-11-01T04:00:00Z");
        assert_eq!(month.range_from(month.start_of(at)).end.to_string(), "2026-12-01T05:00:00Z");
    }

    #[test]
    fn percentiles_interpolate() {
        let numbers = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(percentile_of_sorted(&numbers, 50_000), Some(2.5));
        assert_eq!(percentile_of_sorted(&numbers, 100_000), Some(4.0));
        assert_eq!(percentile_of_sorted(&[], 50_000), None);
    }
}
