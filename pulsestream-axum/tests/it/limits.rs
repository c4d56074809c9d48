//! The settings of the sections `http` and `query`, each at its limit and one beyond.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use pulsestream::PulseStream;
use pulsestream::core::memory::MemoryEventStore;
use pulsestream::core::settings::Settings;
use pulsestream_axum::ApiConfig;
use serde_json::json;

use crate::held::{HeldStore, held_store};
use crate::server::{Response, Server, Shop, send};

async fn get(server: &Server, shop: &Shop, path: &str) -> Response {
    server.call("GET", path, &shop.key, None).await
}

#[tokio::test]
async fn pages_have_a_largest_size() {
    let server = Server::with_settings(r#"{"query": {"max_page_events": 7}}"#).await;
    let shop = server.tenant("shop").await;
    for path in ["/api/v1/ingestion/events/search", "/api/v2/events", "/api/v1/dashboard/events/stream"] {
        assert_eq!(get(&server, &shop, &format!("{path}?limit=7")).await.status, 200, "{path}");
        let refused = get(&server, &shop, &format!("{path}?limit=8")).await;
        assert_eq!(refused.status, 422, "{path}");
        assert!(refused.text().contains("must be at most 7"), "{}", refused.text());
    }
}

#[tokio::test]
async fn aggregates_have_a_longest_range_and_a_number_of_groups() {
    let settings = r#"{"query": {"max_aggregate_range": "1h", "max_groups": 2}}"#;
    let server = Server::with_settings(settings).await;
    let shop = server.tenant("shop").await;
    let ask = async |range, group_by: &[&str]| {
        let body = json!({"range": range, "group_by": group_by});
        server.call("POST", "/api/v2/events/aggregate", &shop.key, Some(&body)).await
    };
    let hour = json!({"from": "2026-01-15T11:30:00Z", "to": "2026-01-15T12:30:00Z"});
    let longer = json!({"from": "2026-01-15T11:30:00Z", "to": "2026-01-15T12:30:00.000001Z"});
    assert_eq!(ask(hour.clone(), &[]).await.status, 200);
    assert_eq!(ask(longer, &[]).await.status, 422);
    for (service, expected) in [("a", 200), ("b", 200), ("c", 413)] {
        let event = json!({"event_type": "x", "source": {"service": service}});
        assert_eq!(server.call("POST", "/api/v2/events", &shop.key, Some(&event)).await.status, 200);
        let answer = ask(hour.clone(), &["source.service"]).await;
        assert_eq!(answer.status, expected, "{service}: {}", answer.text());
    }
}

#[tokio::test]
async fn bodies_have_a_largest_size_before_and_after_decompression() {
    let server =
        Server::with_settings(r#"{"http": {"max_body_bytes": 100000, "max_inflate_ratio": 2}}"#).await;
    let shop = server.tenant("shop").await;
    let post = |body: Vec<u8>, coding: &'static str| {
        let request = Request::post("/api/v2/events")
            .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
            .header("content-type", "application/json")
            .header("content-encoding", coding);
        server.send(request.body(Body::from(body)).unwrap())
    };
    let event = |length: usize| {
        let mut body = br#"{"event_type": "x"}"#.to_vec();
        body.resize(length, b' ');
        body
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    for (length, expected) in [(100_000, 200), (100_001, 413)] {
        assert_eq!(post(event(length), "identity").await.status, expected, "{length}");
    }
    let refused = post(event(100_001), "identity").await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(
        (&refused.json()["code"], &refused.json()["context"]),
        (&json!("too_large"), &json!({"max_body_bytes": "100000"}))
    );
    // Up to 64 KiB no ratio is a bomb.
    for (length, expected) in [(65_536, 200), (65_537, 413), (100_001, 413)] {
        assert_eq!(post(gzip(&event(length)), "gzip").await.status, expected, "{length} compressed");
    }
}

#[tokio::test]
async fn bodies_together_have_a_largest_size() {
    let server = Server::with_settings(r#"{"http": {"max_body_memory_bytes": 1000}}"#).await;
    let shop = server.tenant("shop").await;
    let post = |body: Body| {
        let request = Request::post("/api/v2/events")
            .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
            .header("content-type", "application/json");
        send(server.router.clone(), request.body(body).unwrap())
    };
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
    });
    let held = tokio::spawn(post(Body::from_stream(pieces)));
    let piece = |length: usize| format!("{:length$}", r#"{"event_type": "x"}"#).into_bytes();
    sender.send(piece(990)).await.unwrap();
    let metric = async || {
        let page = server.get("/metrics").await.text();
        page.lines().any(|line| line == "pulsestream_http_body_bytes 990")
    };
    while !metric().await {
        tokio::task::yield_now().await;
    }
    let refused = post(Body::from(piece(30))).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    drop(sender);
    assert_eq!(held.await.unwrap().status, 200);
    assert_eq!(post(Body::from(piece(1_000))).await.status, 200);
}

/// A server whose store answers when it is told to.
pub(crate) async fn with_held_store(settings: &str) -> (Server, Arc<HeldStore>) {
    let store = Arc::new(held_store(MemoryEventStore::default()));
    let settings = Settings::from_json(settings).unwrap();
    let builder = PulseStream::builder().with_settings(settings).with_event_store(store.clone());
    (Server::with(builder, ApiConfig::default()).await, store)
}

#[tokio::test]
async fn one_tenant_cannot_take_the_place_of_the_others() {
    let settings = r#"{"http": {"max_concurrent_requests": 8, "max_concurrent_requests_per_tenant": 3}}"#;
    let (server, store) = with_held_store(settings).await;
    let (loud, quiet) = (server.tenant("loud").await, server.tenant("quiet").await);
    store.interceptor().hold();
    let find = |shop: &Shop| {
        let request =
            Request::get("/api/v2/events").header("x-api-key", shop.key.strip_prefix("key:").unwrap());
        send(server.router.clone(), request.body(Body::empty()).unwrap())
    };
    let mut held: Vec<_> = (0..3).map(|_| tokio::spawn(find(&loud))).collect();
    store.interceptor().waiting(3).await;
    for _ in 0..100 {
        let refused = find(&loud).await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    }
    held.extend((0..3).map(|_| tokio::spawn(find(&quiet))));
    store.interceptor().waiting(6).await;
    store.interceptor().release();
    for held in held {
        assert_eq!(held.await.unwrap().status, 200);
    }
    assert_eq!(find(&loud).await.status, 200);
}

#[tokio::test]
async fn requests_worked_on_have_a_largest_number() {
    let (server, store) = with_held_store(r#"{"http": {"max_concurrent_requests": 2}}"#).await;
    let shop = server.tenant("shop").await;
    store.interceptor().hold();
    let find = |server: &Server, shop: &Shop| {
        let request =
            Request::get("/api/v2/events").header("x-api-key", shop.key.strip_prefix("key:").unwrap());
        send(server.router.clone(), request.body(Body::empty()).unwrap())
    };
    let held = [tokio::spawn(find(&server, &shop)), tokio::spawn(find(&server, &shop))];
    store.interceptor().waiting(2).await;
    let refused = find(&server, &shop).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!((&refused.json()["code"], &refused.json()["retry_after"]), (&json!("unavailable"), &json!(1)));
    // Those who look after the server still get in.
    for path in ["/health", "/metrics"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    store.interceptor().release();
    for held in held {
        assert_eq!(held.await.unwrap().status, 200);
    }
    assert_eq!(find(&server, &shop).await.status, 200);
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("http_failed_total{reason=\"concurrency\"} 1\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn questions_and_requests_end_in_time() {
    let settings = r#"{"query": {"timeout": "3s"}, "http": {"request_timeout": "5s"}}"#;
    let (server, store) = with_held_store(settings).await;
    let shop = server.tenant("shop").await;
    store.interceptor().hold();
    let started = tokio::time::Instant::now();
    let refused = get(&server, &shop, "/api/v2/events").await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (504, json!("timeout")));
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    let event = json!({"id": "e", "event_type": "x"});
    let started = tokio::time::Instant::now();
    let refused = server.call("POST", "/api/v2/events", &shop.key, Some(&event)).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (504, json!("timeout")));
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_too_many_batches_are_accepted_or_refused_and_what_is_accepted_is_stored() {
    const EVENTS: usize = 20;
    let settings = r#"{"http": {"max_concurrent_requests": 4}, "ingest": {"rate_limit_per_minute": 1000000, "rate_limit_burst": 1000000}}"#;
    let (server, store) = with_held_store(settings).await;
    let shop = server.tenant("shop").await;
    let batch = |number: usize| {
        let events: Vec<_> = (0..EVENTS)
            .map(|event| json!({"id": format!("{number}-{event}"), "event_type": "order"}))
            .collect();
        let request = Request::post("/api/v2/events")
            .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
            .header("content-type", "application/json");
        send(server.router.clone(), request.body(Body::from(json!(events).to_string())).unwrap())
    };
    let (mut offered, mut accepted, mut refused) = (0, 0, 0);
    for _ in 0..50 {
        store.interceptor().hold();
        let sent: Vec<_> = (0..20).map(|number| tokio::spawn(batch(offered + number))).collect();
        offered += sent.len();
        store.interceptor().waiting(4).await;
        store.interceptor().release();
        for answer in sent {
            let answer = answer.await.unwrap();
            match answer.status.as_u16() {
                200 => accepted += 1,
                429 | 503 => {
                    assert!(!answer.header("retry-after").is_empty());
                    refused += 1;
                }
                status => panic!("{status}: {}", answer.text()),
            }
        }
    }
    assert_eq!(accepted + refused, offered);
    assert!(accepted >= 200 && refused > 0, "{accepted} accepted, {refused} refused");
    let stored = server.call("GET", "/api/v2/events?count=true&limit=1", &shop.key, None).await.json();
    assert_eq!(stored["total"], accepted * EVENTS, "{stored}");
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("http_in_flight_requests 1\n"), "only this one: {metrics}");
}
