//! Questions to a million events in PostgreSQL, with and without the index for text search, and the tail.
//!
//! `PULSESTREAM_TEST_POSTGRES_URL=postgres://... cargo bench -p pulsestream-benches --bench postgres_read`; `EVENTS=100000` in the
//! environment makes it smaller.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends at the first error and prints its table"
)]

use std::future::Future;
use std::sync::Arc;

use pulsestream_benches::servers::{median, postgres_url};
use pulsestream_core::env::{Clock, Env, SystemClock};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position, TailOptions};
use pulsestream_core::query::{AggregateOrder, AggregateQuery, FindQuery, OrderKey};
use pulsestream_core::testkit::EventGenerator;
use pulsestream_core::time::TimeRange;
use pulsestream_postgres::{Postgres, PostgresConfig, PostgresEventStore};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Executor};

const BATCH: u64 = 10_000;
const REPEATS: usize = 7;
const WAKES: usize = 500;
const SCHEMAS: [(&str, bool); 2] = [("ps_bench_text", true), ("ps_bench_plain", false)];

/// Searches, each with a name.
const SEARCHES: &[(&str, &str)] = &[
    ("newest 100", ""),
    ("newest 100 of one service with errors", "source.service = 'payment' and metrics.status_code >= 500"),
    ("newest 100 of one user", "user_id = 'user-77'"),
    ("a text that few events have", "'event number 4242'"),
    ("a text that no event has", "'no such words'"),
];

/// Aggregates over all events, or over seven days of 28.
fn aggregates() -> Vec<(&'static str, AggregateQuery)> {
    let measures = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let paths = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let week = TimeRange {
        start: "2026-01-15T00:00:00Z".parse().unwrap(),
        end: "2026-01-22T00:00:00Z".parse().unwrap(),
    };
    let all = AggregateQuery::default;
    vec![
        ("count by type", AggregateQuery { group_by: paths(&["event_type"]), ..all() }),
        (
            "hourly count, p50, p95, p99 by service over 7 days",
            AggregateQuery {
                range: week,
                group_by: paths(&["source.service"]),
                bucket: Some("1h".parse().unwrap()),
                measures: measures(&[
                    "count",
                    "p50(metrics.response_time_ms)",
                    "p95(metrics.response_time_ms)",
                    "p99(metrics.response_time_ms)",
                ]),
                ..all()
            },
        ),
        (
            "error rate by service and endpoint, top 20",
            AggregateQuery {
                group_by: paths(&["source.service", "source.endpoint"]),
                measures: measures(&["error_rate", "count"]),
                order: AggregateOrder { by: OrderKey::Measure(0), descending: true },
                limit: Some(20),
                ..all()
            },
        ),
        (
            "distinct users by day",
            AggregateQuery {
                bucket: Some("day".parse().unwrap()),
                measures: measures(&["count_distinct(context.user_id)"]),
                ..all()
            },
        ),
    ]
}

/// Appends the same events for each store: those of four weeks. Some carry a number in their message that no other has.
async fn load(store: &PostgresEventStore, tenant: TenantId, count: u64) -> f64 {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut generator = EventGenerator::starting(7, start, 28 * 86_400_000_000 / count);
    let (clock, mut spent) = (SystemClock::new(), 0.0);
    for batch in 0..count / BATCH {
        let mut events: Vec<_> = (0..BATCH).map(|_| generator.event()).collect();
        for (index, event) in events.iter_mut().enumerate().step_by(2) {
            event.message = Some(format!("event number {}", batch * BATCH + index as u64).into());
        }
        let started = clock.monotonic();
        store.append(tenant, events, AppendOptions::default()).await.unwrap();
        spent += (clock.monotonic() - started).as_secs_f64();
    }
    count as f64 / spent
}

/// The median of the milliseconds that it takes, after a first time that does not count, and what it returned last.
async fn milliseconds<F: Future<Output = usize>>(ask: impl Fn() -> F) -> (f64, usize) {
    let clock = SystemClock::new();
    let mut found = ask().await;
    let mut times = Vec::new();
    for _ in 0..REPEATS {
        let started = clock.monotonic();
        found = ask().await;
        times.push((clock.monotonic() - started).as_secs_f64() * 1e3);
    }
    (median(times), found)
}

/// From the start of an append on one connection to the moment when a waiting tail of another node has the event.
async fn wakes(writer: &PostgresEventStore, reader: Arc<PostgresEventStore>) -> Vec<f64> {
    let tenant = TenantId::from_name("woken");
    let (partition, clock) = (Partition::of(tenant), SystemClock::new());
    let mut generator = EventGenerator::new(8);
    let mut after = Position::START;
    loop {
        let batch = reader.tail(partition, after, TailOptions::default()).await.unwrap();
        after = batch.next;
        if batch.caught_up {
            break;
        }
    }
    let mut times = Vec::new();
    for _ in 0..WAKES {
        let waiting = tokio::spawn({
            let reader = reader.clone();
            async move {
                loop {
                    reader.wait_for_events(partition, after).await.unwrap();
                    let batch = reader.tail(partition, after, TailOptions::default()).await.unwrap();
                    if !batch.events.is_empty() {
                        return (batch.next, clock.monotonic());
                    }
                }
            }
        });
        // Until it waits.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let started = clock.monotonic();
        writer.append(tenant, vec![generator.event()], AppendOptions::default()).await.unwrap();
        let (next, seen) = waiting.await.unwrap();
        after = next;
        times.push((seen - started).as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times
}

#[tokio::main]
async fn main() {
    let Some(url) = postgres_url() else { return };
    let count: u64 = std::env::var("EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let pool = PgPool::connect(&url).await.unwrap();
    let tenant = TenantId::from_name("bench");
    let mut stores = Vec::new();
    for (schema, text_index) in SCHEMAS {
        pool.execute(AssertSqlSafe(format!("drop schema if exists {schema} cascade"))).await.unwrap();
        let config =
            PostgresConfig { schema: schema.parse().unwrap(), text_index, ..PostgresConfig::default() };
        let postgres = Postgres::connect(&url, config.clone(), Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let rate = load(&store, tenant, count).await;
        pool.execute(AssertSqlSafe(format!("vacuum analyze {schema}.events"))).await.unwrap();
        pool.execute(AssertSqlSafe(format!("vacuum analyze {schema}.event_keys"))).await.unwrap();
        let size = store.check().await.unwrap().bytes.unwrap_or_default();
        println!("{schema}: {rate:.0} events/s in batches of {BATCH}, {} bytes an event", size / count);
        stores.push((store, config));
    }

    println!("{:>52} {:>12} {:>12}", "milliseconds", "text index", "no index");
    for (name, filter) in SEARCHES {
        let filter = (!filter.is_empty()).then(|| filter.parse().unwrap());
        let query = FindQuery { filter, ..FindQuery::default() };
        let mut shown = Vec::new();
        for (store, _) in &stores {
            let find = || async { store.find(tenant, &query).await.unwrap().events.len() };
            shown.push(milliseconds(find).await);
        }
        assert_eq!(shown[0].1, shown[1].1, "both answer the same");
        println!("{:>52} {:>12.2} {:>12.2}   {} events", name, shown[0].0, shown[1].0, shown[0].1);
    }
    let (store, config) = &stores[0];
    let some = store.find(tenant, &FindQuery { skip: 500, limit: 1, ..FindQuery::default() }).await.unwrap();
    let ids = [some.events[0].id.clone()];
    let (time, _) = milliseconds(|| async { store.get(tenant, &ids).await.unwrap().len() }).await;
    println!("{:>52} {time:>12.2}", "by id");
    for (name, query) in aggregates() {
        let ask = || async { store.aggregate(tenant, &query).await.unwrap().rows.len() };
        let (time, rows) = milliseconds(ask).await;
        println!("{name:>52} {time:>12.2} {:>12}   {rows} rows", "");
    }

    let (clock, partition) = (SystemClock::new(), Partition::of(tenant));
    let (started, mut after, mut read) = (clock.monotonic(), Position::START, 0);
    loop {
        let batch = store.tail(partition, after, TailOptions::default()).await.unwrap();
        (after, read) = (batch.next, read + batch.events.len());
        if batch.caught_up {
            break;
        }
    }
    println!(
        "tail from the start: {:.0} events/s",
        read as f64 / (clock.monotonic() - started).as_secs_f64()
    );
    let other = Postgres::connect(&url, config.clone(), Env::system()).await.unwrap();
    let times = wakes(store, other.event_store().await.unwrap()).await;
    println!(
        "from an append to the tail of another node: p50 {:.1} ms, p99 {:.1} ms",
        times[WAKES / 2],
        times[WAKES * 99 / 100]
    );
    for (schema, _) in SCHEMAS {
        pool.execute(AssertSqlSafe(format!("drop schema {schema} cascade"))).await.unwrap();
    }
}
