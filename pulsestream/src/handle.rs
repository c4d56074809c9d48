//! The handle that an application holds.

use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::Result;
use pulsestream_core::alerting::AlertingService;
use pulsestream_core::auth::AuthService;
use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ingest::IngestService;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::auth::TenantAuth;
use pulsestream_core::ports::cache::Cache;
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::document_store::DocumentStore;
use pulsestream_core::ports::event_store::{EventStore, Partition, Position};
use pulsestream_core::ports::live_bus::LiveBus;
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::ports::rate_limiter::RateLimiter;
use pulsestream_core::settings::Settings;

use crate::background::Background;
use crate::builder::Builder;
use crate::live::LiveEvents;
use crate::status::Status;
use crate::stores::OpenStores;
use crate::tenant::Tenant;
use crate::url::StoreUrl;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) started: Duration,
    pub(crate) env: Env,
    pub(crate) settings: Settings,
    pub(crate) url: StoreUrl,
    pub(crate) stores: OpenStores,
    pub(crate) ingest: IngestService,
    pub(crate) alerting: AlertingService,
    pub(crate) accounts: AuthService,
    pub(crate) tenant_auth: Arc<dyn TenantAuth>,
    pub(crate) live: Arc<LiveEvents>,
    pub(crate) background: Background,
}

impl Inner {
    pub(crate) fn uptime(&self) -> Duration {
        self.env.monotonic().saturating_sub(self.started)
    }
}

/// A running event pipeline; cheap to clone. Dropping the last clone stops it without draining: call [`Self::close`].
#[derive(Debug, Clone)]
pub struct PulseStream(pub(crate) Arc<Inner>);

impl PulseStream {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Opens the stores that `url` names: `memory:`, a folder, or `postgres://...`; see [`StoreUrl`].
    ///
    /// # Errors
    /// See [`Builder::open`].
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder().open(url).await
    }

    /// Starts to say which component goes in which socket.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the scope of one tenant.
    pub fn tenant(&self, id: TenantId) -> Tenant {
        Tenant::new(self.clone(), id)
    }

    /// Returns the clock, ids and randomness in use.
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// Returns the settings in force.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns where the data is; shown without passwords.
    pub fn url(&self) -> &StoreUrl {
        &self.0.url
    }

    /// Returns the service that accepts events.
    pub fn ingest(&self) -> &IngestService {
        &self.0.ingest
    }

    /// Returns the service of rules, alerts, silences and channels.
    pub fn alerting(&self) -> &AlertingService {
        &self.0.alerting
    }

    /// Returns the local accounts: tenants, users, sessions and API keys.
    pub fn accounts(&self) -> &AuthService {
        &self.0.accounts
    }

    /// Returns who decides who is calling: the local accounts, or what the application gave instead.
    pub fn tenant_auth(&self) -> &Arc<dyn TenantAuth> {
        &self.0.tenant_auth
    }

    /// Returns the event store.
    pub fn event_store(&self) -> &Arc<dyn EventStore> {
        &self.0.stores.event_store
    }

    /// Returns the store of rules, alerts, silences, channels and routes.
    pub fn alert_store(&self) -> &Arc<dyn AlertStore> {
        &self.0.stores.alert_store
    }

    /// Returns the outbox of notifications.
    pub fn outbox(&self) -> &Arc<dyn Outbox> {
        &self.0.stores.outbox
    }

    /// Returns the coordinator.
    pub fn coordinator(&self) -> &Arc<dyn Coordinator> {
        &self.0.stores.coordinator
    }

    /// Returns the store of small documents of tenants.
    pub fn document_store(&self) -> &Arc<dyn DocumentStore> {
        &self.0.stores.document_store
    }

    /// Returns the cache.
    pub fn cache(&self) -> &Arc<dyn Cache> {
        &self.0.stores.cache
    }

    /// Returns the live bus.
    pub fn live_bus(&self) -> &Arc<dyn LiveBus> {
        &self.0.stores.live_bus
    }

    /// Returns the end of the log of a partition, for a reader of [`EventStore::tail`] that wants only what comes from now on.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn end_of_log(&self, partition: Partition) -> Result<Position> {
        self.0.live.end_of_log(partition).await
    }

    /// Returns the rate limiter.
    pub fn rate_limiter(&self) -> &Arc<dyn RateLimiter> {
        &self.0.stores.rate_limiter
    }

    /// Returns whether rates are limited by this node alone although they should hold over all nodes: Redis does not answer.
    pub fn limits_locally(&self) -> bool {
        self.0.stores.limits_locally()
    }

    /// Asks everything it depends on.
    pub async fn status(&self) -> Status {
        Status::ask(&self.0).await
    }

    /// Returns how long it has been open; asks nobody.
    pub fn uptime(&self) -> Duration {
        self.0.uptime()
    }

    /// Stops the background work after the step it is in, finishes what was acknowledged, and releases everything. Closing twice
    /// is fine; later calls fail with `Closed`.
    ///
    /// # Errors
    /// Those of the stores; what they hold stays as safe as it was.
    pub async fn close(&self) -> Result<()> {
        self.0.background.stop().await;
        self.0.live.stop();
        self.0.stores.close().await
    }
}
