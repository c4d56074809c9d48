//! The scope of one tenant.

use pulsestream_core::Result;
use pulsestream_core::error::FieldError;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ingest::{Accepted, IngestOptions};
use pulsestream_core::ports::event_store::{DeleteSelection, EventScan};
use pulsestream_core::ports::live_bus::LiveSubscription;
use pulsestream_core::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use pulsestream_core::time::Timestamp;

use crate::live::Feed;
use crate::{Alerts, PulseStream, Rules};

/// One tenant of a [`PulseStream`]; cheap to clone. No method of it reaches another tenant.
#[derive(Debug, Clone)]
pub struct Tenant {
    pulsestream: PulseStream,
    id: TenantId,
}

impl Tenant {
    pub(crate) fn new(pulsestream: PulseStream, id: TenantId) -> Self {
        Self { pulsestream, id }
    }

    /// Returns the tenant's id.
    pub fn id(&self) -> TenantId {
        self.id
    }

    /// Returns the tenant's rules.
    pub fn rules(&self) -> Rules {
        Rules::new(self.pulsestream.clone(), self.id)
    }

    /// Returns the tenant's alerts.
    pub fn alerts(&self) -> Alerts {
        Alerts::new(self.pulsestream.clone(), self.id)
    }

    /// Returns the wall-clock time of the pipeline.
    pub fn now(&self) -> Timestamp {
        self.pulsestream.env().now()
    }

    /// Validates an event, applies the tenant's limits and stores it.
    ///
    /// # Errors
    /// See [`IngestService::ingest`](pulsestream_core::ingest::IngestService::ingest).
    pub async fn ingest(&self, event: Event) -> Result<Accepted> {
        self.pulsestream.ingest().ingest(self.id, event, IngestOptions::default()).await
    }

    /// The same for many events, with an outcome for each: one refused event does not affect the others.
    ///
    /// # Errors
    /// See [`IngestService::ingest_batch`](pulsestream_core::ingest::IngestService::ingest_batch).
    pub async fn ingest_batch(&self, events: Vec<Event>) -> Result<Vec<Result<Accepted>>> {
        let events = events.into_iter().map(Ok::<_, Vec<FieldError>>).collect();
        self.pulsestream.ingest().ingest_batch(self.id, events, IngestOptions::default()).await
    }

    /// Returns an event.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get(&self, id: EventId) -> Result<Option<Event>> {
        Ok(self.pulsestream.event_store().get(self.id, &[id]).await?.pop().flatten())
    }

    /// Finds events, a page at a time.
    ///
    /// # Errors
    /// `Invalid` for a question that is wrong, and those of the store.
    pub async fn find(&self, query: FindQuery) -> Result<FindPage> {
        self.pulsestream.event_store().find(self.id, &query).await
    }

    /// Measures events in groups and buckets.
    ///
    /// # Errors
    /// `Invalid` for a question that is wrong, `TooLarge` for too many groups, and those of the store.
    pub async fn aggregate(&self, query: AggregateQuery) -> Result<AggregateTable> {
        self.pulsestream.event_store().aggregate(self.id, &query).await
    }

    /// Reads projected columns of many events.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn scan(&self, query: ScanQuery) -> Result<Box<dyn EventScan>> {
        self.pulsestream.event_store().scan(self.id, &query).await
    }

    /// Follows what happens from now on, on every node: events as they are stored, and alerts as they change. The body of a message is
    /// the JSON of the [`Event`], or of the [`Alert`](pulsestream_core::alerting::Alert) as it is then.
    ///
    /// A receiver that is more than about a thousand messages behind loses the oldest and learns how many; nobody else is slowed down.
    /// Whoever must not miss anything reads [`EventStore::tail`](pulsestream_core::ports::event_store::EventStore::tail).
    ///
    /// # Errors
    /// Those of the stores and of the live bus.
    pub async fn live(&self) -> Result<Box<dyn LiveSubscription>> {
        let inner = &self.pulsestream.0;
        let bus = inner.stores.live_bus.subscribe(self.id).await?;
        let events = inner.live.subscribe(self.id).await?;
        Ok(Box::new(Feed { events, bus, stopped: inner.live.stopped() }))
    }

    /// Deletes events and returns how many.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, selection: DeleteSelection) -> Result<u64> {
        self.pulsestream.event_store().delete(self.id, &selection).await
    }

    /// Deletes the events that happened before `before` and returns how many.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn retain(&self, before: Timestamp) -> Result<u64> {
        self.pulsestream.event_store().retain(self.id, before).await
    }
}
