//! Aggregates as SQL.

use pulsestream_core::query::{AggregateQuery, AggregateRow, Bucket, Measure};
use pulsestream_core::time::{TimeRange, Timestamp, micros};

use super::Params;
use super::field::{ScanColumn, field};
use crate::wire::{Columns, Param};

/// Most buckets of the calendar for which the boundaries are sent along.
const MAX_CALENDAR_BUCKETS: usize = 20_000;

/// What is selected and grouped by, and how a row of it is read.
#[derive(Debug)]
pub(crate) struct AggregateSql {
    /// Everything between `select` and `from`.
    pub(crate) select: String,
    /// How many of the first columns to group by.
    pub(crate) keys: usize,
    bucket: GroupSql,
    group: Vec<ScanColumn>,
}

/// How the bucket of a row is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GroupSql {
    /// There are no buckets.
    Whole,
    /// The start comes with the row.
    Start,
    /// The number of the bucket comes with the row; these are the starts. The boundaries are computed here and not by the
    /// server, whose database of time zones may be older, and whose midnight of a day on which clocks change at midnight is
    /// another.
    Numbered(Vec<Timestamp>),
}

impl AggregateSql {
    /// Compiles what is asked about events in `range`, which is the query's or a part of it that holds all its events. Returns `None`
    /// when SQL does not express it.
    pub(crate) fn new(query: &AggregateQuery, range: TimeRange, params: &mut Params) -> Option<Self> {
        let mut columns = Vec::new();
        let bucket = match &query.bucket {
            None => GroupSql::Whole,
            Some(Bucket::Fixed(length)) => {
                // An origin before all events: before PostgreSQL 15.6 `date_bin` was wrong on the other side of it.
                let length = micros(*length);
                let origin = range.start.as_micros().div_euclid(length).checked_mul(length)?;
                let origin = params.bind(Param::timestamp_micros(origin)?);
                let length = params.bind(Param::interval_micros(length));
                columns.push(format!("date_bin({length}, e.\"timestamp\", {origin})"));
                GroupSql::Start
            }
            Some(bucket @ Bucket::Calendar { .. }) => {
                let starts = calendar(bucket, range)?;
                let bound = params.bind(Param::timestamps(starts.iter().copied()));
                columns.push(format!("width_bucket(e.\"timestamp\", {bound})"));
                GroupSql::Numbered(starts)
            }
        };
        let mut group = Vec::new();
        for path in &query.group_by {
            let (expression, kind) = field(path, params)?.column();
            // Zero of either sign is one group.
            columns.push(if kind == ScanColumn::Number { format!("{expression} + 0.0") } else { expression });
            group.push(kind);
        }
        let keys = columns.len();
        columns.push("count(*)".to_owned());
        columns.push(ERRORS.to_owned());
        for measure in &query.measures {
            columns.push(expression(measure, params)?);
        }
        Some(Self { select: columns.join(", "), keys, bucket, group })
    }

    /// Reads a row of the answer.
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    pub(crate) fn row(
        &self,
        query: &AggregateQuery,
        mut columns: Columns<'_>,
    ) -> Result<AggregateRow, sqlx::Error> {
        let bucket = match &self.bucket {
            GroupSql::Whole => None,
            GroupSql::Start => Some(columns.timestamp()?),
            GroupSql::Numbered(starts) => {
                let number = usize::try_from(columns.int4()?).unwrap_or_default();
                number.checked_sub(1).and_then(|index| starts.get(index)).copied()
            }
        };
        let group = self.group.iter().map(|kind| kind.read(&mut columns)).collect::<Result<Vec<_>, _>>()?;
        let events = columns.int8()? as f64;
        let errors = columns.int8()? as f64;
        let mut values = Vec::with_capacity(query.measures.len());
        for measure in &query.measures {
            let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
            values.push(match measure {
                Measure::Count => {
                    columns.optional_float8()?;
                    Some(events)
                }
                Measure::Rate => {
                    columns.optional_float8()?;
                    ratio(events, query.rate_seconds(bucket))
                }
                Measure::ErrorRate => {
                    columns.optional_float8()?;
                    ratio(errors, events)
                }
                Measure::CountDistinct(_) => columns.optional_int8()?.map(|count| count as f64),
                _ => columns.optional_float8()?,
            });
        }
        Ok(AggregateRow { bucket, group, values })
    }
}

/// `Event::is_error`: severity error or critical, or a status code of 500 or more.
const ERRORS: &str = "count(*) filter (where e.severity >= 2 or e.status_code >= 500)";

fn expression(measure: &Measure, params: &mut Params) -> Option<String> {
    Some(match measure {
        // These follow from the two counts that are always there.
        Measure::Count | Measure::Rate | Measure::ErrorRate => "null::double precision".to_owned(),
        Measure::CountDistinct(path) => {
            let (column, kind) = field(path, params)?.column();
            let column = if kind == ScanColumn::Number { format!("{column} + 0.0") } else { column };
            format!("count(distinct {column})")
        }
        Measure::Sum(path) => format!("sum({})", field(path, params)?.number()),
        Measure::Avg(path) => format!("avg({})", field(path, params)?.number()),
        Measure::Min(path) => format!("min({})", field(path, params)?.number()),
        Measure::Max(path) => format!("max({})", field(path, params)?.number()),
        Measure::Percentile { path, millipercent } => {
            let number = field(path, params)?.number();
            let share = params.bind(Param::float8(f64::from(*millipercent) / 100_000.0));
            format!("percentile_cont({share}) within group (order by {number})")
        }
    })
}

/// Returns the starts of all buckets that hold a part of the range; `None` when there are too many to send.
fn calendar(bucket: &Bucket, range: TimeRange) -> Option<Vec<Timestamp>> {
    let mut starts = Vec::new();
    let mut start = bucket.start_of(range.start);
    while start < range.end || starts.is_empty() {
        if starts.len() == MAX_CALENDAR_BUCKETS {
            return None;
        }
        starts.push(start);
        let next = bucket.range_from(start).end;
        if next <= start {
            // The end of time.
            break;
        }
        start = next;
    }
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_boundaries_are_those_of_core() {
        let bucket: Bucket = "day in Europe/Berlin".parse().unwrap();
        let range =
            TimeRange::new("2026-03-28T12:00:00Z".parse().unwrap(), "2026-03-30T12:00:00Z".parse().unwrap());
        let starts: Vec<_> = calendar(&bucket, range).unwrap().iter().map(Timestamp::to_string).collect();
        assert_eq!(starts, ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]);
        assert!(calendar(&bucket, TimeRange::ALL).is_none());
    }
}
