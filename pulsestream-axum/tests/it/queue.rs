//! Events that are accepted into a queue in front of the store.

use std::sync::Arc;
use std::time::Duration;

use pulsestream::Builder;
use pulsestream::core::env::Env;
use pulsestream::core::memory::{MemoryIngestQueue, MemoryIngestQueueSettings};
use pulsestream::core::time::Timestamp;
use pulsestream_axum::ApiConfig;
use serde_json::json;

use crate::server::{START, Server};

/// A server that accepts up to three events and stores them when the test does.
async fn server() -> Server {
    let (env, _) = Env::manual(Timestamp::from_seconds(START), 1);
    let settings = MemoryIngestQueueSettings { max_events: 3, ..MemoryIngestQueueSettings::default() };
    let queue = Arc::new(MemoryIngestQueue::new(env, settings));
    Server::with(Builder::default().with_ingest_queue(queue).without_background(), ApiConfig::default()).await
}

async fn drain(server: &Server) {
    let mut drain = server.ps.ingest().drain("test").unwrap();
    let batches = drain.take(Duration::ZERO).await.unwrap();
    drain.store(batches).await.unwrap();
}

#[tokio::test]
async fn queued_events_are_told_counted_and_found_when_they_are_stored() {
    let server = server().await;
    let shop = server.tenant("shop").await;
    let event = |id: &str| {
        json!({"event_id": id, "event_type": "api_call", "timestamp": "2026-01-15T11:59:00Z", "severity": "info",
            "title": "An order", "message": "came in", "source": {"service": "shop", "endpoint": "/cart", "method": "GET"}})
    };
    let first = "0190c0de-0000-7000-8000-000000000001";
    let answer = server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event(first))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["processing_status"], "queued");
    let path = format!("/api/v1/ingestion/events/{first}");
    assert_eq!(server.call("GET", &path, &shop.key, None).await.status, 404, "not stored yet");
    let batch = json!({"events": [event("0190c0de-0000-7000-8000-000000000002")]});
    let answer = server.call("POST", "/api/v1/ingestion/events/batch", &shop.key, Some(&batch)).await;
    assert_eq!(answer.json()["processing_status"], "queued", "{}", answer.text());
    let answer =
        server.call("POST", "/api/v2/events", &shop.key, Some(&json!({"event_type": "order"}))).await;
    assert_eq!(answer.json()["status"], "queued", "{}", answer.text());

    let full = server.call("POST", "/api/v2/events", &shop.key, Some(&json!({"event_type": "order"}))).await;
    assert_eq!(full.status, 503, "{}", full.text());
    assert_eq!(full.header("retry-after"), "1");
    let size = async || {
        let stats = server.call("GET", "/api/v1/ingestion/stats", &shop.key, None).await.json();
        stats["processing_queue_size"].as_u64().unwrap()
    };
    assert_eq!(size().await, 3);
    let metrics = server.get("/metrics").await.text();
    for line in
        ["pulsestream_queue_batches 3", "pulsestream_queue_events 3", "pulsestream_events_queued_total 3"]
    {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    drain(&server).await;
    assert_eq!(size().await, 0);
    assert_eq!(server.call("GET", &path, &shop.key, None).await.status, 200);
}
