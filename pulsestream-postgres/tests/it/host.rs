//! Living inside an application that has a pool and transactions of its own.

use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position, TailOptions};
use pulsestream_core::query::FindQuery;
use pulsestream_postgres::Postgres;
use sqlx::{Connection, Executor};

use crate::support::{config, event, fresh_schema, stored, with_server};

#[test]
fn events_join_the_transaction_of_the_host() {
    with_server(|url| async move {
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(6).connect(&url).await.unwrap();
        let postgres =
            Postgres::with_pool(pool.clone(), config(fresh_schema()), Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("host");
        let count = || async { store.find(tenant, &FindQuery::default()).await.unwrap().events.len() };

        let mut transaction = pool.begin().await.unwrap();
        let outcomes = store.append_in(&mut transaction, tenant, vec![event("gone", 1)]).await.unwrap();
        assert_eq!(stored(&outcomes), 1);
        assert_eq!(count().await, 0);
        transaction.rollback().await.unwrap();
        assert_eq!(count().await, 0);

        let mut transaction = pool.begin().await.unwrap();
        for second in 0..3 {
            let batch = vec![event(&format!("kept-{second}"), second), event("kept-0", second)];
            store.append_in(&mut transaction, tenant, batch).await.unwrap();
        }
        // A later append of somebody else is not delivered before it: the position of the host's is older.
        let later = TenantId::from_name("host");
        store.append(later, vec![event("later", 9)], AppendOptions::default()).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(count().await, 4);
        let batch = store.tail(Partition::of(tenant), Position::START, TailOptions::default()).await.unwrap();
        let ids: Vec<_> = batch.events.iter().map(|event| event.event.id.to_string()).collect();
        assert_eq!(ids, ["kept-0", "kept-1", "kept-2", "later"]);

        postgres.close().await;
        assert!(pool.acquire().await.unwrap().ping().await.is_ok(), "the pool is the host's to close");
    });
}

#[test]
fn a_transaction_that_the_host_left_open_does_not_swallow_an_append() {
    with_server(|url| async move {
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
        let postgres =
            Postgres::with_pool(pool.clone(), config(fresh_schema()), Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("left open");
        // One connection listens; the other goes back to the pool inside a transaction.
        pool.acquire().await.unwrap().execute("begin").await.unwrap();
        store.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap();
        postgres.close().await;
        pool.close().await;
        let again = Postgres::connect(&url, config(postgres.schema().clone()), Env::system()).await.unwrap();
        let found = again.event_store().await.unwrap().find(tenant, &FindQuery::default()).await.unwrap();
        assert_eq!(found.events.len(), 1);
    });
}
