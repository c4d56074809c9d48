//! What a case works with: a fresh store, a tenant, and shorthands that fail loudly.

use std::sync::Arc;

use super::EventStoreHarness;
use crate::error::{ErrorKind, Result};
use crate::event::{Event, FieldPath, Value};
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventStore, Partition, Position, TailOptions, TailedEvent,
};
use crate::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, Order, ScanQuery};
use crate::testkit::events::filter;
use crate::testkit::run::{BoxFuture, concurrently};
use crate::time::Timestamp;

/// A fresh store, a tenant in it, and the harness they come from.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Opens stores.
    pub harness: Arc<dyn EventStoreHarness>,
    /// The store under test.
    pub store: Arc<dyn EventStore>,
    /// The tenant of the case.
    pub tenant: TenantId,
}

impl Probe {
    /// Opens a store for one case.
    pub async fn open(harness: Arc<dyn EventStoreHarness>) -> Self {
        let store = harness.open().await;
        let tenant = harness.tenant();
        Self { harness, store, tenant }
    }

    /// Returns the same store with another tenant.
    pub(super) fn stranger(&self) -> Self {
        Self { tenant: self.harness.tenant(), ..self.clone() }
    }

    /// Returns the partition of the tenant.
    pub(super) fn partition(&self) -> Partition {
        Partition::of(self.tenant)
    }

    /// Appends, and returns each outcome by name.
    pub(super) async fn outcomes(&self, events: Vec<Event>) -> Vec<&'static str> {
        let outcomes = self.store.append(self.tenant, events, AppendOptions::default()).await;
        let name = |outcome: &AppendOutcome| match outcome {
            AppendOutcome::Stored => "stored",
            AppendOutcome::Duplicate => "duplicate",
            AppendOutcome::Refused(_) => "refused",
        };
        outcomes.expect("append succeeds").iter().map(name).collect()
    }

    /// Appends events that are all new.
    pub(super) async fn append(&self, events: Vec<Event>) {
        let count = events.len();
        assert_eq!(self.outcomes(events).await, vec!["stored"; count], "every event is new and is stored");
    }

    pub(super) async fn get(&self, id: &EventId) -> Option<Event> {
        let mut found = self.store.get(self.tenant, std::slice::from_ref(id)).await.expect("get succeeds");
        assert_eq!(found.len(), 1, "one id, one answer");
        found.pop().flatten()
    }

    pub(super) async fn find(&self, query: FindQuery) -> FindPage {
        self.store.find(self.tenant, &query).await.expect("find succeeds")
    }

    /// Finds one page and returns the ids.
    pub(super) async fn ids(&self, query: FindQuery) -> Vec<String> {
        ids_of(&self.find(query).await.events)
    }

    /// Returns the ids of all events, oldest first.
    pub(super) async fn all_ids(&self) -> Vec<String> {
        self.ids(FindQuery { limit: 1_000, order: Order::OldestFirst, ..FindQuery::default() }).await
    }

    /// Returns the ids of the events that match a filter, oldest first, separated by spaces.
    pub(super) async fn matching(&self, text: &str) -> String {
        let query = FindQuery {
            limit: 1_000,
            order: Order::OldestFirst,
            filter: Some(filter(text)),
            ..FindQuery::default()
        };
        self.ids(query).await.join(" ")
    }

    /// Checks which ids several filters select; `expected` has pairs of a filter and ids separated by spaces.
    pub(super) async fn assert_matching(&self, expected: &[(&str, &str)]) {
        for (filter, ids) in expected {
            assert_eq!(self.matching(filter).await, *ids, "events that match {filter}");
        }
    }

    /// Follows `next` to the end and returns all ids.
    pub(super) async fn walk(&self, mut query: FindQuery) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let page = self.find(query.clone()).await;
            assert!(page.events.len() <= query.limit, "a page holds at most `limit` events");
            seen.extend(ids_of(&page.events));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return seen,
            }
        }
    }

    pub(super) async fn aggregate(&self, query: AggregateQuery) -> AggregateTable {
        self.store.aggregate(self.tenant, &query).await.expect("aggregate succeeds")
    }

    /// Reads a whole scan: each row has its timestamp and one value for each column.
    pub(super) async fn scan(&self, query: ScanQuery) -> Vec<(Timestamp, Vec<Value>)> {
        let mut scan = self.store.scan(self.tenant, &query).await.expect("scan starts");
        let mut rows = Vec::new();
        while let Some(batch) = scan.next_batch().await.expect("the scan goes on") {
            assert!(batch.timestamps.len() <= query.batch_rows, "a batch holds at most `batch_rows` rows");
            assert_eq!(batch.columns.len(), query.columns.len(), "a batch has the columns asked");
            for column in &batch.columns {
                assert_eq!(column.len(), batch.timestamps.len(), "a column is as long as the batch");
            }
            for (row, timestamp) in batch.timestamps.iter().enumerate() {
                rows.push((*timestamp, batch.columns.iter().map(|column| column.value(row)).collect()));
            }
        }
        rows
    }

    /// Scans the ids of all events.
    pub(super) async fn scanned_ids(&self) -> Vec<String> {
        let query = ScanQuery { columns: vec![FieldPath::Id], ..ScanQuery::default() };
        self.scan(query).await.into_iter().map(|(_, values)| values[0].to_string()).collect()
    }

    /// Reads a partition from a position to its end, a few events at a time.
    pub(super) async fn tail_from(&self, partition: Partition, mut after: Position) -> Vec<TailedEvent> {
        let mut seen = Vec::new();
        loop {
            let batch = self
                .store
                .tail(partition, after, TailOptions { limit: 3, ..TailOptions::default() })
                .await
                .expect("tail succeeds");
            assert!(batch.events.len() <= 3, "a tail batch holds at most `limit` events");
            assert!(batch.next >= after, "`next` never goes back");
            assert!(
                batch.caught_up || batch.next > after,
                "a tail that has not caught up makes progress, else a reader spins"
            );
            seen.extend(batch.events);
            after = batch.next;
            if batch.caught_up {
                return seen;
            }
        }
    }

    /// Reads the whole partition of the tenant.
    pub(super) async fn tail(&self) -> Vec<TailedEvent> {
        self.tail_from(self.partition(), Position::START).await
    }

    pub(super) async fn delete(&self, ids: &[&str]) -> u64 {
        let ids = ids.iter().map(|text| crate::testkit::events::id(text)).collect();
        self.store.delete(self.tenant, &DeleteSelection::Ids(ids)).await.expect("delete succeeds")
    }

    /// Runs tasks at once, each on a thread of its own.
    pub(super) async fn concurrently(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        let harness = self.harness.clone();
        concurrently(move |task| harness.block_on(task), tasks).await;
    }
}

/// Returns the ids of events.
pub(super) fn ids_of(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

/// Checks that a call fails, and how.
pub(super) fn assert_fails<T>(result: Result<T>, kind: ErrorKind, promise: &str) {
    match result {
        Ok(_) => panic!("{promise}: expected an error of kind {kind}, but the call succeeded"),
        Err(error) => assert_eq!(error.kind(), kind, "{promise}: {error}"),
    }
}
