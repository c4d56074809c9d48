//! The layer that records requests.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use pulsestream::prelude::*;
use pulsestream_axum::{RecordedCounts, RecorderConfig, RequestRecorder};
use tower::ServiceExt;

use crate::server::Server;

async fn recorded(server: &Server, tenant: TenantId) -> Vec<Event> {
    let query = FindQuery { limit: 1_000, ..FindQuery::default() };
    server.ps.tenant(tenant).find(query).await.unwrap().events
}

fn app(recorder: &RequestRecorder) -> Router {
    Router::new()
        .route("/items/{id}", get(async || (StatusCode::IM_A_TEAPOT, "0123456789")))
        .layer(recorder.layer())
}

async fn send(app: &Router, request: Request<Body>) {
    let answer = app.clone().oneshot(request).await.unwrap();
    axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
}

#[tokio::test]
async fn a_request_becomes_an_event() {
    let server = Server::start().await;
    let tenant = TenantId::from_name("host");
    let config = RecorderConfig {
        version: Some("1.2.3".to_owned()),
        environment: Some("test".to_owned()),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..RecorderConfig::new("host")
    };
    let recorder = RequestRecorder::start(server.ps.clone(), tenant, config).unwrap();
    let request = Request::get("/items/42?secret=1")
        .header("user-agent", "curl/8")
        .header("referer", "https://shop.example/")
        .header("x-request-id", "r-1")
        .header("content-length", "7")
        .header("x-forwarded-for", "1.1.1.1, 203.0.113.9")
        .extension(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 4711))))
        .body(Body::from("ignored"))
        .unwrap();
    send(&app(&recorder), request).await;
    recorder.flush().await;
    let events = recorded(&server, tenant).await;
    let [event] = events.as_slice() else { panic!("{} events", events.len()) };
    let mut shown = serde_json::to_value(event).unwrap();
    assert_eq!(shown["id"].as_str().unwrap().len(), 36);
    shown.as_object_mut().unwrap().remove("id");
    assert_eq!(
        shown,
        serde_json::json!({
            "event_type": "api_call", "severity": "warning", "title": "GET /items/{id} 418",
            "timestamp": "2026-01-15T12:00:00Z", "received_at": "2026-01-15T12:00:00Z",
            "source": {
                "service": "host", "endpoint": "/items/{id}", "method": "GET", "version": "1.2.3",
                "environment": "test"
            },
            "context": {
                "request_id": "r-1", "ip_address": "203.0.113.9", "user_agent": "curl/8",
                "referrer": "https://shop.example/"
            },
            "metrics": {
                "response_time_ms": 0.0, "status_code": 418, "request_size_bytes": 7, "response_size_bytes": 10
            },
        })
    );
    assert!(!shown.to_string().contains("secret"), "queries are not recorded");
}

#[tokio::test]
async fn unknown_paths_share_one_endpoint_unless_asked() {
    let server = Server::start().await;
    for (raw, expected) in [(false, "unmatched"), (true, "/no/such/path")] {
        let tenant = TenantId::from_name(expected);
        let config = RecorderConfig { record_raw_paths: raw, ..RecorderConfig::new("host") };
        let recorder = RequestRecorder::start(server.ps.clone(), tenant, config).unwrap();
        send(&app(&recorder), Request::get("/no/such/path").body(Body::empty()).unwrap()).await;
        recorder.shutdown().await;
        let events = recorded(&server, tenant).await;
        assert_eq!(events[0].source.endpoint.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_full_queue_drops_counts_and_does_not_wait() {
    let server = Server::start().await;
    let tenant = TenantId::from_name("host");
    let config = RecorderConfig { queue_events: 5, ..RecorderConfig::new("host") };
    let recorder = RequestRecorder::start(server.ps.clone(), tenant, config).unwrap();
    let app = app(&recorder);
    // The task that empties the queue has no chance to run: nothing here waits for anything.
    for _ in 0..8 {
        send(&app, Request::get("/items/1").body(Body::empty()).unwrap()).await;
    }
    recorder.shutdown().await;
    send(&app, Request::get("/items/1").body(Body::empty()).unwrap()).await;
    let expected =
        RecordedCounts { stored: 5, dropped_queue_full: 3, dropped_closed: 1, ..RecordedCounts::default() };
    assert_eq!(recorder.counts(), expected);
    assert_eq!(recorded(&server, tenant).await.len(), 5);
    recorder.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_counted() {
    let server = Server::start().await;
    let tenant = TenantId::from_name("host");
    let recorder = RequestRecorder::start(server.ps.clone(), tenant, RecorderConfig::new("host")).unwrap();
    let app = app(&recorder);
    for _ in 0..250 {
        send(&app, Request::get("/items/1").body(Body::empty()).unwrap()).await;
    }
    recorder.shutdown().await;
    // Batches of a hundred, a burst of two hundred.
    let counts = recorder.counts();
    assert_eq!((counts.stored, counts.dropped_refused), (200, 50));
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_recorded_when_it_is_dropped() {
    let server = Server::start().await;
    let tenant = TenantId::from_name("host");
    let recorder = RequestRecorder::start(server.ps.clone(), tenant, RecorderConfig::new("host")).unwrap();
    let answer = app(&recorder).oneshot(Request::get("/items/1").body(Body::empty()).unwrap()).await.unwrap();
    server.clock.advance(Duration::from_millis(250));
    drop(answer);
    recorder.flush().await;
    let event = &recorded(&server, tenant).await[0];
    assert_eq!(event.metrics.response_size_bytes, Some(0));
    assert_eq!(event.metrics.response_time_ms, Some(0.0), "the time until the answer began");
}
