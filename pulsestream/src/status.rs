//! What a [`PulseStream`](crate::PulseStream) depends on, asked now.

use std::time::Duration;

use pulsestream_core::alerting::PROCESSOR;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{Impairment, Partition, StoreStatus};
use pulsestream_core::ports::live_bus::{LiveMessage, LiveTopic};
use pulsestream_core::{Error, ErrorKind, Result};

use crate::handle::Inner;

/// How long a dependency may take to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// What the checks use; no tenant has this id.
const NOBODY: TenantId = TenantId::from_u128(0);
const CHECK_KEY: &str = "readiness";

/// What a [`PulseStream`](crate::PulseStream) depends on, asked now.
#[derive(Debug)]
pub struct Status {
    /// How long it has been open.
    pub uptime: Duration,
    /// What the event store said of itself, when it answered.
    pub event_store: Option<StoreStatus>,
    /// Everything, the event store included, always in the same order.
    pub components: Vec<ComponentStatus>,
}

/// What one dependency answered.
#[derive(Debug)]
pub struct ComponentStatus {
    /// `event_store`, `identity_store`, `alert_store`, `outbox`, `coordinator`, `document_store`, `rate_limiter`, `cache`, `live_bus`, and
    /// `ingest_queue` when there is one.
    pub name: &'static str,
    /// Whether no event is accepted without it; without the others something else does not work. Behind a queue the event store is
    /// not vital.
    pub is_vital: bool,
    /// Why it does not work, or in which way it works less well.
    pub outcome: Result<()>,
    /// What is slow or missing, although it works.
    pub impairments: Vec<Impairment>,
    /// Named facts for people.
    pub details: Vec<(&'static str, String)>,
}

impl Status {
    /// Returns whether everything works, and nothing less well than it should.
    pub fn is_healthy(&self) -> bool {
        self.components.iter().all(|component| component.outcome.is_ok() && component.impairments.is_empty())
    }

    /// Returns whether events are accepted.
    pub fn is_accepting(&self) -> bool {
        self.components.iter().all(|component| !component.is_vital || component.outcome.is_ok())
    }

    /// Asks all dependencies at once, each with a limit on its time.
    pub(crate) async fn ask(inner: &Inner) -> Self {
        let stores = &inner.stores;
        let event_store = async {
            match in_time("event_store", stores.event_store.check()).await {
                Ok(status) if status.writable => (Some(status), Ok(())),
                Ok(status) => (Some(status), Err(unavailable("the store does not accept writes"))),
                Err(error) => (None, Err(error)),
            }
        };
        let identity_store = async { stores.identity_store.tenants(None, 1).await.map(drop) };
        let alert_store = async {
            let first = Partition::of(NOBODY);
            stores.alert_store.checkpoint(PROCESSOR, first).await.map(drop)
        };
        let outbox = async { stores.outbox.next_due().await.map(drop) };
        let coordinator = async { stores.coordinator.leases(CHECK_KEY).await.map(drop) };
        let documents = async { stores.document_store.document(NOBODY, CHECK_KEY).await.map(drop) };
        let cache = async { stores.cache.get(NOBODY, CHECK_KEY).await.map(drop) };
        let live_bus = async {
            let message = LiveMessage { topic: LiveTopic::Event, body: "{}".into() };
            stores.live_bus.publish(NOBODY, vec![message]).await
        };
        let (
            (event_store, stored),
            identity_store,
            alert_store,
            outbox,
            coordinator,
            documents,
            limiter,
            cache,
            live_bus,
        ) = tokio::join!(
            event_store,
            in_time("identity_store", identity_store),
            in_time("alert_store", alert_store),
            in_time("outbox", outbox),
            in_time("coordinator", coordinator),
            in_time("document_store", documents),
            in_time("rate_limiter", rate_limiter(inner)),
            in_time("cache", cache),
            in_time("live_bus", live_bus),
        );
        let queue = ingest_queue(inner).await;
        let store = ComponentStatus {
            name: "event_store",
            is_vital: queue.is_none(),
            impairments: event_store.as_ref().map(|status| status.impairments.clone()).unwrap_or_default(),
            details: event_store.as_ref().map(|status| status.details.clone()).unwrap_or_default(),
            outcome: stored,
        };
        let other = |name, is_vital, outcome| ComponentStatus {
            name,
            is_vital,
            outcome,
            impairments: Vec::new(),
            details: Vec::new(),
        };
        let mut components = vec![
            store,
            other("identity_store", true, identity_store),
            other("alert_store", false, alert_store),
            other("outbox", false, outbox),
            other("coordinator", false, coordinator),
            other("document_store", false, documents),
            other("rate_limiter", false, limiter),
            other("cache", false, cache),
            other("live_bus", false, live_bus),
        ];
        components.extend(queue);
        Self { uptime: inner.uptime(), event_store, components }
    }
}

/// A limiter on Redis goes on without it, each node on its own, and that must not go unseen.
async fn rate_limiter(inner: &Inner) -> Result<()> {
    let limit = inner.settings.ingest.rate_limit()?;
    inner.stores.rate_limiter.peek(NOBODY, CHECK_KEY, limit).await?;
    if inner.stores.limits_locally() {
        return Err(unavailable("redis does not answer: each node limits rates on its own"));
    }
    Ok(())
}

async fn ingest_queue(inner: &Inner) -> Option<ComponentStatus> {
    let queue = inner.stores.ingest_queue.as_ref()?;
    let depth = in_time("ingest_queue", queue.depth()).await;
    let details = depth.as_ref().map_or_else(
        |_| Vec::new(),
        |depth| {
            vec![
                ("durability", format!("{:?}", queue.durability()).to_lowercase()),
                ("batches", depth.batches.to_string()),
                ("dead_batches", depth.dead.to_string()),
                ("events", depth.events.to_string()),
            ]
        },
    );
    let (outcome, impairments) = (depth.map(drop), Vec::new());
    Some(ComponentStatus { name: "ingest_queue", is_vital: true, outcome, impairments, details })
}

async fn in_time<T>(name: &'static str, check: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or_else(|_| {
        let message = "did not answer in time";
        Err(Error::new(ErrorKind::Timeout, "status", message).with_context("component", name))
    })
}

fn unavailable(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "status", message)
}
