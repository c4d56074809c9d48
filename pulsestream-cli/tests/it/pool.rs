//! What clients notice when PostgreSQL has no connection left for them.

use std::time::{Duration, Instant};

use pulsestream_testtools::server_url;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::program::path;
use crate::server::{Server, exchange, request};

/// As many as the settings below give to events and questions.
const CONNECTIONS: i64 = 2;
const EVENT: &str = r#"{"event_type": "order"}"#;
const LOGIN: &str =
    r#"{"email": "ann@shop.example", "password": "a long enough secret", "tenant_slug": "shop"}"#;

async fn execute(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_free_connection_requests_are_refused_soon_and_people_still_sign_in() {
    let Some(url) = server_url("PULSESTREAM_TEST_POSTGRES_URL") else { return };
    let schema = format!("program_pool_{}", std::process::id());
    let joint = if url.contains('?') { '&' } else { '?' };
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    let written = r#"{"postgres": {"max_connections": 2, "acquire_timeout": "300ms", "lock_timeout": "20s", "statement_timeout": "20s"}}"#;
    std::fs::write(&settings, written).unwrap();
    let flags = ["--config", path(&settings), "--admin-tenant", "shop", "--admin-email", "ann@shop.example"];
    let flags = [&flags[..], &["--admin-password", "a long enough secret"]].concat();
    let server = Server::over(&format!("{url}{joint}schema={schema}"), &flags);
    let login = || request(server.address(), "POST", "/api/v1/auth/login", "", LOGIN);
    let (status, answer) = login();
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let token = answer["access_token"].as_str().unwrap();

    let mut blocker = PgConnection::connect(&url).await.unwrap();
    execute(&mut blocker, format!("begin; lock table {schema}.event_keys in access exclusive mode")).await;
    let mut observer = PgConnection::connect(&url).await.unwrap();
    let held = std::thread::scope(|scope| {
        let send = || request(server.address(), "POST", "/api/v2/events", token, EVENT);
        let held: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(send)).collect();
        let runtime = tokio::runtime::Handle::current();
        let waiting = format!(
            "select count(*) from pg_locks where not granted and relation = '{schema}.event_keys'::regclass"
        );
        tokio::task::block_in_place(|| {
            runtime.block_on(async {
                while observer.fetch_one(AssertSqlSafe(waiting.clone())).await.unwrap().get::<i64, _>(0)
                    < CONNECTIONS
                {
                    tokio::task::yield_now().await;
                }
            });
        });
        for (method, path, body) in
            [("POST", "/api/v2/events", EVENT), ("GET", "/api/v2/events", ""), ("GET", "/api/v2/rules", "")]
        {
            let started = Instant::now();
            let (status, head, body) = exchange(server.address(), method, path, token, body).unwrap();
            assert_eq!(status, 503, "{method} {path}: {body}");
            assert!(head.lines().any(|line| line.starts_with("retry-after: ")), "{head}");
            assert!(body.contains(r#""code":"unavailable""#), "{body}");
            assert!(started.elapsed() < Duration::from_secs(5), "{method} {path}");
        }
        let (status, answer) = login();
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = request(server.address(), "GET", "/api/v1/auth/profile", token, "");
        assert_eq!(status, 200, "{answer}");
        assert_eq!(request(server.address(), "GET", "/health", "", "").0, 200);
        tokio::task::block_in_place(|| runtime.block_on(execute(&mut blocker, "rollback".to_owned())));
        held.into_iter().map(|held| held.join().unwrap()).collect::<Vec<_>>()
    });
    for (status, answer) in held {
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(request(server.address(), "POST", "/api/v2/events", token, EVENT).0, 200);
    drop(server);
    execute(&mut observer, format!("drop schema {schema} cascade")).await;
}
