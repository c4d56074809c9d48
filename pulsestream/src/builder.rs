//! Which component goes in which socket.

use std::sync::Arc;

use pulsestream_core::Result;
use pulsestream_core::env::Env;
use pulsestream_core::ingest::IngestService;
use pulsestream_core::memory::{MemoryEventStore, MemoryRateLimiter};
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::rate_limiter::RateLimiter;
use pulsestream_core::settings::Settings;

use crate::background::Background;
use crate::handle::{Inner, PulseStream};
use crate::url::{PrimaryStore, StoreUrl};

/// Says which component goes in which socket, then opens.
#[derive(Debug)]
pub struct Builder {
    env: Env,
    settings: Settings,
    event_store: Option<Arc<dyn EventStore>>,
    rate_limiter: Option<Arc<dyn RateLimiter>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { env: Env::system(), settings: Settings::default(), event_store: None, rate_limiter: None }
    }
}

impl Builder {
    /// Uses this clock and this randomness instead of the operating system's.
    #[must_use]
    pub fn with_env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Uses these settings instead of the defaults.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Keeps events in this store, whatever the URL says.
    #[must_use]
    pub fn with_event_store(mut self, store: Arc<dyn EventStore>) -> Self {
        self.event_store = Some(store);
        self
    }

    /// Limits rates with this, whatever the URL says.
    #[must_use]
    pub fn with_rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.rate_limiter = Some(limiter);
        self
    }

    /// Opens the stores that `url` names, except those that were given, and starts what works in the background.
    ///
    /// # Errors
    /// `Invalid` for a URL or settings that are wrong; `Unsupported` for a store that this build was made without; those of the
    /// stores, for example `StoreLocked` when another process uses the folder.
    pub async fn open(self, url: &str) -> Result<PulseStream> {
        let url: StoreUrl = url.parse()?;
        self.settings.validate()?;
        let Self { env, settings, event_store, rate_limiter } = self;
        let event_store = match event_store {
            Some(store) => store,
            None => open_event_store(&url.primary)?,
        };
        let rate_limiter = rate_limiter.unwrap_or_else(|| Arc::new(MemoryRateLimiter::new(env.clone())));
        let ingest = IngestService::new(
            env.clone(),
            event_store.clone(),
            rate_limiter.clone(),
            settings.ingest.clone(),
        )?;
        let background = Background::start(env.clock(), Vec::new());
        Ok(PulseStream::new(Inner {
            started: env.monotonic(),
            env,
            settings,
            url,
            event_store,
            rate_limiter,
            ingest,
            background,
        }))
    }
}

fn open_event_store(primary: &PrimaryStore) -> Result<Arc<dyn EventStore>> {
    match primary {
        PrimaryStore::Memory => Ok(Arc::new(MemoryEventStore::new())),
        other => Err(pulsestream_core::Error::new(
            pulsestream_core::ErrorKind::Unsupported,
            "pulsestream.open",
            "this build was made without the backend for this store",
        )
        .with_context("store", other)),
    }
}
