//! The contract of `Expr`, one table.

use pulsestream_core::Filter;
use pulsestream_core::event::{ErrorDetails, Event, JsonObject, Severity};
use pulsestream_core::id::EventId;
use pulsestream_core::time::Timestamp;

fn event() -> Event {
    let mut event = Event::new(EventId::new("e1").unwrap(), "api_call", Timestamp::from_seconds(5));
    event.severity = Severity::Error;
    event.title = Some("Checkout FAILED".into());
    event.message = Some("upstream timeout after 5 s, Gr\u{fc}n".into());
    event.source.service = Some("shop".into());
    event.metrics.status_code = Some(502);
    event.metrics.response_time_ms = Some(0.5);
    event.metrics.cache_hit = Some(false);
    event.context.tags.insert("region", "eu-west");
    event.error = Some(Box::new(ErrorDetails { code: Some("E1".into()), ..ErrorDetails::default() }));
    event.payload = JsonObject::parse(
        r#"{"plan": "free", "n": 5, "text": "5", "ok": true, "none": null, "items": [{"sku": "a"}], "empty": "", "zero": 0}"#,
    )
    .unwrap();
    event
}

#[test]
fn every_sentence_of_the_contract() {
    let event = event();
    for (text, expected) in [
        ("true", true),
        ("not true", false),
        // Missing fields and other types.
        ("source.endpoint = '/cart'", false),
        ("source.endpoint != '/cart'", true),
        ("not source.endpoint = '/cart'", true),
        ("payload.n = '5'", false),
        ("payload.n != '5'", true),
        ("payload.text = 5", false),
        ("payload.text < 6", false),
        ("payload.text >= 4", false),
        ("payload.none = 'null'", false),
        ("payload.none != 'null'", true),
        ("payload.items = 'a'", false),
        ("payload.items != 'a'", true),
        ("payload.items contains 'a'", false),
        ("payload.items.0.sku = 'a'", true),
        ("payload.items.1.sku = 'a'", false),
        ("payload.n contains '5'", false),
        ("payload.ok = 'true'", false),
        ("payload.ok = true", true),
        ("payload.ok != false", true),
        // Numbers.
        ("metrics.status_code = 502", true),
        ("metrics.status_code = 502.0", true),
        ("metrics.status_code >= 502 and metrics.status_code <= 502", true),
        ("metrics.status_code > 502 or metrics.status_code < 502", false),
        ("metrics.response_time_ms = 5e-1", true),
        ("payload.zero = -0", true),
        ("payload.zero in [-0]", true),
        ("payload.n > -5", true),
        // Text, byte by byte.
        ("source.service = 'Shop'", false),
        ("source.service < 'shoq' and source.service > 'SHOP'", true),
        ("title contains 'failed'", false),
        ("title contains 'FAILED'", true),
        ("title starts_with 'Check' and title ends_with 'ED'", true),
        ("title starts_with 'check' or title ends_with 'ed'", false),
        ("title contains ''", true),
        ("source.endpoint contains ''", false),
        // A text alone.
        ("'failed'", true),
        ("'TIMEOUT'", true),
        ("'gr\u{fc}n'", true),
        ("'GR\u{dc}N'", false),
        ("'shop'", false),
        // Regular expressions.
        ("title matches 'out.*ED$'", true),
        ("title matches '^out'", false),
        ("message matches '(?i)GR\u{dc}N'", true),
        ("message matches '\\\\d s'", true),
        // Severity.
        ("severity >= 'warning' and severity < 'critical'", true),
        ("severity = 'error' and severity != 'info'", true),
        ("severity in ['info', 'critical']", false),
        ("severity in ['info', 'error']", true),
        // Lists.
        ("payload.plan in ['free', 5]", true),
        ("payload.n in ['free', 5]", true),
        ("payload.text in ['free', 5]", false),
        ("payload.plan in []", false),
        ("payload.plan not in []", true),
        ("source.endpoint not in ['a']", true),
        ("payload.n in [1,2,3,4,6,7,8,9,10,11,5]", true),
        ("payload.text in [1,2,3,4,6,7,8,9,10,11,5]", false),
        ("payload.ok in [1,2,3,4,6,7,8,9,10,11,true]", true),
        ("payload.plan in ['a','b','c','d','e','f','g','h','i','free']", true),
        ("payload.items in [1,2,3,4,6,7,8,9,10,11,true]", false),
        // Existence.
        ("exists(payload.items) and payload.empty exists", true),
        ("payload.none exists", false),
        ("payload.none not exists", true),
        ("error.code exists and error.message not exists", true),
        ("context.tags.region = 'eu-west'", true),
        ("context.tags.zone exists", false),
        // Precedence.
        ("true or true and not true", true),
        ("(true or true) and not true", false),
        ("not not true", true),
        ("not true or true", true),
        ("not (true or true)", false),
    ] {
        assert_eq!(Filter::parse(text).unwrap().matches(&event), expected, "{text}");
    }
}

#[test]
fn equality_constraints_are_necessary_conditions() {
    let constraints = |text: &str| {
        let found = Filter::parse(text).unwrap().equality_constraints();
        found
            .iter()
            .map(|(field, values)| {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                format!("{field}: {}", values.join("|"))
            })
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(constraints("event_type = 'a' and metrics.status_code > 5"), "event_type: a");
    assert_eq!(
        constraints("event_type in ['a', 'b'] and severity = 'error'"),
        "event_type: a|b; severity: error"
    );
    assert_eq!(constraints("event_type = 'b' or event_type in ['a', 'b']"), "event_type: a|b");
    assert_eq!(constraints("event_type = 'a' or severity = 'error'"), "");
    assert_eq!(constraints("event_type = 'a' or title exists"), "");
    assert_eq!(constraints("not event_type = 'a' and event_type != 'b'"), "");
    assert_eq!(
        constraints("event_type = 'a' and (event_type = 'b' and title = 'c')"),
        "event_type: a; event_type: b; title: c"
    );
    assert_eq!(constraints("event_type in []"), "event_type: ");
    assert_eq!(constraints("true"), "");
}

#[test]
fn zero_of_either_sign_is_one_number() {
    let mut event = event();
    event.metrics.response_time_ms = Some(-0.0);
    for text in [
        "metrics.response_time_ms = 0",
        "metrics.response_time_ms in [0]",
        "metrics.response_time_ms in [9,8,7,6,5,4,3,2,1,0]",
        "not metrics.response_time_ms < 0",
    ] {
        assert!(Filter::parse(text).unwrap().matches(&event), "{text}");
    }
}
