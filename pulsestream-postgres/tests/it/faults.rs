//! Faults of the server and the network, and what a caller sees of them.

use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::{ErrorKind, Retry};
use pulsestream_core::id::{ApiKeyId, TenantId};
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::event_store::{
    AppendOptions, Durability, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::ports::identity::IdentityStore;
use pulsestream_core::query::FindQuery;
use pulsestream_postgres::{Postgres, PostgresConfig};
use pulsestream_testtools::FaultProxy;

use crate::support::{
    address, config, connect, direct, event, execute, fresh_schema, number, stored, through, with_option,
    with_server,
};

#[test]
fn a_cut_at_any_byte_of_the_reply_loses_and_doubles_nothing() {
    with_server(|url| async move {
        let proxy = FaultProxy::start(address(&url)).unwrap();
        let schema = fresh_schema();
        let through = through(&url, proxy.address());
        let store = connect(&through, config(schema.clone())).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("cut");
        // The statement is prepared, so that what is cut is the reply to the append itself.
        store.append(tenant, vec![event("first", 1)], AppendOptions::default()).await.unwrap();
        let (mut unknown, mut rounds, mut bytes) = (0, 0, 0);
        loop {
            rounds += 1;
            let batch = vec![event(&format!("cut-{rounds}"), rounds)];
            proxy.cut_after_server_bytes(bytes);
            let outcome = store.append(tenant, batch.clone(), AppendOptions::default()).await;
            let was_cut = !proxy.is_cut_pending();
            proxy.heal();
            match outcome {
                Ok(outcomes) => {
                    assert_eq!(stored(&outcomes), 1);
                    if !was_cut {
                        break;
                    }
                    // It met another connection, over which nodes are told of events.
                }
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Unavailable),
                        "{error}"
                    );
                    assert_ne!(error.retry(), Retry::Never);
                    unknown += usize::from(error.kind() == ErrorKind::OutcomeUnknown);
                    // The same request again is safe, whatever became of the first.
                    store.append(tenant, batch, AppendOptions::default()).await.unwrap();
                    bytes += 1;
                }
            }
        }
        assert!(unknown >= 10, "only {unknown} replies were cut");
        let total = format!("select count(*) from {schema}.events");
        assert_eq!(number(&mut direct(&url).await, &total).await, rounds + 1);
        assert_eq!(number(&mut direct(&url).await, &total.replace("events", "event_keys")).await, rounds + 1);
    });
}

#[test]
fn reading_survives_connections_that_died_in_the_pool() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let named = format!("{url}{}application_name={schema}", if url.contains('?') { '&' } else { '?' });
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(6)
            .min_connections(6)
            .test_before_acquire(false)
            .connect(&named)
            .await
            .unwrap();
        let postgres = Postgres::with_pool(pool, config(schema.clone()), Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("dead");
        store.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap();
        let kill = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = '{schema}'"
        );
        assert!(number(&mut direct(&url).await, &kill).await >= 6);
        // No error at all: nothing was under way, so another connection does it.
        assert_eq!(store.find(tenant, &FindQuery::default()).await.unwrap().events.len(), 1);
        store.append(tenant, vec![event("b", 1)], AppendOptions::default()).await.unwrap();
        // And the listener listens again.
        let waiting = store.wait_for_events(Partition::of(tenant), Position::START);
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    });
}

#[test]
fn an_exhausted_pool_answers_soon_while_health_accounts_and_leases_go_on() {
    with_server(|url| async move {
        let config = PostgresConfig {
            max_connections: 2,
            acquire_timeout: Duration::from_millis(200),
            lock_timeout: Duration::from_secs(20),
            ..config(fresh_schema())
        };
        let schema = config.schema.clone();
        let postgres = connect(&url, config).await;
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("busy");
        let mut blocker = direct(&url).await;
        execute(&mut blocker, &format!("begin; lock table {schema}.event_keys in access exclusive mode"))
            .await;
        let held: Vec<_> = (0..2)
            .map(|index| {
                let store = store.clone();
                tokio::spawn(async move {
                    let batch = vec![event(&format!("held-{index}"), 1)];
                    store.append(tenant, batch, AppendOptions::default()).await
                })
            })
            .collect();
        let blocked = format!(
            "select count(*) from pg_locks where not granted and relation = '{schema}.event_keys'::regclass"
        );
        let mut observer = direct(&url).await;
        while number(&mut observer, &blocked).await < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = store.append(tenant, vec![event("c", 1)], AppendOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.retry_after().is_some());
        assert!(store.check().await.is_ok(), "health has a connection of its own");
        let (accounts, leases) = (postgres.identity_store(), postgres.coordinator());
        assert!(accounts.tenant(tenant).await.unwrap().is_none());
        assert!(accounts.api_key(ApiKeyId::from_u128(1)).await.unwrap().is_none());
        assert!(leases.acquire("share", "node", Duration::from_secs(5)).await.unwrap().is_some());
        execute(&mut blocker, "rollback").await;
        for held in held {
            assert_eq!(stored(&held.await.unwrap().unwrap()), 1);
        }
    });
}

#[test]
fn a_lock_that_is_not_free_in_time_is_unavailable_and_a_long_statement_a_timeout() {
    with_server(|url| async move {
        let config = PostgresConfig { lock_timeout: Duration::from_millis(100), ..config(fresh_schema()) };
        let schema = config.schema.clone();
        let store = connect(&url, config.clone()).await.event_store().await.unwrap();
        let short = PostgresConfig {
            lock_timeout: Duration::from_secs(20),
            statement_timeout: Duration::from_secs(1),
            ..config
        };
        let impatient = connect(&url, short).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("locked");
        let mut blocker = direct(&url).await;
        execute(&mut blocker, &format!("begin; lock table {schema}.event_keys in access exclusive mode"))
            .await;
        let error = store.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after().is_some()), (ErrorKind::Unavailable, true), "{error}");
        let error =
            impatient.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        execute(&mut blocker, "rollback").await;
    });
}

#[test]
fn a_weaker_server_says_so() {
    with_server(|url| async move {
        let weak = with_option(&url, "synchronous_commit=off");
        let postgres = connect(&weak, config(fresh_schema())).await;
        assert_eq!(postgres.durability(), Durability::Written);
        let store = postgres.event_store().await.unwrap();
        assert_eq!(store.check().await.unwrap().durability, Durability::Written);
        let durable = AppendOptions { durability: Some(Durability::Durable) };
        let error =
            store.append(TenantId::from_name("weak"), vec![event("a", 1)], durable).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn a_read_only_server_is_unavailable_for_appends_and_answers_reads() {
    with_server(|url| async move {
        let schema = fresh_schema();
        connect(&url, config(schema.clone())).await.close().await;
        let read_only = with_option(&url, "default_transaction_read_only=on");
        let store = connect(&read_only, config(schema)).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("standby");
        let error = store.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after().is_some()), (ErrorKind::Unavailable, true), "{error}");
        assert!(store.find(tenant, &FindQuery::default()).await.is_ok());
        assert!(!store.check().await.unwrap().writable);
    });
}

#[test]
fn a_running_transaction_of_somebody_else_delays_the_tail_and_loses_nothing() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let store = connect(&url, config(schema.clone())).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("horizon");
        let partition = Partition::of(tenant);
        let mut other = direct(&url).await;
        // A transaction that is older than the append, and still runs.
        execute(&mut other, "begin; select pg_current_xact_id()").await;
        store.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap();
        let batch = store.tail(partition, Position::START, TailOptions::default()).await.unwrap();
        assert!(batch.events.is_empty() && !batch.caught_up);
        let waiting = {
            let store = store.clone();
            tokio::spawn(async move { store.wait_for_events(partition, Position::START).await })
        };
        execute(&mut other, "commit").await;
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
        let batch = store.tail(partition, batch.next, TailOptions::default()).await.unwrap();
        assert_eq!(batch.events.len(), 1);
        assert!(batch.caught_up);
    });
}

#[test]
fn an_append_on_one_node_wakes_the_tail_of_another() {
    with_server(|url| async move {
        let schema = fresh_schema();
        // So long between polls that only a notification can be in time.
        let config = PostgresConfig { poll_interval: Duration::from_secs(3_600), ..config(schema) };
        let here = connect(&url, config.clone()).await.event_store().await.unwrap();
        let there = connect(&url, config).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("wake");
        let mut after = Position::START;
        for round in 0..5 {
            let waiting = {
                let there = there.clone();
                tokio::spawn(async move { there.wait_for_events(Partition::of(tenant), after).await })
            };
            here.append(tenant, vec![event(&format!("{round}"), 1)], AppendOptions::default()).await.unwrap();
            tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
            after = there.tail(Partition::of(tenant), after, TailOptions::default()).await.unwrap().next;
        }
    });
}
