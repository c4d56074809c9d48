//! pgbouncer with `pool_mode = transaction` before the server: each transaction in another session.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position, TailOptions};
use pulsestream_core::query::FindQuery;
use pulsestream_core::testkit::BoxFuture;
use pulsestream_postgres::{Identifier, Postgres, PostgresConfig};
use pulsestream_testtools::{PGBOUNCER, PgbouncerServer, find_program};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{
    APP_ROLE, address, config, connect, connect_as_app, direct, event, execute, fresh_schema,
    migrate_for_app, number, runtime, stored, through, url, url_as, with_server,
};

/// Sessions of the server for all tests together: fewer than connections, so that these have to share.
const SESSIONS: u32 = 6;

/// How a test gets to the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    Direct,
    Pgbouncer,
}

impl Route {
    /// Runs a case when everything on the way is there.
    pub(crate) fn run(self, case: BoxFuture<'static, ()>) {
        match self {
            Self::Direct => with_server(|_| case),
            Self::Pgbouncer => with_pgbouncer(|_, _| case),
        }
    }

    /// Makes a schema and connects as the role of applications.
    pub(crate) async fn connect_as_app(self, schema: Identifier) -> Postgres {
        let url = url().unwrap();
        match self {
            Self::Direct => connect_as_app(&url, config(schema)).await,
            Self::Pgbouncer => {
                migrate_for_app(&url, config(schema.clone())).await;
                let as_app = PostgresConfig { migrate: false, require_rls: true, ..pooled(&url, schema) };
                let own = url_as(&url, APP_ROLE, APP_ROLE);
                let as_app = PostgresConfig { direct_url: Some(own.as_str().into()), ..as_app };
                connect(&through(&own, shared(&url).unwrap().address()), as_app).await
            }
        }
    }
}

/// Runs a test with the URLs of the pgbouncer of all tests and of the server, when both are there.
fn with_pgbouncer<F: Future<Output = ()>>(test: impl FnOnce(String, String) -> F) {
    with_server(|url| async move {
        if let Some(pgbouncer) = shared(&url) {
            test(through(&url, pgbouncer.address()), url).await;
        }
    });
}

fn shared(url: &str) -> Option<&'static PgbouncerServer> {
    static STARTED: OnceLock<Option<PgbouncerServer>> = OnceLock::new();
    STARTED.get_or_init(|| start(url)).as_ref()
}

fn start(url: &str) -> Option<PgbouncerServer> {
    let program = find_program(&PGBOUNCER)?;
    Some(PgbouncerServer::start(&program, address(url), &["postgres", APP_ROLE], SESSIONS).unwrap())
}

fn pooled(direct: &str, schema: Identifier) -> PostgresConfig {
    PostgresConfig { direct_url: Some(direct.into()), ..config(schema) }
}

/// Set it to run every case of every suite through pgbouncer.
const ALL: &str = "PULSESTREAM_TEST_POOLED";

/// Runs one case in `stride` of a suite: what is different behind a pooler, every transaction goes through.
macro_rules! sampled {
    ($($suite:ident every $stride:literal: $harness:expr;)+) => {
        $(#[test]
        fn $suite() {
            let stride = if std::env::var_os(ALL).is_some() { 1 } else { $stride };
            for case in testkit::$suite::cases().iter().step_by(stride) {
                testkit::$suite::run(case.name, Arc::new($harness));
            }
        })+
    };
}

mod suites {
    use std::sync::Arc;

    use pulsestream_core::testkit;

    use super::{ALL, Route};
    use crate::alerting_conformance::Alerting;
    use crate::conformance::{Documents, Events, Identities, Leases, Live};

    sampled! {
        event_store every 12: Events::over(Route::Pgbouncer);
        identity_store every 6: Identities(Route::Pgbouncer);
        alert_store every 6: Alerting::over(Route::Pgbouncer);
        outbox every 6: Alerting::over(Route::Pgbouncer);
        live_bus every 3: Live(Route::Pgbouncer);
        coordinator every 3: Leases(Route::Pgbouncer);
        document_store every 3: Documents(Route::Pgbouncer);
    }
}

#[test]
fn without_a_direct_url_it_is_refused_with_what_to_do() {
    with_pgbouncer(|pooler, _| async move {
        let error = Postgres::connect(&pooler, config(fresh_schema()), Env::system()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("direct_url"), "{error}");
    });
}

#[test]
fn the_schema_is_made_and_nothing_stays_in_a_session() {
    with_server(|url| async move {
        // Of its own, because it holds all sessions in the end.
        let Some(pgbouncer) = start(&url) else { return };
        let (pooler, schema) = (through(&url, pgbouncer.address()), fresh_schema());
        let tenant = TenantId::from_name("pooled");
        let store = connect(&pooler, pooled(&url, schema.clone())).await.event_store().await.unwrap();
        let writers: Vec<_> = (0..32)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for round in 0..5 {
                        let batch = (0..3).map(|n| event(&format!("{writer}-{round}-{n}"), n)).collect();
                        let outcomes = store.append(tenant, batch, AppendOptions::default()).await.unwrap();
                        assert_eq!(stored(&outcomes), 3);
                        store.find(tenant, &FindQuery::default()).await.unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let total = format!("select count(*) from {schema}.events");
        assert_eq!(number(&mut direct(&url).await, &total).await, 480);
        // Whoever comes next, through the same sessions, finds neither a tenant nor a timeout of ours.
        let mut guests = Vec::new();
        for _ in 0..SESSIONS {
            let options: PgConnectOptions = pooler.parse().unwrap();
            let mut guest = PgConnection::connect_with(&options.extra_float_digits(None)).await.unwrap();
            guest.execute("begin").await.unwrap();
            for (setting, untouched) in [
                ("nullif(current_setting('pulsestream.tenant', true), '')", "null"),
                ("nullif(current_setting('pulsestream.processor', true), '')", "null"),
                ("current_setting('statement_timeout')", "'0'"),
                ("current_setting('lock_timeout')", "'0'"),
                ("current_setting('idle_in_transaction_session_timeout')", "'0'"),
            ] {
                let sql = format!("do $$ begin assert {setting} is not distinct from {untouched}; end $$");
                execute(&mut guest, &sql).await;
            }
            guests.push(guest);
        }
    });
}

#[test]
fn a_waiting_tail_is_woken_over_the_direct_connection() {
    with_pgbouncer(|pooler, url| async move {
        let schema = fresh_schema();
        // So long between polls that only a notification can be in time.
        let config = PostgresConfig { poll_interval: Duration::from_secs(3_600), ..pooled(&url, schema) };
        let here = connect(&pooler, config.clone()).await.event_store().await.unwrap();
        let there = connect(&pooler, config).await.event_store().await.unwrap();
        let (tenant, mut after) = (TenantId::from_name("woken"), Position::START);
        for round in 0..3 {
            let waiting = runtime().spawn({
                let there = there.clone();
                async move { there.wait_for_events(Partition::of(tenant), after).await }
            });
            here.append(tenant, vec![event(&format!("{round}"), 1)], AppendOptions::default()).await.unwrap();
            tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
            after = there.tail(Partition::of(tenant), after, TailOptions::default()).await.unwrap().next;
        }
        assert!(there.check().await.unwrap().writable);
    });
}

#[test]
fn the_hosts_pool_may_lead_through_it() {
    with_pgbouncer(|pooler, url| async move {
        let options: PgConnectOptions = pooler.parse().unwrap();
        let options = options.statement_cache_capacity(0).extra_float_digits(None);
        let pool = PgPoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
        let config = pooled(&url, fresh_schema());
        let postgres = Postgres::with_pool(pool.clone(), config, Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("hosted");
        for round in 0..5 {
            let mut transaction = pool.begin().await.unwrap();
            let batch = vec![event(&format!("in-{round}"), 1)];
            store.append_in(&mut transaction, tenant, batch).await.unwrap();
            transaction.commit().await.unwrap();
            store
                .append(tenant, vec![event(&format!("by-{round}"), 1)], AppendOptions::default())
                .await
                .unwrap();
        }
        assert_eq!(store.find(tenant, &FindQuery::default()).await.unwrap().events.len(), 10);
    });
}
