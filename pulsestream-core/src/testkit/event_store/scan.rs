//! Scanning: columns of all matches, in order.

use super::get::full_event;
use super::probe::Probe;
use crate::event::{Event, FieldPath, Value};
use crate::query::{MAX_SCAN_COLUMNS, ScanQuery};
use crate::testkit::events::{at, event, filter, path, payload};
use crate::testkit::generate::EventGenerator;
use crate::time::TimeRange;

/// Rows ascend by (timestamp, id), each match comes once, for every size of batch.
pub(super) async fn scan_is_ordered_and_complete(probe: Probe) {
    let mut events: Vec<Event> =
        (0..40).map(|number| event(&format!("e{:02}", (number * 11) % 40), number / 4)).collect();
    probe.append(events.clone()).await;
    events.sort_by(|left, right| (left.timestamp, &left.id).cmp(&(right.timestamp, &right.id)));
    let expected: Vec<_> =
        events.iter().map(|event| (event.timestamp, vec![Value::from(event.id.as_str())])).collect();
    for batch_rows in [1, 3, 39, 40, 8_192] {
        let query = ScanQuery { columns: vec![FieldPath::Id], batch_rows, ..ScanQuery::default() };
        assert_eq!(probe.scan(query).await, expected, "in batches of {batch_rows}");
    }
}

/// A scan without columns tells how many rows there are, and when.
pub(super) async fn scan_without_columns(probe: Probe) {
    probe.append(vec![event("a", 5), event("b", 3)]).await;
    assert_eq!(probe.scan(ScanQuery::default()).await, [(at(3), vec![]), (at(5), vec![])]);
    assert!(probe.stranger().scan(ScanQuery::default()).await.is_empty(), "over nothing it ends at once");
}

/// Range and filter select the rows.
pub(super) async fn scan_filters_and_cuts(probe: Probe) {
    probe
        .append(
            (0..10)
                .map(|number| payload(&format!("e{number}"), number, &format!(r#"{{"n":{number}}}"#)))
                .collect(),
        )
        .await;
    let query = ScanQuery {
        range: TimeRange::new(at(2), at(8)),
        filter: Some(filter("payload.n in [0, 3, 7, 9]")),
        columns: vec![path("payload.n")],
        ..ScanQuery::default()
    };
    let values: Vec<Value> =
        probe.scan(query).await.into_iter().map(|(_, mut values)| values.remove(0)).collect();
    assert_eq!(values, [Value::Number(3.0), Value::Number(7.0)]);
}

/// A column keeps the type of each value, also where types mix; arrays and objects are missing.
pub(super) async fn scan_keeps_types(probe: Probe) {
    let values = ["1", "\"1\"", "true", "null", "[1]", "{}", "\"\"", "-2.5"];
    let events = (0_i64..).zip(values).map(|(number, value)| {
        payload(&format!("e{number}"), number, &format!(r#"{{"v":{value},"t":"x"}}"#))
    });
    probe.append(events.collect()).await;
    let query = ScanQuery { columns: vec![path("payload.v"), path("payload.t")], ..ScanQuery::default() };
    let column: Vec<Value> =
        probe.scan(query).await.into_iter().map(|(_, mut values)| values.remove(0)).collect();
    let expected = [
        Value::Number(1.0),
        Value::from("1"),
        Value::Bool(true),
        Value::Missing,
        Value::Missing,
        Value::Missing,
        Value::from(""),
        Value::Number(-2.5),
    ];
    assert_eq!(column, expected);
}

/// Every path can be a column, up to the largest number of them; the same one may come twice.
pub(super) async fn scan_every_field(probe: Probe) {
    let events = [full_event("full", 0), event("bare", 1)];
    probe.append(events.to_vec()).await;
    let mut columns = FieldPath::FIXED.to_vec();
    columns.extend(["context.tags.region", "payload.items.1.sku", "metadata.schema", "id"].map(path));
    columns.resize(MAX_SCAN_COLUMNS, path("payload.total"));
    let rows = probe.scan(ScanQuery { columns: columns.clone(), ..ScanQuery::default() }).await;
    for (event, (timestamp, values)) in events.iter().zip(rows) {
        assert_eq!(timestamp, event.timestamp);
        for (column, value) in columns.iter().zip(values) {
            assert_eq!(value, column.value(event).to_value(), "{column} of {}", event.id);
        }
    }
}

/// Over realistic events a scan has the values that the paths have.
pub(super) async fn scan_realistic_events(probe: Probe) {
    let mut events = EventGenerator::new(3).take(600).collect::<Vec<_>>();
    probe.append(events.clone()).await;
    events.sort_by(|left, right| (left.timestamp, &left.id).cmp(&(right.timestamp, &right.id)));
    let columns =
        ["id", "source.service", "metrics.response_time_ms", "payload.plan", "payload.total", "severity"];
    let columns: Vec<FieldPath> = columns.into_iter().map(path).collect();
    let rows =
        probe.scan(ScanQuery { columns: columns.clone(), batch_rows: 100, ..ScanQuery::default() }).await;
    let expected: Vec<_> = events
        .iter()
        .map(|event| (event.timestamp, columns.iter().map(|path| path.value(event).to_value()).collect()))
        .collect();
    assert_eq!(rows, expected);
}
