//! Filters: events evaluated per second, and the cost of reading a filter.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a bench fails by panicking, and criterion makes the functions"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pulsestream_core::Filter;
use pulsestream_core::event::{Event, JsonObject, Severity};
use pulsestream_core::id::EventId;
use pulsestream_core::time::Timestamp;

const EVENTS: u16 = 4_096;

/// Events of eight services; an eighth has status 503, a fifth mentions a timeout.
fn events() -> Vec<Event> {
    (0..EVENTS)
        .map(|index| {
            let at = Timestamp::from_seconds(i64::from(index));
            let mut event = Event::new(EventId::new(format!("event-{index}")).unwrap(), "api_call", at);
            event.severity = Severity::ALL[usize::from(index % 4)];
            event.source.service = Some(format!("service-{}", index % 8).into());
            event.source.endpoint = Some(format!("/api/v1/orders/{index}").into());
            event.context.user_id = Some(format!("user-{}", index % 1_000).into());
            event.context.tags.insert("region", ["eu", "us"][usize::from(index % 2)]);
            event.metrics.status_code = Some(if index % 64 < 8 { 503 } else { 200 });
            event.metrics.response_time_ms = Some(f64::from(index % 900));
            event.title = Some("Request to the upstream service".into());
            let outcome =
                ["completed", "retried", "queued", "cached", "gave up: Timeout"][usize::from(index % 5)];
            let message = format!(
                "GET /api/v1/orders/{index} for customer {} {outcome} after the last attempt",
                index % 77
            );
            event.message = Some(message.into());
            event.payload = JsonObject::parse(&format!(
                r#"{{"plan": "{}", "items": [{{"sku": "a-{index}", "count": 2}}], "total": {index}}}"#,
                ["free", "pro"][usize::from(index % 2)],
            ))
            .unwrap();
            event
        })
        .collect()
}

fn evaluation(criterion: &mut Criterion) {
    let events = events();
    let users: Vec<_> = (0..1_000).map(|index| format!("'user-{}'", index * 2)).collect();
    let filters = [
        (
            "three_predicates",
            "source.service = 'service-3' and metrics.status_code >= 500 and message contains 'Timeout'"
                .into(),
        ),
        (
            "three_predicates_all_evaluated",
            "severity >= 'info' and metrics.status_code < 600 and message contains 'attempt'".into(),
        ),
        ("search_text", "'timeout'".into()),
        ("regex", "message matches 'for customer \\\\d+ (retried|queued)'".into()),
        ("in_1000", format!("user_id in [{}]", users.join(", "))),
        ("tag", "context.tags.region = 'eu'".into()),
        ("payload", "payload.plan = 'free'".into()),
    ];
    let mut group = criterion.benchmark_group("filter/evaluate");
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    for (name, text) in filters {
        let filter = Filter::parse(&text).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| events.iter().filter(|event| filter.matches(black_box(event))).count());
        });
    }
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let text = "source.service = 'shop' and metrics.status_code >= 500 and not payload.plan in ['free']";
    let json = serde_json::to_string(&Filter::parse(text).unwrap()).unwrap();
    let mut group = criterion.benchmark_group("filter/read");
    group.bench_function("text", |bencher| bencher.iter(|| Filter::parse(black_box(text)).unwrap()));
    group.bench_function("json", |bencher| {
        bencher.iter(|| serde_json::from_str::<Filter>(black_box(&json)).unwrap());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).without_plots();
    targets = evaluation, reading
}
criterion_main!(benches);
