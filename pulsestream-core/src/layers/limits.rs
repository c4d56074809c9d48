//! Limits of questions, the same for every backend.

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
use crate::settings::QuerySettings;
use crate::time::Timestamp;

/// An event store that refuses aggregates over a longer range than `query.max_aggregate_range`, whoever asks.
///
/// A question about all events ([`TimeRange::ALL`](crate::time::TimeRange::ALL)) names no range and is answered.
#[derive(Debug)]
pub struct QueryLimitLayer {
    inner: Arc<dyn EventStore>,
    settings: QuerySettings,
}

impl QueryLimitLayer {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn EventStore>, settings: QuerySettings) -> Self {
        Self { inner, settings }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventStore for QueryLimitLayer {
    fn capabilities(&self) -> EventStoreCapabilities {
        self.inner.capabilities()
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        self.inner.append(tenant, events, options).await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.inner.get(tenant, ids).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.inner.find(tenant, query).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        if let Some(refusal) = self.settings.refuse_range(query.range) {
            return Err(Error::invalid_fields("event_store.aggregate", vec![refusal])
                .with_context("setting", "query.max_aggregate_range"));
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::memory::MemoryEventStore;
    use crate::testkit::block_on;
    use crate::time::TimeRange;

    #[test]
    fn the_longest_range_is_answered_and_a_longer_one_refused() {
        let settings =
            QuerySettings { max_aggregate_range: Duration::from_secs(3_600), ..QuerySettings::default() };
        let store = QueryLimitLayer::new(Arc::new(MemoryEventStore::new()), settings);
        let ask = |start: &str, end: &str| {
            let range = TimeRange::new(start.parse().unwrap(), end.parse().unwrap());
            let query = AggregateQuery { range, ..AggregateQuery::default() };
            block_on(store.aggregate(TenantId::from_name("a"), &query))
        };
        ask("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z").unwrap();
        let error = ask("2026-01-01T00:00:00Z", "2026-01-01T01:00:00.000001Z").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.fields()[0].pointer, "/range");
        assert_eq!(error.context(), [("setting", "query.max_aggregate_range".to_owned())]);
        block_on(store.aggregate(TenantId::from_name("a"), &AggregateQuery::default())).unwrap();
    }
}
