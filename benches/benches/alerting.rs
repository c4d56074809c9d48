//! Alerting as its users feel it: events per second on one core, memory of an instance, and time to the first notification.
//!
//! `cargo bench -p pulsestream-benches --bench alerting`; with `-- engine`, `-- memory` or `-- told` only that part. With
//! `PULSESTREAM_TEST_POSTGRES_URL` the last part runs over PostgreSQL too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench measures with the clock, prints, and fails by panicking"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pulsestream::PulseStream;
use pulsestream_benches::rules;
use pulsestream_core::alerting::engine::StreamingEngine;
use pulsestream_core::alerting::{Channel, ChannelConfig, ChannelRef, Rule, RuleExpression, RuleKind};
use pulsestream_core::event::{Event, JsonObject};
use pulsestream_core::id::{ChannelId, EventId, RuleId, TenantId};
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_core::ports::rule_engine::{RuleEngine, RuleEvaluation};
use tokio::sync::mpsc;

const EVENTS: u64 = 1_000_000;
const CHUNK: u64 = 20_000;
/// Instances of the rule whose memory is measured: as many as a rule may have.
const INSTANCES: u64 = 10_000;
const NOTIFICATIONS: u32 = 1_000;
/// Each has a channel of its own and gets fewer messages than a channel sends without a wait.
const CHANNELS: u32 = 16;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_chosen = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    if is_chosen("engine") {
        for count in [100, 1_000] {
            let spent = observe(&rules::rules(count));
            let rate = f64::from(u32::try_from(EVENTS).unwrap()) / spent.as_secs_f64();
            println!("{count:>5} rules, {EVENTS} events, 1,000 groups, one core: {rate:>10.0} events/s");
        }
    }
    if is_chosen("memory") {
        println!(
            "a count rule with a window of 5 minutes: {} bytes for each instance",
            bytes_of_an_instance()
        );
    }
    if is_chosen("told") {
        tell();
    }
}

fn tell() {
    let folder = tempfile::tempdir().unwrap();
    tell_of("in a folder", &folder.path().to_string_lossy());
    if let Ok(postgres) = std::env::var("PULSESTREAM_TEST_POSTGRES_URL") {
        let joint = if postgres.contains('?') { '&' } else { '?' };
        tell_of("in PostgreSQL", &format!("{postgres}{joint}schema=told_{}", std::process::id()));
    }
}

fn tell_of(place: &str, url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut waits = runtime.block_on(first_notifications(url));
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() * share / 1_000).min(waits.len() - 1)];
    println!(
        "from the acknowledgement of the deciding event to the notifier, {place}, {} times: p50 {:?}, p99 {:?}, max {:?}",
        waits.len(),
        at(500),
        at(990),
        waits[waits.len() - 1]
    );
}

fn start(rules: &[Rule]) -> Box<dyn RuleEvaluation> {
    StreamingEngine::default().start(TenantId::from_u128(1), rules, None).unwrap()
}

/// Returns how long the engine takes for all events, the making of the events apart.
fn observe(rules: &[Rule]) -> Duration {
    let mut evaluation = start(rules);
    let mut spent = Duration::ZERO;
    for first in (0..EVENTS).step_by(usize::try_from(CHUNK).unwrap()) {
        let events: Vec<Event> = (first..first + CHUNK).map(rules::event).collect();
        let began = Instant::now();
        black_box(evaluation.observe(&events));
        spent += began.elapsed();
    }
    spent
}

fn rule(expression: &str) -> Rule {
    let kind = RuleKind::Absence { window: Duration::from_secs(60) };
    let mut rule = Rule::new(RuleId::from_u128(1), "rule", kind);
    expression.parse::<RuleExpression>().unwrap().apply_to(&mut rule);
    rule
}

/// Fills instances over a whole window and returns what each added to the resident memory of the process.
fn bytes_of_an_instance() -> u64 {
    let mut one = rule("count > 1000000 over 5m by source.service");
    one.max_groups = u32::try_from(INSTANCES).unwrap();
    let rules: Vec<Rule> = (1..=20).map(|id| Rule { id: RuleId::from_u128(id), ..one.clone() }).collect();
    let mut evaluation = start(&rules);
    // Every instance sees an event in each of the 30 steps of its window.
    let events = |step: u64| -> Vec<Event> {
        (0..INSTANCES)
            .map(|instance| {
                let at = rules::START.plus(Duration::from_secs(step * 10));
                let mut event = Event::new(EventId::new(format!("{step}-{instance}")).unwrap(), "call", at);
                event.source.service = Some(format!("service-{instance}").into());
                event
            })
            .collect()
    };
    drop(events(0));
    let before = resident();
    for step in 0..31 {
        evaluation.observe(&events(step));
    }
    let grown = resident().saturating_sub(before);
    assert_eq!(evaluation.counters().instances, INSTANCES * 20);
    grown / (INSTANCES * 20)
}

/// Returns the resident memory of this process, from `/proc`.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[derive(Debug)]
struct Told(mpsc::UnboundedSender<Instant>);

#[async_trait]
impl Notifier for Told {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn validate(&self, channel: &Channel) -> pulsestream_core::Result<()> {
        channel.validate()
    }

    async fn deliver(&self, _: &Notification) -> DeliveryReport {
        self.0.send(Instant::now()).unwrap();
        DeliveryReport {
            outcome: DeliveryOutcome::Delivered,
            request: "told".into(),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}

/// Returns how long each notification came after its deciding event was acknowledged, in the stores of a URL.
async fn first_notifications(url: &str) -> Vec<Duration> {
    let (sender, mut told) = mpsc::unbounded_channel();
    let config = ChannelConfig::Custom { kind: "told".into(), settings: JsonObject::default() };
    let mut builder = PulseStream::builder()
        .with_rate_limiter(Arc::new(pulsestream::Unlimited))
        .with_notifier(Arc::new(Told(sender)));
    for number in 0..CHANNELS {
        let id = ChannelId::from_u128(u128::from(number) + 1);
        builder = builder.with_server_channel(Channel::new(id, format!("pager-{number}"), config.clone()));
    }
    let ps = builder.open(url).await.unwrap();
    let shop = ps.tenant(TenantId::from_name("shop"));
    for number in 0..CHANNELS {
        let mut one =
            rule(&format!("count >= 1 over 1m where event_type = 'call-{number}' by source.service"));
        one.id = RuleId::from_u128(u128::from(number) + 1);
        one.name = format!("rule {number}").into();
        one.channels = vec![ChannelRef::new(format!("pager-{number}"))];
        one.notify_at_once = true;
        shop.rules().put(one).await.unwrap();
    }
    let mut waits = Vec::new();
    for number in 0..NOTIFICATIONS {
        let id = EventId::new(number.to_string()).unwrap();
        let kind = format!("call-{}", number % CHANNELS);
        let mut event = Event::new(id, kind.as_str(), ps.env().now());
        event.source.service = Some(format!("service-{number}").into());
        shop.ingest(event).await.unwrap();
        let acknowledged = Instant::now();
        waits.push(told.recv().await.unwrap().saturating_duration_since(acknowledged));
    }
    ps.close().await.unwrap();
    waits
}
