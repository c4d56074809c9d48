//! The event store port.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, Durability, EventScan, EventStore, EventStoreCapabilities,
    Partition, Position, StoreStatus, TailBatch, TailOptions,
};
use pulsestream_core::query::{AggregateQuery, AggregateTable, FindPage, FindQuery, ScanQuery};
use pulsestream_core::time::{TimeRange, Timestamp};

use crate::engine::{Engine, Job, Leader};
use crate::error::{Fault, FaultResult};
use crate::hot::EncodedBatch;
use crate::part::{Part, Rows};
use crate::query::{self, FilterPlan};
use crate::question::{Desk, Size};
use crate::store::EmbeddedStore;
use crate::tail;
use crate::wal::Group;

#[async_trait]
impl EventStore for EmbeddedStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        EventStoreCapabilities { durability: Durability::Durable, persistent: true, shared: false }
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        const OPERATION: &str = "event_store.append";
        let wanted = options.durability.unwrap_or(self.engine.config.durability);
        if wanted > Durability::Durable {
            return Err(Error::new(
                ErrorKind::Unsupported,
                OPERATION,
                "the embedded store keeps one copy only",
            ));
        }
        self.engine.ensure_open().map_err(|fault| fault.during(OPERATION))?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let batch = EncodedBatch::encode(tenant, events, self.engine.hasher);
        let (bytes, limit) = (batch.buffer.len(), self.engine.config.batch_bytes);
        if bytes > limit {
            return Err(Fault::TooLarge { what: "append", bytes, limit }.during(OPERATION));
        }
        let job = Job { batch, durable: wanted == Durability::Durable };
        let stored = self.group.submit(job, bytes).await.map_err(|fault| fault.during(OPERATION))?;
        let outcome = |stored: bool| if stored { AppendOutcome::Stored } else { AppendOutcome::Duplicate };
        Ok(stored.into_iter().map(outcome).collect())
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        let ids = ids.to_vec();
        let look_up = move |engine: &Engine, question: &_| {
            engine.ensure_readable(tenant, TimeRange::ALL)?;
            let parts = engine.parts(question);
            ids.iter().map(|id| query::get(&parts, engine.hasher, tenant, id)).collect()
        };
        self.answer(tenant, Size::Short, look_up).await.map_err(|fault| fault.during("event_store.get"))
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        const OPERATION: &str = "event_store.find";
        self.engine.ensure_open().map_err(|fault| fault.during(OPERATION))?;
        at_least_one(OPERATION, "/limit", query.limit)?;
        let query = query.clone();
        let find = move |engine: &Engine, question: &_| {
            engine.ensure_readable(tenant, query.range)?;
            query::find(engine.parts(question), question, tenant, &query)
        };
        self.answer(tenant, Size::Large, find).await.map_err(|fault| fault.during(OPERATION))
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        let query = query.clone();
        let interners = Arc::clone(&self.interners);
        let crew = self.desk.crew(self.size_of(tenant, Size::Large));
        let aggregate = move |engine: &Engine, question: &_| {
            engine.ensure_readable(tenant, query.range)?;
            query::aggregate(engine.parts(question), question, &crew, &interners, tenant, query)
        };
        self.answer(tenant, Size::Large, aggregate)
            .await
            .map_err(|fault| fault.during("event_store.aggregate"))
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        const OPERATION: &str = "event_store.scan";
        self.engine.ensure_open().map_err(|fault| fault.during(OPERATION))?;
        self.engine.ensure_readable(tenant, query.range).map_err(|fault| fault.during(OPERATION))?;
        let parts = self.engine.parts(&self.desk.take());
        let scan = query::scan(parts, &self.desk, self.size_of(tenant, Size::Large), tenant, query);
        Ok(Box::new(scan.map_err(|fault| fault.during(OPERATION))?))
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        const OPERATION: &str = "event_store.tail";
        self.engine.ensure_open().map_err(|fault| fault.during(OPERATION))?;
        at_least_one(OPERATION, "/limit", options.limit)?;
        let size = if tail::is_fresh(&self.engine, after) { Size::Small } else { Size::Short };
        let engine = Arc::clone(&self.engine);
        let read = move |question: &Arc<_>| tail::tail(&engine, question, partition, after, &options);
        self.desk.answer(size, read).await.map_err(|fault| fault.during(OPERATION))
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        let arrived = || match self.engine.ensure_open() {
            Ok(()) => (u128::from(self.engine.end_of(partition)) > after.0).then_some(Ok(())),
            Err(fault) => Some(Err(fault.during("event_store.wait_for_events"))),
        };
        self.engine.arrivals[usize::from(partition.number())].wait(arrived).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        let (selection, desk) = (selection.clone(), Arc::clone(&self.desk));
        let delete = move |engine: &Engine, group: &Group<Leader>| {
            delete(engine, group, &desk, tenant, &selection, true)
        };
        self.offload(delete).await.map_err(|fault| fault.during("event_store.delete"))
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        let range = TimeRange::new(Timestamp::MIN, before);
        let older = DeleteSelection::Matching { range, filter: None };
        let desk = Arc::clone(&self.desk);
        let delete =
            move |engine: &Engine, group: &Group<Leader>| delete(engine, group, &desk, tenant, &older, false);
        self.offload(delete).await.map_err(|fault| fault.during("event_store.retain"))
    }

    async fn check(&self) -> Result<StoreStatus> {
        let engine = &self.engine;
        engine.ensure_open().map_err(|fault| fault.during("event_store.check"))?;
        let view = engine.view();
        let mut details = vec![
            ("segments", view.segments.len().to_string()),
            ("recovered_truncated_bytes", engine.truncated_bytes.to_string()),
            ("cache_bytes", engine.cache.bytes().to_string()),
            ("queued_bytes", self.group.queued_bytes().to_string()),
            ("waiting_questions", self.desk.waiting().to_string()),
            ("query_blocks", self.desk.blocks().to_string()),
        ];
        details.extend(view.lost.iter().map(|lost| ("lost_segment", lost.file.clone())));
        details.extend(engine.maintenance_error().map(|error| ("maintenance_error", error)));
        let fresh: usize = view.generations.iter().map(|generation| generation.bytes()).sum();
        let sealed: u64 = view.segments.iter().map(crate::segment::Segment::bytes).sum();
        Ok(StoreStatus {
            backend: "embedded",
            durability: engine.config.durability,
            writable: !engine.is_poisoned(),
            events: Some(view.events()),
            bytes: Some(sealed + fresh as u64),
            impairments: engine.impairments(),
            details,
        })
    }

    async fn close(&self) -> Result<()> {
        self.shut_down().map_err(|fault| fault.during("event_store.close"))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "segments use the low half of the hash")]
fn delete(
    engine: &Engine,
    group: &Group<Leader>,
    desk: &Arc<Desk>,
    tenant: TenantId,
    selection: &DeleteSelection,
    erase: bool,
) -> FaultResult<u64> {
    let hasher = engine.hasher;
    let question = desk.take_unlimited();
    let (plan, range) = match selection {
        DeleteSelection::Ids(_) => (FilterPlan::new(None)?, TimeRange::ALL),
        DeleteSelection::Matching { filter, range } => (FilterPlan::new(filter.as_ref())?, *range),
    };
    engine.ensure_readable(tenant, range)?;
    engine.delete(group, erase, |segment| match selection {
        DeleteSelection::Ids(ids) => {
            let mut rows = Vec::new();
            for id in ids {
                let bytes = id.as_str().as_bytes();
                let hash = hasher.hash(tenant, bytes);
                rows.extend(segment.find_id(&engine.cache, hasher, tenant, bytes, hash)?);
            }
            rows.sort_unstable();
            rows.dedup();
            Ok(rows)
        }
        DeleteSelection::Matching { range, .. } => {
            let (rows, cache) = (Arc::new(segment.clone()), Arc::clone(&engine.cache));
            let part = Part { rows, cache, question: Arc::clone(&question) };
            query::matching_rows(&part, tenant, *range, &plan)
        }
    })
}

fn at_least_one(operation: &'static str, pointer: &'static str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(Error::invalid(operation, pointer, "out_of_range", "must be at least 1"));
    }
    Ok(())
}
