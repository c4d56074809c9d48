//! What every [`RateLimiter`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::rate_limiter::{RateLimit, RateLimiter};

mod peek;
mod take;
mod take_up_to;

/// What the suite needs to know about a limiter.
#[async_trait]
pub trait RateLimiterHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a limiter; others may share its keys, because every case takes tenants of its own.
    async fn open(&self) -> Arc<dyn RateLimiter>;

    /// Returns a tenant that is not used yet, also by earlier runs when keys outlive the process.
    fn tenant(&self) -> TenantId {
        fresh_tenant()
    }

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

/// A limiter under test, and the harness it came from.
#[derive(Debug)]
pub struct Probe {
    harness: Arc<dyn RateLimiterHarness>,
    limiter: Arc<dyn RateLimiter>,
    tenant: TenantId,
}

impl Probe {
    async fn open(harness: Arc<dyn RateLimiterHarness>) -> Self {
        let limiter = harness.open().await;
        let tenant = harness.tenant();
        Self { harness, limiter, tenant }
    }
}

/// A limit of which nothing comes back while a case runs: one a day.
fn slow_limit(burst: u32) -> RateLimit {
    let day = std::time::Duration::from_secs(86_400);
    RateLimit::new(1, day, burst).expect("the burst of a case comes back within ten years")
}

super::suite! {
    $
    /// Lists every promise of a rate limiter as a test; takes an expression that makes the harness.
    rate_limiter_conformance, rate_limiter, RateLimiterHarness, Probe,
    [
        take: take_spends_the_burst_then_refuses, take_refuses_all_or_nothing, take_refuses_more_than_the_burst,
            take_of_nothing, take_is_isolated, take_tells_keys_apart, take_is_atomic, take_gives_back_with_time,
            take_follows_a_changed_limit;
        take_up_to: take_up_to_gives_what_is_left, take_up_to_may_ask_for_more_than_the_burst,
            take_up_to_spends_what_take_spends, take_up_to_is_atomic;
        peek: peek_takes_nothing, peek_tells_what_take_decides;
    ]
}
