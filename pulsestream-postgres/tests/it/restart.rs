//! The server is stopped in every way that it knows, and killed, while appends go on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pulsestream_core::error::{ErrorKind, Retry};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::FindQuery;
use pulsestream_postgres::PostgresEventStore;
use pulsestream_testtools::{POSTGRES, PostgresServer, StopMode, eventually_async, find_program};
use sqlx::{Connection, PgConnection};

use crate::support::{config, connect, event, fresh_schema, runtime, stored};

const WRITERS: usize = 4;

#[derive(Debug, Default)]
struct Written {
    acknowledged: Mutex<BTreeSet<String>>,
    count: AtomicUsize,
    is_over: AtomicBool,
}

impl Written {
    async fn more(&self, what: &str) {
        let before = self.count.load(Ordering::Acquire);
        eventually_async(what, async || self.count.load(Ordering::Acquire) >= before + 30).await;
    }
}

/// Appends one event after the other, each until it is acknowledged.
async fn write(store: Arc<PostgresEventStore>, tenant: TenantId, writer: usize, written: Arc<Written>) {
    for number in 0.. {
        if written.is_over.load(Ordering::Acquire) {
            return;
        }
        let id = format!("{writer}-{number}");
        while let Err(error) = store.append(tenant, vec![event(&id, 1)], AppendOptions::default()).await {
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown)
                    && error.retry() != Retry::Never,
                "{error}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        written.acknowledged.lock().unwrap().insert(id);
        written.count.fetch_add(1, Ordering::Release);
    }
}

async fn stored_ids(store: &PostgresEventStore, tenant: TenantId) -> Vec<String> {
    let page = store.find(tenant, &FindQuery { limit: 1_000_000, ..FindQuery::default() }).await.unwrap();
    page.events.iter().map(|event| event.id.to_string()).collect()
}

#[test]
fn a_fast_stop_an_immediate_one_and_a_kill_lose_and_double_nothing() {
    let Some(program) = find_program(&POSTGRES) else { return };
    let mut server = PostgresServer::start(&program, &[]).unwrap();
    runtime().block_on(async {
        let tenant = TenantId::from_name("restarts");
        let store = connect(&server.url(), config(fresh_schema())).await.event_store().await.unwrap();
        let written = Arc::new(Written::default());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(store.clone(), tenant, writer, written.clone())))
            .collect();
        written.more("events are acknowledged").await;
        for how in [Some(StopMode::Fast), Some(StopMode::Immediate), None] {
            match how {
                Some(mode) => server.stop(mode).unwrap(),
                None => server.kill().unwrap(),
            }
            server.restart().unwrap();
            written.more("events are acknowledged again").await;
        }
        written.is_over.store(true, Ordering::Release);
        for writer in writers {
            writer.await.unwrap();
        }
        let acknowledged = written.acknowledged.lock().unwrap().clone();
        let found = stored_ids(&store, tenant).await;
        assert_eq!(found.len(), acknowledged.len(), "each once");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), acknowledged);
    });
}

#[test]
fn a_smart_stop_waits_for_the_store_which_goes_on_until_it_is_closed() {
    let Some(program) = find_program(&POSTGRES) else { return };
    let mut server = PostgresServer::start(&program, &[]).unwrap();
    runtime().block_on(async {
        let (schema, tenant, url) = (fresh_schema(), TenantId::from_name("smart"), server.url());
        let postgres = connect(&url, config(schema.clone())).await;
        let store = postgres.event_store().await.unwrap();
        store.append(tenant, vec![event("before", 1)], AppendOptions::default()).await.unwrap();
        let stopping = tokio::task::spawn_blocking(move || {
            server.stop(StopMode::Smart).unwrap();
            server
        });
        eventually_async("nobody else may connect", async || PgConnection::connect(&url).await.is_err())
            .await;
        let outcomes = store.append(tenant, vec![event("meanwhile", 2)], AppendOptions::default()).await;
        assert_eq!(stored(&outcomes.unwrap()), 1, "over a connection that is there");
        let health = store.check().await.unwrap_err();
        assert_eq!(
            (health.kind(), health.retry_after().is_some()),
            (ErrorKind::Unavailable, true),
            "{health}"
        );
        assert!(!stopping.is_finished());
        // With its last connection the server ends: none is forgotten.
        postgres.close().await;
        let mut server = stopping.await.unwrap();
        server.restart().unwrap();
        let store = connect(&url, config(schema)).await.event_store().await.unwrap();
        assert_eq!(stored_ids(&store, tenant).await, ["meanwhile", "before"]);
    });
}
