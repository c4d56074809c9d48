//! Taking from a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Probe, slow_limit};
use crate::error::ErrorKind;
use crate::ports::rate_limiter::RateLimit;
use crate::testkit::{BoxFuture, concurrently};

pub(super) async fn take_spends_the_burst_then_refuses(probe: Probe) {
    let limit = slow_limit(3);
    for left in [2, 1, 0] {
        let decision = probe.limiter.take(probe.tenant, "k", 1, limit).await.expect("take");
        assert!(decision.allowed, "the burst must be allowed at once: {decision:?}");
        assert_eq!((decision.limit, decision.remaining), (3, left));
        assert_eq!(decision.retry_after, Duration::ZERO);
    }
    let decision = probe.limiter.take(probe.tenant, "k", 1, limit).await.expect("take");
    assert!(!decision.allowed, "nothing may be allowed after the burst: {decision:?}");
    let day = Duration::from_secs(86_400);
    let soon = day - Duration::from_secs(600)..=day;
    assert!(soon.contains(&decision.retry_after), "one comes back after a day: {decision:?}");
    assert!(
        decision.reset_after > 2 * day && decision.reset_after <= 3 * day,
        "three in three: {decision:?}"
    );
}

pub(super) async fn take_refuses_all_or_nothing(probe: Probe) {
    let limit = slow_limit(10);
    assert!(probe.limiter.take(probe.tenant, "k", 6, limit).await.expect("take").allowed);
    let decision = probe.limiter.take(probe.tenant, "k", 5, limit).await.expect("take");
    assert_eq!((decision.allowed, decision.remaining), (false, 4), "a refusal must take nothing");
    assert!(probe.limiter.take(probe.tenant, "k", 4, limit).await.expect("take").allowed);
}

pub(super) async fn take_refuses_more_than_the_burst(probe: Probe) {
    let error = probe.limiter.take(probe.tenant, "k", 4, slow_limit(3)).await.expect_err("can never be met");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let decision = probe.limiter.take(probe.tenant, "k", 3, slow_limit(3)).await.expect("take");
    assert!(decision.allowed, "the error must take nothing: {decision:?}");
}

pub(super) async fn take_of_nothing(probe: Probe) {
    let decision = probe.limiter.take(probe.tenant, "k", 0, slow_limit(1)).await.expect("take");
    assert_eq!((decision.allowed, decision.remaining), (true, 1));
    assert!(probe.limiter.take(probe.tenant, "k", 1, slow_limit(1)).await.expect("take").allowed);
    let decision = probe.limiter.take(probe.tenant, "k", 0, slow_limit(1)).await.expect("take");
    assert_eq!((decision.allowed, decision.remaining), (true, 0), "nothing can always be taken");
}

pub(super) async fn take_is_isolated(probe: Probe) {
    let other = probe.harness.tenant();
    assert!(probe.limiter.take(probe.tenant, "k", 1, slow_limit(1)).await.expect("take").allowed);
    let decision = probe.limiter.take(other, "k", 1, slow_limit(1)).await.expect("take");
    assert!(decision.allowed, "another tenant's key is another key: {decision:?}");
}

pub(super) async fn take_tells_keys_apart(probe: Probe) {
    let long = "k".repeat(300);
    let nearly = format!("{}j", &long[..299]);
    for key in ["", "k", "K", "k:k", "k{k}", "k\n", "é", long.as_str(), nearly.as_str()] {
        for allowed in [true, false] {
            let decision = probe.limiter.take(probe.tenant, key, 1, slow_limit(1)).await.expect("take");
            assert_eq!(decision.allowed, allowed, "key {key:?}: {decision:?}");
        }
    }
}

pub(super) async fn take_is_atomic(probe: Probe) {
    const TASKS: usize = 4;
    const TAKES: u32 = 50;
    let limit = slow_limit(100);
    let allowed = Arc::new(AtomicU32::new(0));
    let tasks = (0..TASKS).map(|_| {
        let (limiter, tenant, allowed) = (probe.limiter.clone(), probe.tenant, allowed.clone());
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            for _ in 0..TAKES {
                let decision = limiter.take(tenant, "k", 1, limit).await.expect("take");
                allowed.fetch_add(u32::from(decision.allowed), Ordering::Relaxed);
            }
        });
        task
    });
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks.collect()).await;
    assert_eq!(
        allowed.load(Ordering::Relaxed),
        100,
        "all takers together get the burst, no more and no less"
    );
}

pub(super) async fn take_gives_back_with_time(probe: Probe) {
    // The case takes until time has given something back, however fast or slow it runs.
    let limit = RateLimit::new(1_000, Duration::from_secs(1), 2).expect("a limit");
    let (mut allowed, mut refused) = (0_u32, 0_u32);
    for _ in 0..1_000_000 {
        let decision = probe.limiter.take(probe.tenant, "k", 1, limit).await.expect("take");
        if decision.allowed {
            allowed += 1;
        } else {
            refused += 1;
            assert!(decision.retry_after <= Duration::from_millis(1), "one comes back each ms: {decision:?}");
        }
        if allowed > 20 {
            return;
        }
    }
    panic!("nothing came back: {allowed} allowed, {refused} refused");
}

pub(super) async fn take_follows_a_changed_limit(probe: Probe) {
    assert!(probe.limiter.take(probe.tenant, "k", 10, slow_limit(10)).await.expect("take").allowed);
    let decision = probe.limiter.take(probe.tenant, "k", 1, slow_limit(2)).await.expect("take");
    let day = Duration::from_secs(86_400);
    assert!(!decision.allowed, "what was taken counts against the new limit: {decision:?}");
    assert!(decision.retry_after <= day, "and is at most its burst: {decision:?}");
}
