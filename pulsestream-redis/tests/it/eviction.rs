//! A Redis whose memory is full and that may evict what has an expiry: the cache gives way to everything that must stay.

use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::ports::cache::{Cache, CacheOptions};
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_core::ports::rate_limiter::{RateLimit, RateLimiter};
use pulsestream_redis::{RedisConfig, open};

use crate::support::{events, own_server, raw, tenant};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_cache_gives_way_and_batches_and_leases_stay() {
    let settings = ["--maxmemory", "8mb", "--maxmemory-policy", "volatile-lru"];
    let Some(server) = own_server(&settings) else { return };
    let backend = open(RedisConfig::new(server.url()), Env::system()).await.unwrap();
    assert_eq!(backend.durability(), Durability::Durable, "what has no expiry is not evicted");
    let (queue, cache, leases) = (backend.ingest_queue(), backend.cache(), backend.coordinator());
    let lease = leases.acquire("alerting/1", "here", HOUR).await.unwrap().unwrap();
    let options = CacheOptions { ttl: HOUR, tags: &["all"] };
    let mut batches = 0_u64;
    // Both grow far beyond what fits together; the queue alone does not.
    for number in 0..1_500 {
        cache.set(tenant("a"), &number.to_string(), vec![b'x'; 8_192], options).await.unwrap();
        if number % 10 == 0 {
            let batch = events((0..10).map(|event| format!("{number}-{event}")));
            queue.enqueue(tenant("a"), batch).await.unwrap();
            batches += 1;
        }
    }
    let mut connection = raw(&server.url()).await;
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    let evicted = stats.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap();
    assert!(evicted.trim().parse::<u64>().unwrap() > 500, "{evicted}");
    // What is left of the cache is right, and what is gone is a miss.
    let mut hits = 0;
    for number in 0..1_500 {
        if let Some(value) = cache.get(tenant("a"), &number.to_string()).await.unwrap() {
            assert_eq!(value, vec![b'x'; 8_192]);
            hits += 1;
        }
    }
    assert!(hits < 1_000, "{hits}");
    assert_eq!(leases.acquire("alerting/1", "there", HOUR).await.unwrap(), None, "still held");
    let held = leases.leases("alerting/").await.unwrap();
    assert_eq!(held[0].fencing_token, lease.fencing_token);
    let mut taken = 0;
    loop {
        let batches = queue.take("w", 100, Duration::ZERO).await.unwrap();
        if batches.is_empty() {
            break;
        }
        taken += batches.len() as u64;
        let receipts: Vec<_> = batches.into_iter().map(|batch| batch.receipt).collect();
        queue.acknowledge(&receipts).await.unwrap();
    }
    assert_eq!(taken, batches, "every accepted batch");
}

#[tokio::test]
async fn where_anything_may_be_evicted_limits_start_full_and_tokens_ascend() {
    let settings = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(server) = own_server(&settings) else { return };
    let mut config = RedisConfig::new(server.url());
    config.queue.required_durability = Durability::Accepted;
    let backend = open(config, Env::system()).await.unwrap();
    assert_eq!(backend.durability(), Durability::Accepted);
    let (limiter, cache, leases) = (backend.rate_limiter(), backend.cache(), backend.coordinator());
    let limit = RateLimit::new(1, Duration::from_secs(86_400), 3).unwrap();
    let first = leases.acquire("alerting/1", "here", HOUR).await.unwrap().unwrap();
    for _ in 0..3 {
        assert!(limiter.take(tenant("a"), "k", 1, limit).await.unwrap().allowed);
    }
    assert!(!limiter.take(tenant("a"), "k", 1, limit).await.unwrap().allowed);
    let options = CacheOptions { ttl: HOUR, tags: &[] };
    // Several times what fits, so that nothing old is left.
    for number in 0..3_000 {
        cache.set(tenant("b"), &number.to_string(), vec![b'x'; 8_192], options).await.unwrap();
    }
    let decision = limiter.take(tenant("a"), "k", 1, limit).await.unwrap();
    assert_eq!((decision.allowed, decision.remaining), (true, 2));
    // Whoever takes over has a higher token, so the first can write nothing that is guarded by it.
    let second = leases.acquire("alerting/1", "there", HOUR).await.unwrap().expect("the lease was evicted");
    assert!(second.fencing_token > first.fencing_token);
}
