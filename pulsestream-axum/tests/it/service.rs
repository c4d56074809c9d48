//! The service itself, and what every request has in common.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use pulsestream::core::auth::Secret;
use pulsestream::prelude::*;
use pulsestream_axum::{ApiConfig, MetricsAccess, router};
use serde_json::json;

use crate::server::{START, Server, send};

#[tokio::test]
async fn about_and_health_have_the_shapes_of_the_contract() {
    let server = Server::start().await;
    let about = server.get("/").await.json();
    let keys: Vec<_> = about.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["description", "docs_url", "health_url", "name", "version"]);
    let health = server.get("/health").await;
    assert_eq!(
        health.json(),
        json!({
            "status": "healthy", "version": env!("CARGO_PKG_VERSION"), "timestamp": START,
            "environment": "production",
        })
    );
}

#[tokio::test]
async fn readiness_names_what_does_not_answer() {
    let server = Server::start().await;
    let ready = server.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json()["status"].clone()), (200, json!("ready")));
    assert_eq!(ready.json()["checks"][0]["details"]["backend"], "memory");
    let names: Vec<_> =
        ready.json()["checks"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(
        json!(names),
        json!([
            "event_store",
            "identity_store",
            "alert_store",
            "outbox",
            "coordinator",
            "document_store",
            "rate_limiter",
            "cache",
            "live_bus"
        ])
    );
    server.ps.event_store().close().await.unwrap();
    let ready = server.get("/health/ready").await;
    assert_eq!(ready.status.as_u16(), 503);
    let check = &ready.json()["checks"][0];
    assert_eq!((&check["name"], &check["status"]), (&json!("event_store"), &json!("failed")));
    assert!(check["cause"].as_str().unwrap().starts_with("closed: "), "{check}");
    server.clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(server.get("/health").await.json()["status"], "unhealthy");
}

#[tokio::test]
async fn a_store_that_works_less_well_is_ready_and_says_what_helps() {
    let place = tempfile::tempdir().unwrap();
    let (folder, copy) = (place.path().join("store"), place.path().join("copy"));
    let ps = PulseStream::open(&format!("file:{}", folder.display())).await.unwrap();
    let event = Event::new(EventId::new("e1").unwrap(), "order_failed", ps.env().now());
    ps.tenant(TenantId::from_name("shop")).ingest(event).await.unwrap();
    ps.backup(&copy, |_| ()).await.unwrap();
    ps.close().await.unwrap();
    let segment = std::fs::read_dir(copy.join("segments")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(segment.path()).unwrap();

    let ps = PulseStream::open(&format!("file:{}", copy.display())).await.unwrap();
    let router = router(ps.clone(), ApiConfig::default()).unwrap();
    let get = async |path: &str| send(router.clone(), Request::get(path).body(Body::empty()).unwrap()).await;
    let ready = get("/health/ready").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["status"]),
        (200, &json!("degraded")),
        "{}",
        ready.text()
    );
    let check = &ready.json()["checks"][0];
    assert_eq!((&check["status"], &check["details"]["writable"]), (&json!("impaired"), &json!(true)));
    assert!(check["cause"].as_str().unwrap().contains("cannot be opened"), "{check}");
    assert!(check["remedy"].as_str().unwrap().contains("--set-aside"), "{check}");
    assert_eq!(check["details"]["impairments"][0]["code"], "segment_lost");
    assert_eq!(get("/health").await.json()["status"], "degraded");
    let metrics = get("/metrics").await.text();
    assert!(metrics.contains("pulsestream_event_store_impaired{code=\"segment_lost\"} 1\n"), "{metrics}");
    ps.close().await.unwrap();
}

#[tokio::test]
async fn unknown_paths_and_methods_have_bodies_of_the_api() {
    let server = Server::start().await;
    let missing = server.get("/api/v1/nothing").await;
    assert_eq!(missing.status.as_u16(), 404);
    assert_eq!(missing.json()["error"], "NOT_FOUND");
    assert_eq!(missing.json()["status_code"], 404);
    let missing = server.get("/api/v2/nothing").await;
    assert_eq!(missing.header("content-type"), "application/problem+json");
    assert_eq!(missing.json()["code"], "not_found");
    let wrong = server.call("DELETE", "/health", "", None).await;
    assert_eq!(wrong.status.as_u16(), 405);
    assert_eq!(wrong.json()["error"], "METHOD_NOT_ALLOWED");
    assert!(wrong.header("allow").contains("GET"), "{:?}", wrong.headers);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::start().await;
    let given = Request::get("/health").header("x-request-id", "abc-1").body(Body::empty()).unwrap();
    assert_eq!(server.send(given).await.header("x-request-id"), "abc-1");
    let made = server.get("/nothing").await;
    assert_eq!(made.header("x-request-id").len(), 32);
    assert_eq!(made.json()["details"]["request_id"], made.header("x-request-id"));
    assert_eq!(made.header("x-content-type-options"), "nosniff");
    assert_eq!(made.header("cache-control"), "no-store");
}

#[tokio::test]
async fn metrics_are_text_and_may_take_a_token() {
    let server = Server::start().await;
    server.get("/health").await;
    let page = server.get("/metrics").await;
    assert!(page.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    assert!(
        text.contains("pulsestream_http_requests_total{method=\"GET\",route=\"/health\",status=\"2xx\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("pulsestream_events_refused_total{reason=\"invalid\"} 0\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
    }

    let secret = ApiConfig { metrics: MetricsAccess::Bearer(Secret::new("m1")), ..ApiConfig::default() };
    let closed = Server::with(pulsestream::PulseStream::builder(), secret).await;
    assert_eq!(closed.get("/metrics").await.status.as_u16(), 401);
    assert_eq!(closed.call("GET", "/metrics", "token:m2", None).await.status.as_u16(), 401);
    assert_eq!(closed.call("GET", "/metrics", "token:m1", None).await.status.as_u16(), 200);
    let off = ApiConfig { metrics: MetricsAccess::Off, ..ApiConfig::default() };
    let off = Server::with(pulsestream::PulseStream::builder(), off).await;
    assert_eq!(off.get("/metrics").await.status.as_u16(), 404);
}

#[tokio::test]
async fn the_router_nests_under_any_prefix() {
    let server = Server::start().await;
    let own = Router::new().route("/own", axum::routing::get(async || "host"));
    let ours = router(server.ps.clone(), ApiConfig::default()).unwrap();
    let host = own.nest("/ops/{place}", ours);
    let get = |path: &str| send(host.clone(), Request::get(path).body(Body::empty()).unwrap());
    assert_eq!(get("/own").await.text(), "host");
    assert_eq!(get("/ops/x/health").await.json()["status"], "healthy");
    assert_eq!(get("/ops/x/api/v2/nothing").await.json()["code"], "not_found");
    assert_eq!(get("/nothing").await.text(), "");
}

#[tokio::test]
async fn browsers_of_other_origins_are_let_in_by_name_only() {
    let closed = Server::start().await;
    let preflight = || {
        Request::options("/health")
            .header("origin", "https://app.example")
            .header("access-control-request-method", "GET")
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(closed.send(preflight()).await.header("access-control-allow-origin"), "");
    let config =
        ApiConfig { allowed_origins: vec!["https://app.example".to_owned()], ..ApiConfig::default() };
    let open = Server::with(pulsestream::PulseStream::builder(), config).await;
    let answer = open.send(preflight()).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let own = Request::get("/health").header("origin", "https://app.example").body(Body::empty()).unwrap();
    let own = open.send(own).await;
    for name in ["age", "etag", "link", "retry-after", "ratelimit", "idempotency-replayed", "x-request-id"] {
        let shown = own.header("access-control-expose-headers");
        assert!(shown.split(',').any(|it| it == name), "scripts cannot read {name}: {shown}");
    }
    let other = Request::get("/health").header("origin", "https://evil.example").body(Body::empty()).unwrap();
    assert_eq!(open.send(other).await.header("access-control-allow-origin"), "");
}
