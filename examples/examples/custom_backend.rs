//! An event store of one's own: a list in memory, proved by the conformance suite.
//!
//! ```text
//! cargo run -p pulsestream-examples --example custom_backend
//! ```
//! Everything that is the same for all stores comes from core: what a filter means, how aggregates are measured, what is refused.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the program reports on the terminal")]

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, Durability, EventScan, EventStore, EventStoreCapabilities,
    Partition, Position, StoreStatus, TailBatch, TailOptions, TailedEvent,
};
use pulsestream_core::query::{
    AggregateQuery, AggregateTable, Aggregator, Column, ColumnBatch, Cursor, FindPage, FindQuery, Order,
    ScanQuery,
};
use pulsestream_core::testkit::{EventStoreHarness, event_store};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{Error, ErrorKind, Filter, Result};

/// An append-only list; an event is known by its place, and a deleted one leaves a gap.
#[derive(Debug, Default)]
struct ListStore(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    log: Vec<Option<(TenantId, Event)>>,
    places: HashMap<(TenantId, EventId), usize>,
    waiting: Vec<Waker>,
    closed: bool,
}

impl ListStore {
    fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, List>> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.closed {
            Err(Error::new(ErrorKind::Closed, operation, "the store was closed"))
        } else {
            Ok(list)
        }
    }
}

impl List {
    /// The events of a tenant that match, oldest first.
    fn select(&self, tenant: TenantId, range: TimeRange, filter: Option<&Filter>) -> Vec<&Event> {
        let own = self.log.iter().flatten().filter(|(owner, _)| *owner == tenant).map(|(_, event)| event);
        let matches = |event: &&Event| filter.is_none_or(|filter| filter.matches(event));
        let mut events: Vec<_> =
            own.filter(|event| range.contains(event.timestamp)).filter(matches).collect();
        events.sort_by(|left, right| (left.timestamp, &left.id).cmp(&(right.timestamp, &right.id)));
        events
    }

    fn remove(&mut self, tenant: TenantId, ids: Vec<EventId>) -> u64 {
        let places: Vec<usize> = ids.into_iter().filter_map(|id| self.places.remove(&(tenant, id))).collect();
        places.iter().for_each(|place| self.log[*place] = None);
        places.len() as u64
    }
}

fn refuse_zero(operation: &'static str, limit: usize) -> Result<()> {
    if limit > 0 {
        Ok(())
    } else {
        Err(Error::invalid(operation, "/limit", "out_of_range", "must be at least 1"))
    }
}

#[async_trait]
impl EventStore for ListStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        EventStoreCapabilities { durability: Durability::Accepted, persistent: false, shared: false }
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        let mut list = self.open("event_store.append")?;
        if options.durability > Some(Durability::Accepted) {
            return Err(Error::new(ErrorKind::Unsupported, "event_store.append", "a list is not durable"));
        }
        let store = |event: Event| {
            if list.places.contains_key(&(tenant, event.id.clone())) {
                return AppendOutcome::Duplicate;
            }
            let place = list.log.len();
            list.places.insert((tenant, event.id.clone()), place);
            list.log.push(Some((tenant, event)));
            AppendOutcome::Stored
        };
        let outcomes = events.into_iter().map(store).collect();
        list.waiting.drain(..).for_each(Waker::wake);
        Ok(outcomes)
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        let list = self.open("event_store.get")?;
        let event =
            |id: &EventId| Some(list.log[*list.places.get(&(tenant, id.clone()))?].as_ref()?.1.clone());
        Ok(ids.iter().map(event).collect())
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        let list = self.open("event_store.find")?;
        refuse_zero("event_store.find", query.limit)?;
        let mut events = list.select(tenant, query.range, query.filter.as_ref());
        let total = query.count_total.then_some(events.len() as u64);
        if query.order == Order::NewestFirst {
            events.reverse();
        }
        if let Some(Cursor { timestamp, id }) = &query.after {
            let place = (*timestamp, id);
            events.retain(|event| match query.order {
                Order::NewestFirst => (event.timestamp, &event.id) < place,
                Order::OldestFirst => (event.timestamp, &event.id) > place,
            });
        }
        let mut rest = events.into_iter().skip(query.skip);
        let events: Vec<Event> = rest.by_ref().take(query.limit).cloned().collect();
        let cursor = |event: &Event| Cursor { timestamp: event.timestamp, id: event.id.clone() };
        let next = rest.next().and(events.last().map(cursor));
        Ok(FindPage { events, next, total })
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        let list = self.open("event_store.aggregate")?;
        let mut aggregator = Aggregator::new(query)?;
        let events = list.select(tenant, query.range, query.filter.as_ref());
        events.into_iter().try_for_each(|event| aggregator.add_event(event))?;
        Ok(aggregator.finish())
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        let list = self.open("event_store.scan")?;
        query.validate()?;
        let events = list.select(tenant, query.range, query.filter.as_ref());
        let batch = |events: &[&Event]| ColumnBatch {
            timestamps: events.iter().map(|event| event.timestamp).collect(),
            columns: (query.columns.iter())
                .map(|path| Column::Values(events.iter().map(|event| path.value(event).to_value()).collect()))
                .collect(),
        };
        Ok(Box::new(ListScan(events.chunks(query.batch_rows).map(batch).collect::<Vec<_>>().into_iter())))
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        let list = self.open("event_store.tail")?;
        refuse_zero("event_store.tail", options.limit)?;
        let first = usize::try_from(after.0).unwrap_or(usize::MAX);
        let mut rest = (1_u128..).map(Position).zip(&list.log).skip(first).filter_map(|(position, entry)| {
            let is_wanted = |tenant| Partition::of(tenant) == partition && options.wants(tenant);
            let (tenant, event) = entry.as_ref().filter(|(tenant, _)| is_wanted(*tenant))?;
            Some(TailedEvent { tenant: *tenant, position, event: event.clone() })
        });
        let events: Vec<TailedEvent> = rest.by_ref().take(options.limit).collect();
        let caught_up = rest.next().is_none();
        // At the end what was passed over is behind the reader too.
        let end = if caught_up { Some(Position(list.log.len() as u128)) } else { None };
        let next = end.or(events.last().map(|event| event.position)).map_or(after, |next| next.max(after));
        Ok(TailBatch { events, next, caught_up })
    }

    async fn wait_for_events(&self, _partition: Partition, after: Position) -> Result<()> {
        poll_fn(|context| match self.open("event_store.wait_for_events") {
            Err(closed) => Poll::Ready(Err(closed)),
            Ok(list) if list.log.len() as u128 > after.0 => Poll::Ready(Ok(())),
            Ok(mut list) => {
                list.waiting.push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        let mut list = self.open("event_store.delete")?;
        let ids = match selection {
            DeleteSelection::Ids(ids) => ids.clone(),
            DeleteSelection::Matching { range, filter } => {
                list.select(tenant, *range, filter.as_ref()).iter().map(|event| event.id.clone()).collect()
            }
        };
        Ok(list.remove(tenant, ids))
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        let range = TimeRange::new(Timestamp::MIN, before);
        self.delete(tenant, &DeleteSelection::Matching { range, filter: None }).await
    }

    async fn check(&self) -> Result<StoreStatus> {
        let events = Some(self.open("event_store.check")?.places.len() as u64);
        let durability = Durability::Accepted;
        Ok(StoreStatus {
            backend: "list",
            durability,
            writable: true,
            events,
            bytes: None,
            impairments: Vec::new(),
            details: Vec::new(),
        })
    }

    async fn close(&self) -> Result<()> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.closed = true;
        list.waiting.drain(..).for_each(Waker::wake);
        Ok(())
    }
}

#[derive(Debug)]
struct ListScan(std::vec::IntoIter<ColumnBatch>);

#[async_trait]
impl EventScan for ListScan {
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>> {
        Ok(self.0.next())
    }
}

#[derive(Debug)]
struct Harness;

#[async_trait]
impl EventStoreHarness for Harness {
    async fn open(&self) -> Arc<dyn EventStore> {
        Arc::new(ListStore::default())
    }
}

fn main() -> ExitCode {
    let cases = event_store::cases();
    let passes =
        |name: &str| catch_unwind(AssertUnwindSafe(|| event_store::run(name, Arc::new(Harness)))).is_ok();
    let failed: Vec<&str> = cases.iter().map(|case| case.name).filter(|name| !passes(name)).collect();
    failed.iter().for_each(|name| eprintln!("failed: {name}"));
    println!("{} of {} cases passed", cases.len() - failed.len(), cases.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
