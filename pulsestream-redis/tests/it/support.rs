//! A backend on a real server, under a key prefix of its own.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::ingest_queue::QueueDepth;
use pulsestream_core::time::Timestamp;
use pulsestream_redis::{RedisBackend, RedisConfig, open};
use pulsestream_testtools::{REDIS, RedisServer, eventually, find_program, server_url};
use redis::aio::MultiplexedConnection;

/// The server of the test run, as the environment names it.
pub(crate) fn url() -> Option<String> {
    server_url("PULSESTREAM_TEST_REDIS_URL")
}

/// A server of the test's own.
pub(crate) fn own_server(settings: &[&str]) -> Option<RedisServer> {
    find_program(&REDIS).map(|program| RedisServer::start(&program, settings).unwrap())
}

/// A cluster of one node that has all slots.
fn cluster() -> Option<RedisServer> {
    let server = own_server(&["--cluster-enabled", "yes"])?;
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383).exec(&mut connection).unwrap();
    eventually("the cluster is up", || {
        let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut connection).unwrap();
        info.contains("cluster_state:ok")
    });
    Some(server)
}

/// Settings for the shared server; what they lead to is removed at the end of a test that passes.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) config: RedisConfig,
}

impl Scope {
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut config = RedisConfig::new(url()?);
        config.key_prefix = format!("test-{}-{number}", std::process::id());
        Some(Self { config })
    }

    /// On the one node of a cluster, where keys of one command that are in different slots are refused.
    pub(crate) fn on_cluster() -> Option<Self> {
        static SERVER: LazyLock<Option<RedisServer>> = LazyLock::new(cluster);
        let config = RedisConfig::new(SERVER.as_ref()?.url());
        let scope = Self::new()?;
        Some(Self { config: RedisConfig { key_prefix: scope.config.key_prefix.clone(), ..config } })
    }

    pub(crate) async fn open(&self) -> RedisBackend {
        open(self.config.clone(), Env::system()).await.unwrap()
    }

    /// The same settings by way of a proxy.
    pub(crate) fn through(&self, proxy: SocketAddr) -> RedisConfig {
        RedisConfig { url: format!("redis://{proxy}/"), ..self.config.clone() }
    }

    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        raw(&self.config.url).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let host = self.config.url.trim_start_matches("redis://").trim_end_matches('/');
        host.parse().unwrap()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut connection = redis::Client::open(self.config.url.as_str()).unwrap().get_connection().unwrap();
        let pattern = format!("{}:*", self.config.key_prefix);
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap();
        // One at a time, because on a cluster they are in different slots.
        for key in keys {
            redis::cmd("UNLINK").arg(key).exec(&mut connection).unwrap();
        }
    }
}

pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::from_name(name)
}

pub(crate) fn events(ids: impl IntoIterator<Item = String>) -> Vec<Event> {
    ids.into_iter()
        .map(|id| Event::new(EventId::new(id).unwrap(), "order", Timestamp::from_seconds(7)))
        .collect()
}

/// Batches that wait or are being worked on, and dead letters.
pub(crate) fn counts(depth: QueueDepth) -> (u64, u64) {
    (depth.batches, depth.dead)
}

pub(crate) fn one(id: &str) -> Vec<Event> {
    events([id.to_owned()])
}
