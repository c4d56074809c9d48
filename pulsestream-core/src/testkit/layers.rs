//! What layers are tested with: a timer without waiting, and a store that fails for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use crate::ports::timer::Timer;
use crate::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use crate::time::Timestamp;

/// A timer that lets no time pass: every sleep is over at once, or none ever is.
#[derive(Debug, Default)]
pub struct TestTimer {
    stands_still: bool,
    slept_micros: AtomicU64,
}

impl TestTimer {
    /// Creates a timer whose sleeps are over at once.
    pub fn instant() -> Self {
        Self::default()
    }

    /// Creates a timer whose sleeps never end.
    pub fn standing_still() -> Self {
        Self { stands_still: true, ..Self::default() }
    }

    /// Returns the time that was slept in total.
    pub fn slept(&self) -> Duration {
        Duration::from_micros(self.slept_micros.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Timer for TestTimer {
    async fn sleep(&self, duration: Duration) {
        if self.stands_still {
            std::future::pending::<()>().await;
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.slept_micros.fetch_add(micros, Ordering::SeqCst);
    }
}

/// A store of which some calls fail with `Unavailable` before anything happens.
#[derive(Debug)]
pub struct FlakyEventStore {
    inner: Arc<dyn EventStore>,
    every: u64,
    calls: AtomicU64,
}

impl FlakyEventStore {
    /// Wraps a store; of `every` calls all but the last fail, so that `every` attempts always suffice for one caller.
    pub fn new(inner: Arc<dyn EventStore>, every: u64) -> Self {
        Self { inner, every: every.max(1), calls: AtomicU64::new(0) }
    }

    fn pass(&self) -> Result<&dyn EventStore> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call.is_multiple_of(self.every) {
            return Ok(&*self.inner);
        }
        Err(Error::new(ErrorKind::Unavailable, "testkit.flaky", "this call fails"))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventStore for FlakyEventStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        self.pass()?.append(tenant, events, options).await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.pass()?.get(tenant, ids).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.pass()?.find(tenant, query).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.pass()?.aggregate(tenant, query).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.pass()?.scan(tenant, query).await
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.pass()?.tail(partition, after, options).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.pass()?.wait_for_events(partition, after).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        self.pass()?.delete(tenant, selection).await
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.pass()?.retain(tenant, before).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
