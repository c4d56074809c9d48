//! The event store.

mod append;
mod ask;
mod delete;
mod read;
mod scan;
mod search;
mod tail;

pub(crate) use read::saturating;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

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

use crate::database::{Database, query};
use crate::listen::Arrivals;
use crate::wire::{Columns, Param};

/// Events in PostgreSQL, partitioned by week.
#[derive(Debug)]
pub struct PostgresEventStore {
    database: Arc<Database>,
    arrivals: Arc<Arrivals>,
    durability: Durability,
    append_sql: append::AppendSql,
    tables: search::Tables,
    log: tail::Log,
    /// Numbers of the weeks that have a partition, as far as this node knows.
    weeks: Mutex<HashSet<i64>>,
}

impl PostgresEventStore {
    pub(crate) async fn open(
        database: Arc<Database>,
        arrivals: Arc<Arrivals>,
        durability: Durability,
        has_text_index: bool,
    ) -> Result<Arc<Self>> {
        let append_sql = append::AppendSql::new(database.schema());
        let tables = search::Tables::new(database.schema(), has_text_index);
        let log = tail::Log::new(&database);
        let store = Self { database, arrivals, durability, append_sql, tables, log, weeks: Mutex::default() };
        store.prepare_partitions(&[]).await;
        Ok(Arc::new(store))
    }

    fn schema(&self) -> &str {
        self.database.schema()
    }
}

#[async_trait]
impl EventStore for PostgresEventStore {
    fn capabilities(&self) -> EventStoreCapabilities {
        EventStoreCapabilities { durability: self.durability, persistent: true, shared: true }
    }

    async fn append(
        &self,
        tenant: TenantId,
        events: Vec<Event>,
        options: AppendOptions,
    ) -> Result<Vec<AppendOutcome>> {
        self.database.ensure_open("event_store.append")?;
        if options.durability.is_some_and(|wanted| wanted > self.durability) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "event_store.append",
                "the server's settings do not give that durability",
            )
            .with_context("durability", format!("{:?}", self.durability)));
        }
        self.append_all(tenant, events).await
    }

    async fn get(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        self.get_by_ids(tenant, ids).await
    }

    async fn find(&self, tenant: TenantId, query: &FindQuery) -> Result<FindPage> {
        self.database.ensure_open("event_store.find")?;
        ensure_at_least_one("event_store.find", "/limit", query.limit)?;
        self.find_page(tenant, query.clone()).await
    }

    async fn aggregate(&self, tenant: TenantId, query: &AggregateQuery) -> Result<AggregateTable> {
        self.database.ensure_open("event_store.aggregate")?;
        query.validate()?;
        self.measure(tenant, query.clone()).await
    }

    async fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<Box<dyn EventScan>> {
        self.database.ensure_open("event_store.scan")?;
        query.validate()?;
        Ok(Box::new(scan::PostgresScan::new(
            self.database.clone(),
            self.tables.clone(),
            tenant,
            query.clone(),
        )))
    }

    async fn tail(&self, partition: Partition, after: Position, options: TailOptions) -> Result<TailBatch> {
        self.database.ensure_open("event_store.tail")?;
        ensure_at_least_one("event_store.tail", "/limit", options.limit)?;
        self.tail_batch(partition, after, options).await
    }

    async fn wait_for_events(&self, partition: Partition, after: Position) -> Result<()> {
        self.wait_until_events(partition, after).await
    }

    async fn delete(&self, tenant: TenantId, selection: &DeleteSelection) -> Result<u64> {
        self.database.ensure_open("event_store.delete")?;
        match selection {
            DeleteSelection::Ids(ids) => self.delete_ids("event_store.delete", tenant, ids).await,
            DeleteSelection::Matching { range, filter } => {
                self.delete_matching("event_store.delete", tenant, *range, filter.clone()).await
            }
        }
    }

    async fn retain(&self, tenant: TenantId, before: Timestamp) -> Result<u64> {
        let range = TimeRange::new(Timestamp::MIN, before);
        let deleted = self.delete_matching("event_store.retain", tenant, range, None).await?;
        self.drop_empty_partitions(before).await;
        Ok(deleted)
    }

    async fn check(&self) -> Result<StoreStatus> {
        let schema = self.schema().to_owned();
        let durability = self.durability;
        self.database
            .beside_the_pool("event_store.check", move |connection| {
                Box::pin(async move {
                    // From the catalogue, without a lock on a table: a locked table must not look like a dead server.
                    let sql = "select pg_is_in_recovery() or current_setting('transaction_read_only') = 'on', \
                               current_setting('server_version'), \
                               count(*) filter (where relispartition and relkind = 'r'), \
                               coalesce(sum(greatest(relpages, 0)), 0)::bigint * current_setting('block_size')::bigint, \
                               to_regclass($1 || '.events_text') is not null from pg_class where relnamespace = (select oid from pg_namespace where nspname = $1)";
                    let row = query(sql).bind(Param::text(&schema)).fetch_one(connection).await?;
                    let mut columns = Columns::new(&row);
                    let read_only = columns.bool()?;
                    let version = columns.str()?.to_owned();
                    let partitions = columns.int8()?;
                    let bytes = columns.int8()?;
                    let has_text_index = columns.bool()?;
                    Ok(StoreStatus {
                        backend: "postgres",
                        durability,
                        writable: !read_only,
                        events: None,
                        // As of the last time that the server analyzed the tables.
                        bytes: u64::try_from(bytes).ok(),
                        impairments: Vec::new(),
                        details: vec![
                            ("server_version", version),
                            ("schema", schema),
                            ("partitions", partitions.to_string()),
                            ("text_index", has_text_index.to_string()),
                        ],
                    })
                })
            })
            .await
    }

    async fn close(&self) -> Result<()> {
        self.arrivals.close();
        self.database.close().await;
        Ok(())
    }
}

fn ensure_at_least_one(operation: &'static str, pointer: &'static str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(Error::invalid(operation, pointer, "out_of_range", "must be at least 1"));
    }
    Ok(())
}
