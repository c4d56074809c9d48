//! The schema: made once by whoever comes first, refused when it is not ours.

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position, TailOptions};
use pulsestream_postgres::{Identifier, Postgres, PostgresConfig};
use sqlx::PgConnection;

use crate::support::{config, connect, direct, event, execute, fresh_schema, number, with_server};

#[test]
fn eight_at_once_migrate_once() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let starts = (0..8).map(|_| {
            let (url, config) = (url.clone(), config(schema.clone()));
            tokio::spawn(async move { Postgres::connect(&url, config, Env::system()).await })
        });
        for start in starts.collect::<Vec<_>>() {
            start.await.unwrap().unwrap().close().await;
        }
        let mut observer = direct(&url).await;
        let versions = format!("select count(*) - count(distinct version) from {schema}.migrations");
        assert_eq!(number(&mut observer, &versions).await, 0);
    });
}

/// Lets migrations of the schema come to their last table, and wait there until the connection rolls back.
async fn block(blocker: &mut PgConnection, schema: &Identifier) {
    execute(blocker, &format!("begin; create table {schema}.events_other ()")).await;
}

/// Ends the session that migrates the schema and waits at its last table.
async fn kill_who_migrates(observer: &mut PgConnection, schema: &Identifier) {
    let waiting = format!(
        "from pg_stat_activity where wait_event_type = 'Lock' and query like '%create table {schema}.%'"
    );
    while number(observer, &format!("select count(*) {waiting}")).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(number(observer, &format!("select count(pg_terminate_backend(pid)) {waiting}")).await, 1);
}

#[test]
fn the_one_that_migrates_is_killed_and_the_others_go_on() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let (mut blocker, mut observer) = (direct(&url).await, direct(&url).await);
        execute(&mut observer, &format!("create schema {schema}")).await;
        block(&mut blocker, &schema).await;
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let (url, config) = (url.clone(), config(schema.clone()));
                tokio::spawn(async move { Postgres::connect(&url, config, Env::system()).await })
            })
            .collect();
        kill_who_migrates(&mut observer, &schema).await;
        execute(&mut blocker, "rollback").await;
        let mut killed = 0;
        for start in starts {
            match start.await.unwrap() {
                Ok(postgres) => postgres.close().await,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    killed += 1;
                }
            }
        }
        assert_eq!(killed, 1, "the others did not notice");
        let versions = format!("select count(*) - count(distinct version) from {schema}.migrations");
        assert_eq!(number(&mut observer, &versions).await, 0);
        connect(&url, PostgresConfig { migrate: false, ..config(schema) }).await.close().await;
    });
}

#[test]
fn killed_midway_leaves_nothing_and_the_next_one_succeeds() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let (mut blocker, mut observer) = (direct(&url).await, direct(&url).await);
        execute(&mut observer, &format!("create schema {schema}")).await;
        for _ in 0..3 {
            // The last table of the migration, not committed: the migration gets that far and waits.
            block(&mut blocker, &schema).await;
            let (url, config) = (url.clone(), config(schema.clone()));
            let start = tokio::spawn(async move { Postgres::connect(&url, config, Env::system()).await });
            kill_who_migrates(&mut observer, &schema).await;
            let error = start.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            execute(&mut blocker, "rollback").await;
            let left = format!("select count(*) from pg_class where relnamespace = '{schema}'::regnamespace");
            assert_eq!(number(&mut observer, &left).await, 0, "half a schema was left");
        }
        connect(&url, config(schema)).await.close().await;
    });
}

#[test]
fn a_newer_schema_is_refused_and_not_changed() {
    with_server(|url| async move {
        let schema = fresh_schema();
        connect(&url, config(schema.clone())).await.close().await;
        let mut owner = direct(&url).await;
        execute(
            &mut owner,
            &format!("insert into {schema}.migrations (version, name, checksum) values (9999, 'later', 'x')"),
        )
        .await;
        let error = Postgres::connect(&url, config(schema.clone()), Env::system()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("newer"), "{error}");
        let later = format!("select count(*) from {schema}.migrations where version = 9999");
        assert_eq!(number(&mut owner, &later).await, 1);
    });
}

#[test]
fn without_migrate_a_missing_schema_is_refused() {
    with_server(|url| async move {
        let config = PostgresConfig { migrate: false, ..config(fresh_schema()) };
        let error = Postgres::connect(&url, config, Env::system()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("older"), "{error}");
    });
}

#[test]
fn a_log_of_another_cluster_is_refused_until_it_starts_anew() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let tenant = TenantId::from_name("restored");
        let postgres = connect(&url, config(schema.clone())).await;
        let store = postgres.event_store().await.unwrap();
        let batch = (0..5).map(|second| event(&format!("{second}"), second)).collect();
        store.append(tenant, batch, AppendOptions::default()).await.unwrap();
        postgres.close().await;
        let mut owner = direct(&url).await;
        // As if the other cluster had been older.
        execute(&mut owner, &format!("update {schema}.event_keys set xid = xid + 1000000000000")).await;
        let error = Postgres::connect(&url, config(schema.clone()), Env::system()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("another cluster"), "{error}");
        // What the message says.
        execute(
            &mut owner,
            &format!("update {schema}.event_keys set xid = 2; delete from {schema}.checkpoints"),
        )
        .await;
        let store = connect(&url, config(schema)).await.event_store().await.unwrap();
        let log = store.tail(Partition::of(tenant), Position::START, TailOptions::default()).await.unwrap();
        assert_eq!(log.events.len(), 5);
    });
}
