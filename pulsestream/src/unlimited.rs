//! A rate limiter that limits nothing.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::rate_limiter::{Decision, RateLimit, RateLimiter};

/// Allows everything, for applications that limit elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

fn allow(taken: u32, limit: RateLimit) -> Decision {
    Decision {
        allowed: true,
        taken,
        limit: limit.burst(),
        remaining: limit.burst(),
        retry_after: Duration::ZERO,
        reset_after: Duration::ZERO,
    }
}

#[async_trait]
impl RateLimiter for Unlimited {
    async fn take(&self, _tenant: TenantId, _key: &str, cost: u32, limit: RateLimit) -> Result<Decision> {
        Ok(allow(cost, limit))
    }

    async fn take_up_to(
        &self,
        _tenant: TenantId,
        _key: &str,
        at_most: u32,
        limit: RateLimit,
    ) -> Result<Decision> {
        Ok(allow(at_most, limit))
    }

    async fn peek(&self, _tenant: TenantId, _key: &str, limit: RateLimit) -> Result<Decision> {
        Ok(allow(0, limit))
    }
}
