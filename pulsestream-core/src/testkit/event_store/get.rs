//! Getting events by id: they come back equal to what was appended.

use super::probe::Probe;
use crate::event::{Context, ErrorDetails, Event, Metrics, Severity, Source};
use crate::testkit::events::{event, event_with, id, json};
use crate::time::Timestamp;

/// Returns an event in which every field has a value.
pub(super) fn full_event(name: &str, seconds: i64) -> Event {
    let base = event(name, seconds);
    Event {
        event_type: "order_placed".into(),
        received_at: Timestamp::from_micros(base.timestamp.as_micros() + 1_234_567),
        severity: Severity::Critical,
        title: Some("Order \"17\" placed".into()),
        message: Some("line one\nline two\tand a tab".into()),
        source: Source {
            service: Some("checkout".into()),
            endpoint: Some("/cart/{id}".into()),
            method: Some("POST".into()),
            version: Some("2.14.0-rc.1".into()),
            environment: Some("production".into()),
        },
        context: Context {
            user_id: Some("u-1".into()),
            session_id: Some("s-2".into()),
            request_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            ip_address: Some("2001:db8::1".into()),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)".into()),
            referrer: Some("https://example.com/?q=a%20b".into()),
            tags: [("region", "eu-west"), ("a.b", "dotted"), ("", "empty key")].into_iter().collect(),
        },
        metrics: Metrics {
            response_time_ms: Some(12.625),
            status_code: Some(503),
            request_size_bytes: Some(1 << 53),
            response_size_bytes: Some(0),
            cache_hit: Some(false),
        },
        error: Some(Box::new(ErrorDetails {
            code: Some("E_TIMEOUT".into()),
            message: Some("upstream took too long".into()),
            error_type: Some("TimeoutError".into()),
            stack_trace: Some("at a (a.js:1)\nat b (b.js:2)".into()),
        })),
        payload: json(r#"{"plan":"free","items":[1,{"sku":"x"}],"total":19.99,"gift":true}"#),
        metadata: json(r#"{"schema":3}"#),
        ..base
    }
}

/// Every field comes back as it was, also the absent ones.
pub(super) async fn get_returns_what_was_appended(probe: Probe) {
    let (full, bare) = (full_event("full", 0), event("bare", 1));
    probe.append(vec![full.clone(), bare.clone()]).await;
    assert_eq!(probe.get(&id("full")).await, Some(full));
    assert_eq!(probe.get(&id("bare")).await, Some(bare));
}

/// Answers stand in the order of the ids, unknown ones are `None`, repeated ones are repeated.
pub(super) async fn get_keeps_order_and_repeats(probe: Probe) {
    probe.append(vec![event("a", 0), event("b", 1), event("c", 2)]).await;
    let asked = ["c", "nope", "a", "c", "b"].map(id);
    let found = probe.store.get(probe.tenant, &asked).await.expect("get succeeds");
    let names: Vec<_> = found.iter().map(|event| event.as_ref().map(|event| event.id.as_str())).collect();
    assert_eq!(names, [Some("c"), None, Some("a"), Some("c"), Some("b")]);
}

/// No ids, no answers.
pub(super) async fn get_nothing(probe: Probe) {
    assert!(probe.store.get(probe.tenant, &[]).await.expect("get succeeds").is_empty());
    assert_eq!(probe.get(&id("a")).await, None);
}

/// An id of another tenant is an unknown id.
pub(super) async fn get_is_isolated(probe: Probe) {
    let other = probe.stranger();
    probe.append(vec![event("mine", 0)]).await;
    other.append(vec![event("theirs", 0)]).await;
    assert_eq!(probe.get(&id("theirs")).await, None);
    assert_eq!(other.get(&id("mine")).await, None);
}

/// An empty text is a text, an absent one is none.
pub(super) async fn get_tells_empty_from_absent(probe: Probe) {
    let empty = event_with("empty", 0, |event| {
        event.title = Some("".into());
        event.source.service = Some("".into());
        event.context.user_id = Some("".into());
        event.context.tags.insert("tag", "");
    });
    let zero = event_with("zero", 1, |event| {
        event.metrics.response_time_ms = Some(0.0);
        event.metrics.request_size_bytes = Some(0);
        event.metrics.cache_hit = Some(false);
    });
    probe.append(vec![empty.clone(), zero.clone(), event("absent", 2)]).await;
    assert_eq!(probe.get(&id("empty")).await, Some(empty));
    assert_eq!(probe.get(&id("zero")).await, Some(zero));
    probe
        .assert_matching(&[
            ("title = ''", "empty"),
            ("exists(source.service)", "empty"),
            ("exists(metrics.cache_hit)", "zero"),
            ("metrics.response_time_ms = 0", "zero"),
            ("exists(context.tags.tag)", "empty"),
        ])
        .await;
}

/// Texts of any script, length and punctuation come back byte for byte.
pub(super) async fn get_text_corners(probe: Probe) {
    let long = "\u{1f980}abc ".repeat(20_000);
    let texts = [
        "'; drop table events; --",
        "\\ \\n \\u0041 %s {} $1 ?",
        "\u{0}".trim_matches('\u{0}'),
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} e\u{301} \u{e9} \u{202e}rtl \u{feff}bom",
        "\u{7f}\u{80}\u{9f}\u{2028}\u{2029}\u{fffd}\u{10ffff}",
        "\r\n\t",
        "  padded  ",
        long.as_str(),
    ];
    let events: Vec<Event> = (0_i64..)
        .zip(texts)
        .map(|(number, text)| {
            event_with(&format!("e{number}"), number, |event| {
                event.message = Some(text.into());
                event.context.tags.insert(text.chars().take(50).collect::<String>(), text);
            })
        })
        .collect();
    probe.append(events.clone()).await;
    for event in events {
        assert_eq!(probe.get(&event.id.clone()).await, Some(event));
    }
}

/// Numbers come back to the last bit.
pub(super) async fn get_number_corners(probe: Probe) {
    let numbers = [0.1 + 0.2, f64::MIN_POSITIVE, 5e-324, f64::MAX, 1e15 + 0.3, 9_007_199_254_740_993.0];
    let events: Vec<Event> = (0_i64..)
        .zip(numbers)
        .map(|(number, value)| {
            event_with(&format!("e{number}"), number, |event| {
                event.metrics.response_time_ms = Some(value);
                event.metrics.status_code = Some(100);
                event.metrics.response_size_bytes = Some((1 << 53) - u64::try_from(number).unwrap_or(0));
            })
        })
        .collect();
    probe.append(events.clone()).await;
    for event in events {
        assert_eq!(probe.get(&event.id.clone()).await, Some(event));
    }
}
