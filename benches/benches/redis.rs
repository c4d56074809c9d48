//! How many rate limit decisions, cached values and durable accepts a second one node gets out of one Redis.
//!
//! ```sh
//! cargo xtask services   # prints the variable to export
//! cargo bench -p pulsestream-benches --bench redis
//! ```
#![allow(
    missing_docs,
    clippy::print_stdout,
    reason = "criterion makes the functions, and people read the output"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::cache::CacheOptions;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_core::ports::rate_limiter::{RateLimit, RateLimiter};
use pulsestream_core::time::Timestamp;
use pulsestream_redis::{RedisBackend, RedisConfig, open};
use tokio::runtime::Runtime;

const URL: &str = "PULSESTREAM_TEST_REDIS_URL";
/// Calls that each caller makes in one measured round.
const CALLS: usize = 32;
/// How many callers there are at once.
const CALLERS: [usize; 3] = [1, 16, 128];

fn redis(criterion: &mut Criterion) {
    let Some(url) = std::env::var(URL).ok().filter(|url| !url.is_empty()) else {
        println!("redis: {URL} is not set, nothing is measured");
        return;
    };
    let runtime = Runtime::new().expect("a runtime starts");
    let mut config = RedisConfig::new(url);
    config.key_prefix = format!("bench-{}", std::process::id());
    config.queue.max_events = u64::MAX;
    config.queue.max_bytes = u64::MAX;
    let backend = runtime.block_on(open(config, Env::system())).expect("redis answers");
    limits(criterion, &runtime, &backend);
    cached(criterion, &runtime, &backend);
    accepts(criterion, &runtime, &backend);
}

fn limits(criterion: &mut Criterion, runtime: &Runtime, backend: &RedisBackend) {
    let limit = RateLimit::new(1_000_000, Duration::from_secs(1), 1_000_000).expect("a valid limit");
    let mut group = criterion.benchmark_group("redis/limit");
    group.sample_size(10);
    for callers in CALLERS {
        group.throughput(Throughput::Elements((CALLS * callers) as u64));
        group.bench_function(format!("{callers}_callers"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(at_once(callers, |caller| {
                    let limiter = backend.rate_limiter();
                    async move {
                        let tenant = TenantId::from_u128(caller as u128);
                        for _ in 0..CALLS {
                            black_box(limiter.take(tenant, "ingest", 1, limit).await.expect("redis answers"));
                        }
                    }
                }));
            });
        });
    }
    group.finish();
}

/// Values of a dashboard's size under two tags: those that are there, and those that have to be computed and kept.
fn cached(criterion: &mut Criterion, runtime: &Runtime, backend: &RedisBackend) {
    const OPTIONS: CacheOptions<'static> =
        CacheOptions { ttl: Duration::from_secs(600), tags: &["rules", "events"] };
    let mut group = criterion.benchmark_group("redis/cache");
    group.sample_size(10);
    let next = Arc::new(AtomicU64::new(0));
    for callers in CALLERS {
        group.throughput(Throughput::Elements((CALLS * callers) as u64));
        for is_hit in [true, false] {
            let name = if is_hit { "hit" } else { "miss" };
            group.bench_function(format!("{name}_{callers}_callers"), |bencher| {
                bencher.iter(|| {
                    runtime.block_on(at_once(callers, |caller| {
                        let (cache, next) = (backend.cache(), next.clone());
                        async move {
                            let tenant = TenantId::from_u128(caller as u128);
                            for call in 0..CALLS {
                                let key = match is_hit {
                                    true => format!("kept-{call}"),
                                    false => format!("new-{}", next.fetch_add(1, Ordering::Relaxed)),
                                };
                                let fill = || async { Ok(vec![b'x'; 1_024]) };
                                let value = cache.get_or_fill(tenant, &key, OPTIONS, fill).await;
                                black_box(value.expect("redis answers"));
                            }
                        }
                    }));
                });
            });
        }
    }
    group.finish();
}

fn accepts(criterion: &mut Criterion, runtime: &Runtime, backend: &RedisBackend) {
    let mut group = criterion.benchmark_group("redis/accept_single_events");
    group.sample_size(10);
    let queue = backend.ingest_queue();
    for callers in CALLERS {
        group.throughput(Throughput::Elements((CALLS * callers) as u64));
        group.bench_function(format!("{callers}_callers"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(at_once(callers, |caller| {
                    let queue = backend.ingest_queue();
                    async move {
                        let tenant = TenantId::from_u128(caller as u128);
                        for _ in 0..CALLS {
                            queue.enqueue(tenant, vec![event()]).await.expect("redis answers");
                        }
                    }
                }));
            });
            runtime.block_on(drain(&queue));
        });
    }
    group.finish();
}

async fn at_once<F: Future<Output = ()> + Send + 'static>(callers: usize, call: impl Fn(usize) -> F) {
    let callers: Vec<_> = (0..callers).map(|caller| tokio::spawn(call(caller))).collect();
    for caller in callers {
        caller.await.expect("a caller ends");
    }
}

/// Removes what was accepted, as a worker does.
async fn drain(queue: &Arc<pulsestream_redis::RedisIngestQueue>) {
    loop {
        let batches = queue.take("bench", 1_000, Duration::ZERO).await.expect("redis answers");
        if batches.is_empty() {
            return;
        }
        let receipts: Vec<_> = batches.into_iter().map(|batch| batch.receipt).collect();
        queue.acknowledge(&receipts).await.expect("redis answers");
    }
}

fn event() -> Event {
    let id = EventId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    let mut event = Event::new(id, "api_call", Timestamp::from_seconds(1_800_000_000));
    event.title = Some("GET /cart answered".into());
    event.source.service = Some("checkout".into());
    event.source.endpoint = Some("/cart/{id}".into());
    event.metrics.response_time_ms = Some(12.5);
    event.metrics.status_code = Some(200);
    event
}

criterion_group!(benches, redis);
criterion_main!(benches);
