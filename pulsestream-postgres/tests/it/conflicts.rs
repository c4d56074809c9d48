//! Transactions that get in each other's way: one of them starts again, and nobody notices.

use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome, EventStore};
use pulsestream_postgres::{Identifier, Postgres, PostgresEventStore};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::task::JoinHandle;

use crate::support::{
    config, connect, direct, event, fresh_schema, number, runtime, stored, with_option, with_server,
};

#[test]
fn shuffled_duplicates_from_many_writers_do_not_deadlock() {
    with_server(|url| async move {
        let store = connect(&url, config(fresh_schema())).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("deadlock");
        let writers: Vec<_> = (0..32)
            .map(|writer: usize| {
                let store = store.clone();
                tokio::spawn(async move {
                    // The same ids, in another order for each writer.
                    let batch =
                        (0..97).map(|index| event(&format!("{}", (index * (writer + 1)) % 97), 1)).collect();
                    stored(&store.append(tenant, batch, AppendOptions::default()).await.unwrap())
                })
            })
            .collect();
        let mut total = 0;
        for writer in writers {
            total += writer.await.unwrap();
        }
        assert_eq!(total, 97);
    });
}

/// Returns when so many appends wait for a row that somebody else has.
async fn until_waiting(url: &str, schema: &Identifier, count: i64) {
    let mut observer = direct(url).await;
    let waiting = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{schema}.event_keys%'"
    );
    while number(&mut observer, &waiting).await < count {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn append(
    store: &Arc<PostgresEventStore>,
    tenant: TenantId,
    ids: &[&str],
) -> JoinHandle<Result<Vec<AppendOutcome>>> {
    let batch = ids.iter().map(|id| event(id, 1)).collect();
    let store = store.clone();
    runtime().spawn(async move { store.append(tenant, batch, AppendOptions::default()).await })
}

/// A store over connections of its own, whose appends are single statements, and one over a pool of the host's, whose appends are
/// transactions. Both find a deadlock soon, and before anybody else.
async fn both_kinds(url: &str, schema: &Identifier) -> [Arc<PostgresEventStore>; 2] {
    let soon = with_option(url, "deadlock_timeout=20ms");
    let own = connect(&soon, config(schema.clone())).await;
    let pool: PgPool = PgPoolOptions::new().max_connections(4).connect(&soon).await.unwrap();
    let hosted = Postgres::with_pool(pool, config(schema.clone()), Env::system()).await.unwrap();
    [own.event_store().await.unwrap(), hosted.event_store().await.unwrap()]
}

#[test]
fn an_append_that_the_server_ends_for_a_deadlock_is_done_again() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let host = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        let helper = connect(&url, config(schema.clone())).await.event_store().await.unwrap();
        for (round, store) in both_kinds(&url, &schema).await.into_iter().enumerate() {
            let tenant = TenantId::from_u128(0x1234 + round as u128);
            let (mut brake, mut rival) = (host.begin().await.unwrap(), host.begin().await.unwrap());
            helper.append_in(&mut brake, tenant, vec![event("b", 1)]).await.unwrap();
            helper.append_in(&mut rival, tenant, vec![event("c", 1)]).await.unwrap();
            // It has `a`, and waits for `b`.
            let ours = append(&store, tenant, &["a", "b", "c"]);
            until_waiting(&url, &schema, 1).await;
            // The rival waits for `a`.
            let rival = runtime().spawn({
                let helper = helper.clone();
                async move {
                    let outcomes = helper.append_in(&mut rival, tenant, vec![event("a", 1)]).await;
                    rival.commit().await.unwrap();
                    outcomes
                }
            });
            until_waiting(&url, &schema, 2).await;
            // Ours goes on, to wait for `c`: a circle, which its session is the one to find.
            brake.rollback().await.unwrap();
            let of_rival = rival.await.unwrap().expect("the rival goes on");
            assert_eq!(stored(&of_rival), 1, "what ours had done was undone");
            let outcomes = ours.await.unwrap().expect("ours is done again");
            let only_b = [AppendOutcome::Duplicate, AppendOutcome::Stored, AppendOutcome::Duplicate];
            assert_eq!(format!("{outcomes:?}"), format!("{only_b:?}"));
            let count = format!("select count(*) from {schema}.events where tenant_id = '{tenant}'");
            assert_eq!(number(&mut direct(&url).await, &count).await, 3);
        }
    });
}

#[test]
fn an_append_that_cannot_be_serialized_is_done_again() {
    with_server(|url| async move {
        let (schema, tenant) = (fresh_schema(), TenantId::from_name("serialized"));
        let host = PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
        let helper = connect(&url, config(schema.clone())).await.event_store().await.unwrap();
        // As an administrator may have set it for the role.
        let strict = with_option(&url, "default_transaction_isolation=serializable");
        let store = connect(&strict, config(schema.clone())).await.event_store().await.unwrap();
        let mut other = host.begin().await.unwrap();
        helper.append_in(&mut other, tenant, vec![event("a", 1)]).await.unwrap();
        let ours = append(&store, tenant, &["a"]);
        until_waiting(&url, &schema, 1).await;
        // Not visible to the snapshot of ours, and there: 40001.
        other.commit().await.unwrap();
        let outcomes = ours.await.unwrap().expect("ours is done again");
        assert_eq!(stored(&outcomes), 0, "it is a duplicate");
    });
}
