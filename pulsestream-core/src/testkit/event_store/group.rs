//! Aggregates in groups: what a group is, in which order groups come, and how many there may be.

use std::time::Duration;

use super::aggregate::{assert_rows, query, values};
use super::probe::{Probe, assert_fails};
use crate::error::ErrorKind;
use crate::event::Severity;
use crate::query::{AggregateOrder, AggregateQuery, Bucket, OrderKey};
use crate::testkit::compare::render;
use crate::testkit::events::{event, event_with, payload};

/// Values of different types are different groups: missing, booleans, numbers, text, in this order.
pub(super) async fn aggregate_groups_by_type(probe: Probe) {
    let list = [
        "\"1\"", "1", "true", "false", "null", "1.0", "\"true\"", "\"\"", "-1", "\"B\"", "\"a\"", "\"null\"",
    ];
    values(&probe, &list).await;
    let table = probe.aggregate(query(&["payload.v"], &["count"])).await;
    let groups: Vec<String> = table.rows.iter().map(|row| format!("{:?}", row.group[0])).collect();
    let expected = [
        "Missing",
        "Bool(false)",
        "Bool(true)",
        "Number(-1.0)",
        "Number(1.0)",
        "Text(\"\")",
        "Text(\"1\")",
        "Text(\"B\")",
        "Text(\"a\")",
        "Text(\"null\")",
        "Text(\"true\")",
    ];
    assert_eq!(groups, expected);
    assert_eq!(table.rows[4].values, [Some(2.0)], "1 and 1.0 are one number");
}

/// What is missing is a group too; null, arrays and objects belong to it.
pub(super) async fn aggregate_groups_missing_together(probe: Probe) {
    values(&probe, &["null", "[]", "[1,2]", "{\"a\":1}", "\"x\""]).await;
    probe.append(vec![event("none", 100)]).await;
    assert_rows(&probe, query(&["payload.v"], &["count"]), &["[null] 5", "[x] 1"]).await;
}

/// A severity groups as its name.
pub(super) async fn aggregate_groups_by_severity(probe: Probe) {
    let events =
        Severity::ALL.map(|severity| event_with(severity.as_str(), 0, |event| event.severity = severity));
    probe.append(events.to_vec()).await;
    let expected = ["[critical] 1", "[error] 1", "[info] 1", "[warning] 1"];
    assert_rows(&probe, query(&["severity"], &["count"]), &expected).await;
}

/// Up to three paths group together; the same values under other paths do not mix.
pub(super) async fn aggregate_groups_by_three_paths(probe: Probe) {
    let with = |name: &str, service: &str, user: Option<&str>, hit: bool| {
        event_with(name, 0, |event| {
            event.source.service = Some(service.into());
            event.context.user_id = user.map(Into::into);
            event.metrics.cache_hit = Some(hit);
        })
    };
    probe
        .append(vec![
            with("a", "x", Some("y"), true),
            with("b", "y", Some("x"), true),
            with("c", "x", None, false),
            with("d", "x", Some("y"), true),
            with("e", "x", Some("y"), false),
        ])
        .await;
    let expected = ["[x, null, false] 1", "[x, y, false] 1", "[x, y, true] 2", "[y, x, true] 1"];
    let three = query(&["source.service", "user_id", "metrics.cache_hit"], &["count"]);
    assert_rows(&probe, three, &expected).await;
}

/// Tags, metadata and array elements can be grouped by and measured.
pub(super) async fn aggregate_own_fields(probe: Probe) {
    let events = (0..6).map(|number| {
        let mut event = payload(&format!("e{number}"), number, &format!(r#"{{"a":[{number}],"k.1":"x"}}"#));
        event.context.tags.insert("region", if number < 4 { "eu" } else { "us" });
        event.metadata = crate::testkit::events::json(&format!(r#"{{"shard":{}}}"#, number % 2));
        event
    });
    probe.append(events.collect()).await;
    let measures = ["sum(payload.a.0)", "count_distinct(payload.\"k.1\")", "max(metadata.shard)"];
    let expected = ["[eu, 0] 2 1 0", "[eu, 1] 4 1 1", "[us, 0] 4 1 0", "[us, 1] 5 1 1"];
    assert_rows(&probe, query(&["context.tags.region", "metadata.shard"], &measures), &expected).await;
}

/// Rows are ordered by a measure, null smallest, ties by group.
pub(super) async fn aggregate_orders_by_measure(probe: Probe) {
    let with = |name: &str, group: &str, value: &str| {
        let mut event = payload(name, 0, &format!(r#"{{"v":{value}}}"#));
        event.source.service = Some(group.into());
        event
    };
    probe
        .append(vec![with("1", "d", "3"), with("2", "c", "7"), with("3", "b", "3"), with("4", "a", "null")])
        .await;
    let order = |descending| AggregateOrder { by: OrderKey::Measure(1), descending };
    let base = query(&["source.service"], &["count", "sum(payload.v)"]);
    let ascending = AggregateQuery { order: order(false), ..base.clone() };
    assert_rows(&probe, ascending, &["[a] 1 null", "[b] 1 3", "[d] 1 3", "[c] 1 7"]).await;
    let descending = AggregateQuery { order: order(true), ..base };
    assert_rows(&probe, descending, &["[c] 1 7", "[b] 1 3", "[d] 1 3", "[a] 1 null"]).await;
}

/// Rows are ordered by group or by bucket, in both directions.
pub(super) async fn aggregate_orders_by_place(probe: Probe) {
    let with = |name: &str, seconds, group: &str| {
        event_with(name, seconds, |event| event.source.service = Some(group.into()))
    };
    probe.append(vec![with("1", 0, "b"), with("2", 0, "a"), with("3", 60, "a"), with("4", 60, "b")]).await;
    let base = AggregateQuery {
        bucket: Some(Bucket::Fixed(Duration::from_secs(60))),
        ..query(&["source.service"], &["count"])
    };
    let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    for (by, descending, expected) in [
        (OrderKey::Bucket, false, [(first, "a"), (first, "b"), (second, "a"), (second, "b")]),
        (OrderKey::Bucket, true, [(second, "a"), (second, "b"), (first, "a"), (first, "b")]),
        (OrderKey::Group, false, [(first, "a"), (second, "a"), (first, "b"), (second, "b")]),
        (OrderKey::Group, true, [(first, "b"), (second, "b"), (first, "a"), (second, "a")]),
    ] {
        let expected = expected.map(|(bucket, group)| format!("{bucket} [{group}] 1"));
        let asked = AggregateQuery { order: AggregateOrder { by, descending }, ..base.clone() };
        assert_eq!(render(&probe.aggregate(asked).await), expected, "{by:?}, descending: {descending}");
    }
}

/// The limit applies after ordering, and the number of rows before it is told.
pub(super) async fn aggregate_limits_rows(probe: Probe) {
    let events = (0..20).map(|number| {
        event_with(&format!("e{number}"), 0, |event| {
            event.source.service = Some(format!("s{}", (number * number) % 7).into());
        })
    });
    probe.append(events.collect()).await;
    let top = AggregateQuery {
        order: AggregateOrder { by: OrderKey::Measure(0), descending: true },
        limit: Some(2),
        ..query(&["source.service"], &["count"])
    };
    let table = probe.aggregate(top.clone()).await;
    assert_eq!(render(&table), ["[s2] 6", "[s4] 6"]);
    assert_eq!(table.total_rows, 4);
    let none = probe.aggregate(AggregateQuery { limit: Some(0), ..top }).await;
    assert_eq!((none.rows.len(), none.total_rows), (0, 4));
}

/// As many groups as allowed are answered, one more is refused, whatever the limit of rows.
pub(super) async fn aggregate_refuses_too_many_groups(probe: Probe) {
    probe.append((0..6).map(|number| event(&format!("e{number}"), number * 60)).collect()).await;
    let asked = |max_groups| AggregateQuery { max_groups, limit: Some(1), ..query(&["id"], &["count"]) };
    assert_eq!(probe.aggregate(asked(6)).await.total_rows, 6);
    let refused = probe.store.aggregate(probe.tenant, &asked(5)).await;
    assert_fails(refused, ErrorKind::TooLarge, "a sixth group");
    let minutes = |max_groups| AggregateQuery {
        bucket: Some(Bucket::Fixed(Duration::from_secs(60))),
        max_groups,
        ..query(&[], &["count"])
    };
    assert_eq!(probe.aggregate(minutes(6)).await.total_rows, 6);
    let refused = probe.store.aggregate(probe.tenant, &minutes(5)).await;
    assert_fails(refused, ErrorKind::TooLarge, "buckets are groups");
}
