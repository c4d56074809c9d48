//! The promises of the ports, each on a key prefix of its own.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use pulsestream_core::ports::rate_limiter::RateLimiter;
use pulsestream_core::testkit::{BoxFuture, RateLimiterHarness};
use tokio::runtime::Runtime;

use crate::support::Scope;

/// One runtime for all, because a suite asks from several threads.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Nothing runs without a server, which was said loudly.
#[derive(Debug)]
struct Redis(Option<Scope>);

impl Redis {
    fn new() -> Self {
        Self(Scope::new())
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        if self.0.is_some() {
            RUNTIME.block_on(future);
        }
    }

    fn scope(&self) -> &Scope {
        self.0.as_ref().unwrap()
    }
}

#[async_trait]
impl RateLimiterHarness for Redis {
    async fn open(&self) -> Arc<dyn RateLimiter> {
        self.scope().open().await.rate_limiter()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        Self::block_on(self, future);
    }
}

mod rate_limiter {
    use super::Redis;

    pulsestream_core::rate_limiter_conformance!(Redis::new());
}
