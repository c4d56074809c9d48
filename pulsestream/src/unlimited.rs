//! A rate limiter that limits nothing.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::rate_limiter::{Decision, RateLimit, RateLimiter};

/// Allows everything, for applications that limit elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

fn allow(limit: RateLimit) -> Decision {
    Decision {
        allowed: true,
        limit: limit.burst(),
        remaining: limit.burst(),
        retry_after: Duration::ZERO,
        reset_after: Duration::ZERO,
    }
}

#[async_trait]
impl RateLimiter for Unlimited {
    async fn take(&self, _tenant: TenantId, _key: &str, _cost: u32, limit: RateLimit) -> Result<Decision> {
        Ok(allow(limit))
    }

    async fn peek(&self, _tenant: TenantId, _key: &str, limit: RateLimit) -> Result<Decision> {
        Ok(allow(limit))
    }
}
