//! The process that is killed: it ingests, evaluates and delivers, with the clock in its hands.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use pulsestream::notify::egress::EgressPolicy;
use pulsestream::{PulseStream, Unlimited};
use pulsestream_core::alerting::Author;
use pulsestream_core::env::{Env, ManualClock, SystemEntropy};
use pulsestream_core::ports::alert_store::PutMode;
use pulsestream_core::settings::Settings;
use pulsestream_core::{Error, ErrorKind, Result};

use super::script;

/// How long a lease outlives a child that was killed: the shortest that can be set.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(500);
/// How long a tick takes, in real time.
const PACE: Duration = Duration::from_millis(2);
/// How long every worker has looked at the clock at least once, in real time.
const ROUND: Duration = Duration::from_millis(1_100);
/// By how much a round of the end moves the clock.
const ROUND_STEP: Duration = Duration::from_secs(60);
/// Rounds of the end: more than the second retry of a delivery takes.
const ROUNDS: std::ops::Range<u32> = 8..60;

/// What the child is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The first tick.
    pub(super) start: u64,
    /// How many ticks to leave out after the first: the program was down for so long.
    pub(super) gap: u64,
    /// After how many ticks to let everything come to its end; `None`: to go on until it is killed.
    pub(super) ticks: Option<u64>,
}

/// Opens a store as the child does.
pub(super) async fn open(store: &str, clock: Arc<ManualClock>, works: bool) -> Result<PulseStream> {
    let mut settings = Settings::default();
    settings.alerting.lease_ttl = LEASE_TTL;
    let mut builder = PulseStream::builder()
        .with_settings(settings)
        .with_env(Env::new(clock, Arc::new(SystemEntropy)))
        .with_rate_limiter(Arc::new(Unlimited))
        .with_egress_policy(EgressPolicy::new().allow("127.0.0.0/8".parse()?));
    if !works {
        builder = builder.without_background();
    }
    builder.open(store).await
}

/// Runs until it is killed, or to the end of the plan. Prints each tick whose events are acknowledged, and at the end the time.
pub(crate) fn run(store: &str, sink: &str, start: u64, gap: u64, ticks: Option<u64>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "torture.child", "there is no runtime").with_source(error)
    })?;
    runtime.block_on(work(store, sink, Plan { start, gap, ticks }))
}

async fn work(store: &str, sink: &str, plan: Plan) -> Result<()> {
    let clock = Arc::new(ManualClock::new(script::time(plan.start)));
    let ps = open(store, clock.clone(), true).await?;
    configure(&ps, sink).await?;
    let tenant = ps.tenant(script::tenant());
    let ticks = std::iter::once(plan.start).chain(plan.start + 1 + plan.gap..);
    for tick in
        ticks.take(plan.ticks.map_or(usize::MAX, |ticks| usize::try_from(ticks).unwrap_or(usize::MAX)))
    {
        clock.jump_to(script::time(tick));
        for event in script::events(tick)? {
            tenant.ingest(event).await?;
        }
        say(tick);
        tokio::time::sleep(PACE).await;
    }
    for round in 0..ROUNDS.end {
        if round >= ROUNDS.start && ps.outbox().counts(tenant.id()).await?.queued == 0 {
            break;
        }
        clock.advance(ROUND_STEP);
        tokio::time::sleep(ROUND).await;
    }
    say(ps.env().now().as_micros());
    ps.close().await
}

/// Puts the channel and the rules, unless they are there from before.
async fn configure(ps: &PulseStream, sink: &str) -> Result<()> {
    let (store, author) = (ps.alert_store(), Author::server(script::START));
    let (tenant, mode) = (script::tenant(), PutMode::Create);
    let is_there = |error: &Error| error.kind() == ErrorKind::Conflict;
    match store.put_channel(tenant, script::channel(sink), mode, &author).await {
        Err(error) if !is_there(&error) => return Err(error),
        _ => {}
    }
    for rule in script::rules()? {
        match store.put_rule(tenant, rule, mode, &author).await {
            Err(error) if !is_there(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// One write of a short line: the parent sees all of it or nothing.
fn say(word: impl std::fmt::Display) {
    let line = format!("{word}\n");
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
