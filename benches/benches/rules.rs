//! Rule evaluation: events per second with 100 and 1,000 rules, most of them not matching, and with one rule of 1,000 groups.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a bench fails by panicking, and criterion makes the functions"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pulsestream_core::alerting::engine::StreamingEngine;
use pulsestream_core::alerting::{Rule, RuleExpression, RuleKind};
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, RuleId, TenantId};
use pulsestream_core::ports::rule_engine::{RuleEngine, RuleEvaluation};
use pulsestream_core::time::Timestamp;

const EVENTS: i64 = 20_000;

/// Calls of 1,000 services at 5,000 events a second, one in a hundred with status 503.
fn events() -> Vec<Event> {
    (0..EVENTS)
        .map(|index| {
            let at = Timestamp::from_micros(1_700_000_000_000_000 + index * 200);
            let mut event = Event::new(EventId::new(index.to_string()).unwrap(), "api_call", at);
            event.source.service = Some(format!("service-{}", index * 7_919 % 1_000).into());
            event.source.endpoint = Some(format!("/api/{}", index % 50).into());
            event.metrics.status_code = Some(if index % 100 == 0 { 503 } else { 200 });
            event.metrics.response_time_ms = f64::from(u16::try_from(index % 900).unwrap()).into();
            event
        })
        .collect()
}

fn rule(id: u128, expression: &str) -> Rule {
    let kind = RuleKind::Absence { window: Duration::from_secs(60) };
    let mut rule = Rule::new(RuleId::from_u128(id), format!("rule {id}"), kind);
    expression.parse::<RuleExpression>().unwrap().apply_to(&mut rule);
    rule
}

fn rules(count: u128) -> Vec<Rule> {
    let one = |index: u128| {
        let service = format!("source.service = 'service-{}'", index % 200);
        let slow = "metrics.response_time_ms";
        rule(
            index + 1,
            &match index % 5 {
                0 => format!("count > 1000000 over 5m where event_type = 'api_call' and {service}"),
                1 => format!("p95({slow}) > 100000 over 5m where {service} and metrics.status_code >= 500"),
                2 => format!("error_rate > 0.99 over 1h where event_type = 'checkout' and {service}"),
                3 => format!("avg({slow}) > 1e5 over 15m where event_type in ['job', 'task'] and {service}"),
                _ => format!("count >= 100000 over 1m where event_type = 'type-{index}'"),
            },
        )
    };
    (0..count).map(one).collect()
}

fn start(rules: &[Rule]) -> Box<dyn RuleEvaluation> {
    StreamingEngine::default().start(TenantId::from_u128(1), rules, None).unwrap()
}

fn evaluation(criterion: &mut Criterion) {
    let events = events();
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(events.len() as u64));
    let cases = [
        ("100", rules(100)),
        ("1000", rules(1_000)),
        ("count_of_1000_groups", vec![rule(1, "count > 1000000 over 5m by source.service")]),
        ("avg_over_1m", vec![rule(1, "avg(metrics.response_time_ms) > 1000000 over 1m")]),
        ("avg_over_7d", vec![rule(1, "avg(metrics.response_time_ms) > 1000000 over 7d")]),
        ("p95_over_5m", vec![rule(1, "p95(metrics.response_time_ms) > 890 over 5m")]),
    ];
    for (name, rules) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || start(&rules),
                |evaluation| black_box(evaluation.observe(&events)),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, evaluation);
criterion_main!(benches);
