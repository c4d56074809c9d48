//! A deadline for every call of a store.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, FieldError, Result};
use crate::event::Event;
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventScan, EventStore, EventStoreCapabilities, Partition,
    Position, StoreStatus, TailBatch, TailOptions,
};
use crate::ports::timer::Timer;
use crate::query::{AggregateQuery, AggregateTable, ColumnBatch, FindPage, FindQuery, ScanQuery};
use crate::time::{Timestamp, duration_text};

/// How long each kind of call may take; each at least 1 ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutSettings {
    /// Questions, and each batch of a scan; 30 s.
    #[serde(with = "duration_text")]
    pub read: Duration,
    /// Appending; 10 s.
    #[serde(with = "duration_text")]
    pub append: Duration,
    /// Deleting and retaining, which may rewrite much; 10 minutes.
    #[serde(with = "duration_text")]
    pub delete: Duration,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(30),
            append: Duration::from_secs(10),
            delete: Duration::from_secs(600),
        }
    }
}

impl TimeoutSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// `Invalid` with a field error for each that is out of range.
    pub fn validate(&self) -> Result<()> {
        let all = [("/read", self.read), ("/append", self.append), ("/delete", self.delete)];
        let refused = all.into_iter().filter(|(_, timeout)| *timeout < Duration::from_millis(1));
        let fields: Vec<FieldError> = refused
            .map(|(pointer, _)| FieldError::new(pointer, "out_of_range", "must be at least 1ms"))
            .collect();
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("layers.timeout", fields)) }
    }
}

/// An event store whose calls end in time.
///
/// - A question that takes too long is dropped and fails with [`ErrorKind::Timeout`].
/// - An append or a deletion that takes too long may still happen: it fails with [`ErrorKind::OutcomeUnknown`]. Appending again with
///   the same ids is safe.
/// - [`EventStore::wait_for_events`] waits as long as its caller does, and [`EventStore::close`] finishes what was acknowledged, however
///   long that takes.
#[derive(Debug)]
pub struct TimeoutLayer {
    inner: Arc<dyn EventStore>,
    deadlines: Deadlines,
    settings: TimeoutSettings,
}

impl TimeoutLayer {
    /// Wraps a store.
    ///
    /// # Errors
    /// Those of [`TimeoutSettings::validate`].
    pub fn new(inner: Arc<dyn EventStore>, timer: Arc<dyn Timer>, settings: TimeoutSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self { inner, deadlines: Deadlines(timer), settings })
    }

    async fn read<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.deadlines.within(self.settings.read, operation, ErrorKind::Timeout, work).await
    }
}

#[derive(Debug, Clone)]
struct Deadlines(Arc<dyn Timer>);

impl Deadlines {
    async fn within<T>(
        &self,
        timeout: Duration,
        operation: &'static str,
        kind: ErrorKind,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (mut work, mut deadline) = (pin!(work), pin!(self.0.sleep(timeout)));
        poll_fn(|context| {
            // The work first: what is finished counts, also when it is late.
            if let Poll::Ready(answer) = work.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            deadline.as_mut().poll(context).map(|()| {
                let message = match kind {
                    ErrorKind::OutcomeUnknown => "the store did not answer in time, and may still do it",
                    _ => "the store did not answer in time",
                };
                Err(Error::new(kind, operation, message).with_context("timeout_ms", timeout.as_millis()))
            })
        })
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventStore for TimeoutLayer {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        let work = self.inner.append(tenant, events, options);
        let kind = ErrorKind::OutcomeUnknown;
        self.deadlines.within(self.settings.append, "event_store.append", kind, work).await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.read("event_store.get", self.inner.get(tenant, ids)).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.read("event_store.find", self.inner.find(tenant, query)).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.read("event_store.aggregate", self.inner.aggregate(tenant, query)).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        let inner = self.read("event_store.scan", self.inner.scan(tenant, query)).await?;
        Ok(Box::new(TimedScan { inner, deadlines: self.deadlines.clone(), timeout: self.settings.read }))
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.read("event_store.tail", self.inner.tail(partition, after, options)).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.inner.wait_for_events(partition, after).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        let (work, kind) = (self.inner.delete(tenant, selection), ErrorKind::OutcomeUnknown);
        self.deadlines.within(self.settings.delete, "event_store.delete", kind, work).await
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        let (work, kind) = (self.inner.retain(tenant, before), ErrorKind::OutcomeUnknown);
        self.deadlines.within(self.settings.delete, "event_store.retain", kind, work).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        self.read("event_store.check", self.inner.check()).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct TimedScan {
    inner: Box<dyn EventScan>,
    deadlines: Deadlines,
    timeout: Duration,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventScan for TimedScan {
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>> {
        let work = self.inner.next_batch();
        self.deadlines.within(self.timeout, "event_store.scan", ErrorKind::Timeout, work).await
    }
}
