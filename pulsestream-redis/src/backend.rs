//! The backend: every port on one connection.

use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::ports::ingest_queue::IngestQueue;

use crate::cache::RedisCache;
use crate::config::{LimiterOutage, RedisConfig};
use crate::connect::{Link, Request};
use crate::coordinator::RedisCoordinator;
use crate::error::Effect;
use crate::ingest_queue::RedisIngestQueue;
use crate::keys::Keys;
use crate::live_bus::RedisLiveBus;
use crate::rate_limiter::RedisRateLimiter;

const OPEN_OPERATION: &str = "redis.open";

/// The ports that Redis serves. Cheap to clone; each port is ready to be plugged in as an `Arc<dyn ...>`.
#[derive(Debug, Clone)]
pub struct RedisBackend {
    link: Link,
    keys: Keys,
    env: Env,
    rate_limiter: Arc<RedisRateLimiter>,
    cache: Arc<RedisCache>,
    ingest_queue: Arc<RedisIngestQueue>,
    live_bus: Arc<RedisLiveBus>,
    coordinator: Arc<RedisCoordinator>,
}

/// Connects to Redis and checks that it is what the settings ask for.
///
/// It must be called within a tokio runtime, which then carries the connections.
///
/// # Errors
/// - `Invalid` for settings out of range and for a URL that cannot be read.
/// - `Unsupported` when the server is older than 7.0, or a node of a cluster that has only some of the slots.
/// - `Unavailable` when it cannot be reached, refuses the login, or keeps accepted events less safely than is required; the
///   context names what was found.
pub async fn open(config: RedisConfig, env: Env) -> Result<RedisBackend> {
    config.validate()?;
    let link = Link::new(&config)?;
    let facts = link.facts(OPEN_OPERATION).await?;
    let unsupported = |message: &'static str| {
        Err(Error::new(ErrorKind::Unsupported, OPEN_OPERATION, message)
            .with_context("address", link.address())
            .with_context("version", &facts.version))
    };
    if !facts.is_supported() {
        return unsupported("redis 7.0 or later is needed");
    }
    if facts.is_partial {
        return unsupported(
            "this node of a cluster has only some of the keys: use one that has all slots, or a server without cluster mode",
        );
    }
    let keys = Keys::new(&config.key_prefix);
    let ingest_queue = RedisIngestQueue::new(link.clone(), keys.clone(), config.queue.clone());
    ingest_queue.check(&facts)?;
    Ok(RedisBackend {
        rate_limiter: limiter(&link, &keys, config.limiter_outage, &env),
        cache: Arc::new(RedisCache::new(link.clone(), keys.clone(), config.cache.clone(), env.clone())),
        ingest_queue: Arc::new(ingest_queue),
        live_bus: Arc::new(RedisLiveBus::start(link.clone(), keys.clone(), &config.live)),
        coordinator: Arc::new(RedisCoordinator::new(link.clone(), keys.clone())),
        link,
        keys,
        env,
    })
}

impl RedisBackend {
    /// Returns the rate limiter, which does what the settings say while Redis does not answer.
    pub fn rate_limiter(&self) -> Arc<RedisRateLimiter> {
        self.rate_limiter.clone()
    }

    /// Returns a rate limiter on the same limits that does something else while Redis does not answer.
    pub fn rate_limiter_with(&self, outage: LimiterOutage) -> Arc<RedisRateLimiter> {
        limiter(&self.link, &self.keys, outage, &self.env)
    }

    /// Returns the cache.
    pub fn cache(&self) -> Arc<RedisCache> {
        self.cache.clone()
    }

    /// Returns the ingest queue.
    pub fn ingest_queue(&self) -> Arc<RedisIngestQueue> {
        self.ingest_queue.clone()
    }

    /// Returns the live bus.
    pub fn live_bus(&self) -> Arc<RedisLiveBus> {
        self.live_bus.clone()
    }

    /// Returns the coordinator.
    pub fn coordinator(&self) -> Arc<RedisCoordinator> {
        self.coordinator.clone()
    }

    /// Returns what an acknowledged write survives, as the server's settings said when the last connection was made.
    pub fn durability(&self) -> Durability {
        self.ingest_queue.durability()
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout`, with the cause.
    pub async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        let _: String = self.link.send(Request::Command(&ping), Effect::Read, "redis.ping").await?;
        Ok(())
    }
}

fn limiter(link: &Link, keys: &Keys, outage: LimiterOutage, env: &Env) -> Arc<RedisRateLimiter> {
    Arc::new(RedisRateLimiter::new(link.clone(), keys.clone(), outage, env.clone()))
}
