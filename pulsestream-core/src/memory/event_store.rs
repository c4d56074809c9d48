//! The event store in memory: the reference that every other store is compared with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::event_log::EventLog;
use super::signal::Signal;

use crate::error::{Error, ErrorKind, Result, Retry};
use crate::event::{Event, event_bytes};
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, Durability, EventScan, EventStore, EventStoreCapabilities,
    PARTITIONS, Partition, Position, StoreStatus, TailBatch, TailOptions,
};
use crate::query::{
    AggregateQuery, AggregateTable, Aggregator, Column, ColumnBatch, Cursor, FindPage, FindQuery, ScanQuery,
};
use crate::time::{TimeRange, Timestamp};

/// How long a caller should wait when the store is full: retention and deletion need time to make room.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// How much a [`MemoryEventStore`] may hold; an append beyond it is refused with `Unavailable` and stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEventStoreLimits {
    /// Largest number of events.
    pub max_events: u64,
    /// Largest number of bytes, as estimated from the lengths of what the events hold.
    pub max_bytes: u64,
}

impl Default for MemoryEventStoreLimits {
    /// A million events, a gibibyte.
    fn default() -> Self {
        Self { max_events: 1_000_000, max_bytes: 1 << 30 }
    }
}

/// Events in sorted maps behind one lock; gone when it is dropped.
#[derive(Debug)]
pub struct MemoryEventStore {
    log: RwLock<EventLog>,
    limits: MemoryEventStoreLimits,
    closed: AtomicBool,
    arrivals: [Signal; PARTITIONS as usize],
}

impl MemoryEventStore {
    /// Creates an empty store with the default limits.
    pub fn new() -> Self {
        Self::with_limits(MemoryEventStoreLimits::default())
    }

    /// Creates an empty store that holds at most so much.
    pub fn with_limits(limits: MemoryEventStoreLimits) -> Self {
        Self {
            log: RwLock::default(),
            limits,
            closed: AtomicBool::new(false),
            arrivals: std::array::from_fn(|_| Signal::default()),
        }
    }

    fn read(&self, operation: &'static str) -> Result<RwLockReadGuard<'_, EventLog>> {
        self.ensure_open(operation)?;
        Ok(self.log.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, operation: &'static str) -> Result<RwLockWriteGuard<'_, EventLog>> {
        let log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that nothing is stored after `close` returned.
        self.ensure_open(operation)?;
        Ok(log)
    }

    fn ensure_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the store was closed"));
        }
        Ok(())
    }

    /// Refuses events that would not fit, those that are held already not counted.
    fn ensure_room(&self, log: &EventLog, tenant: TenantId, events: &[Event]) -> Result<()> {
        let added = events.iter().filter(|event| log.get(tenant, &event.id).is_none());
        let (count, bytes) =
            added.fold((0, 0), |(count, bytes), event| (count + 1, bytes + event_bytes(event)));
        let MemoryEventStoreLimits { max_events, max_bytes } = self.limits;
        if log.events + count <= max_events && log.bytes + bytes <= max_bytes {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "event_store.append", "the memory store is full")
            .with_retry(Retry::After(FULL_RETRY))
            .with_context("events", log.events)
            .with_context("max_events", max_events)
            .with_context("bytes", log.bytes)
            .with_context("max_bytes", max_bytes))
    }
}

impl Default for MemoryEventStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl EventStore for MemoryEventStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        EventStoreCapabilities { durability: Durability::Accepted, persistent: false, shared: false }
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        let wanted = options.durability.unwrap_or(Durability::Accepted);
        if wanted > Durability::Accepted {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "event_store.append",
                "the memory store keeps events only while the process runs",
            ));
        }
        let mut log = self.write("event_store.append")?;
        self.ensure_room(&log, tenant, &events)?;
        let outcomes = events.into_iter().map(|event| log.append(tenant, event)).collect();
        drop(log);
        self.arrivals[usize::from(Partition::of(tenant).number())].notify_all();
        Ok(outcomes)
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        let log = self.read("event_store.get")?;
        Ok(ids.iter().map(|id| log.get(tenant, id).cloned()).collect())
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        let log = self.read("event_store.find")?;
        ensure_at_least_one("event_store.find", "/limit", query.limit)?;
        let matches = |event: &&Arc<Event>| query.filter.as_ref().is_none_or(|filter| filter.matches(event));
        let mut rest = log
            .in_order(tenant, query.range, query.order, query.after.as_ref())
            .filter(matches)
            .skip(query.skip)
            .peekable();
        let events: Vec<Event> =
            rest.by_ref().take(query.limit).map(|event| event.as_ref().clone()).collect();
        let next = events
            .last()
            .filter(|_| rest.peek().is_some())
            .map(|last| Cursor { timestamp: last.timestamp, id: last.id.clone() });
        let total =
            query.count_total.then(|| log.in_range(tenant, query.range).filter(matches).count() as u64);
        Ok(FindPage { events, next, total })
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        let log = self.read("event_store.aggregate")?;
        let mut aggregator = Aggregator::new(query)?;
        for event in log.in_range(tenant, query.range) {
            aggregator.add_event(event)?;
        }
        Ok(aggregator.finish())
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        let log = self.read("event_store.scan")?;
        query.validate()?;
        let matches = |event: &&Arc<Event>| query.filter.as_ref().is_none_or(|filter| filter.matches(event));
        let events: Vec<_> = log.in_range(tenant, query.range).filter(matches).cloned().collect();
        Ok(Box::new(MemoryScan { events: events.into_iter(), query: query.clone() }))
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        let log = self.read("event_store.tail")?;
        ensure_at_least_one("event_store.tail", "/limit", options.limit)?;
        Ok(log.tail(partition, after, &options))
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        let arrived = || match self.read("event_store.wait_for_events") {
            Ok(log) => log.has_events_after(partition, after).then_some(Ok(())),
            Err(closed) => Some(Err(closed)),
        };
        self.arrivals[usize::from(partition.number())].wait_until(arrived).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        Ok(self.write("event_store.delete")?.delete(tenant, selection))
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        let range = TimeRange::new(Timestamp::MIN, before);
        let older = DeleteSelection::Matching { range, filter: None };
        Ok(self.write("event_store.retain")?.delete(tenant, &older))
    }

    async fn check(&self) -> Result<StoreStatus> {
        let log = self.read("event_store.check")?;
        Ok(StoreStatus {
            backend: "memory",
            durability: Durability::Accepted,
            writable: log.events < self.limits.max_events && log.bytes < self.limits.max_bytes,
            events: Some(log.events),
            bytes: Some(log.bytes),
            impairments: Vec::new(),
            details: Vec::new(),
        })
    }

    async fn close(&self) -> Result<()> {
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        *log = EventLog::default();
        drop(log);
        self.arrivals.iter().for_each(Signal::notify_all);
        Ok(())
    }
}

fn ensure_at_least_one(operation: &'static str, pointer: &'static str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(Error::invalid(operation, pointer, "out_of_range", "must be at least 1"));
    }
    Ok(())
}

/// The matches at the time `scan` was called; later changes do not show.
#[derive(Debug)]
struct MemoryScan {
    events: std::vec::IntoIter<Arc<Event>>,
    query: ScanQuery,
}

#[async_trait]
impl EventScan for MemoryScan {
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>> {
        let events: Vec<_> = self.events.by_ref().take(self.query.batch_rows).collect();
        if events.is_empty() {
            return Ok(None);
        }
        let column = |path: &crate::event::FieldPath| {
            Column::Values(events.iter().map(|event| path.value(event).to_value()).collect())
        };
        Ok(Some(ColumnBatch {
            timestamps: events.iter().map(|event| event.timestamp).collect(),
            columns: self.query.columns.iter().map(column).collect(),
        }))
    }
}
