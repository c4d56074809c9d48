//! An event store of which every call can be held, refused or broken, to test what stands in front of a store.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use crate::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use crate::time::Timestamp;

/// A method of [`EventStore`] that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventStoreCall {
    /// `append`.
    Append,
    /// `get`.
    Get,
    /// `find`.
    Find,
    /// `aggregate`.
    Aggregate,
    /// `scan`; reading on in what it returns is not intercepted.
    Scan,
    /// `tail`.
    Tail,
    /// `wait_for_events`.
    WaitForEvents,
    /// `delete`.
    Delete,
    /// `retain`.
    Retain,
    /// `check`.
    Check,
    /// `close`.
    Close,
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Interception {
    /// It happens and answers.
    Pass,
    /// It fails, and nothing happens.
    Fail(Error),
    /// It happens, and fails all the same.
    FailAfter(Error),
    /// It happens and never answers.
    Hang,
}

/// Decides what becomes of each call of an [`InterceptedEventStore`].
#[async_trait]
pub trait Intercept: fmt::Debug + Send + Sync + 'static {
    /// Answers when the call may go on, and how.
    async fn intercept(&self, call: EventStoreCall) -> Interception;
}

/// An event store behind an [`Intercept`].
#[derive(Debug)]
pub struct InterceptedEventStore<I> {
    inner: Arc<dyn EventStore>,
    intercept: I,
}

impl<I: Intercept> InterceptedEventStore<I> {
    /// Puts `intercept` before every call of `inner`.
    pub fn around(inner: Arc<dyn EventStore>, intercept: I) -> Self {
        Self { inner, intercept }
    }

    /// Returns what decides about the calls.
    pub fn interceptor(&self) -> &I {
        &self.intercept
    }

    async fn call<T>(&self, call: EventStoreCall, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.intercept.intercept(call).await {
            Interception::Pass => work.await,
            Interception::Fail(error) => Err(error),
            Interception::FailAfter(error) => work.await.and(Err(error)),
            Interception::Hang => {
                work.await?;
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<I: Intercept> EventStore for InterceptedEventStore<I> {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        self.call(EventStoreCall::Append, self.inner.append(tenant, events, options)).await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.call(EventStoreCall::Get, self.inner.get(tenant, ids)).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.call(EventStoreCall::Find, self.inner.find(tenant, query)).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.call(EventStoreCall::Aggregate, self.inner.aggregate(tenant, query)).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.call(EventStoreCall::Scan, self.inner.scan(tenant, query)).await
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.call(EventStoreCall::Tail, self.inner.tail(partition, after, options)).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.call(EventStoreCall::WaitForEvents, self.inner.wait_for_events(partition, after)).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        self.call(EventStoreCall::Delete, self.inner.delete(tenant, selection)).await
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        self.call(EventStoreCall::Retain, self.inner.retain(tenant, before)).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.call(EventStoreCall::Check, self.inner.check()).await
    }

    async fn close(&self) -> Result<()> {
        self.call(EventStoreCall::Close, self.inner.close()).await
    }
}
