//! A store that answers when it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pulsestream::core::Result;
use pulsestream::core::event::Event;
use pulsestream::core::id::{EventId, TenantId};
use pulsestream::core::memory::MemoryEventStore;
use pulsestream::core::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use pulsestream::core::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use pulsestream::core::time::Timestamp;
use tokio::sync::watch;

/// The memory store behind a gate, for what requests ask and append.
#[derive(Debug)]
pub(crate) struct HeldStore {
    inner: MemoryEventStore,
    held: watch::Sender<bool>,
    waiting: AtomicUsize,
}

impl HeldStore {
    pub(crate) fn new(inner: MemoryEventStore) -> Self {
        Self { inner, held: watch::Sender::new(false), waiting: AtomicUsize::new(0) }
    }

    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// Waits until so many calls wait.
    pub(crate) async fn waiting(&self, calls: usize) {
        while self.waiting.load(Ordering::SeqCst) < calls {
            tokio::task::yield_now().await;
        }
    }

    async fn gate(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.subscribe();
        // The sender lives as long as the store.
        let _ = held.wait_for(|held| !held).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl EventStore for HeldStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        self.gate().await;
        self.inner.append(tenant, events, options).await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.gate().await;
        self.inner.get(tenant, ids).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.gate().await;
        self.inner.find(tenant, query).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.gate().await;
        self.inner.aggregate(tenant, query).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.inner.scan(tenant, query).await
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.inner.tail(partition, after, options).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.inner.wait_for_events(partition, after).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        self.inner.delete(tenant, selection).await
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.inner.retain(tenant, before).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
