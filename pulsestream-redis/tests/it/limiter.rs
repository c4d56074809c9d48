//! The rate limiter when Redis forgets scripts, and when it is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::ports::rate_limiter::{RateLimit, RateLimiter};
use pulsestream_core::time::Timestamp;
use pulsestream_redis::{LimiterOutage, open};
use pulsestream_testtools::{FaultProxy, eventually_async};

use crate::support::{Scope, tenant};

fn slow(burst: u32) -> RateLimit {
    RateLimit::new(1, Duration::from_secs(86_400), burst).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scripts_that_are_flushed_under_load_run_once_each() {
    let Some(scope) = Scope::new() else { return };
    let limiter = scope.open().await.rate_limiter();
    let (allowed, is_done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let flusher = {
        let (mut raw, is_done) = (scope.raw().await, is_done.clone());
        tokio::spawn(async move {
            let mut flushes = 0;
            while !is_done.load(Ordering::Relaxed) {
                let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut raw).await.unwrap();
                flushes += 1;
            }
            flushes
        })
    };
    let takers = (0..8).map(|_| {
        let (limiter, allowed) = (limiter.clone(), allowed.clone());
        tokio::spawn(async move {
            for _ in 0..300 {
                if limiter.take(tenant("a"), "k", 1, slow(1_000)).await.unwrap().allowed {
                    allowed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for taker in takers.collect::<Vec<_>>() {
        taker.await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    assert!(flusher.await.unwrap() > 10);
    assert_eq!(allowed.load(Ordering::Relaxed), 1_000);
    assert!(!limiter.is_local());
}

#[tokio::test]
async fn without_redis_it_limits_locally_and_comes_back() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let (env, clock) = Env::manual(Timestamp::from_seconds(1_000), 1);
    let backend = open(scope.through(proxy.address()), env).await.unwrap();
    let limiter = backend.rate_limiter();
    for _ in 0..2 {
        assert!(limiter.take(tenant("a"), "k", 1, slow(2)).await.unwrap().allowed);
    }
    proxy.set_down(true);
    // A budget of its own while Redis is away, and no more than that.
    let mut allowed = 0;
    for _ in 0..10 {
        allowed += u32::from(limiter.take(tenant("a"), "k", 1, slow(2)).await.unwrap().allowed);
        clock.advance(Duration::from_millis(400));
    }
    assert_eq!(allowed, 2);
    assert!(limiter.is_local());
    assert!(!limiter.peek(tenant("a"), "k", slow(2)).await.unwrap().allowed);

    proxy.set_down(false);
    eventually_async("redis decides again", async || {
        clock.advance(Duration::from_secs(1));
        let decision = limiter.take(tenant("a"), "other", 1, slow(1_000)).await.unwrap();
        decision.allowed && !limiter.is_local()
    })
    .await;
    let decision = limiter.take(tenant("a"), "k", 1, slow(2)).await.unwrap();
    assert_eq!((decision.allowed, decision.remaining), (false, 0));
}

#[tokio::test]
async fn a_limiter_that_must_hold_refuses_without_redis() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let backend = open(scope.through(proxy.address()), Env::system()).await.unwrap();
    let limiter = backend.rate_limiter_with(LimiterOutage::Refuse);
    assert!(limiter.take(tenant("a"), "k", 1, slow(10)).await.unwrap().allowed);
    // Executed, and the reply lost: not repeated, because that would count twice.
    proxy.cut_after_server_bytes(0);
    let error = limiter.take(tenant("a"), "k", 1, slow(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(limiter.peek(tenant("a"), "k", slow(10)).await.unwrap().remaining, 8);
    proxy.set_down(true);
    for _ in 0..3 {
        let error = limiter.take(tenant("a"), "k", 1, slow(10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let error = limiter.peek(tenant("a"), "k", slow(10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    proxy.set_down(false);
    assert_eq!(limiter.take(tenant("a"), "k", 1, slow(10)).await.unwrap().remaining, 7);
}

#[tokio::test]
async fn the_same_words_of_two_tenants_and_a_key_full_of_syntax_are_apart() {
    let Some(scope) = Scope::new() else { return };
    let limiter = scope.open().await.rate_limiter();
    for key in ["k", "{k}", "a:b", "a:b}{", "*", ""] {
        for tenant_name in ["a", "b"] {
            assert!(limiter.take(tenant(tenant_name), key, 1, slow(1)).await.unwrap().allowed, "{key}");
            assert!(!limiter.take(tenant(tenant_name), key, 1, slow(1)).await.unwrap().allowed, "{key}");
        }
    }
}
