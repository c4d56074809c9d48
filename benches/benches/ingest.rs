//! Ingest: events read, normalised and validated per second on one core, and the cost of a rate limit decision.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a bench fails by panicking, and criterion makes the functions"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pulsestream_core::env::Env;
use pulsestream_core::event::{BatchForm, Dialect, Event, EventParser, JsonObject};
use pulsestream_core::ports::rate_limiter::{GcraState, RateLimit, gcra};
use pulsestream_core::settings::IngestSettings;
use pulsestream_core::time::Timestamp;

/// A request event as a service sends it: 900 bytes without white space, the payload's keys in no order.
const EVENT: &str = concat!(
    r#"{"id":"0198c1f2-7a34-7c1e-9f0b-5d2e8a1b4c6d","event_type":"api_call","timestamp":"2026-01-31T09:30:00.123456Z","#,
    r#""severity":"warning","title":"Checkout took longer than expected","#,
    r#""message":"POST /api/v1/orders answered after two retries of the payment provider","#,
    r#""source":{"service":"checkout","endpoint":"/api/v1/orders","method":"POST","version":"2.14.3","environment":"production"},"#,
    r#""context":{"user_id":"user-829341","session_id":"c1f7d2a9b3e84560","request_id":"req-7f3a9c21","ip_address":"203.0.113.77","#,
    r#""user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","tags":{"region":"eu-west-1","plan":"pro"}},"#,
    r#""metrics":{"response_time_ms":812.25,"status_code":201,"request_size_bytes":2048,"response_size_bytes":512,"cache_hit":false},"#,
    r#""payload":{"order_id":918273,"total":129.9,"currency":"EUR","items":[{"sku":"A-1001","count":2,"price":39.95},"#,
    r#"{"sku":"B-2","count":1,"price":50}],"coupon":null},"metadata":{"sdk":"python-1.4","node":17}}"#,
);

const BATCH_EVENTS: usize = 1_000;

fn parser() -> EventParser {
    let settings = IngestSettings::default();
    let (env, _) = Env::manual("2026-02-01T00:00:00Z".parse().unwrap(), 1);
    EventParser::new(env, settings.rules(Dialect::Strict), settings.max_batch_events)
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ingest");
    group.throughput(Throughput::Elements(1));
    let mut parser = parser();
    group.bench_function("event_with_id", |bencher| {
        bencher.iter(|| parser.event(black_box(EVENT.as_bytes())).unwrap());
    });
    let start = EVENT.find(r#""event_type""#).unwrap();
    let without_id = format!("{{{}", &EVENT[start..]);
    group.bench_function("event_without_id", |bencher| {
        bencher.iter(|| parser.event(black_box(without_id.as_bytes())).unwrap());
    });
    let event = parser.event(EVENT.as_bytes()).unwrap();
    let rules = IngestSettings::default().rules(Dialect::Strict);
    group.bench_function("validate", |bencher| {
        bencher.iter(|| rules.check(black_box(&event), Timestamp::MAX));
    });
    group.throughput(Throughput::Elements(BATCH_EVENTS as u64));
    let batch = format!("[{}]", vec![EVENT; BATCH_EVENTS].join(","));
    group.bench_function("batch_of_1000", |bencher| {
        bencher.iter(|| parser.batch(black_box(batch.as_bytes()), BatchForm::Array).unwrap());
    });
    group.finish();
}

/// The same event through serde: what a derived reader costs that checks neither limits nor, in the payload, duplicates.
fn derived(criterion: &mut Criterion) {
    let mut stored: Event = parser().event(EVENT.as_bytes()).unwrap();
    stored.payload = JsonObject::default();
    let text = serde_json::to_string(&stored).unwrap();
    let payload = parser().event(EVENT.as_bytes()).unwrap().payload.to_value().to_string();
    let mut group = criterion.benchmark_group("ingest_derived");
    group.throughput(Throughput::Elements(1));
    group.bench_function("event_and_payload_tree", |bencher| {
        bencher.iter(|| {
            let event: Event = serde_json::from_str(black_box(&text)).unwrap();
            let payload: serde_json::Value = serde_json::from_str(black_box(&payload)).unwrap();
            (event, serde_json::to_string(&payload).unwrap())
        });
    });
    group.finish();
}

fn payload(criterion: &mut Criterion) {
    let event = parser().event(EVENT.as_bytes()).unwrap();
    let text = format!(r#"{{"z":1,"payload":{}}}"#, event.payload);
    let mut group = criterion.benchmark_group("payload");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("normalise", |bencher| {
        bencher.iter(|| JsonObject::parse(black_box(&text)).unwrap());
    });
    let path = ["total".into()];
    group.bench_function("get", |bencher| {
        bencher.iter(|| event.payload.get(black_box(&path)).as_number());
    });
    group.bench_function("leaves", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            event.payload.leaves(&mut |path, _| count += path.len());
            count
        });
    });
    group.finish();
}

fn rate_limit(criterion: &mut Criterion) {
    let limit = RateLimit::per_minute(6_000, 10_000).unwrap();
    let (mut state, mut now) = (GcraState::default(), 0);
    criterion.bench_function("gcra", |bencher| {
        bencher.iter(|| {
            now += 5_000;
            let (decision, next) = gcra(state, black_box(now), limit, 1).unwrap();
            state = next;
            decision
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = reading, derived, payload, rate_limit
}
criterion_main!(benches);
