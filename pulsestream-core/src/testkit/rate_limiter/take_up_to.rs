//! Taking what is left of a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Probe, slow_limit};
use crate::testkit::{BoxFuture, concurrently};

const DAY: Duration = Duration::from_secs(86_400);

/// Asserts that a time is at most this, and hardly less.
#[track_caller]
fn about(time: Duration, expected: Duration) {
    let soon = expected.saturating_sub(Duration::from_secs(600))..=expected;
    assert!(soon.contains(&time), "{time:?} is not about {expected:?}");
}

pub(super) async fn take_up_to_gives_what_is_left(probe: Probe) {
    let limit = slow_limit(10);
    let ask =
        async |at_most| probe.limiter.take_up_to(probe.tenant, "k", at_most, limit).await.expect("take");
    let decision = ask(6).await;
    assert_eq!((decision.allowed, decision.taken, decision.remaining), (true, 6, 4), "{decision:?}");
    assert_eq!((decision.limit, decision.retry_after), (10, Duration::ZERO));
    let decision = ask(7).await;
    assert_eq!((decision.allowed, decision.taken, decision.remaining), (false, 4, 0), "{decision:?}");
    about(decision.retry_after, 3 * DAY);
    let decision = ask(2).await;
    assert_eq!((decision.allowed, decision.taken), (false, 0), "nothing is left: {decision:?}");
    about(decision.retry_after, 2 * DAY);
    let decision = ask(0).await;
    assert_eq!((decision.allowed, decision.taken), (true, 0), "nothing can always be taken: {decision:?}");
}

pub(super) async fn take_up_to_may_ask_for_more_than_the_burst(probe: Probe) {
    let ask = async |at_most| {
        probe.limiter.take_up_to(probe.tenant, "k", at_most, slow_limit(3)).await.expect("take")
    };
    let decision = ask(u32::MAX).await;
    assert_eq!((decision.allowed, decision.taken, decision.remaining), (false, 3, 0), "{decision:?}");
    about(decision.retry_after, 3 * DAY);
    assert_eq!(ask(u32::MAX).await.taken, 0);
}

pub(super) async fn take_up_to_spends_what_take_spends(probe: Probe) {
    let limit = slow_limit(5);
    assert!(probe.limiter.take(probe.tenant, "k", 3, limit).await.expect("take").allowed);
    let decision = probe.limiter.take_up_to(probe.tenant, "k", 5, limit).await.expect("take");
    assert_eq!(decision.taken, 2, "{decision:?}");
    let decision = probe.limiter.take(probe.tenant, "k", 1, limit).await.expect("take");
    assert_eq!((decision.allowed, decision.taken), (false, 0), "{decision:?}");
    let other = probe.harness.tenant();
    let decision = probe.limiter.take_up_to(other, "k", 5, limit).await.expect("take");
    assert_eq!(decision.taken, 5, "another tenant's key is another key: {decision:?}");
}

pub(super) async fn take_up_to_is_atomic(probe: Probe) {
    const TASKS: usize = 4;
    const TAKES: u32 = 20;
    let limit = slow_limit(100);
    let taken = Arc::new(AtomicU32::new(0));
    let tasks = (0..TASKS).map(|_| {
        let (limiter, tenant, taken) = (probe.limiter.clone(), probe.tenant, taken.clone());
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            for _ in 0..TAKES {
                let decision = limiter.take_up_to(tenant, "k", 7, limit).await.expect("take");
                taken.fetch_add(decision.taken, Ordering::Relaxed);
            }
        });
        task
    });
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks.collect()).await;
    assert_eq!(taken.load(Ordering::Relaxed), 100, "all takers together get the burst, no more and no less");
}
