//! From a URL to open stores.

use std::sync::Arc;

#[cfg(feature = "redis")]
use pulsestream_core::FieldError;
use pulsestream_core::at_rest::{
    KeyValueAlertStore, KeyValueCoordinator, KeyValueDocumentStore, KeyValueIdentityStore, KeyValueOutbox,
};
use pulsestream_core::env::Env;
use pulsestream_core::memory::{
    MemoryCache, MemoryEventStore, MemoryKeyValue, MemoryLiveBus, MemoryRateLimiter,
};
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::cache::Cache;
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::document_store::DocumentStore;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::identity::IdentityStore;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_core::ports::key_value::KeyValue;
use pulsestream_core::ports::live_bus::LiveBus;
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::ports::rate_limiter::RateLimiter;
use pulsestream_core::settings::{IngestSettings, QuerySettings, Settings};
use pulsestream_core::{Error, ErrorKind, Result};

use crate::url::{PrimaryStore, StoreUrl};

/// What the cache in memory may hold.
const CACHE_BYTES: usize = 64 << 20;
/// How many messages a slow receiver of the live bus may be behind before it loses the oldest.
const LIVE_MESSAGES: usize = 1_024;

/// The components that were given, before the URL fills the rest.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    pub(crate) event_store: Option<Arc<dyn EventStore>>,
    pub(crate) key_value: Option<Arc<dyn KeyValue>>,
    /// Whether `key_value` is in a folder that is locked for this process.
    owns_key_value: bool,
    pub(crate) identity_store: Option<Arc<dyn IdentityStore>>,
    /// Rules and alerts with their deliveries: one commit covers both, so they come from one backend.
    pub(crate) alerts: Option<(Arc<dyn AlertStore>, Arc<dyn Outbox>)>,
    pub(crate) coordinator: Option<Arc<dyn Coordinator>>,
    pub(crate) document_store: Option<Arc<dyn DocumentStore>>,
    pub(crate) rate_limiter: Option<Arc<dyn RateLimiter>>,
    pub(crate) cache: Option<Arc<dyn Cache>>,
    pub(crate) live_bus: Option<Arc<dyn LiveBus>>,
    #[cfg(feature = "embedded")]
    embedded: Option<Arc<pulsestream_embedded::EmbeddedStore>>,
    pub(crate) ingest_queue: Option<Arc<dyn IngestQueue>>,
    #[cfg(feature = "postgres")]
    postgres: Option<pulsestream_postgres::Postgres>,
    /// How PostgreSQL is used, when not by the defaults.
    #[cfg(feature = "postgres")]
    pub(crate) postgres_config: Option<pulsestream_postgres::PostgresConfig>,
    /// How a folder is used, when not by the defaults.
    #[cfg(feature = "embedded")]
    pub(crate) embedded_config: Option<pulsestream_embedded::EmbeddedConfig>,
    /// How Redis is used, when not by the defaults.
    #[cfg(feature = "redis")]
    pub(crate) redis_config: Option<pulsestream_redis::RedisConfig>,
    /// The limiter in Redis, when it is the one in use.
    #[cfg(feature = "redis")]
    redis_limiter: Option<Arc<pulsestream_redis::RedisRateLimiter>>,
}

impl Stores {
    /// Whether nothing is left for the primary store of a URL.
    fn is_complete(&self) -> bool {
        let at_rest = self.identity_store.is_some()
            && self.alerts.is_some()
            && self.coordinator.is_some()
            && self.document_store.is_some();
        self.event_store.is_some() && (self.key_value.is_some() || at_rest)
    }
}

/// All components, open.
#[derive(Debug)]
pub(crate) struct OpenStores {
    pub(crate) event_store: Arc<dyn EventStore>,
    pub(crate) identity_store: Arc<dyn IdentityStore>,
    pub(crate) alert_store: Arc<dyn AlertStore>,
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) coordinator: Arc<dyn Coordinator>,
    pub(crate) document_store: Arc<dyn DocumentStore>,
    pub(crate) rate_limiter: Arc<dyn RateLimiter>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) live_bus: Arc<dyn LiveBus>,
    pub(crate) ingest_queue: Option<Arc<dyn IngestQueue>>,
    key_value: Option<Arc<dyn KeyValue>>,
    /// The folder, if the events are in one.
    #[cfg(feature = "embedded")]
    pub(crate) embedded: Option<Arc<pulsestream_embedded::EmbeddedStore>>,
    #[cfg(feature = "postgres")]
    postgres: Option<pulsestream_postgres::Postgres>,
    #[cfg(feature = "redis")]
    redis_limiter: Option<Arc<pulsestream_redis::RedisRateLimiter>>,
}

impl OpenStores {
    /// Returns whether rates are limited by this node alone although they should hold over all nodes.
    pub(crate) fn limits_locally(&self) -> bool {
        #[cfg(feature = "redis")]
        return self.redis_limiter.as_ref().is_some_and(|limiter| limiter.is_local());
        #[cfg(not(feature = "redis"))]
        false
    }

    /// Closes all of them, each also when another fails, and returns the first failure.
    pub(crate) async fn close(&self) -> Result<()> {
        let events = self.event_store.close().await;
        let at_rest = match &self.key_value {
            Some(store) => store.close().await,
            None => Ok(()),
        };
        #[cfg(feature = "postgres")]
        if let Some(postgres) = &self.postgres {
            postgres.close().await;
        }
        events.and(at_rest)
    }
}

/// Opens what `url` names and was not given; what it does not name is kept in memory.
pub(crate) async fn open(
    given: Stores,
    url: &StoreUrl,
    settings: &Settings,
    env: &Env,
) -> Result<OpenStores> {
    let mut stores = given;
    if let Some(redis) = &url.redis {
        // Before the primary store, whose live bus gives way to this one.
        open_redis(&mut stores, redis, url, &settings.ingest, env).await?;
    }
    if !stores.is_complete() {
        open_primary(&mut stores, url, &settings.query, env).await?;
    }
    let missing =
        || Error::new(ErrorKind::Internal, "pulsestream.open", "the backend opened no store of a kind");
    let key_value = stores.key_value;
    let at_rest = || key_value.clone().ok_or_else(missing);
    let identity_store = match stores.identity_store {
        Some(store) => store,
        None => Arc::new(KeyValueIdentityStore::new(at_rest()?, false)),
    };
    let (alert_store, outbox): (Arc<dyn AlertStore>, Arc<dyn Outbox>) = match stores.alerts {
        Some(both) => both,
        None => {
            let outbox = KeyValueOutbox::new(at_rest()?);
            if stores.owns_key_value {
                outbox.end_leases().await?;
            }
            (Arc::new(KeyValueAlertStore::new(at_rest()?)), Arc::new(outbox))
        }
    };
    let coordinator: Arc<dyn Coordinator> = match stores.coordinator {
        Some(coordinator) => coordinator,
        None => {
            let coordinator = KeyValueCoordinator::new(at_rest()?, env.clone());
            if stores.owns_key_value {
                coordinator.end_all().await?;
            }
            Arc::new(coordinator)
        }
    };
    let document_store = match stores.document_store {
        Some(store) => store,
        None => Arc::new(KeyValueDocumentStore::new(at_rest()?)),
    };
    Ok(OpenStores {
        event_store: stores.event_store.ok_or_else(missing)?,
        identity_store,
        alert_store,
        outbox,
        coordinator,
        document_store,
        rate_limiter: stores.rate_limiter.unwrap_or_else(|| Arc::new(MemoryRateLimiter::new(env.clone()))),
        cache: stores.cache.unwrap_or_else(|| Arc::new(MemoryCache::new(env.clone(), CACHE_BYTES))),
        ingest_queue: stores.ingest_queue,
        live_bus: stores.live_bus.unwrap_or_else(|| Arc::new(MemoryLiveBus::new(LIVE_MESSAGES))),
        key_value,
        #[cfg(feature = "embedded")]
        embedded: stores.embedded,
        #[cfg(feature = "postgres")]
        postgres: stores.postgres,
        #[cfg(feature = "redis")]
        redis_limiter: stores.redis_limiter,
    })
}

async fn open_primary(
    stores: &mut Stores,
    url: &StoreUrl,
    settings: &QuerySettings,
    env: &Env,
) -> Result<()> {
    match &url.primary {
        PrimaryStore::Memory => {
            stores.event_store.get_or_insert_with(|| Arc::new(MemoryEventStore::new()));
            stores.key_value.get_or_insert_with(|| Arc::new(MemoryKeyValue::new()));
            Ok(())
        }
        PrimaryStore::Folder(path) => open_folder(stores, path, settings, env).await,
        PrimaryStore::Postgres(place) => open_postgres(stores, place, url, settings, env).await,
    }
}

/// Connects to PostgreSQL, which keeps everything that was not given.
#[cfg(feature = "postgres")]
async fn open_postgres(
    stores: &mut Stores,
    place: &str,
    url: &StoreUrl,
    settings: &QuerySettings,
    env: &Env,
) -> Result<()> {
    // Without a configuration of its own, a statement may take as long as a question.
    let mut config = stores.postgres_config.take().unwrap_or_default();
    config.statement_timeout = config.statement_timeout.min(settings.timeout);
    if let Some(schema) = &url.schema {
        config.schema = schema.parse()?;
    }
    if let Some(direct) = &url.direct {
        config.direct_url = Some(direct.as_str().into());
    }
    let postgres = pulsestream_postgres::Postgres::connect(place, config, env.clone()).await?;
    if stores.event_store.is_none() {
        stores.event_store = Some(postgres.event_store().await?);
    }
    if stores.live_bus.is_none() {
        stores.live_bus = Some(postgres.live_bus(LIVE_MESSAGES).await?);
    }
    stores.identity_store.get_or_insert_with(|| postgres.identity_store());
    stores.alerts.get_or_insert_with(|| (postgres.alert_store(), postgres.outbox()));
    stores.coordinator.get_or_insert_with(|| postgres.coordinator());
    stores.document_store.get_or_insert_with(|| postgres.document_store());
    stores.postgres = Some(postgres);
    Ok(())
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(
    _stores: &mut Stores,
    _place: &str,
    _url: &StoreUrl,
    _settings: &QuerySettings,
    _env: &Env,
) -> Result<()> {
    Err(without_backend("postgres"))
}

/// Connects to Redis, which limits rates, caches, carries live messages, and queues events when that is asked for. Leases stay with
/// the primary store: its alert store remembers the highest fencing token, so tokens must come from something that is as durable.
#[cfg(feature = "redis")]
async fn open_redis(
    stores: &mut Stores,
    redis: &str,
    url: &StoreUrl,
    settings: &IngestSettings,
    env: &Env,
) -> Result<()> {
    use pulsestream_core::ports::event_store::Durability;

    let mut config = stores.redis_config.take().unwrap_or_default();
    redis.clone_into(&mut config.url);
    if let Some(prefix) = &url.redis_prefix {
        config.key_prefix.clone_from(prefix);
    }
    if url.queue {
        check_queue(&config.queue, settings)?;
    } else {
        // Limits, cache and live messages may be lost.
        config.queue.required_durability = Durability::Accepted;
    }
    let redis = pulsestream_redis::open(config, env.clone()).await?;
    if stores.rate_limiter.is_none() {
        stores.rate_limiter = Some(redis.rate_limiter());
        stores.redis_limiter = Some(redis.rate_limiter());
    }
    stores.cache.get_or_insert_with(|| redis.cache());
    stores.live_bus.get_or_insert_with(|| redis.live_bus());
    if url.queue {
        stores.ingest_queue.get_or_insert_with(|| redis.ingest_queue());
    }
    Ok(())
}

/// Refuses a queue that a single batch would fill: it could never be accepted.
#[cfg(feature = "redis")]
fn check_queue(queue: &pulsestream_redis::QueueConfig, settings: &IngestSettings) -> Result<()> {
    let events = settings.max_batch_events.max(settings.max_batch_events_v1) as u64;
    let bytes = 2 * settings.max_payload_bytes.max(settings.max_payload_bytes_v1) as u64;
    let mut errors = Vec::new();
    if queue.max_events < events {
        let message = format!("must be at least the largest batch, {events}");
        errors.push(FieldError::new("/redis/queue/max_events", "out_of_range", message));
    }
    if queue.max_bytes < bytes {
        let message = format!("must be at least twice the largest payload, {bytes}");
        errors.push(FieldError::new("/redis/queue/max_bytes", "out_of_range", message));
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid_fields("pulsestream.open", errors)) }
}

#[cfg(not(feature = "redis"))]
async fn open_redis(
    _stores: &mut Stores,
    _redis: &str,
    _url: &StoreUrl,
    _settings: &IngestSettings,
    _env: &Env,
) -> Result<()> {
    Err(without_backend("redis"))
}

/// Opens the store in a folder; recovery may read much, so it runs on a thread of its own.
#[cfg(feature = "embedded")]
async fn open_folder(
    stores: &mut Stores,
    path: &std::path::Path,
    settings: &QuerySettings,
    env: &Env,
) -> Result<()> {
    use pulsestream_embedded::EmbeddedStore;

    let (path, env) = (path.to_owned(), env.clone());
    let mut config = stores.embedded_config.take().unwrap_or_default();
    config.query_timeout = config.query_timeout.min(settings.timeout);
    let open = move || {
        let store = EmbeddedStore::open(path, config, env)?;
        let key_value = store.key_value()?;
        Ok::<_, Error>((store, key_value))
    };
    let (store, key_value) = tokio::task::spawn_blocking(open).await.map_err(|error| {
        Error::new(ErrorKind::Internal, "pulsestream.open", "opening the folder panicked").with_source(error)
    })??;
    let store = Arc::new(store);
    if stores.event_store.is_none() {
        stores.embedded = Some(Arc::clone(&store));
        stores.event_store = Some(store);
    }
    if stores.key_value.is_none() {
        stores.key_value = Some(key_value);
        // The folder is locked for this process: whoever held a lease in it is gone.
        stores.owns_key_value = true;
    }
    Ok(())
}

#[cfg(not(feature = "embedded"))]
async fn open_folder(
    _stores: &mut Stores,
    _path: &std::path::Path,
    _settings: &QuerySettings,
    _env: &Env,
) -> Result<()> {
    Err(without_backend("embedded"))
}

#[cfg(not(all(feature = "embedded", feature = "postgres", feature = "redis")))]
fn without_backend(feature: &'static str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "pulsestream.open",
        "this build was made without the backend for this store",
    )
    .with_context("feature", feature)
}
