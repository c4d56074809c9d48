//! The ingest queue beside the store it protects, in one run on the same servers: how many single events a second are accepted
//! durably, and how fast the queue is drained into PostgreSQL.
//!
//! ```sh
//! cargo xtask services   # prints the variables to export
//! cargo bench -p pulsestream-benches --bench queue
//! ```
//!
//! Direct appends and accepts into the queue take turns; the median of each is reported. `accepts` is measured while nothing drains,
//! which is what the queue is for: a burst. `accepts while draining` is what remains when the same two cores also store.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends at the first error and prints its table"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsestream::{PulseStream, Unlimited};
use pulsestream_benches::servers::{median, postgres_url, redis_url, spread_id, units_per_second};
use pulsestream_core::event::{Event, JsonObject};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ingest::IngestOptions;
use pulsestream_redis::RedisConfig;

const ROUND: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3;
const CALLERS: [usize; 3] = [16, 64, 256];

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// About 600 bytes, like an API call with a little payload.
fn event(ps: &PulseStream) -> Event {
    let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let mut event = Event::new(EventId::from_u128(spread_id(number)), "api_call", ps.env().now());
    event.title = Some("GET /api/v1/orders/{id}".into());
    event.message = Some(format!("request {number} was answered by the upstream after one retry").into());
    event.source.service = Some("checkout".into());
    event.source.endpoint = Some("/api/v1/orders/{id}".into());
    event.source.method = Some("GET".into());
    event.context.user_id = Some(format!("user-{}", number % 5_000).into());
    event.metrics.response_time_ms = Some(12.5);
    event.metrics.status_code = Some(200);
    event.payload = JsonObject::parse(r#"{"cart":{"items":3,"total":12.25},"plan":"free"}"#).unwrap();
    event
}

/// Single events a second, from so many callers at once.
async fn accepts(ps: &PulseStream, tenant: TenantId, callers: usize) -> f64 {
    units_per_second(ROUND, callers, |_| {
        let ps = ps.clone();
        move || {
            let ps = ps.clone();
            async move {
                ps.ingest().ingest(tenant, event(&ps), IngestOptions::default()).await.unwrap();
                1
            }
        }
    })
    .await
}

/// Empties the queue with so many workers and returns events a second.
async fn drain(ps: &PulseStream, workers: usize) -> f64 {
    let started = ps.env().monotonic();
    let workers: Vec<_> = (0..workers)
        .map(|worker| {
            let mut drain = ps.ingest().drain(&format!("bench/{worker}")).unwrap();
            tokio::spawn(async move {
                let mut events = 0;
                loop {
                    let batches = drain.take(Duration::ZERO).await.unwrap();
                    if batches.is_empty() {
                        return events;
                    }
                    events += drain.store(batches).await.unwrap().stored;
                }
            })
        })
        .collect();
    let mut events = 0;
    for worker in workers {
        events += worker.await.unwrap();
    }
    f64::from(u32::try_from(events).unwrap()) / ps.env().monotonic().saturating_sub(started).as_secs_f64()
}

#[tokio::main]
async fn main() {
    let (Some(postgres), Some(redis)) = (postgres_url(), redis_url()) else { return };
    let mut redis_config = RedisConfig::default();
    redis_config.queue.max_events = 10_000_000;
    redis_config.queue.max_bytes = 8 << 30;
    let builder = || {
        PulseStream::builder().with_rate_limiter(Arc::new(Unlimited)).with_redis_config(redis_config.clone())
    };
    let prefix = format!("bench-{}", std::process::id());
    let with_queue = format!("{postgres}?redis={redis}&redis_prefix={prefix}&queue=redis");
    let direct = builder().without_background().open(&postgres).await.unwrap();
    let queued = builder().without_background().open(&with_queue).await.unwrap();
    let tenant = TenantId::from_u128(direct.env().uuid_v7().unwrap());

    println!("callers   direct/s   accepts/s    ratio   drain/s, 1 worker   4 workers");
    for callers in CALLERS {
        let (mut stored, mut accepted, mut drained) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for round in 0..ROUNDS {
            stored.push(accepts(&direct, tenant, callers).await);
            accepted.push(accepts(&queued, tenant, callers).await);
            let workers = [1, 4][round % 2];
            drained[round % 2].push(drain(&queued, workers).await);
        }
        let (direct, accepts) = (median(stored), median(accepted));
        let [one, four] = drained.map(median);
        println!(
            "{callers:>7} {direct:>10.0} {accepts:>11.0} {:>7.1}x {one:>19.0} {four:>11.0}",
            accepts / direct
        );
    }

    let draining = builder().open(&with_queue).await.unwrap();
    let callers = CALLERS[CALLERS.len() - 1];
    let rates = [
        accepts(&draining, tenant, callers).await,
        accepts(&draining, tenant, callers).await,
        accepts(&draining, tenant, callers).await,
    ];
    println!("accepts while draining, {callers} callers: {:.0}/s", median(rates.to_vec()));
    drain(&queued, 4).await;
    for ps in [direct, queued, draining] {
        ps.close().await.unwrap();
    }
}
