//! Looking at a limit.

use super::{Probe, slow_limit};

pub(super) async fn peek_takes_nothing(probe: Probe) {
    for _ in 0..5 {
        let decision = probe.limiter.peek(probe.tenant, "k", slow_limit(2)).await.expect("peek");
        assert_eq!((decision.allowed, decision.limit, decision.remaining), (true, 2, 2));
    }
    assert!(probe.limiter.take(probe.tenant, "k", 2, slow_limit(2)).await.expect("take").allowed);
}

pub(super) async fn peek_tells_what_take_decides(probe: Probe) {
    assert!(probe.limiter.take(probe.tenant, "k", 1, slow_limit(2)).await.expect("take").allowed);
    let decision = probe.limiter.peek(probe.tenant, "k", slow_limit(2)).await.expect("peek");
    assert_eq!((decision.allowed, decision.remaining), (true, 1));
    assert!(probe.limiter.take(probe.tenant, "k", 1, slow_limit(2)).await.expect("take").allowed);
    let decision = probe.limiter.peek(probe.tenant, "k", slow_limit(2)).await.expect("peek");
    assert_eq!((decision.allowed, decision.remaining), (false, 0));
    assert!(!decision.retry_after.is_zero(), "a refusal says when to come back: {decision:?}");
}
