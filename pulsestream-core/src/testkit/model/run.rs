//! One run: operations applied to both stores, answers compared.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::draw::Draw;
use crate::error::Result;
use crate::event::{Event, Value};
use crate::id::{EventId, TenantId};
use crate::memory::MemoryEventStore;
use crate::ports::event_store::{
    AppendOptions, AppendOutcome, DeleteSelection, EventStore, Partition, Position, TailOptions,
};
use crate::query::{AggregateQuery, FindQuery, ScanQuery};
use crate::testkit::compare::compare_tables;
use crate::testkit::event_store::EventStoreHarness;
use crate::time::Timestamp;

const TENANTS: usize = 3;

/// Drawn so often, out of the sum of all.
const WEIGHTS: [(Kind, usize); 10] = [
    (Kind::Append, 8),
    (Kind::Get, 2),
    (Kind::Find, 6),
    (Kind::Aggregate, 8),
    (Kind::Scan, 3),
    (Kind::Tail, 3),
    (Kind::Delete, 2),
    (Kind::Retain, 1),
    (Kind::Reopen, 1),
    (Kind::Crash, 1),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Append,
    Get,
    Find,
    Aggregate,
    Scan,
    Tail,
    Delete,
    Retain,
    Reopen,
    Crash,
}

pub(super) struct Run {
    harness: Arc<dyn EventStoreHarness>,
    store: Arc<dyn EventStore>,
    model: MemoryEventStore,
    draw: Draw,
    seed: u64,
    tenants: Vec<Tenant>,
    /// Where a reader of each partition stands: in the store and in the model.
    readers: BTreeMap<Partition, (Position, Position)>,
    /// What was done so far, for the message of a failure.
    history: Vec<String>,
}

struct Tenant {
    id: TenantId,
    /// Ascends with each retention: whether a retained id is new again is open, so it is not drawn again.
    generation: u32,
}

impl Run {
    pub(super) async fn open(harness: Arc<dyn EventStoreHarness>, seed: u64) -> Self {
        let store = harness.open().await;
        let tenants = (0..TENANTS).map(|_| Tenant { id: harness.tenant(), generation: 0 }).collect();
        let (model, draw) = (MemoryEventStore::new(), Draw::new(seed));
        Self { harness, store, model, draw, seed, tenants, readers: BTreeMap::new(), history: Vec::new() }
    }

    pub(super) async fn steps(mut self, steps: usize) {
        for _ in 0..steps {
            self.step().await;
        }
        for index in 0..TENANTS {
            self.tail(index).await;
            self.find(index, FindQuery { limit: 7, count_total: true, ..FindQuery::default() }).await;
        }
        self.store.close().await.expect("close succeeds");
    }

    async fn step(&mut self) {
        let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut ticket = self.draw.below(total);
        let mut kinds = WEIGHTS.iter();
        let kind = loop {
            let Some((kind, weight)) = kinds.next() else { break Kind::Append };
            if ticket < *weight {
                break *kind;
            }
            ticket -= weight;
        };
        let tenant = self.draw.below(TENANTS);
        match kind {
            Kind::Append => self.append(tenant).await,
            Kind::Get => self.get(tenant).await,
            Kind::Find => self.find(tenant, self.draw.find()).await,
            Kind::Aggregate => self.aggregate(tenant, self.draw.aggregate()).await,
            Kind::Scan => self.scan(tenant, self.draw.scan()).await,
            Kind::Tail => self.tail(tenant).await,
            Kind::Delete => self.delete(tenant).await,
            Kind::Retain => self.retain(tenant).await,
            Kind::Reopen => self.reopen().await,
            Kind::Crash => self.crash().await,
        }
    }

    async fn append(&mut self, tenant: usize) {
        let Tenant { id, generation } = self.tenants[tenant];
        let events: Vec<Event> = (0..self.draw.below(9)).map(|_| self.draw.event(generation)).collect();
        self.note(tenant, "append", &events);
        let options = AppendOptions::default();
        let names = |outcomes: Vec<AppendOutcome>| -> Vec<&'static str> {
            let name = |outcome: &AppendOutcome| match outcome {
                AppendOutcome::Stored => "stored",
                AppendOutcome::Duplicate => "duplicate",
                AppendOutcome::Refused(_) => "refused",
            };
            outcomes.iter().map(name).collect()
        };
        let found = self.store.append(id, events.clone(), options).await.map(names);
        let expected = self.model.append(id, events, options).await.map(names);
        self.compare(found, expected);
    }

    async fn get(&mut self, tenant: usize) {
        let ids = self.ids(tenant);
        self.note(tenant, "get", &ids);
        let id = self.tenants[tenant].id;
        self.compare(self.store.get(id, &ids).await, self.model.get(id, &ids).await);
    }

    /// Compares page after page, up to four of them.
    async fn find(&mut self, tenant: usize, mut query: FindQuery) {
        let id = self.tenants[tenant].id;
        for _ in 0..4 {
            self.note(tenant, "find", &query);
            let (found, expected) = (self.store.find(id, &query).await, self.model.find(id, &query).await);
            let next = expected.as_ref().ok().and_then(|page| page.next.clone());
            self.compare(found, expected);
            let Some(next) = next else { return };
            query.after = Some(next);
        }
    }

    async fn aggregate(&mut self, tenant: usize, query: AggregateQuery) {
        self.note(tenant, "aggregate", &query);
        let id = self.tenants[tenant].id;
        match (self.store.aggregate(id, &query).await, self.model.aggregate(id, &query).await) {
            (Ok(found), Ok(expected)) => {
                if let Err(difference) = compare_tables(&found, &expected) {
                    self.fail(&difference);
                }
            }
            (found, expected) => self.compare(found, expected),
        }
    }

    async fn scan(&mut self, tenant: usize, query: ScanQuery) {
        self.note(tenant, "scan", &query);
        let id = self.tenants[tenant].id;
        let found = rows(self.store.as_ref(), id, &query).await;
        let expected = rows(&self.model, id, &query).await;
        self.compare(found, expected);
    }

    /// Reads what is new in the partition of a tenant. Positions are each store's own, and the order inside a batch is open.
    async fn tail(&mut self, tenant: usize) {
        self.note(tenant, "tail", &());
        let partition = Partition::of(self.tenants[tenant].id);
        let (after, model_after) = self.readers.get(&partition).copied().unwrap_or_default();
        let found = tail_to_end(self.store.as_ref(), partition, after).await;
        let expected = tail_to_end(&self.model, partition, model_after).await;
        if let (Ok((next, _)), Ok((model_next, _))) = (&found, &expected) {
            self.readers.insert(partition, (*next, *model_next));
        }
        self.compare(found.map(|(_, events)| events), expected.map(|(_, events)| events));
    }

    async fn delete(&mut self, tenant: usize) {
        let selection = if self.draw.below(2) == 0 {
            DeleteSelection::Ids(self.ids(tenant))
        } else {
            let (range, filter) = self.draw.selection();
            DeleteSelection::Matching { range, filter }
        };
        self.note(tenant, "delete", &selection);
        let id = self.tenants[tenant].id;
        self.compare(self.store.delete(id, &selection).await, self.model.delete(id, &selection).await);
    }

    async fn retain(&mut self, tenant: usize) {
        let before = self.draw.instant();
        self.note(tenant, "retain", &before);
        self.tenants[tenant].generation += 1;
        let id = self.tenants[tenant].id;
        self.compare(self.store.retain(id, before).await, self.model.retain(id, before).await);
    }

    async fn reopen(&mut self) {
        if !self.store.capabilities().persistent {
            return;
        }
        self.history.push("reopen".to_owned());
        let reopened = self.harness.reopen(self.store.clone()).await;
        self.store = reopened.expect("the harness of a persistent store reopens it");
    }

    /// Everything so far was acknowledged, so a crash changes no answer.
    async fn crash(&mut self) {
        if let Some(store) = self.harness.crash(self.store.clone()).await {
            self.history.push("crash".to_owned());
            self.store = store;
        }
    }

    fn ids(&self, tenant: usize) -> Vec<EventId> {
        let generations = self.tenants[tenant].generation as usize + 1;
        let draw = |_| self.draw.id(u32::try_from(self.draw.below(generations)).unwrap_or(0));
        (0..self.draw.below(6)).map(draw).collect()
    }

    fn note(&mut self, tenant: usize, operation: &str, arguments: &dyn Debug) {
        self.history.push(format!("tenant {tenant}: {operation} {arguments:?}"));
    }

    /// Compares answers; of errors the kind counts.
    fn compare<T: PartialEq + Debug>(&self, found: Result<T>, expected: Result<T>) {
        match (found, expected) {
            (Ok(found), Ok(expected)) if found == expected => {}
            (Err(found), Err(expected)) if found.kind() == expected.kind() => {}
            (found, expected) => self.fail(&format!("{found:?}\ninstead of\n{expected:?}")),
        }
    }

    fn fail(&self, difference: &str) -> ! {
        let history = self.history.join("\n");
        panic!(
            "seed {}: the last of these operations has the wrong answer\n{history}\n{difference}",
            self.seed
        );
    }
}

type Row = (Timestamp, Vec<Value>);

async fn rows(store: &dyn EventStore, tenant: TenantId, query: &ScanQuery) -> Result<Vec<Row>> {
    let mut scan = store.scan(tenant, query).await?;
    let mut rows = Vec::new();
    while let Some(batch) = scan.next_batch().await? {
        for (row, timestamp) in batch.timestamps.iter().enumerate() {
            rows.push((*timestamp, batch.columns.iter().map(|column| column.value(row)).collect()));
        }
    }
    Ok(rows)
}

/// Reads to the end and returns where that is, and the events by tenant and id.
async fn tail_to_end(
    store: &dyn EventStore,
    partition: Partition,
    mut after: Position,
) -> Result<(Position, Vec<(TenantId, Event)>)> {
    let mut events = Vec::new();
    loop {
        let batch = store.tail(partition, after, TailOptions { limit: 5, ..TailOptions::default() }).await?;
        events.extend(batch.events.into_iter().map(|tailed| (tailed.tenant, tailed.event)));
        after = batch.next;
        if batch.caught_up {
            events.sort_by(|left, right| (left.0, &left.1.id).cmp(&(right.0, &right.1.id)));
            return Ok((after, events));
        }
    }
}
