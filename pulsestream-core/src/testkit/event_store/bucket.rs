//! Buckets of time: fixed lengths and the calendar of a time zone.

use super::aggregate::query;
use super::probe::Probe;
use crate::event::Event;
use crate::query::{AggregateQuery, Bucket};
use crate::testkit::compare::render;
use crate::testkit::events::{id, instant};
use crate::time::TimeRange;

/// Appends an event at each instant and checks the buckets they fall into: pairs of start and count.
async fn assert_buckets(probe: &Probe, bucket: &str, times: &[&str], expected: &[&str]) {
    let probe = probe.stranger();
    let event = |(number, at): (usize, &&str)| Event::new(id(&format!("e{number}")), "test", instant(at));
    probe.append(times.iter().enumerate().map(event).collect()).await;
    let bucket: Bucket = bucket.parse().expect("the case writes a valid bucket");
    let asked = AggregateQuery { bucket: Some(bucket.clone()), ..query(&[], &["count"]) };
    assert_eq!(render(&probe.aggregate(asked).await), expected, "buckets of {bucket}");
}

/// Fixed lengths are aligned to 1970, whatever they are; empty buckets have no row.
pub(super) async fn bucket_fixed(probe: Probe) {
    let times = [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:04:59.999999Z",
        "2026-01-01T00:05:00Z",
        "2026-01-01T00:20:00Z",
    ];
    let five = ["2026-01-01T00:00:00Z 2", "2026-01-01T00:05:00Z 1", "2026-01-01T00:20:00Z 1"];
    assert_buckets(&probe, "5m", &times, &five).await;
    let eleven = ["2025-12-31T23:54:00Z 2", "2026-01-01T00:05:00Z 1", "2026-01-01T00:16:00Z 1"];
    assert_buckets(&probe, "11m", &times, &eleven).await;
    assert_buckets(&probe, "1w", &["2026-01-01T00:00:00Z"], &["2026-01-01T00:00:00Z 1"]).await;
    let milliseconds =
        ["2026-01-01T00:00:00.001500Z", "2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00.002Z"];
    let expected = ["2026-01-01T00:00:00.001Z 2", "2026-01-01T00:00:00.002Z 1"];
    assert_buckets(&probe, "1ms", &milliseconds, &expected).await;
}

/// Before 1970 time is cut downwards as well.
pub(super) async fn bucket_before_1970(probe: Probe) {
    let times = ["1969-12-31T23:59:59.999999Z", "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z"];
    assert_buckets(&probe, "1h", &times, &["1969-12-31T23:00:00Z 2", "1970-01-01T00:00:00Z 1"]).await;
    assert_buckets(&probe, "day", &times, &["1969-12-31T00:00:00Z 2", "1970-01-01T00:00:00Z 1"]).await;
}

/// Days of UTC run from midnight to midnight.
pub(super) async fn bucket_days(probe: Probe) {
    let times = [
        "2024-02-28T23:59:59Z",
        "2024-02-29T00:00:00Z",
        "2024-02-29T23:59:59.999999Z",
        "2024-03-01T00:00:00Z",
    ];
    let expected = ["2024-02-28T00:00:00Z 1", "2024-02-29T00:00:00Z 2", "2024-03-01T00:00:00Z 1"];
    assert_buckets(&probe, "day", &times, &expected).await;
}

/// The day on which clocks go forward has 23 hours.
pub(super) async fn bucket_days_across_spring(probe: Probe) {
    let berlin =
        ["2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"];
    let expected = ["2026-03-27T23:00:00Z 1", "2026-03-28T23:00:00Z 2", "2026-03-29T22:00:00Z 1"];
    assert_buckets(&probe, "day in Europe/Berlin", &berlin, &expected).await;
    let new_york =
        ["2026-03-08T04:59:59Z", "2026-03-08T05:00:00Z", "2026-03-09T03:59:59Z", "2026-03-09T04:00:00Z"];
    let expected = ["2026-03-07T05:00:00Z 1", "2026-03-08T05:00:00Z 2", "2026-03-09T04:00:00Z 1"];
    assert_buckets(&probe, "day in America/New_York", &new_york, &expected).await;
}

/// The day on which clocks go back has 25 hours.
pub(super) async fn bucket_days_across_autumn(probe: Probe) {
    let berlin =
        ["2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"];
    let expected = ["2026-10-23T22:00:00Z 1", "2026-10-24T22:00:00Z 2", "2026-10-25T23:00:00Z 1"];
    assert_buckets(&probe, "day in Europe/Berlin", &berlin, &expected).await;
    let sydney =
        ["2026-04-04T12:59:59Z", "2026-04-04T13:00:00Z", "2026-04-05T13:59:59Z", "2026-04-05T14:00:00Z"];
    let expected = ["2026-04-03T13:00:00Z 1", "2026-04-04T13:00:00Z 2", "2026-04-05T14:00:00Z 1"];
    assert_buckets(&probe, "day in Australia/Sydney", &sydney, &expected).await;
}

/// Offsets need not be whole hours, nor their changes.
pub(super) async fn bucket_days_of_odd_offsets(probe: Probe) {
    let kathmandu = ["2026-01-01T18:14:59Z", "2026-01-01T18:15:00Z"];
    let expected = ["2025-12-31T18:15:00Z 1", "2026-01-01T18:15:00Z 1"];
    assert_buckets(&probe, "day in Asia/Kathmandu", &kathmandu, &expected).await;
    // Lord Howe goes back by half an hour on 2026-04-05, from UTC+11 to UTC+10:30.
    let lord_howe = ["2026-04-04T13:00:00Z", "2026-04-05T13:29:59Z", "2026-04-05T13:30:00Z"];
    let expected = ["2026-04-04T13:00:00Z 2", "2026-04-05T13:30:00Z 1"];
    assert_buckets(&probe, "day in Australia/Lord_Howe", &lord_howe, &expected).await;
}

/// Weeks start on Monday, also across the year and a change of clocks.
pub(super) async fn bucket_weeks(probe: Probe) {
    let times =
        ["2025-12-28T23:59:59Z", "2025-12-29T00:00:00Z", "2026-01-04T23:59:59Z", "2026-01-05T00:00:00Z"];
    let expected = ["2025-12-22T00:00:00Z 1", "2025-12-29T00:00:00Z 2", "2026-01-05T00:00:00Z 1"];
    assert_buckets(&probe, "week", &times, &expected).await;
    let berlin =
        ["2026-03-22T22:59:59Z", "2026-03-22T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"];
    let expected = ["2026-03-15T23:00:00Z 1", "2026-03-22T23:00:00Z 2", "2026-03-29T22:00:00Z 1"];
    assert_buckets(&probe, "week in Europe/Berlin", &berlin, &expected).await;
}

/// Months have the lengths they have, in a time zone too.
pub(super) async fn bucket_months(probe: Probe) {
    let times =
        ["2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z", "2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z"];
    let expected = [
        "2024-02-01T00:00:00Z 1",
        "2024-03-01T00:00:00Z 1",
        "2024-12-01T00:00:00Z 1",
        "2025-01-01T00:00:00Z 1",
    ];
    assert_buckets(&probe, "month", &times, &expected).await;
    let tokyo = ["2026-01-31T14:59:59Z", "2026-01-31T15:00:00Z"];
    let expected = ["2025-12-31T15:00:00Z 1", "2026-01-31T15:00:00Z 1"];
    assert_buckets(&probe, "month in Asia/Tokyo", &tokyo, &expected).await;
    let new_york =
        ["2026-11-01T03:59:59Z", "2026-11-01T04:00:00Z", "2026-12-01T04:59:59Z", "2026-12-01T05:00:00Z"];
    let expected = ["2026-10-01T04:00:00Z 1", "2026-11-01T04:00:00Z 2", "2026-12-01T05:00:00Z 1"];
    assert_buckets(&probe, "month in America/New_York", &new_york, &expected).await;
}

/// A day that has no midnight starts with its first instant.
pub(super) async fn bucket_day_without_midnight(probe: Probe) {
    // In Santiago clocks go from 00:00 to 01:00 on 2026-09-06.
    let times =
        ["2026-09-06T03:59:59Z", "2026-09-06T04:00:00Z", "2026-09-07T02:59:59Z", "2026-09-07T03:00:00Z"];
    let expected = ["2026-09-05T04:00:00Z 1", "2026-09-06T04:00:00Z 2", "2026-09-07T03:00:00Z 1"];
    assert_buckets(&probe, "day in America/Santiago", &times, &expected).await;
}

/// The range cuts events, not the starts of buckets.
pub(super) async fn bucket_starts_before_the_range(probe: Probe) {
    let times = ["2026-01-01T00:10:00Z", "2026-01-01T00:50:00Z", "2026-01-01T01:10:00Z"];
    let event = |(number, at): (usize, &&str)| Event::new(id(&format!("e{number}")), "test", instant(at));
    probe.append(times.iter().enumerate().map(event).collect()).await;
    let asked = AggregateQuery {
        range: TimeRange::new(instant("2026-01-01T00:30:00Z"), instant("2026-01-01T02:00:00Z")),
        bucket: Some("1h".parse().expect("a valid bucket")),
        ..query(&[], &["count"])
    };
    let expected = ["2026-01-01T00:00:00Z 1", "2026-01-01T01:00:00Z 1"];
    assert_eq!(render(&probe.aggregate(asked).await), expected);
}
