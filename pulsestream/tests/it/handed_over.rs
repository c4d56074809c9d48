//! Settings that a backend obeys: they reach it.

use std::time::Duration;

use pulsestream::ErrorKind;
use pulsestream::core::settings::Settings;
use pulsestream::prelude::*;
use pulsestream_postgres::PostgresConfig;
use pulsestream_redis::RedisConfig;
use pulsestream_testtools::{eventually_async, server_url};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::server::{joint, own_schema, servers};

const HOUR: Duration = Duration::from_secs(3_600);

async fn waiting(observer: &mut PgConnection, schema: &str) -> i64 {
    let sql = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%{schema}.events%' \
         and pid <> pg_backend_pid()"
    );
    observer.fetch_one(AssertSqlSafe(sql)).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_ends_on_the_server_too_when_its_time_is_over() {
    let Some((postgres, _)) = servers() else { return };
    let url = own_schema(&postgres);
    let schema = url.rsplit_once("schema=").unwrap().1.to_owned();
    let mut settings = Settings::default();
    settings.query.timeout = Duration::from_millis(300);
    let patient = PostgresConfig { statement_timeout: HOUR, lock_timeout: HOUR, ..PostgresConfig::default() };
    let builder = PulseStream::builder().with_settings(settings).with_postgres_config(patient);
    let ps = builder.without_background().open(&url).await.unwrap();
    let (mut blocker, mut observer) =
        (PgConnection::connect(&postgres).await.unwrap(), PgConnection::connect(&postgres).await.unwrap());
    let lock = format!("begin; lock table {schema}.events in access exclusive mode");
    blocker.execute(AssertSqlSafe(lock)).await.unwrap();
    let asked = tokio::spawn({
        let shop = ps.tenant(TenantId::from_name("shop"));
        async move { shop.find(FindQuery::default()).await }
    });
    let answer = tokio::time::timeout(Duration::from_secs(30), asked).await.expect("it ends before the hour");
    assert_eq!(answer.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    eventually_async("the server works on it no longer", async || waiting(&mut observer, &schema).await == 0)
        .await;
    drop(blocker);
    ps.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_worker_took_is_stored_after_the_visibility_timeout() {
    let Some(redis) = server_url("PULSESTREAM_TEST_REDIS_URL") else { return };
    // Without effect on this process: each has a store of its own, in memory.
    let url = format!("{}&queue=redis", joint("memory:", &redis));
    let mut config = RedisConfig::default();
    config.queue.visibility_timeout_ms = 300;
    let dead = PulseStream::builder().with_redis_config(config.clone()).without_background();
    let dead = dead.open(&url).await.unwrap();
    let (name, shop) = (TenantId::from_name("shop"), dead.tenant(TenantId::from_name("shop")));
    shop.ingest(Event::new(EventId::new("e").unwrap(), "order_placed", shop.now())).await.unwrap();
    let queue = dead.ingest().queue().unwrap().clone();
    assert_eq!(queue.take("dead", 10, Duration::ZERO).await.unwrap().len(), 1);
    let alive = PulseStream::builder().with_redis_config(config).open(&url).await.unwrap();
    let started = alive.env().monotonic();
    eventually_async("another stores it", async || {
        alive.tenant(name).find(FindQuery::default()).await.unwrap().events.len() == 1
    })
    .await;
    let took = alive.env().monotonic().saturating_sub(started);
    assert!(took < Duration::from_secs(30), "not after the default of a minute: {took:?}");
    alive.close().await.unwrap();
    dead.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_one_batch_would_fill_is_refused() {
    let mut config = RedisConfig::default();
    config.queue.max_events = 9_999;
    config.queue.max_bytes = (20 << 20) - 1;
    let builder = PulseStream::builder().with_redis_config(config);
    let error = builder.open("memory:?redis=redis://127.0.0.1:1/&queue=redis").await.unwrap_err();
    let pointers: Vec<&str> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/redis/queue/max_events", "/redis/queue/max_bytes"]);
}
