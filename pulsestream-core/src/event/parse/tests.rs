use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::{MAX_STATED_BYTES, MAX_TAG_NAME_CHARS, MAX_TAG_VALUE_CHARS};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn rules(dialect: Dialect) -> EventRules {
    EventRules {
        dialect,
        max_payload_bytes: 1_000,
        max_tags: 3,
        future_skew: Duration::from_secs(300),
        oldest: Timestamp::EPOCH,
    }
}

fn parser(dialect: Dialect) -> EventParser {
    EventParser::new(Env::manual(NOW, 1).0, rules(dialect), 5)
}

fn errors(dialect: Dialect, text: &str) -> Vec<String> {
    codes(parser(dialect).event(text.as_bytes()).unwrap_err().fields())
}

fn codes(fields: &[FieldError]) -> Vec<String> {
    fields.iter().map(|field| format!("{} {}", field.pointer, field.code)).collect()
}

/// A v1 event with one more member.
fn v1(member: &str) -> String {
    format!(
        r#"{{"event_type":"api_call","title":"t","source":{{"service":"s","endpoint":"/e","method":"GET"}}{}{member}}}"#,
        if member.is_empty() { "" } else { "," }
    )
}

fn strict(member: &str) -> String {
    format!(r#"{{"event_type":"order",{member}}}"#)
}

const FULL: &str = r#"{
    "id": "e-1", "event_type": "order_placed", "timestamp": "2026-12-01T10:00:00+01:00", "severity": "warning",
    "title": "Order \"7\"", "message": "placed",
    "source": {"service": "shop", "endpoint": "/cart", "method": "POST", "version": "1.2", "environment": "production"},
    "context": {"user_id": "u1", "session_id": "s1", "request_id": "r1", "ip_address": "192.0.2.1", "user_agent": "UA",
        "referrer": "/", "tags": {"region": "eu", "a\nb": "x"}},
    "metrics": {"response_time_ms": 12.5, "status_code": 200.0, "request_size_bytes": 10, "response_size_bytes": 9007199254740992,
        "cache_hit": false},
    "error": {"code": "E1", "message": "m", "type": "T", "stack_trace": "at x"},
    "payload": {"plan": "free", "n": 1e2}, "metadata": {"k": [1, 2]}
}"#;

#[test]
fn every_field_arrives() {
    let event = parser(Dialect::Strict).event(FULL.as_bytes()).unwrap();
    let expected = r#"{"id":"e-1","event_type":"order_placed","timestamp":"2026-12-01T09:00:00Z","received_at":"2027-01-15T08:00:00Z","severity":"warning","title":"Order \"7\"","message":"placed","source":{"service":"shop","endpoint":"/cart","method":"POST","version":"1.2","environment":"production"},"context":{"user_id":"u1","session_id":"s1","request_id":"r1","ip_address":"192.0.2.1","user_agent":"UA","referrer":"/","tags":{"a\nb":"x","region":"eu"}},"metrics":{"response_time_ms":12.5,"status_code":200,"request_size_bytes":10,"response_size_bytes":9007199254740992,"cache_hit":false},"error":{"code":"E1","message":"m","type":"T","stack_trace":"at x"},"payload":{"n":100,"plan":"free"},"metadata":{"k":[1,2]}}"#;
    assert_eq!(serde_json::to_string(&event).unwrap(), expected);
}

#[test]
fn v1_names_arrive_and_unknown_fields_are_ignored() {
    let text = v1(concat!(
        r#""event_id":"e1","event_timestamp":"2026-12-01T10:00:00Z","error_details":{"error_code":"c","error_message":"m","#,
        r#""error_type":"T","stack_trace":"s","extra":1},"extra":{"a":["\u0000",1e999],"a":{}},"metrics":{"status_code":503}"#
    ));
    let event = parser(Dialect::V1).event(text.as_bytes()).unwrap();
    assert_eq!(event.id.as_str(), "e1");
    assert_eq!(event.timestamp.to_string(), "2026-12-01T10:00:00Z");
    assert_eq!(event.metrics.status_code, Some(503));
    let error = event.error.unwrap();
    assert_eq!(
        (
            error.code.as_deref(),
            error.message.as_deref(),
            error.error_type.as_deref(),
            error.stack_trace.as_deref()
        ),
        (Some("c"), Some("m"), Some("T"), Some("s"))
    );
    assert_eq!(errors(Dialect::V1, &v1(r#""extra":[}"#)), ["/extra/0 invalid_json"]);
}

#[test]
fn what_the_client_leaves_out_is_filled_in() {
    let mut parser = parser(Dialect::Strict);
    let first = parser
        .event(br#"{"event_type":"x","severity":null,"error":{},"payload":null,"title":null}"#)
        .unwrap();
    let second = parser.event(br#"{"event_type":"x"}"#).unwrap();
    assert_eq!((first.timestamp, first.received_at), (NOW, NOW));
    assert_eq!((first.error, first.title, first.payload.is_empty()), (None, None, true));
    assert!(first.id.as_str() < second.id.as_str());
    assert_eq!(uuid::Uuid::parse_str(first.id.as_str()).unwrap().get_version_num(), 7);
}

#[test]
fn all_errors_come_at_once_with_their_pointers() {
    let text = r#"{"id":"","event_tipe":"x","timestamp":"soon","severity":"fatal","title":7,"source":[],"context":{"user_id":{},
        "tags":{"a":1,"b":"x","b":"y"},"sesion_id":"q"},"metrics":{"response_time_ms":-1,"status_code":99,"request_size_bytes":1.5,
        "response_size_bytes":-1,"cache_hit":"no"},"payload":{"x":{"y/z":"\u0000"}},"metadata":"m","zzzzzz":1}"#;
    assert_eq!(
        errors(Dialect::Strict, text),
        [
            "/id length",
            "/event_tipe unknown_field",
            "/timestamp invalid_timestamp",
            "/severity unknown_value",
            "/title wrong_type",
            "/source wrong_type",
            "/context/user_id wrong_type",
            "/context/tags/a wrong_type",
            "/context/tags/b duplicate_key",
            "/context/sesion_id unknown_field",
            "/metrics/request_size_bytes wrong_type",
            "/metrics/cache_hit wrong_type",
            "/payload/x/y~1z nul_character",
            "/metadata wrong_type",
            "/zzzzzz unknown_field",
            "/event_type required",
            "/metrics/response_time_ms out_of_range",
            "/metrics/status_code out_of_range",
            "/metrics/response_size_bytes out_of_range",
        ]
    );
    let error = parser(Dialect::Strict).event(text.as_bytes()).unwrap_err();
    assert!(error.fields()[1].message.contains("did you mean `event_type`"), "{error}");
    assert!(error.fields()[14].message.contains("valid fields are id, event_type, timestamp"), "{error}");
    assert!(!error.fields()[14].message.contains("event_timestamp"), "{error}");
}

#[test]
fn v1_requires_what_its_contract_requires() {
    assert_eq!(errors(Dialect::V1, "{}"), ["/event_type required", "/source required", "/title required"]);
    assert_eq!(
        errors(Dialect::V1, r#"{"event_type":"api_cal","title":"","source":{"service":null,"method":""}}"#),
        [
            "/event_type unknown_value",
            "/title length",
            "/source/service required",
            "/source/endpoint required",
            "/source/method length"
        ]
    );
    assert_eq!(errors(Dialect::Strict, "{}"), ["/event_type required"]);
}

#[test]
fn whole_documents_that_are_no_event() {
    for text in ["", "[]", "7", "null", "{", "{}{}", "\u{feff}{}", "{\"event_type\":\"a\"} x"] {
        let fields = errors(Dialect::Strict, text);
        assert_eq!(fields.len(), 1, "{text}: {fields:?}");
    }
    let mut parser = parser(Dialect::Strict);
    let error = parser.event(b"{\"event_type\":\"\xff\"}").unwrap_err();
    assert_eq!(codes(error.fields()), [" invalid_utf8"]);
    assert_eq!(
        errors(Dialect::Strict, r#"{"event_type":"a","event_type":"b"}"#),
        ["/event_type duplicate_key"]
    );
    let deep = format!("{{\"event_type\":\"a\",\"payload\":{}", "[".repeat(1_000_000));
    assert_eq!(parser.event(deep.as_bytes()).unwrap_err().fields().len(), 2);
}

/// Asserts that a member of `limit` units is accepted, and one of `limit + 1` refused at the pointer with the code.
fn edge(dialect: Dialect, limit: usize, expected: &str, member: impl Fn(usize) -> String) {
    let wrap = |size| if dialect == Dialect::V1 { v1(&member(size)) } else { strict(&member(size)) };
    let accepted = parser(dialect).event(wrap(limit).as_bytes());
    assert!(accepted.is_ok(), "{expected}: {}", accepted.unwrap_err());
    assert_eq!(errors(dialect, &wrap(limit + 1)), [expected]);
}

#[test]
fn text_limits_at_the_edge() {
    let text = |key: &'static str| move |size: usize| format!("\"{key}\":\"{}\"", "é".repeat(size));
    let nested = |outer: &'static str, key: &'static str| {
        move |size: usize| format!("\"{outer}\":{{\"{key}\":\"{}\"}}", "é".repeat(size))
    };
    for (dialect, outer, key, limit) in [
        (Dialect::Strict, "", "title", 1_000),
        (Dialect::Strict, "", "message", 65_536),
        (Dialect::V1, "", "message", 2_000),
        (Dialect::Strict, "source", "service", 200),
        (Dialect::Strict, "source", "endpoint", 2_000),
        (Dialect::Strict, "source", "method", 100),
        (Dialect::Strict, "source", "version", 100),
        (Dialect::Strict, "source", "environment", 100),
        (Dialect::Strict, "context", "user_id", 1_000),
        (Dialect::V1, "context", "session_id", 1_000),
        (Dialect::Strict, "context", "request_id", 1_000),
        (Dialect::V1, "context", "ip_address", 100),
        (Dialect::Strict, "context", "user_agent", 2_000),
        (Dialect::V1, "context", "user_agent", 500),
        (Dialect::Strict, "context", "referrer", 8_000),
        (Dialect::Strict, "error", "code", 200),
        (Dialect::Strict, "error", "message", 65_536),
        (Dialect::Strict, "error", "type", 200),
        (Dialect::Strict, "error", "stack_trace", 262_144),
        (Dialect::V1, "error_details", "error_code", 100),
        (Dialect::V1, "error_details", "error_message", 1_000),
        (Dialect::V1, "error_details", "error_type", 100),
        (Dialect::V1, "error_details", "stack_trace", 262_144),
    ] {
        if outer.is_empty() {
            edge(dialect, limit, &format!("/{key} length"), text(key));
        } else {
            edge(dialect, limit, &format!("/{outer}/{key} length"), nested(outer, key));
        }
    }
    edge(Dialect::Strict, 128, "/id length", |size| format!("\"id\":\"{}\"", "x".repeat(size)));
    edge(Dialect::V1, 100, "/event_id length", |size| format!("\"event_id\":\"{}\"", "x".repeat(size)));
}

#[test]
fn v1_required_text_limits_at_the_edge() {
    let event = |title: usize,
                 service: usize,
                 endpoint: usize,
                 method: usize,
                 version: usize,
                 environment: usize| {
        let text = |size: usize| "é".repeat(size);
        format!(
            r#"{{"event_type":"api_call","title":"{}","source":{{"service":"{}","endpoint":"{}","method":"{}","version":"{}","environment":"{}"}}}}"#,
            text(title),
            text(service),
            text(endpoint),
            text(method),
            text(version),
            text(environment)
        )
    };
    assert!(parser(Dialect::V1).event(event(200, 100, 500, 10, 20, 50).as_bytes()).is_ok());
    assert!(parser(Dialect::V1).event(event(1, 1, 1, 1, 0, 0).as_bytes()).is_ok());
    assert_eq!(errors(Dialect::V1, &event(201, 101, 501, 11, 21, 51)).len(), 6);
    assert_eq!(errors(Dialect::V1, &event(0, 0, 0, 0, 0, 0)).len(), 4);
}

#[test]
fn event_type_limit_is_in_bytes() {
    let event = |name: String| format!("{{\"event_type\":\"{name}\"}}");
    assert!(parser(Dialect::Strict).event(event("é".repeat(50)).as_bytes()).is_ok());
    assert_eq!(errors(Dialect::Strict, &event("é".repeat(50) + "x")), ["/event_type length"]);
    assert_eq!(errors(Dialect::Strict, &event("x".repeat(101))), ["/event_type length"]);
    assert_eq!(errors(Dialect::Strict, &event(String::new())), ["/event_type length"]);
}

#[test]
fn size_limits_at_the_edge() {
    let tags = |size: usize| {
        let tags: Vec<_> = (0..size).map(|index| format!("\"t{index}\":\"\"")).collect();
        format!("\"context\":{{\"tags\":{{{}}}}}", tags.join(","))
    };
    edge(Dialect::Strict, 3, "/context/tags too_many", tags);
    let tag_value = |size: usize| format!("\"context\":{{\"tags\":{{\"t\":\"{}\"}}}}", "é".repeat(size));
    edge(Dialect::V1, MAX_TAG_VALUE_CHARS, "/context/tags/t length", tag_value);
    let name = |size: usize| "x".repeat(size);
    let tag_name = |size: usize| format!("\"context\":{{\"tags\":{{\"{}\":\"\"}}}}", name(size));
    assert!(parser(Dialect::Strict).event(strict(&tag_name(MAX_TAG_NAME_CHARS)).as_bytes()).is_ok());
    assert_eq!(errors(Dialect::Strict, &strict(&tag_name(MAX_TAG_NAME_CHARS + 1))).len(), 1);
    assert_eq!(errors(Dialect::Strict, &strict(&tag_name(0))), ["/context/tags/ length"]);
    for key in ["payload", "metadata"] {
        let object = |size: usize| format!("\"{key}\":{{ \"p\": \"{}\" }}", "x".repeat(size - 8));
        edge(Dialect::V1, 1_000, &format!("/{key} too_large"), object);
    }
}

#[test]
fn metric_ranges_at_the_edge() {
    let metric = |key: &str, value: &str| strict(&format!("\"metrics\":{{\"{key}\":{value}}}"));
    for (key, good, bad) in [
        ("status_code", vec!["100", "599", "599.0", "2e2"], vec!["99", "600", "-1", "65536", "1e300", "-0"]),
        ("response_time_ms", vec!["0", "-0.0", "1e300"], vec!["-0.001"]),
        (
            "request_size_bytes",
            vec!["0", &*MAX_STATED_BYTES.to_string()],
            vec!["9007199254740993", "18446744073709551616", "-1"],
        ),
    ] {
        for value in good {
            let event = parser(Dialect::Strict).event(metric(key, value).as_bytes());
            assert!(event.is_ok(), "{key} {value}: {}", event.unwrap_err());
        }
        for value in bad {
            assert_eq!(
                errors(Dialect::Strict, &metric(key, value)),
                [format!("/metrics/{key} out_of_range")],
                "{value}"
            );
        }
    }
    assert_eq!(errors(Dialect::Strict, &metric("status_code", "200.5")), ["/metrics/status_code wrong_type"]);
    let event = parser(Dialect::Strict).event(metric("response_time_ms", "-0.0").as_bytes()).unwrap();
    assert!(event.metrics.response_time_ms.unwrap().is_sign_positive());
}

#[test]
fn timestamps_at_the_edge() {
    let event = |at: Timestamp| strict(&format!("\"timestamp\":\"{at}\""));
    let latest = NOW.plus(Duration::from_secs(300));
    let micro = Duration::from_micros(1);
    assert!(parser(Dialect::Strict).event(event(latest).as_bytes()).is_ok());
    assert_eq!(errors(Dialect::Strict, &event(latest.plus(micro))), ["/timestamp in_the_future"]);
    assert!(parser(Dialect::Strict).event(event(Timestamp::EPOCH).as_bytes()).is_ok());
    assert_eq!(errors(Dialect::Strict, &event(Timestamp::EPOCH.minus(micro))), ["/timestamp too_old"]);
    let v1_event = v1(&format!("\"event_timestamp\":\"{}\"", latest.plus(micro)));
    assert_eq!(errors(Dialect::V1, &v1_event), ["/event_timestamp in_the_future"]);
}

#[test]
fn events_built_in_rust_meet_the_same_rules() {
    let mut event = parser(Dialect::Strict).event(FULL.as_bytes()).unwrap();
    assert_eq!(rules(Dialect::Strict).check(&event, NOW), []);
    event.title = Some("a\0b".into());
    event.context.tags.insert("t", "\0");
    event.metrics.response_time_ms = Some(f64::NAN);
    event.metrics.status_code = Some(600);
    assert_eq!(
        codes(&rules(Dialect::Strict).check(&event, NOW)),
        [
            "/title nul_character",
            "/context/tags/t nul_character",
            "/metrics/response_time_ms out_of_range",
            "/metrics/status_code out_of_range"
        ]
    );
}

fn batch(dialect: Dialect, body: &[u8], form: BatchForm) -> Vec<Result<String, Vec<String>>> {
    let batch = parser(dialect).batch(body, form).unwrap();
    let outcome = |event: Result<Event, Vec<FieldError>>| {
        event.map(|event| event.id.to_string()).map_err(|fields| codes(&fields))
    };
    batch.events.into_iter().map(outcome).collect()
}

fn ok(id: &str) -> Result<String, Vec<String>> {
    Ok(id.to_owned())
}

fn refused(error: &str) -> Result<String, Vec<String>> {
    Err(vec![error.to_owned()])
}

#[test]
fn one_bad_event_does_not_refuse_others() {
    let body = br#" [ {"id":"a","event_type":"x"}, {"id":"b","event_type":}, {"id":"c","event_type":"x","payload":{"k":"\u0000"}},
        7 , {"id":"e","event_type":"x"} ] "#;
    let expected = [
        ok("a"),
        refused("/event_type invalid_json"),
        refused("/payload/k nul_character"),
        refused(" wrong_type"),
        ok("e"),
    ];
    assert_eq!(batch(Dialect::Strict, body, BatchForm::Array), expected);
    let lines = b"{\"id\":\"a\",\"event_type\":\"x\"}\r\n\n{\"id\":\n{\"id\":\"\xff\",\"event_type\":\"x\"}\n  \n{\"id\":\"e\",\"event_type\":\"x\"}";
    let expected = [ok("a"), refused("/id invalid_json"), refused(" invalid_utf8"), ok("e")];
    assert_eq!(batch(Dialect::Strict, lines, BatchForm::Lines), expected);
}

#[test]
fn bytes_that_are_not_utf8_refuse_the_event_they_stand_in() {
    let body = b"[{\"id\":\"a\",\"event_type\":\"x\"},{\"id\":\"b\",\"event_type\":\"\xff\xfe\"},{\"id\":\"c\",\"event_type\":\"x\"}]";
    assert_eq!(batch(Dialect::Strict, body, BatchForm::Array), [ok("a"), refused(" invalid_utf8"), ok("c")]);
    let between = b"{\"events\":[{\"id\":\"a\",\"event_type\":\"x\"}],\"batch_id\":\"\xff\"}";
    let error = parser(Dialect::Strict).batch(between, BatchForm::Envelope).unwrap_err();
    assert_eq!(codes(error.fields()), [" invalid_utf8"]);
}

#[test]
fn depth_counts_from_the_event_also_in_a_batch() {
    let nested = |depth: usize| {
        format!(
            r#"{{"events":[{{"id":"a","event_type":"x","payload":{}1{}}},{{"id":"b","event_type":"x"}}]}}"#,
            "{\"a\":".repeat(depth),
            "}".repeat(depth)
        )
    };
    assert_eq!(batch(Dialect::Strict, nested(64).as_bytes(), BatchForm::Envelope), [ok("a"), ok("b")]);
    let pointer = format!("/payload{} depth", "/a".repeat(64));
    assert_eq!(
        batch(Dialect::Strict, nested(65).as_bytes(), BatchForm::Envelope),
        [refused(&pointer), ok("b")]
    );
}

#[test]
fn a_batch_of_errors_stays_small() {
    let mut parser = EventParser::new(Env::manual(NOW, 1).0, rules(Dialect::Strict), 2_000);
    let event = format!(r#"{{"payload":{{"{}":[{}1]}}}}"#, "k".repeat(256), "1e999,".repeat(63));
    let body = format!("[{}]", vec![event; 2_000].join(","));
    let events = parser.batch(body.as_bytes(), BatchForm::Array).unwrap().events;
    let errors: Vec<_> = events.iter().map(|event| event.as_ref().unwrap_err().len()).collect();
    assert_eq!((errors[0], errors[1_999]), (64, 1));
}

#[test]
fn the_order_of_keys_may_change_from_event_to_event() {
    let mut parser = EventParser::new(Env::manual(NOW, 1).0, rules(Dialect::Strict), 10);
    let ordered = r#"{"id":"a","event_type":"x","title":"t","source":{"service":"s","method":"GET"}}"#;
    let turned = r#"{"source":{"method":"GET","service":"s"},"title":"t","event_type":"x","id":"a"}"#;
    let expected = parser.event(ordered.as_bytes()).unwrap();
    for text in [turned, turned, ordered, turned, ordered, ordered] {
        assert_eq!(parser.event(text.as_bytes()).unwrap(), expected);
    }
    for text in [r#"{"id":"a","event_type":"x","id":"b"}"#, r#"{"source":{"service":"s","service":"s"}}"#] {
        let error = parser.event(text.as_bytes()).unwrap_err();
        assert!(error.fields().iter().any(|field| field.code == "duplicate_key"), "{error}");
    }
}

#[test]
fn envelopes_carry_labels() {
    let body = format!(r#"{{"batch_id":"b1","extra":[1],"events":[{}],"source_application":"app"}}"#, v1(""));
    let batch = parser(Dialect::V1).batch(body.as_bytes(), BatchForm::Envelope).unwrap();
    assert_eq!((batch.batch_id.as_deref(), batch.source_application.as_deref()), (Some("b1"), Some("app")));
    assert!(batch.events[0].is_ok());
    for (dialect, body, expected) in [
        (Dialect::V1, "{}", "/events required"),
        (Dialect::V1, r#"{"events":7}"#, "/events invalid_json"),
        (Dialect::V1, r#"{"events":[],"batch_id":7}"#, "/batch_id wrong_type"),
        (Dialect::V1, r#"{"events":[],"events":[]}"#, "/events duplicate_key"),
        (Dialect::Strict, r#"{"event":[],"events":[]}"#, "/event unknown_field"),
        (Dialect::V1, "[]", " invalid_json"),
        (Dialect::V1, r#"{"events":[{]}"#, "/events/0 invalid_json"),
    ] {
        let error = parser(dialect).batch(body.as_bytes(), BatchForm::Envelope).unwrap_err();
        assert_eq!(codes(error.fields()), [expected], "{body}");
    }
    let label = |size: usize| format!(r#"{{"events":[],"batch_id":"{}"}}"#, "é".repeat(size));
    assert!(parser(Dialect::V1).batch(label(200).as_bytes(), BatchForm::Envelope).is_ok());
    assert!(parser(Dialect::V1).batch(label(201).as_bytes(), BatchForm::Envelope).is_err());
}

#[test]
fn batch_size_at_the_edge() {
    let events = |count: usize| vec![r#"{"event_type":"x"}"#; count];
    for (form, open, separator, close) in [
        (BatchForm::Array, "[", ",", "]"),
        (BatchForm::Lines, "", "\n", "\n"),
        (BatchForm::Envelope, "{\"events\":[", ",", "]}"),
    ] {
        let body = |count: usize| format!("{open}{}{close}", events(count).join(separator));
        let mut parser = parser(Dialect::Strict);
        assert_eq!(parser.batch(body(0).as_bytes(), form).unwrap().events.len(), 0);
        assert_eq!(parser.batch(body(5).as_bytes(), form).unwrap().events.len(), 5);
        assert_eq!(parser.batch(body(6).as_bytes(), form).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (
        any::<prop::sample::Index>(),
        prop_oneof![Just(b'"'), Just(b'}'), Just(b'\\'), Just(b' '), any::<u8>()],
    );
    prop_oneof![
        Just(FULL.replace('\n', " ").into_bytes()),
        Just(br#"{"id":"a","event_type":"x"}"#.to_vec()),
        Just(br#"{"id":"a","event_type":7,"zzz":["\ud800"]}"#.to_vec()),
        mutated.prop_map(|(at, byte)| {
            let mut text = FULL.replace('\n', " ").into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            text
        }),
        prop::collection::vec(any::<u8>(), 1..20),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(element(), 0..4), dialect in any::<bool>()) {
        let dialect = if dialect { Dialect::V1 } else { Dialect::Strict };
        let mut parser = parser(dialect);
        let body = body.join(&b',');
        if let Ok(event) = parser.event(&body) {
            prop_assert_eq!(rules(dialect).check(&event, NOW), []);
        }
        for form in [BatchForm::Array, BatchForm::Lines, BatchForm::Envelope] {
            let (open, close) = match form {
                BatchForm::Array => ("[", "]"),
                BatchForm::Lines => ("", ""),
                BatchForm::Envelope => ("{\"events\":[", "]}"),
            };
            let body = [open.as_bytes(), &body, close.as_bytes()].concat();
            let _ = parser.batch(&body, form);
        }
    }

    #[test]
    fn an_event_fares_in_a_batch_as_it_does_alone(elements in prop::collection::vec(element(), 1..5)) {
        // What does not close its brackets may take others with it, and a line ends at a line break.
        let stands_alone = |text: &Vec<u8>| {
            serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok() && !text.contains(&b'\n')
        };
        let elements: Vec<_> = elements.into_iter().filter(stands_alone).collect();
        let alone: Vec<_> = elements
            .iter()
            .map(|element| match parser(Dialect::Strict).event(element) {
                Ok(event) => Ok(event.id.to_string()),
                Err(error) => Err(codes(error.fields())),
            })
            .collect();
        let body = [b"[".as_slice(), &elements.join(&b','), b"]"].concat();
        prop_assert_eq!(batch(Dialect::Strict, &body, BatchForm::Array), alone.clone());
        let lines = elements.join(&b'\n');
        prop_assert_eq!(batch(Dialect::Strict, &lines, BatchForm::Lines), alone);
    }
}
