//! Appends to PostgreSQL: the event store beside hand-written SQL, on one server, in one run, with the same tables, indexes and
//! identity check, once with and once without the index for text search. Alternating rounds, the median of each is reported.
//!
//! `PULSESTREAM_TEST_POSTGRES_URL=postgres://... cargo bench -p pulsestream-benches --bench postgres`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends at the first error and prints its table"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsestream_benches::servers::{median, postgres_url, spread_id, units_per_second};
use pulsestream_core::env::{Clock, Env, SystemClock};
use pulsestream_core::event::{Event, JsonObject, Severity};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::time::Timestamp;
use pulsestream_postgres::{Postgres, PostgresConfig, PostgresEventStore};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

const ROUND: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3;
const CONNECTIONS: usize = 16;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// About 900 bytes, like an API call with a little payload.
fn batch(size: usize, now: Timestamp) -> Vec<Event> {
    (0..size)
        .map(|_| {
            let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
            let mut event = Event::new(EventId::from_u128(spread_id(number)), "api_call", now);
            event.severity = if number.is_multiple_of(20) { Severity::Error } else { Severity::Info };
            event.title = Some("GET /api/v1/orders/{id}".into());
            event.message = Some(format!("request {number} was answered by the upstream after one retry").into());
            event.source.service = Some("checkout".into());
            event.source.endpoint = Some("/api/v1/orders/{id}".into());
            event.source.method = Some("GET".into());
            event.source.environment = Some("production".into());
            event.context.user_id = Some(format!("user-{}", number % 5_000).into());
            event.context.request_id = Some(format!("req-{number:032x}").into());
            event.context.ip_address = Some("203.0.113.7".into());
            event.context.user_agent = Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101".into());
            event.metrics.response_time_ms = Some(12.5);
            event.metrics.status_code = Some(200);
            event.metrics.response_size_bytes = Some(number % 50_000);
            let payload = format!(
                r#"{{"cart":{{"items":{},"total":{}.25}},"plan":"free","region":"eu-central-1","tags":["a","b","c"]}}"#,
                number % 9,
                number % 900
            );
            event.payload = JsonObject::parse(&payload).unwrap();
            event
        })
        .collect()
}

/// The text and JSON columns that the hand-written statements fill, and the rest of a row.
const COLUMNS: &str = "id, \"timestamp\", received_at, severity, event_type, title, message, source_service, \
     source_endpoint, source_method, source_environment, user_id, request_id, ip_address, user_agent, \
     response_time_ms, status_code, response_size_bytes, payload";

/// Writes a row of binary COPY in the order of [`COLUMNS`].
fn copy_row(event: &Event, buffer: &mut Vec<u8>) {
    fn field(buffer: &mut Vec<u8>, bytes: &[u8]) {
        buffer.extend_from_slice(&i32::try_from(bytes.len()).unwrap().to_be_bytes());
        buffer.extend_from_slice(bytes);
    }
    let text = |buffer: &mut Vec<u8>, text: &Option<pulsestream_core::text::Text>| {
        field(buffer, text.as_ref().unwrap().as_bytes());
    };
    let micros = (event.timestamp.as_micros() - 946_684_800_000_000).to_be_bytes();
    buffer.extend_from_slice(&19_i16.to_be_bytes());
    field(buffer, event.id.as_str().as_bytes());
    field(buffer, &micros);
    field(buffer, &micros);
    field(buffer, &(event.severity as i16).to_be_bytes());
    field(buffer, event.event_type.as_bytes());
    text(buffer, &event.title);
    text(buffer, &event.message);
    text(buffer, &event.source.service);
    text(buffer, &event.source.endpoint);
    text(buffer, &event.source.method);
    text(buffer, &event.source.environment);
    text(buffer, &event.context.user_id);
    text(buffer, &event.context.request_id);
    text(buffer, &event.context.ip_address);
    text(buffer, &event.context.user_agent);
    field(buffer, &event.metrics.response_time_ms.unwrap().to_be_bytes());
    field(buffer, &i32::from(event.metrics.status_code.unwrap()).to_be_bytes());
    field(buffer, &event.metrics.response_size_bytes.unwrap().to_be_bytes());
    let payload = event.payload.as_str();
    buffer.extend_from_slice(&i32::try_from(payload.len() + 1).unwrap().to_be_bytes());
    buffer.push(1);
    buffer.extend_from_slice(payload.as_bytes());
}

/// Moves what is new from a source of rows into both tables.
fn insert_from(schema: &str, tenant: TenantId, source: &str) -> String {
    format!(
        "with keys as (insert into {schema}.event_keys (tenant_id, event_id, \"timestamp\", partition, seq) \
         select '{tenant}', id, \"timestamp\", 0, row_number() over () from {source} \
         on conflict do nothing returning event_id) \
         insert into {schema}.events (tenant_id, {COLUMNS}) select '{tenant}', {COLUMNS} from {source} \
         where id in (select event_id from keys)"
    )
}

/// COPY into a temporary table, then both inserts, in one transaction.
async fn copy(connection: &mut PgConnection, schema: &str, tenant: TenantId, events: &[Event]) {
    let mut rows = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    events.iter().for_each(|event| copy_row(event, &mut rows));
    rows.extend_from_slice(&(-1_i16).to_be_bytes());
    connection.execute("begin").await.unwrap();
    let statement = format!("copy staging ({COLUMNS}) from stdin (format binary)");
    let mut copy = connection.copy_in_raw(&statement).await.unwrap();
    copy.send(rows).await.unwrap();
    copy.finish().await.unwrap();
    sqlx::query(AssertSqlSafe(insert_from(schema, tenant, "staging")))
        .execute(&mut *connection)
        .await
        .unwrap();
    connection.execute("commit").await.unwrap();
}

/// One statement over arrays.
async fn unnest(connection: &mut PgConnection, schema: &str, tenant: TenantId, events: &[Event]) {
    let source = "(select * from unnest($1::text[], $2::text[]::timestamptz[], $3::text[]::timestamptz[], $4::smallint[], \
         $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], \
         $13::text[], $14::text[], $15::text[], $16::float8[], $17::int[], $18::bigint[], $19::text[]::jsonb[]) \
         as input (id, \"timestamp\", received_at, severity, event_type, title, message, source_service, \
         source_endpoint, source_method, source_environment, user_id, request_id, ip_address, user_agent, \
         response_time_ms, status_code, response_size_bytes, payload)) as source";
    let texts = |of: fn(&Event) -> &str| events.iter().map(of).map(str::to_owned).collect::<Vec<String>>();
    let times: Vec<String> = events.iter().map(|event| event.timestamp.to_string()).collect();
    let sql = insert_from(schema, tenant, source);
    sqlx::query(AssertSqlSafe(sql))
        .bind(texts(|event| event.id.as_str()))
        .bind(times.clone())
        .bind(times)
        .bind(events.iter().map(|event| event.severity as i16).collect::<Vec<_>>())
        .bind(texts(|event| &event.event_type))
        .bind(texts(|event| event.title.as_deref().unwrap()))
        .bind(texts(|event| event.message.as_deref().unwrap()))
        .bind(texts(|event| event.source.service.as_deref().unwrap()))
        .bind(texts(|event| event.source.endpoint.as_deref().unwrap()))
        .bind(texts(|event| event.source.method.as_deref().unwrap()))
        .bind(texts(|event| event.source.environment.as_deref().unwrap()))
        .bind(texts(|event| event.context.user_id.as_deref().unwrap()))
        .bind(texts(|event| event.context.request_id.as_deref().unwrap()))
        .bind(texts(|event| event.context.ip_address.as_deref().unwrap()))
        .bind(texts(|event| event.context.user_agent.as_deref().unwrap()))
        .bind(events.iter().map(|event| event.metrics.response_time_ms.unwrap()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| i32::from(event.metrics.status_code.unwrap())).collect::<Vec<_>>())
        .bind(
            events.iter().map(|event| event.metrics.response_size_bytes.unwrap() as i64).collect::<Vec<_>>(),
        )
        .bind(texts(|event| event.payload.as_str()))
        .execute(connection)
        .await
        .unwrap();
}

/// One row into the events table alone: no identity check.
async fn insert(connection: &mut PgConnection, schema: &str, tenant: TenantId, events: &[Event]) {
    let event = &events[0];
    let sql = format!(
        "insert into {schema}.events (tenant_id, {COLUMNS}) values ('{tenant}', $1, $2::text::timestamptz, \
         $3::text::timestamptz, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text::jsonb)"
    );
    let time = event.timestamp.to_string();
    sqlx::query(AssertSqlSafe(sql))
        .bind(event.id.as_str())
        .bind(time.clone())
        .bind(time)
        .bind(event.severity as i16)
        .bind(event.event_type.as_str())
        .bind(event.title.as_deref())
        .bind(event.message.as_deref())
        .bind(event.source.service.as_deref())
        .bind(event.source.endpoint.as_deref())
        .bind(event.source.method.as_deref())
        .bind(event.source.environment.as_deref())
        .bind(event.context.user_id.as_deref())
        .bind(event.context.request_id.as_deref())
        .bind(event.context.ip_address.as_deref())
        .bind(event.context.user_agent.as_deref())
        .bind(event.metrics.response_time_ms)
        .bind(event.metrics.status_code.map(i32::from))
        .bind(event.metrics.response_size_bytes.map(|size| size as i64))
        .bind(event.payload.as_str())
        .execute(connection)
        .await
        .unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Ours,
    Copy,
    Unnest,
    Insert,
}

struct Bench {
    store: Arc<PostgresEventStore>,
    pool: PgPool,
    /// The tables of the hand-written statements: made by the same migrations.
    by_hand: String,
    clock: SystemClock,
    tenant: TenantId,
}

impl Bench {
    /// Returns the events per second of `workers` that append batches of `size` for a round.
    async fn round(self: &Arc<Self>, way: Way, size: usize, workers: usize) -> f64 {
        units_per_second(ROUND, workers, |_| {
            let bench = self.clone();
            move || {
                let bench = bench.clone();
                async move {
                    bench.append(way, size).await;
                    size
                }
            }
        })
        .await
    }

    async fn append(&self, way: Way, size: usize) {
        let events = batch(size, self.clock.now());
        if way == Way::Ours {
            let outcomes = self.store.append(self.tenant, events, AppendOptions::default()).await.unwrap();
            assert_eq!(outcomes.len(), size);
            return;
        }
        let mut connection = self.pool.acquire().await.unwrap();
        match way {
            Way::Copy => copy(&mut connection, &self.by_hand, self.tenant, &events).await,
            Way::Unnest => unnest(&mut connection, &self.by_hand, self.tenant, &events).await,
            Way::Insert | Way::Ours => insert(&mut connection, &self.by_hand, self.tenant, &events).await,
        }
    }

    async fn empty(&self, schema: &str) {
        let sql = format!("truncate {schema}.events, {schema}.event_keys; checkpoint");
        self.pool.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

async fn run(url: &str, text_index: bool) {
    let schemas = ["ps_bench_store", "ps_bench_by_hand"];
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(u32::try_from(CONNECTIONS).unwrap())
        .after_connect(|connection, _| {
            Box::pin(async move {
                let staging = "create temporary table staging (id text, \"timestamp\" timestamptz, received_at timestamptz, \
                     severity smallint, event_type text, title text, message text, source_service text, \
                     source_endpoint text, source_method text, source_environment text, user_id text, request_id text, \
                     ip_address text, user_agent text, response_time_ms float8, status_code int, \
                     response_size_bytes bigint, payload jsonb) on commit delete rows";
                connection.execute(staging).await?;
                Ok(())
            })
        })
        .connect(url)
        .await
        .unwrap();
    let mut stores = Vec::new();
    for schema in schemas {
        pool.execute(AssertSqlSafe(format!("drop schema if exists {schema} cascade"))).await.unwrap();
        let config = PostgresConfig {
            schema: schema.parse().unwrap(),
            max_connections: u32::try_from(CONNECTIONS).unwrap(),
            text_index,
            ..PostgresConfig::default()
        };
        stores.push(Postgres::connect(url, config, Env::system()).await.unwrap());
    }
    let bench = Arc::new(Bench {
        store: stores[0].event_store().await.unwrap(),
        pool: pool.clone(),
        by_hand: schemas[1].to_owned(),
        clock: SystemClock::new(),
        tenant: TenantId::from_name("bench"),
    });
    // The partitions of the hand-written side.
    stores[1].event_store().await.unwrap();
    println!("{} index for text search:", if text_index { "with the" } else { "without an" });
    println!(
        "{:>7} {:>12} | events/s: {:>9} {:>9} {:>9} {:>9} | ours/best by hand",
        "batch", "connections", "ours", "COPY", "UNNEST", "INSERT"
    );
    for (size, workers) in [(1, 1), (100, 1), (1_000, 1), (10_000, 1), (1, CONNECTIONS), (1_000, CONNECTIONS)]
    {
        let mut ways = vec![Way::Ours, Way::Copy, Way::Unnest];
        if size == 1 {
            ways.push(Way::Insert);
        }
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for schema in schemas {
                bench.empty(schema).await;
            }
            for (way, rates) in ways.iter().zip(&mut rates) {
                rates.push(bench.round(*way, size, workers).await);
            }
        }
        let rates: Vec<f64> = rates.into_iter().map(median).collect();
        let best = rates[1..].iter().copied().fold(0.0, f64::max);
        let shown: Vec<String> = (0..4)
            .map(|index| {
                rates.get(index).map_or_else(|| format!("{:>9}", "-"), |rate| format!("{rate:>9.0}"))
            })
            .collect();
        println!("{size:>7} {workers:>12} |           {} | {:.2}", shown.join(" "), rates[0] / best);
    }
    for schema in schemas {
        pool.execute(AssertSqlSafe(format!("drop schema {schema} cascade"))).await.unwrap();
    }
}

#[tokio::main]
async fn main() {
    let Some(url) = postgres_url() else { return };
    for text_index in [true, false] {
        run(&url, text_index).await;
    }
}
