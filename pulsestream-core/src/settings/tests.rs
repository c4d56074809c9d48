use serde_json::json;

use super::*;

fn refused(value: serde_json::Value) -> Vec<String> {
    let error = Settings::from_value(&value).unwrap_err();
    error.fields().iter().map(|field| format!("{} {}", field.pointer, field.code)).collect()
}

#[test]
fn defaults_are_valid_and_are_those_of_the_documentation() {
    Settings::default().validate().unwrap();
    let expected = json!({
        "ingest": {
            "max_payload_bytes": 1_048_576, "max_payload_bytes_v1": 10_485_760, "max_batch_events": 10_000,
            "max_batch_events_v1": 1_000, "max_tags": 100, "future_skew": "5m",
            "oldest_timestamp": "1970-01-01T00:00:00Z", "idempotency_window": "3d", "rate_limit_per_minute": 100,
            "rate_limit_burst": 200, "max_events_per_month": null, "max_in_flight_events": 100_000,
            "max_in_flight_bytes": 268_435_456, "queue_workers": 4
        },
        "query": {"max_page_events": 1_000, "max_groups": 10_000, "max_aggregate_range": "400d", "timeout": "30s"},
        "alerting": {"max_rules": 1_000, "max_channels": 1_000, "max_silences": 10_000, "max_instances_per_rule": 10_000,
            "max_template_output_bytes": 65_536, "lease_ttl": "6s"},
        "housekeeping": {"interval": "1h", "keep_alerts": "90d", "keep_deliveries": "30d", "keep_changes": "400d",
            "batch": 500},
        "http": {
            "max_body_bytes": 20_971_520, "max_inflate_ratio": 100, "max_body_memory_bytes": 268_435_456,
            "body_timeout": "30s", "request_timeout": "35s", "max_concurrent_requests": 1_024,
            "max_concurrent_requests_per_tenant": 512,
            "max_live_connections": 10_000, "max_live_connections_per_tenant": 1_000, "dashboard_max_age": "5s",
            "max_connections": 10_000, "header_timeout": "30s", "max_headers": 100, "max_header_bytes": 65_536,
            "write_timeout": "30s", "drain_timeout": "10s"
        }
    });
    assert_eq!(serde_json::to_value(Settings::default()).unwrap(), expected);
    assert_eq!(Settings::from_value(&expected).unwrap(), Settings::default());
    assert_eq!(Settings::from_json("{}").unwrap(), Settings::default());
}

#[test]
fn every_error_comes_at_once_and_names_the_setting() {
    let value = json!({
        "ingest": {"max_batch_event": 5, "future_skew": "soon", "max_tags": -1, "max_events_per_month": "many"},
        "querry": {}, "http": 7, "alerting": {"zzzzzz": 1}
    });
    assert_eq!(
        refused(value.clone()),
        [
            "/alerting/zzzzzz unknown_field",
            "/http wrong_type",
            "/ingest/future_skew wrong_type",
            "/ingest/max_batch_event unknown_field",
            "/ingest/max_events_per_month wrong_type",
            "/ingest/max_tags wrong_type",
            "/querry unknown_field",
        ]
    );
    let error = Settings::from_value(&value).unwrap_err();
    assert!(
        error.fields()[0].message.contains("valid names are lease_ttl, max_channels, max_instances_per_rule"),
        "{error}"
    );
    assert!(error.fields()[3].message.contains("did you mean `max_batch_events`"), "{error}");
    assert!(error.fields()[6].message.contains("did you mean `query`"), "{error}");
    assert_eq!(refused(json!([])), [" wrong_type"]);
    assert_eq!(Settings::from_json("{").unwrap_err().fields()[0].code, "invalid_json");
}

#[test]
fn ranges_at_the_edge() {
    for (section, name, good, bad) in [
        ("ingest", "max_payload_bytes", vec![json!(1)], vec![json!(0), json!((1 << 30) + 1)]),
        (
            "ingest",
            "max_payload_bytes_v1",
            vec![json!(1), json!(128 << 20)],
            vec![json!(0), json!((128 << 20) + 1)],
        ),
        ("ingest", "max_batch_events", vec![json!(1), json!(100_000)], vec![json!(0), json!(100_001)]),
        ("ingest", "max_batch_events_v1", vec![json!(1), json!(100_000)], vec![json!(0), json!(100_001)]),
        ("ingest", "max_tags", vec![json!(0), json!(2_000)], vec![json!(2_001)]),
        ("ingest", "future_skew", vec![json!("0s"), json!("366d")], vec![json!("366d1ms")]),
        (
            "ingest",
            "idempotency_window",
            vec![json!("1m"), json!("366d")],
            vec![json!("59s"), json!("366d1ms")],
        ),
        (
            "ingest",
            "rate_limit_per_minute",
            vec![json!(1), json!(60_000_000)],
            vec![json!(0), json!(60_000_001)],
        ),
        ("ingest", "rate_limit_burst", vec![json!(1)], vec![json!(0), json!(4_000_000_000_u32)]),
        ("ingest", "max_in_flight_events", vec![json!(10_000)], vec![json!(9_999), json!(100_000_001)]),
        (
            "ingest",
            "max_in_flight_bytes",
            vec![json!(20 << 20), json!(1_u64 << 40)],
            vec![json!((20 << 20) - 1), json!((1_u64 << 40) + 1)],
        ),
        ("query", "max_page_events", vec![json!(1), json!(1_000)], vec![json!(0), json!(1_001)]),
        ("query", "max_groups", vec![json!(1), json!(1_000_000)], vec![json!(0), json!(1_000_001)]),
        ("query", "max_aggregate_range", vec![json!("1m"), json!("36600d")], vec![json!("59s")]),
        ("query", "timeout", vec![json!("1ms"), json!("1h")], vec![json!("0s"), json!("1h1ms")]),
        ("alerting", "max_rules", vec![json!(1), json!(100_000)], vec![json!(0), json!(100_001)]),
        ("alerting", "max_channels", vec![json!(1), json!(100_000)], vec![json!(0), json!(100_001)]),
        ("alerting", "max_silences", vec![json!(1), json!(100_000)], vec![json!(0), json!(100_001)]),
        ("alerting", "max_instances_per_rule", vec![json!(1), json!(10_000)], vec![json!(0), json!(10_001)]),
        (
            "alerting",
            "max_template_output_bytes",
            vec![json!(1), json!(1 << 20)],
            vec![json!(0), json!((1 << 20) + 1)],
        ),
        ("housekeeping", "interval", vec![json!("1m"), json!("7d")], vec![json!("59s"), json!("7d1ms")]),
        (
            "housekeeping",
            "keep_alerts",
            vec![json!("1d"), json!("36600d")],
            vec![json!("23h"), json!("36601d")],
        ),
        (
            "housekeeping",
            "keep_deliveries",
            vec![json!("7d"), json!("36600d")],
            vec![json!("6d"), json!("36601d")],
        ),
        (
            "housekeeping",
            "keep_changes",
            vec![json!("1d"), json!("36600d")],
            vec![json!("23h"), json!("36601d")],
        ),
        ("housekeeping", "batch", vec![json!(1), json!(100_000)], vec![json!(0), json!(100_001)]),
        ("http", "max_body_bytes", vec![json!(1), json!(1 << 30)], vec![json!(0), json!((1 << 30) + 1)]),
        ("http", "max_inflate_ratio", vec![json!(1), json!(10_000)], vec![json!(0), json!(10_001)]),
        ("http", "max_body_memory_bytes", vec![json!(1), json!(1_u64 << 40)], vec![json!(0)]),
        ("http", "body_timeout", vec![json!("1ms"), json!("1h")], vec![json!("0s"), json!("1h1ms")]),
        ("http", "request_timeout", vec![json!("1ms"), json!("1h")], vec![json!("0s"), json!("1h1ms")]),
        (
            "http",
            "max_concurrent_requests",
            vec![json!(1), json!(1_000_000)],
            vec![json!(0), json!(1_000_001)],
        ),
        (
            "http",
            "max_concurrent_requests_per_tenant",
            vec![json!(1), json!(1_000_000)],
            vec![json!(0), json!(1_000_001)],
        ),
        ("http", "max_live_connections", vec![json!(0), json!(1_000_000)], vec![json!(1_000_001)]),
        ("http", "max_live_connections_per_tenant", vec![json!(0), json!(1_000_000)], vec![json!(1_000_001)]),
        ("http", "dashboard_max_age", vec![json!("0s"), json!("1h")], vec![json!("1h1ms")]),
        ("http", "max_connections", vec![json!(1), json!(1_000_000)], vec![json!(0), json!(1_000_001)]),
        ("http", "header_timeout", vec![json!("1ms"), json!("1h")], vec![json!("0s"), json!("1h1ms")]),
        ("http", "max_headers", vec![json!(10), json!(10_000)], vec![json!(9), json!(10_001)]),
        (
            "http",
            "max_header_bytes",
            vec![json!(8_192), json!(1 << 20)],
            vec![json!(8_191), json!((1 << 20) + 1)],
        ),
        ("http", "write_timeout", vec![json!("1ms"), json!("1h")], vec![json!("0s"), json!("1h1ms")]),
        ("http", "drain_timeout", vec![json!("0s"), json!("1h")], vec![json!("1h1ms")]),
    ] {
        let with = |value: &serde_json::Value| Settings::from_value(&json!({ section: { name: value } }));
        for value in good {
            assert!(with(&value).is_ok(), "{name} {value}: {}", with(&value).unwrap_err());
        }
        for value in bad {
            let error = with(&value).unwrap_err();
            let named = error.fields().iter().all(|field| field.pointer.starts_with(&format!("/{section}/")));
            assert!(named && !error.fields().is_empty(), "{name} {value}: {error}");
        }
    }
}

#[test]
fn the_dialect_chooses_its_limits() {
    let settings = IngestSettings::default();
    assert_eq!(settings.rules(Dialect::Strict).max_payload_bytes, 1 << 20);
    assert_eq!(settings.rules(Dialect::V1).max_payload_bytes, 10 << 20);
    assert_eq!((settings.batch_limit(Dialect::Strict), settings.batch_limit(Dialect::V1)), (10_000, 1_000));
    assert_eq!(settings.rate_limit().unwrap().burst(), 200);
}
