//! Aggregates: every measure, groups, order and limits. Buckets are in `bucket`.

use std::time::Duration;

use super::probe::Probe;
use crate::error::ErrorKind;
use crate::event::{Event, Severity};
use crate::query::{
    AggregateOrder, AggregateQuery, Aggregator, Bucket, MAX_GROUP_PATHS, MAX_MEASURES, Measure, OrderKey,
};
use crate::testkit::compare::{compare_tables, numbers_agree, render};
use crate::testkit::events::{at, event, event_with, filter, path, payload};
use crate::testkit::generate::EventGenerator;
use crate::time::TimeRange;

/// Builds a query from the text forms of paths and measures.
pub(super) fn query(group_by: &[&str], measures: &[&str]) -> AggregateQuery {
    AggregateQuery {
        group_by: group_by.iter().map(|text| path(text)).collect(),
        measures: measures.iter().map(|text| measure(text)).collect(),
        ..AggregateQuery::default()
    }
}

fn measure(text: &str) -> Measure {
    text.parse().expect("the case writes a valid measure")
}

/// Events with these payload values under `v`, one a second, in groups `even` and `odd` of `source.service`.
pub(super) async fn values(probe: &Probe, values: &[&str]) {
    let events = (0_i64..).zip(values).map(|(number, value)| {
        let mut event = payload(&format!("e{number}"), number, &format!(r#"{{"v":{value}}}"#));
        event.source.service = Some(if number % 2 == 0 { "even" } else { "odd" }.into());
        event
    });
    probe.append(events.collect()).await;
}

/// Checks the rows of an answer, as `render` writes them.
pub(super) async fn assert_rows(probe: &Probe, query: AggregateQuery, expected: &[&str]) {
    let table = probe.aggregate(query.clone()).await;
    assert_eq!(render(&table), expected, "answer to {query:?}");
    if query.limit.is_none() {
        assert_eq!(table.total_rows, expected.len());
    }
}

/// Without groups and buckets there is one row, also over nothing; with them there is none.
pub(super) async fn aggregate_over_nothing(probe: Probe) {
    let measures = ["count", "count_distinct(id)", "sum(payload.v)", "avg(payload.v)", "min(payload.v)"];
    assert_rows(&probe, query(&[], &measures), &["0 0 null null null"]).await;
    let rest = ["max(payload.v)", "p95(payload.v)", "error_rate", "rate"];
    let ten_seconds = AggregateQuery { range: TimeRange::new(at(0), at(10)), ..query(&[], &rest) };
    assert_rows(&probe, ten_seconds, &["null null null 0"]).await;
    assert_rows(&probe, query(&["severity"], &["count"]), &[]).await;
    let hours = Some(Bucket::Fixed(Duration::from_secs(3_600)));
    assert_rows(&probe, AggregateQuery { bucket: hours, ..query(&[], &["count"]) }, &[]).await;
}

/// `count` counts events, whatever they hold.
pub(super) async fn aggregate_counts(probe: Probe) {
    values(&probe, &["1", "null", "\"x\"", "[]", "2"]).await;
    assert_rows(&probe, query(&[], &["count", "count"]), &["5 5"]).await;
    assert_rows(&probe, query(&["source.service"], &["count"]), &["[even] 3", "[odd] 2"]).await;
}

/// `sum`, `avg`, `min` and `max` measure the numbers and pass over everything else.
pub(super) async fn aggregate_sum_avg_min_max(probe: Probe) {
    values(&probe, &["4", "-1.5", "null", "\"100\"", "true", "[7]", "0", "10"]).await;
    let measures = ["sum(payload.v)", "avg(payload.v)", "min(payload.v)", "max(payload.v)"];
    assert_rows(&probe, query(&[], &measures), &["12.5 3.125 -1.5 10"]).await;
    assert_rows(&probe, query(&["source.service"], &measures), &["[even] 4 2 0 4", "[odd] 8.5 4.25 -1.5 10"])
        .await;
}

/// A sum beyond the largest double is infinite, and so is a mean that needs it; the others are what they are.
pub(super) async fn aggregate_beyond_the_largest_double(probe: Probe) {
    values(&probe, &["1.7e308", "1.7e308", "1", "1.7e308"]).await;
    let measures = ["sum(payload.v)", "avg(payload.v)", "min(payload.v)", "p50(payload.v)", "count"];
    let (large, half) = (format!("{:.0}", 1.7e308), format!("{:.0}", 1.7e308 / 2.0));
    assert_rows(&probe, query(&[], &measures), &[&format!("inf inf 1 {large} 4")]).await;
    let groups = [format!("[even] {large} {half} 1 {half} 2"), format!("[odd] inf inf {large} {large} 2")];
    let groups = groups.each_ref().map(String::as_str);
    assert_rows(&probe, query(&["source.service"], &measures), &groups).await;
}

/// Where there is no number, a measure of numbers is null, not zero.
pub(super) async fn aggregate_of_no_numbers_is_null(probe: Probe) {
    values(&probe, &["\"a\"", "null", "false"]).await;
    let measures = [
        "sum(payload.v)",
        "avg(payload.v)",
        "min(payload.v)",
        "max(payload.v)",
        "p50(payload.v)",
        "sum(title)",
    ];
    assert_rows(&probe, query(&[], &measures), &["null null null null null null"]).await;
}

/// The numbers of fields with a fixed name are measured too.
pub(super) async fn aggregate_fixed_fields(probe: Probe) {
    let events = (1_u16..=4).map(|number| {
        event_with(&format!("e{number}"), i64::from(number), |event| {
            event.metrics.response_time_ms = (number != 2).then(|| f64::from(number) * 1.5);
            event.metrics.status_code = Some(number * 100);
            event.metrics.request_size_bytes = Some(u64::from(number) << 40);
        })
    });
    probe.append(events.collect()).await;
    let measures = [
        "sum(metrics.response_time_ms)",
        "avg(metrics.status_code)",
        "max(metrics.request_size_bytes)",
        "p50(metrics.response_time_ms)",
        "count_distinct(metrics.status_code)",
    ];
    assert_rows(&probe, query(&[], &measures), &["12 250 4398046511104 4.5 4"]).await;
}

/// Different values count once each; types differ, zero of either sign is one, missing and composite are none.
pub(super) async fn aggregate_count_distinct(probe: Probe) {
    let list = [
        "1", "1.0", "\"1\"", "true", "false", "true", "null", "[1]", "{}", "\"\"", "\"a\"", "\"A\"", "0",
        "-0.0",
    ];
    values(&probe, &list).await;
    assert_rows(&probe, query(&[], &["count_distinct(payload.v)"]), &["8"]).await;
    assert_rows(&probe, query(&[], &["count_distinct(source.service)", "count_distinct(id)"]), &["2 14"])
        .await;
}

/// Percentiles interpolate between the closest ranks, as SQL `percentile_cont` does.
pub(super) async fn aggregate_percentiles_interpolate(probe: Probe) {
    values(&probe, &["40", "10", "30", "20"]).await;
    let measures = ["p0", "p25", "p50", "p90", "p99.9", "p100"].map(|name| format!("{name}(payload.v)"));
    let measures: Vec<&str> = measures.iter().map(String::as_str).collect();
    assert_rows(&probe, query(&[], &measures), &["10 17.5 25 37 39.97 40"]).await;
}

/// Equal numbers all have their rank.
pub(super) async fn aggregate_percentiles_with_ties(probe: Probe) {
    values(&probe, &["5", "5", "5", "5", "1", "9", "\"5\"", "null"]).await;
    let measures = ["p0(payload.v)", "p20(payload.v)", "p50(payload.v)", "p80(payload.v)", "p90(payload.v)"];
    assert_rows(&probe, query(&[], &measures), &["1 5 5 5 7"]).await;
}

/// Every percentile of one number is that number.
pub(super) async fn aggregate_percentiles_of_one_value(probe: Probe) {
    values(&probe, &["-2.5"]).await;
    let measures = ["p0(payload.v)", "p50(payload.v)", "p100(payload.v)"];
    assert_rows(&probe, query(&[], &measures), &["-2.5 -2.5 -2.5"]).await;
}

/// `rate` divides by the seconds of the range, or of the part of a bucket that lies in it.
pub(super) async fn aggregate_rate(probe: Probe) {
    probe.append((0..30).map(|number| event(&format!("e{number}"), number * 4)).collect()).await;
    let range = TimeRange::new(at(0), at(120));
    assert_rows(&probe, AggregateQuery { range, ..query(&[], &["rate", "count"]) }, &["0.25 30"]).await;
    let cut = AggregateQuery {
        range: TimeRange::new(at(30), at(100)),
        bucket: Some(Bucket::Fixed(Duration::from_secs(60))),
        ..query(&[], &["count", "rate"])
    };
    let expected = ["2026-01-01T00:00:00Z 7 0.233333333", "2026-01-01T00:01:00Z 10 0.25"];
    assert_rows(&probe, cut, &expected).await;
}

/// `error_rate` is the share of events of severity error or critical, or with a status of 500 or more.
pub(super) async fn aggregate_error_rate(probe: Probe) {
    let with = |name: &str, severity, status| {
        event_with(name, 0, |event| {
            event.severity = severity;
            event.metrics.status_code = status;
        })
    };
    probe
        .append(vec![
            with("a", Severity::Info, None),
            with("b", Severity::Info, Some(499)),
            with("c", Severity::Warning, Some(500)),
            with("d", Severity::Error, Some(200)),
            with("e", Severity::Critical, None),
            with("f", Severity::Critical, Some(599)),
            with("g", Severity::Warning, None),
            with("h", Severity::Info, Some(200)),
        ])
        .await;
    assert_rows(&probe, query(&[], &["error_rate"]), &["0.5"]).await;
    let by_severity = ["[critical] 1", "[error] 1", "[info] 0", "[warning] 0.5"];
    assert_rows(&probe, query(&["severity"], &["error_rate"]), &by_severity).await;
}

/// Only what matches the filter and lies in the range is measured.
pub(super) async fn aggregate_filters_and_cuts(probe: Probe) {
    values(&probe, &["0", "1", "2", "3", "4", "5", "6", "7"]).await;
    let asked = AggregateQuery {
        range: TimeRange::new(at(2), at(7)),
        filter: Some(filter("source.service = 'even' and payload.v > 2")),
        ..query(&[], &["count", "sum(payload.v)"])
    };
    assert_rows(&probe, asked, &["2 10"]).await;
}

/// A question that is wrong is refused with the field that is.
pub(super) async fn aggregate_refuses_invalid(probe: Probe) {
    let many = |count: usize| AggregateQuery { measures: vec![Measure::Count; count], ..query(&[], &[]) };
    let grouped =
        |count: usize| AggregateQuery { group_by: vec![path("title"); count], ..query(&[], &["count"]) };
    probe.aggregate(many(MAX_MEASURES)).await;
    probe.aggregate(grouped(MAX_GROUP_PATHS)).await;
    let order = AggregateOrder { by: OrderKey::Measure(1), descending: false };
    for (wrong, pointer) in [
        (many(0), "/measures"),
        (many(MAX_MEASURES + 1), "/measures"),
        (grouped(MAX_GROUP_PATHS + 1), "/group_by"),
        (AggregateQuery { order, ..query(&[], &["count"]) }, "/order/by"),
        (AggregateQuery { bucket: Some(Bucket::Fixed(Duration::ZERO)), ..query(&[], &["count"]) }, "/bucket"),
    ] {
        let error =
            probe.store.aggregate(probe.tenant, &wrong).await.expect_err("a wrong question is refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(error.fields()[0].pointer, pointer, "{error}");
    }
}

/// Long sums stay precise.
pub(super) async fn aggregate_sums_precisely(probe: Probe) {
    let events: Vec<Event> = (0..2_000)
        .map(|number| {
            event_with(&format!("e{number}"), number, |event| event.metrics.response_time_ms = Some(0.1))
        })
        .collect();
    probe.append(events).await;
    let measures = ["sum(metrics.response_time_ms)", "avg(metrics.response_time_ms)"];
    assert_rows(&probe, query(&[], &measures), &["200 0.1"]).await;
}

/// What may come from a sketch is near, and what need not is exact.
pub(super) async fn aggregate_approximately(probe: Probe) {
    let events = EventGenerator::new(7).take(3_000).collect::<Vec<_>>();
    probe.append(events).await;
    let measures =
        ["count", "sum(metrics.status_code)", "p95(metrics.response_time_ms)", "count_distinct(user_id)"];
    let exact = probe.aggregate(query(&[], &measures)).await.rows[0].values.clone();
    let near = probe.aggregate(AggregateQuery { approximate: true, ..query(&[], &measures) }).await;
    for (index, (exact, near)) in exact.iter().zip(&near.rows[0].values).enumerate() {
        let (exact, near) = (exact.expect("a number"), near.expect("a number"));
        let agrees =
            if index < 2 { numbers_agree(exact, near) } else { (exact - near).abs() <= 0.05 * exact };
        assert!(agrees, "{}: {near} for {exact}", measures[index]);
    }
}

/// Over realistic events every question has the answer of the reference.
pub(super) async fn aggregate_equals_reference(probe: Probe) {
    let events = EventGenerator::new(11).take(1_500).collect::<Vec<_>>();
    for chunk in events.chunks(500) {
        probe.append(chunk.to_vec()).await;
    }
    let filters = [
        "true",
        "source.service = 'checkout' and metrics.status_code >= 500",
        "not exists(payload.plan)",
        "metrics.response_time_ms > 100 or severity >= 'error'",
    ];
    let groups: [&[&str]; 5] = [
        &[],
        &["source.service"],
        &["source.endpoint", "metrics.status_code"],
        &["payload.plan", "severity", "metrics.cache_hit"],
        &["payload.items.0.quantity"],
    ];
    let buckets = [None, Some("5m"), Some("day in America/Sao_Paulo"), Some("week")];
    let measures = [
        "count",
        "rate",
        "error_rate",
        "sum(metrics.response_size_bytes)",
        "avg(metrics.response_time_ms)",
        "min(metrics.response_time_ms)",
        "max(payload.total)",
        "p50(metrics.response_time_ms)",
        "p99(metrics.response_time_ms)",
        "count_distinct(user_id)",
    ];
    for text in filters {
        for group_by in groups {
            for bucket in buckets {
                let asked = AggregateQuery {
                    filter: Some(filter(text)),
                    bucket: bucket.map(|text| text.parse().expect("a valid bucket")),
                    max_groups: 100_000,
                    ..query(group_by, &measures)
                };
                let mut reference = Aggregator::new(&asked).expect("a valid query");
                for event in &events {
                    reference.add_event(event).expect("few groups");
                }
                let found = probe.aggregate(asked.clone()).await;
                if let Err(difference) = compare_tables(&found, &reference.finish()) {
                    panic!("{difference}\nasked: {asked:?}");
                }
            }
        }
    }
}
