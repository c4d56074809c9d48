//! The promises of the ports, each on a key prefix of its own.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::env::Env;
use pulsestream_core::ports::cache::Cache;
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_core::ports::live_bus::LiveBus;
use pulsestream_core::ports::rate_limiter::RateLimiter;
use pulsestream_core::testkit::{
    BoxFuture, CacheHarness, CoordinatorHarness, IngestQueueHarness, LiveBusHarness, RateLimiterHarness,
};
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

    fn on_cluster() -> Self {
        Self(Scope::on_cluster())
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

/// The server keeps the time, so a case has to wait: short enough for that, and long beside what a busy machine takes.
const UNIT: Duration = Duration::from_millis(400);

#[async_trait]
impl RateLimiterHarness for Redis {
    async fn open(&self) -> Arc<dyn RateLimiter> {
        self.scope().open().await.rate_limiter()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        Self::block_on(self, future);
    }
}

#[async_trait]
impl CacheHarness for Redis {
    async fn open(&self) -> Arc<dyn Cache> {
        self.scope().open().await.cache()
    }

    async fn elapse(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    fn unit(&self) -> Duration {
        UNIT
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        Self::block_on(self, future);
    }
}

#[async_trait]
impl CoordinatorHarness for Redis {
    async fn open(&self) -> Arc<dyn Coordinator> {
        self.scope().open().await.coordinator()
    }

    async fn elapse(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    fn unit(&self) -> Duration {
        UNIT
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        Self::block_on(self, future);
    }
}

#[async_trait]
impl IngestQueueHarness for Redis {
    async fn open(&self) -> Arc<dyn IngestQueue> {
        let mut config = self.scope().config.clone();
        config.queue.max_events = 100;
        config.queue.max_deliveries = 3;
        config.queue.visibility_timeout_ms = UNIT.as_millis().try_into().unwrap();
        pulsestream_redis::open(config, Env::system()).await.unwrap().ingest_queue()
    }

    async fn elapse(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    fn unit(&self) -> Duration {
        UNIT
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        Self::block_on(self, future);
    }
}

#[async_trait]
impl LiveBusHarness for Redis {
    async fn open(&self) -> Arc<dyn LiveBus> {
        let mut config = self.scope().config.clone();
        config.live.buffer_messages = self.capacity();
        pulsestream_redis::open(config, Env::system()).await.unwrap().live_bus()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        Self::block_on(self, future);
    }
}

mod rate_limiter {
    use super::Redis;

    pulsestream_core::rate_limiter_conformance!(Redis::new());
}

mod cache {
    use super::Redis;

    pulsestream_core::cache_conformance!(Redis::new());
}

mod coordinator {
    use super::Redis;

    pulsestream_core::coordinator_conformance!(Redis::new());
}

mod ingest_queue {
    use super::Redis;

    pulsestream_core::ingest_queue_conformance!(Redis::new());
}

mod live_bus {
    use super::Redis;

    pulsestream_core::live_bus_conformance!(Redis::new());
}

/// The same on a node of a cluster: every key of one step is in one slot.
mod cluster {
    use super::Redis;

    mod rate_limiter {
        use super::Redis;

        pulsestream_core::rate_limiter_conformance!(Redis::on_cluster());
    }

    mod cache {
        use super::Redis;

        pulsestream_core::cache_conformance!(Redis::on_cluster());
    }

    mod coordinator {
        use super::Redis;

        pulsestream_core::coordinator_conformance!(Redis::on_cluster());
    }

    mod ingest_queue {
        use super::Redis;

        pulsestream_core::ingest_queue_conformance!(Redis::on_cluster());
    }

    mod live_bus {
        use super::Redis;

        pulsestream_core::live_bus_conformance!(Redis::on_cluster());
    }
}
