//! Which component goes in which socket.

use std::sync::Arc;

use pulsestream_core::Result;
use pulsestream_core::alerting::delivery::{
    Dispatcher, DispatcherParts, DispatcherSettings, GroupingPlanner,
};
use pulsestream_core::alerting::engine::{EngineSettings, StreamingEngine};
use pulsestream_core::alerting::{AlertingService, Channel, ProcessorParts, ProcessorSettings};
use pulsestream_core::auth::{AuthService, AuthSettings, Keyring, ResetMailer};
use pulsestream_core::env::Env;
use pulsestream_core::housekeeping::{Housekeeper, HousekeeperParts};
use pulsestream_core::id::EventId;
use pulsestream_core::ingest::IngestService;
use pulsestream_core::layers::{QueryLimitLayer, RetryLayer, RetrySettings, TimeoutLayer, TimeoutSettings};
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::auth::TenantAuth;
use pulsestream_core::ports::cache::Cache;
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::document_store::DocumentStore;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::identity::IdentityStore;
use pulsestream_core::ports::ingest_queue::IngestQueue;
use pulsestream_core::ports::key_value::KeyValue;
use pulsestream_core::ports::live_bus::LiveBus;
use pulsestream_core::ports::notifier::Notifier;
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::ports::processor::Processor;
use pulsestream_core::ports::rate_limiter::RateLimiter;
use pulsestream_core::ports::rule_engine::RuleEngine;
use pulsestream_core::processing::{FeedParts, FeedSettings};
use pulsestream_core::settings::Settings;
use pulsestream_core::text::Text;
use tokio::sync::Notify;

use crate::alerting;
use crate::background::{Background, Worker};
use crate::deadline::DeadlineNotifier;
use crate::delivery::DeliveryWorker;
use crate::erase::EraseTenant;
use crate::handle::{Inner, PulseStream};
use crate::housekeeping::HousekeepingWorker;
use crate::live::{AlertNews, LiveEvents};
#[cfg(feature = "notify")]
use crate::outbound::Outbound;
use crate::processing;
use crate::queue;
use crate::stores::{self, Stores};
use crate::threads::TokioThreads;
use crate::timer::TokioTimer;
use crate::url::StoreUrl;

/// Says which component goes in which socket, then opens.
#[derive(Debug)]
pub struct Builder {
    env: Env,
    settings: Settings,
    auth_settings: AuthSettings,
    keyring: Option<Keyring>,
    reset_mailer: Option<Arc<dyn ResetMailer>>,
    tenant_auth: Option<Arc<dyn TenantAuth>>,
    #[cfg(feature = "jwks")]
    jwks: Option<pulsestream_jwks::JwksConfig>,
    rule_engine: Option<Arc<dyn RuleEngine>>,
    notifiers: Vec<Arc<dyn Notifier>>,
    server_channels: Vec<Channel>,
    processors: Vec<(Text, Arc<dyn Processor>)>,
    #[cfg(feature = "notify")]
    outbound: Outbound,
    runs_background: bool,
    timeouts: Option<TimeoutSettings>,
    retries: Option<RetrySettings>,
    stores: Stores,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            env: Env::system(),
            settings: Settings::default(),
            auth_settings: AuthSettings::default(),
            keyring: None,
            reset_mailer: None,
            tenant_auth: None,
            #[cfg(feature = "jwks")]
            jwks: None,
            rule_engine: None,
            notifiers: Vec::new(),
            server_channels: Vec::new(),
            processors: Vec::new(),
            #[cfg(feature = "notify")]
            outbound: Outbound::default(),
            runs_background: true,
            timeouts: None,
            retries: None,
            stores: Stores::default(),
        }
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
        self.stores.event_store = Some(store);
        self
    }

    /// Gives every call of the event store this deadline; with [`Self::with_retries`], every attempt of it. Without this, questions
    /// have `query.timeout` of the settings. See [`TimeoutLayer`].
    #[must_use]
    pub fn with_timeouts(mut self, settings: TimeoutSettings) -> Self {
        self.timeouts = Some(settings);
        self
    }

    /// Makes calls of the event store again when the store says that this may help. See [`RetryLayer`].
    #[must_use]
    pub fn with_retries(mut self, settings: RetrySettings) -> Self {
        self.retries = Some(settings);
        self
    }

    /// Keeps accounts, rules and alerts in this key-value store, whatever the URL says, as far as there is no store of their own.
    #[must_use]
    pub fn with_key_value(mut self, store: Arc<dyn KeyValue>) -> Self {
        self.stores.key_value = Some(store);
        self
    }

    /// Keeps accounts in this store, whatever the URL says.
    #[must_use]
    pub fn with_identity_store(mut self, store: Arc<dyn IdentityStore>) -> Self {
        self.stores.identity_store = Some(store);
        self
    }

    /// Keeps rules, alerts and deliveries in these stores of one backend, whatever the URL says.
    #[must_use]
    pub fn with_alert_store(mut self, alerts: Arc<dyn AlertStore>, outbox: Arc<dyn Outbox>) -> Self {
        self.stores.alerts = Some((alerts, outbox));
        self
    }

    /// Takes leases from this coordinator, whatever the URL says.
    #[must_use]
    pub fn with_coordinator(mut self, coordinator: Arc<dyn Coordinator>) -> Self {
        self.stores.coordinator = Some(coordinator);
        self
    }

    /// Keeps documents of tenants, such as the configuration of the dashboard, in this store, whatever the URL says.
    #[must_use]
    pub fn with_document_store(mut self, store: Arc<dyn DocumentStore>) -> Self {
        self.stores.document_store = Some(store);
        self
    }

    /// Caches with this, whatever the URL says.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.stores.cache = Some(cache);
        self
    }

    /// Fans live messages out through this, whatever the URL says.
    #[must_use]
    pub fn with_live_bus(mut self, bus: Arc<dyn LiveBus>) -> Self {
        self.stores.live_bus = Some(bus);
        self
    }

    /// Accepts events into this queue, from which background workers move them into the event store, whatever the URL says.
    #[must_use]
    pub fn with_ingest_queue(mut self, queue: Arc<dyn IngestQueue>) -> Self {
        self.stores.ingest_queue = Some(queue);
        self
    }

    /// Uses a folder in this way; the URL still says which. Questions end after `query.timeout` of the settings when that is sooner.
    #[cfg(feature = "embedded")]
    #[must_use]
    pub fn with_embedded_config(mut self, config: pulsestream_embedded::EmbeddedConfig) -> Self {
        self.stores.embedded_config = Some(config);
        self
    }

    /// Uses Redis in this way; the URL still says which server and which prefix of keys, and the settings how much the queue holds.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn with_redis_config(mut self, config: pulsestream_redis::RedisConfig) -> Self {
        self.stores.redis_config = Some(config);
        self
    }

    /// Uses PostgreSQL with this configuration: schema, roles, pool and timeouts. A schema in the URL wins.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn with_postgres_config(mut self, config: pulsestream_postgres::PostgresConfig) -> Self {
        self.stores.postgres_config = Some(config);
        self
    }

    /// Uses these settings for accounts.
    #[must_use]
    pub fn with_auth_settings(mut self, settings: AuthSettings) -> Self {
        self.auth_settings = settings;
        self
    }

    /// Signs and hashes with the application's secrets. Without them they are made once and kept in the identity store.
    #[must_use]
    pub fn with_keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = Some(keyring);
        self
    }

    /// Sends password resets with this.
    #[must_use]
    pub fn with_reset_mailer(mut self, mailer: Arc<dyn ResetMailer>) -> Self {
        self.reset_mailer = Some(mailer);
        self
    }

    /// Asks the application who is calling, instead of the local accounts.
    #[must_use]
    pub fn with_tenant_auth(mut self, auth: Arc<dyn TenantAuth>) -> Self {
        self.tenant_auth = Some(auth);
        self
    }

    /// Believes the tokens of this identity provider too, beside the local accounts and API keys. Their tenant claim holds the id or the slug
    /// of a tenant that has an account here; whoever maps names otherwise gives a [`JwksAuth`](pulsestream_jwks::JwksAuth) to
    /// [`Self::with_tenant_auth`]. Keys are fetched from where the egress policy allows.
    #[cfg(feature = "jwks")]
    #[must_use]
    pub fn with_jwks(mut self, config: pulsestream_jwks::JwksConfig) -> Self {
        self.jwks = Some(config);
        self
    }

    /// Limits rates with this, whatever the URL says.
    #[must_use]
    pub fn with_rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.stores.rate_limiter = Some(limiter);
        self
    }

    /// Evaluates rules with this engine.
    #[must_use]
    pub fn with_rule_engine(mut self, engine: Arc<dyn RuleEngine>) -> Self {
        self.rule_engine = Some(engine);
        self
    }

    /// Delivers to channels of the notifier's kind with it; of two of one kind the later counts. An attempt that takes 55 s has failed.
    #[must_use]
    pub fn with_notifier(mut self, notifier: Arc<dyn Notifier>) -> Self {
        self.notifiers.push(notifier);
        self
    }

    /// Says where webhook and Slack notifications may go besides public addresses.
    #[cfg(feature = "notify")]
    #[must_use]
    pub fn with_egress_policy(mut self, policy: pulsestream_notify::egress::EgressPolicy) -> Self {
        self.outbound.egress = policy;
        self
    }

    /// Says where the webhook and Slack notifications of one tenant may go, in place of what holds for all.
    #[cfg(feature = "notify")]
    #[must_use]
    pub fn with_tenant_egress_policy(
        mut self,
        tenant: pulsestream_core::id::TenantId,
        policy: pulsestream_notify::egress::EgressPolicy,
    ) -> Self {
        self.outbound.tenants.push((tenant, policy));
        self
    }

    /// Delivers e-mail notifications through this mail server, and password resets too unless there is a mailer of their own.
    #[cfg(feature = "notify")]
    #[must_use]
    pub fn with_email(mut self, config: pulsestream_notify::EmailConfig) -> Self {
        self.outbound.email = Some(config);
        self
    }

    /// Says where a password is reset, with `{token}` in place of the token, for example `https://example.com/reset#{token}`. Without it
    /// the messages hold the bare token.
    #[cfg(feature = "notify")]
    #[must_use]
    pub fn with_reset_link(mut self, link: impl Into<String>) -> Self {
        self.outbound.reset_link = Some(link.into());
        self
    }

    /// Adds a channel of the server, which rules of every tenant can name when the tenant has none of that name. With the feature
    /// `notify` there is one already, `log`.
    #[must_use]
    pub fn with_server_channel(mut self, channel: Channel) -> Self {
        self.server_channels.push(channel);
        self
    }

    /// Gives every acknowledged event to a processor of the application, from where it was when the name was used last; on many
    /// nodes each partition to one of them at a time.
    #[must_use]
    pub fn with_processor(mut self, name: impl Into<Text>, processor: Arc<dyn Processor>) -> Self {
        self.processors.push((name.into(), processor));
        self
    }

    /// Starts nothing in the background: no rule is evaluated, nothing is delivered and no processor runs in
    /// this process.
    #[must_use]
    pub fn without_background(mut self) -> Self {
        self.runs_background = false;
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
        processing::check_names(&self.processors)?;
        self.timeouts.as_ref().map_or(Ok(()), TimeoutSettings::validate)?;
        self.retries.as_ref().map_or(Ok(()), RetrySettings::validate)?;
        #[cfg(feature = "jwks")]
        if self.tenant_auth.is_some() && self.jwks.is_some() {
            let message = "there is an authentication of the application already: give one of the two";
            return Err(pulsestream_core::Error::invalid(
                "pulsestream.open",
                "/jwks",
                "invalid_setting",
                message,
            ));
        }
        let env = self.env;
        let settings = self.settings;
        let mut stores = stores::open(self.stores, &url, &settings, &env).await?;
        let timeouts = TimeoutSettings { read: settings.query.timeout, ..TimeoutSettings::default() };
        let timeouts = self.timeouts.unwrap_or(timeouts);
        let layer = TimeoutLayer::new(stores.event_store, Arc::new(TokioTimer), timeouts)?;
        stores.event_store = Arc::new(QueryLimitLayer::new(Arc::new(layer), settings.query.clone()));
        if let Some(settings) = self.retries {
            let layer = RetryLayer::new(stores.event_store, Arc::new(TokioTimer), env.clone(), settings)?;
            stores.event_store = Arc::new(layer);
        }
        let planned = Arc::new(Notify::new());
        let news = AlertNews::new(stores.alert_store.clone(), stores.live_bus.clone(), planned.clone());
        let live = LiveEvents::new(stores.event_store.clone(), stores.alert_store.clone());
        #[cfg(feature = "notify")]
        let server_channels = crate::outbound::with_log_channel(self.server_channels);
        #[cfg(not(feature = "notify"))]
        let server_channels = self.server_channels;
        let mut ingest = IngestService::new(
            env.clone(),
            stores.event_store.clone(),
            stores.rate_limiter.clone(),
            settings.ingest.clone(),
        )?;
        if let Some(queue) = &stores.ingest_queue {
            ingest = ingest.with_queue(queue.clone());
        }
        let mut auth = AuthService::builder(env.clone(), stores.identity_store.clone())
            .with_settings(self.auth_settings)
            .with_blocking_pool(Arc::new(TokioThreads::current()))
            .with_timer(Arc::new(TokioTimer))
            .with_deletion_hook(Arc::new(EraseTenant {
                events: stores.event_store.clone(),
                documents: stores.document_store.clone(),
                alerts: stores.alert_store.clone(),
                outbox: stores.outbox.clone(),
            }));
        if let Some(keyring) = self.keyring {
            auth = auth.with_keyring(keyring);
        }
        #[cfg(feature = "jwks")]
        let egress = self.outbound.egress.clone();
        let own =
            self.notifiers.into_iter().map(|notifier| DeadlineNotifier::around(notifier, &env)).collect();
        #[cfg(feature = "notify")]
        let (notifiers, reset_mails) = self.outbound.open(own, &env)?;
        #[cfg(not(feature = "notify"))]
        let (notifiers, reset_mails): (Vec<Arc<dyn Notifier>>, _) = (own, None);
        if let Some(mailer) = self.reset_mailer.or(reset_mails) {
            auth = auth.with_reset_mailer(mailer);
        }
        let accounts = auth.open().await?;
        if self.runs_background
            && let Err(error) = accounts.resume_deletions().await
        {
            tracing::error!(%error, "tenants whose deletion was interrupted are not gone yet; the next start tries again");
        }
        #[cfg(feature = "jwks")]
        let foreign = self
            .jwks
            .map(|config| crate::foreign::beside_accounts(config, accounts.clone(), egress, env.clone()))
            .transpose()?;
        #[cfg(not(feature = "jwks"))]
        let foreign = None;
        let tenant_auth = self.tenant_auth.or(foreign).unwrap_or_else(|| Arc::new(accounts.clone()));
        let max_instances = u32::try_from(settings.alerting.max_instances_per_rule).unwrap_or(u32::MAX);
        let engine = self.rule_engine.unwrap_or_else(|| {
            Arc::new(StreamingEngine::new(EngineSettings { max_instances, ..EngineSettings::default() }))
        });
        let rules = AlertingService::new(
            stores.alert_store.clone(),
            stores.outbox.clone(),
            stores.event_store.clone(),
            engine.clone(),
            env.clone(),
        )
        .with_server_channels(server_channels.clone())
        .with_listener(news.clone())
        .with_max_rules(settings.alerting.max_rules)
        .with_max_channels(settings.alerting.max_channels)
        .with_max_silences(settings.alerting.max_silences)
        .with_max_instances(max_instances);
        let parts = ProcessorParts {
            events: stores.event_store.clone(),
            alerts: stores.alert_store.clone(),
            coordinator: stores.coordinator.clone(),
            engine,
            planner: Arc::new(
                GroupingPlanner::new(server_channels.clone())
                    .with_max_template_output_bytes(settings.alerting.max_template_output_bytes),
            ),
            listener: Some(news.clone()),
            env: env.clone(),
            holder: EventId::from_u128(env.uuid_v7()?).as_str().into(),
        };
        let dispatcher = DispatcherParts {
            outbox: stores.outbox.clone(),
            alerts: stores.alert_store.clone(),
            events: stores.event_store.clone(),
            notifiers,
            server_channels,
            env: env.clone(),
            holder: parts.holder.clone(),
        };
        let mut workers: Vec<Arc<dyn Worker>> = vec![news];
        if self.runs_background {
            let lease_ttl = settings.alerting.lease_ttl;
            let processors = ProcessorSettings { lease_ttl, ..ProcessorSettings::default() };
            workers.extend(alerting::workers(&parts, processors));
            let dispatcher = Dispatcher::new(dispatcher, DispatcherSettings::default());
            workers.push(Arc::new(DeliveryWorker::new(dispatcher, env.clone(), planned)));
            for (name, processor) in self.processors {
                let feed = FeedParts {
                    processor,
                    name,
                    events: stores.event_store.clone(),
                    checkpoints: stores.alert_store.clone(),
                    coordinator: stores.coordinator.clone(),
                    env: env.clone(),
                    holder: parts.holder.clone(),
                };
                workers.extend(processing::workers(
                    &feed,
                    FeedSettings { lease_ttl, ..FeedSettings::default() },
                ));
            }
            let housekeeper = HousekeeperParts {
                alerts: stores.alert_store.clone(),
                outbox: stores.outbox.clone(),
                identities: stores.identity_store.clone(),
                accounts: accounts.clone(),
                coordinator: stores.coordinator.clone(),
                env: env.clone(),
                holder: parts.holder.clone(),
            };
            let housekeeper = Housekeeper::new(housekeeper, settings.housekeeping);
            workers.push(Arc::new(HousekeepingWorker::new(housekeeper)));
            workers.extend(queue::workers(&ingest, &parts.holder, settings.ingest.queue_workers));
        }
        let background = Background::start(env.clock(), workers);
        Ok(PulseStream::new(Inner {
            started: env.monotonic(),
            env,
            settings,
            url,
            stores,
            ingest,
            alerting: rules,
            accounts,
            tenant_auth,
            live,
            background,
        }))
    }
}
