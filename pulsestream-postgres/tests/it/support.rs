//! The server, and a schema for each test.

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::EventId;
use pulsestream_core::ports::event_store::AppendOutcome;
use pulsestream_core::time::Timestamp;
use pulsestream_postgres::{Identifier, Postgres, PostgresConfig};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::runtime::Runtime;

/// Schemas of earlier runs are dropped when they are older; those of failed tests stay until then.
const KEEP_SECONDS: i64 = 86_400;

/// Returns the URL of the server; without one the test is not run, loudly, and in CI it fails.
pub(crate) fn url() -> Option<String> {
    let found = std::env::var("PULSESTREAM_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "PULSESTREAM_TEST_POSTGRES_URL must name a PostgreSQL server in CI"
        );
        eprintln!("NOT RUN: PULSESTREAM_TEST_POSTGRES_URL is not set; `cargo xtask test` starts a server");
    }
    found
}

/// One runtime for all tests: what a test leaves running ends with the process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
    })
}

/// Runs a test when there is a server.
pub(crate) fn with_server<F: Future<Output = ()>>(test: impl FnOnce(String) -> F) {
    if let Some(url) = url() {
        runtime().block_on(async {
            sweep(&url).await;
            test(url).await;
        });
    }
}

/// Returns the name of a schema that nobody else uses.
pub(crate) fn fresh_schema() -> Identifier {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let seconds = Env::system().now().as_seconds();
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("ps_test_{seconds}_{process}_{number}").parse().unwrap()
}

pub(crate) fn config(schema: Identifier) -> PostgresConfig {
    PostgresConfig { schema, max_connections: 8, ..PostgresConfig::default() }
}

pub(crate) async fn connect(url: &str, config: PostgresConfig) -> Postgres {
    Postgres::connect(url, config, Env::system()).await.unwrap()
}

/// The role of applications, which owns nothing.
pub(crate) const APP_ROLE: &str = "ps_test_app";

/// Makes the schema as the owner, with what the role of applications needs.
pub(crate) async fn migrate_for_app(url: &str, config: PostgresConfig) {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    MADE.get_or_init(|| async {
        let sql = format!(
            "do $$ begin create role {APP_ROLE} login password '{APP_ROLE}'; \
             exception when duplicate_object then null; end $$"
        );
        execute(&mut direct(url).await, &sql).await;
    })
    .await;
    let as_owner = PostgresConfig { app_role: Some(APP_ROLE.parse().unwrap()), ..config };
    connect(url, as_owner).await.close().await;
}

/// Migrates as the owner and connects as a role that owns nothing, so that row-level security holds.
pub(crate) async fn connect_as_app(url: &str, config: PostgresConfig) -> Postgres {
    migrate_for_app(url, config.clone()).await;
    let as_app = PostgresConfig { migrate: false, require_rls: true, ..config };
    connect(&url_as(url, APP_ROLE, APP_ROLE), as_app).await
}

/// Returns the URL for another role.
pub(crate) fn url_as(url: &str, role: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{role}:{password}@{host}")
}

/// Splits a URL into what is before the server's address, the address, and what is after it.
fn parts(url: &str) -> (&str, &str, &str) {
    let start = url.find('@').or_else(|| Some(url.find("://")? + 2)).unwrap() + 1;
    let length = url[start..].find(['/', '?']).unwrap_or(url.len() - start);
    (&url[..start], &url[start..start + length], &url[start + length..])
}

/// Returns where the server is.
pub(crate) fn address(url: &str) -> SocketAddr {
    parts(url).1.to_socket_addrs().unwrap().next().unwrap()
}

/// Returns the URL by way of something that stands before the server.
pub(crate) fn through(url: &str, at: SocketAddr) -> String {
    let (before, _, after) = parts(url);
    format!("{before}{at}{after}")
}

/// Returns the URL with a setting of the server for each session.
pub(crate) fn with_option(url: &str, setting: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}options=-c%20{}", setting.replace('=', "%3D"))
}

/// Connects beside the library.
pub(crate) async fn direct(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Runs statements beside the library.
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Returns the one number that a statement selects.
pub(crate) async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    connection
        .fetch_one(AssertSqlSafe(format!("select ({sql})::bigint")))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .get::<i64, _>(0)
}

/// Drops the schemas that earlier runs left, once.
async fn sweep(url: &str) {
    static SWEPT: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    SWEPT
        .get_or_init(|| async {
            let mut connection = direct(url).await;
            let before = Env::system().now().as_seconds() - KEEP_SECONDS;
            let rows = connection
                .fetch_all("select nspname::text from pg_namespace where nspname like 'ps\\_test\\_%'")
                .await
                .unwrap();
            for row in rows {
                let name: String = row.get(0);
                let made = name.split('_').nth(2).and_then(|seconds| seconds.parse::<i64>().ok());
                if made.is_some_and(|made| made < before) {
                    execute(&mut connection, &format!("drop schema if exists {name} cascade")).await;
                }
            }
        })
        .await;
}

/// Returns an event with an id, at a second of the year 2026.
pub(crate) fn event(id: &str, second: i64) -> Event {
    let start: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
    Event::new(EventId::new(id).unwrap(), "test", start.plus(Duration::from_secs(second.unsigned_abs())))
}

/// Returns how many of the outcomes say that the event is stored.
pub(crate) fn stored(outcomes: &[AppendOutcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count()
}
