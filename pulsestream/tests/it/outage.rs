//! What an application notices of a Redis that goes away.

use pulsestream::ErrorKind;
use pulsestream::prelude::*;
use pulsestream_redis::RedisConfig;
use pulsestream_testtools::{REDIS, RedisServer, eventually_async, find_program};

fn event(id: &str, ps: &PulseStream) -> Event {
    Event::new(EventId::new(id).unwrap(), "order_placed", ps.env().now())
}

async fn failing(ps: &PulseStream) -> Vec<&'static str> {
    let status = ps.status().await;
    let failing = status.components.into_iter().filter(|component| component.outcome.is_err());
    failing.map(|component| component.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_become_local_and_that_is_told() {
    let Some(program) = find_program(&REDIS) else { return };
    // It may forget everything: limits, cache and live messages need no more.
    let mut redis = RedisServer::start(&program, &["--appendonly", "no"]).unwrap();
    let url = format!("memory:?redis={}", redis.url());
    let refused = PulseStream::open(&format!("{url}&queue=redis")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "a queue needs a Redis that keeps what it accepts");
    let ps = PulseStream::open(&url).await.unwrap();
    let shop = ps.tenant(TenantId::from_name("shop"));
    shop.ingest(event("before", &ps)).await.unwrap();
    assert!(ps.status().await.is_healthy() && !ps.limits_locally());

    redis.kill().unwrap();
    shop.ingest(event("meanwhile", &ps)).await.unwrap();
    assert!(ps.limits_locally());
    assert_eq!(failing(&ps).await, ["rate_limiter", "cache", "live_bus"]);
    assert!(ps.status().await.is_accepting());

    redis.restart().unwrap();
    eventually_async("limits hold over all nodes again", async || failing(&ps).await.is_empty()).await;
    ps.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_queue_it_accepts_nothing_and_afterwards_everything_is_stored() {
    let Some(program) = find_program(&REDIS) else { return };
    let mut redis = RedisServer::start(&program, &[]).unwrap();
    // What was handed to the worker in an answer that did not arrive comes again after this long.
    let mut config = RedisConfig::default();
    config.queue.visibility_timeout_ms = 300;
    let url = format!("memory:?redis={}&queue=redis", redis.url());
    let ps = PulseStream::builder().with_redis_config(config).open(&url).await.unwrap();
    let shop = ps.tenant(TenantId::from_name("shop"));
    shop.ingest(event("before", &ps)).await.unwrap();
    redis.kill().unwrap();
    let refused = shop.ingest(event("meanwhile", &ps)).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown), "{refused}");
    assert!(!ps.status().await.is_accepting());
    redis.restart().unwrap();
    eventually_async("it accepts again", async || shop.ingest(event("meanwhile", &ps)).await.is_ok()).await;
    eventually_async("both are stored", async || {
        shop.find(FindQuery::default()).await.unwrap().events.len() == 2
    })
    .await;
    ps.close().await.unwrap();
}
