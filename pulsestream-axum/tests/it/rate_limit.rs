//! Batches that are more than the rate limit allows, with the limits that every new tenant has: 100 a minute, 200 at once.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::server::{Response, Server, Shop};

const BATCH_V1: &str = "/api/v1/ingestion/events/batch";

fn event_v1(id: usize) -> Value {
    json!({
        "event_id": format!("e{id}"), "event_type": "api_call", "title": "t",
        "source": {"service": "s", "endpoint": "/", "method": "GET"},
    })
}

async fn batch_v1(server: &Server, shop: &Shop, events: impl Iterator<Item = Value>) -> Response {
    let body = json!({"batch_id": "b", "events": events.collect::<Vec<_>>()});
    server.call("POST", BATCH_V1, &shop.key, Some(&body)).await
}

#[tokio::test]
async fn a_batch_of_a_thousand_is_accepted_as_far_as_the_burst_goes() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let mut bad = event_v1(0);
    bad["title"] = json!("");
    let answer = batch_v1(&server, &shop, std::iter::once(bad).chain((1..1_000).map(event_v1))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let counts = [&answer["successful_events"], &answer["failed_events"], &answer["processing_status"]];
    assert_eq!(counts, [&json!(200), &json!(800), &json!("partial")]);
    let results = answer["results"].as_array().unwrap();
    let good: Vec<_> = (0..1_000).filter(|index| results[*index]["success"] == true).collect();
    assert_eq!(good, (1..=200).collect::<Vec<_>>(), "in order, and a bad event costs nothing");
    // 799 do not fit a burst, so most is to be had when all of it is back.
    assert_eq!(
        results[201],
        json!({
            "success": false, "event_id": "e201", "ingested_at": "2026-01-15T12:00:00Z", "processing_status": "failed",
            "message": "the event is refused: the tenant sends too fast",
            "errors": ["the tenant sends too fast; send it again in 120 s"],
        })
    );
    // With nothing left nothing can be taken, and the whole request says so.
    let refused = batch_v1(&server, &shop, (201..1_000).map(event_v1)).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"].clone()), (429, json!("RATE_LIMITED")));
    assert_eq!(refused.header("retry-after"), "120");
    server.clock.advance(Duration::from_secs(3));
    let answer = batch_v1(&server, &shop, (201..1_000).map(event_v1)).await.json();
    assert_eq!((&answer["successful_events"], &answer["failed_events"]), (&json!(5), &json!(794)));
}

#[tokio::test]
async fn sending_the_whole_batch_again_finishes_it() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    for stored in [200, 400, 600, 800, 1_000] {
        let answer = batch_v1(&server, &shop, (0..1_000).map(event_v1)).await.json();
        assert_eq!(answer["successful_events"], stored);
        server.clock.advance(Duration::from_secs(120));
    }
    let stats = server.call("GET", "/api/v1/ingestion/stats", &shop.key, None).await.json();
    assert_eq!(stats["total_events"], 1_000);
}

/// Sends a body under an `Idempotency-Key`.
async fn under_key(server: &Server, shop: &Shop, path: &str, key: &str, body: &Value) -> Response {
    let request = Request::post(path)
        .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    server.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn a_partial_answer_is_not_kept_and_the_retry_stores_nothing_twice() {
    let server = Server::start().await;
    let without_id = |id: usize| {
        let mut event = event_v1(id);
        event.as_object_mut().unwrap().remove("event_id");
        event
    };
    let v1 = json!({"events": (0..300).map(without_id).collect::<Vec<_>>()});
    let v2 = Value::Array((0..300).map(|_| json!({"event_type": "order"})).collect());
    for (path, slug, body, counted) in
        [(BATCH_V1, "one", &v1, "/successful_events"), ("/api/v2/events", "two", &v2, "/stored")]
    {
        let shop = server.tenant(slug).await;
        let answer = under_key(&server, &shop, path, "k", body).await;
        assert_eq!(answer.json().pointer(counted), Some(&json!(200)), "{}", answer.text());
        server.clock.advance(Duration::from_secs(120));
        let answer = under_key(&server, &shop, path, "k", body).await;
        assert_eq!(answer.header("idempotency-replayed"), "");
        let all = if slug == "one" { 300 } else { 100 };
        assert_eq!(answer.json().pointer(counted), Some(&json!(all)), "{}", answer.text());
        // Now it is complete, and kept.
        let replayed = under_key(&server, &shop, path, "k", body).await;
        assert_eq!(replayed.header("idempotency-replayed"), "true");
        assert_eq!(replayed.body, answer.body);
        let stats = server.call("GET", "/api/v1/ingestion/stats", &shop.key, None).await.json();
        assert_eq!(stats["total_events"], 300);
    }
}

#[tokio::test]
async fn version_2_tells_each_event_when_to_come_back() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let events: Vec<_> = (0..201).map(|id| json!({"id": format!("e{id}"), "event_type": "order"})).collect();
    let answer = server.call("POST", "/api/v2/events", &shop.key, Some(&Value::Array(events.clone()))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), "\"ingest\";q=200;w=120");
    assert_eq!(answer.header("ratelimit"), "\"ingest\";r=0;t=120");
    let body = answer.json();
    assert_eq!((&body["stored"], &body["refused"]), (&json!(200), &json!(1)));
    assert_eq!(
        body["outcomes"][200],
        json!({
            "status": "refused", "id": "e200",
            "errors": [{"pointer": "", "code": "rate_limited", "detail": "the tenant sends too fast", "retry_after": 1}],
        })
    );
    let refused = server.call("POST", "/api/v2/events", &shop.key, Some(&json!([events[200]]))).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.header("ratelimit"), "\"ingest\";r=0;t=120");
    server.clock.advance(Duration::from_secs(1));
    let accepted = server.call("POST", "/api/v2/events", &shop.key, Some(&json!([events[200]]))).await;
    assert_eq!(accepted.json()["stored"], 1);
}

#[tokio::test]
async fn what_is_left_of_the_month_is_used_up_in_order() {
    use pulsestream::core::ports::identity::TenantStatus;
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    server
        .ps
        .accounts()
        .set_tenant_limits(shop.id.parse().unwrap(), 100, 10, TenantStatus::Active)
        .await
        .unwrap();
    let answer = batch_v1(&server, &shop, (0..15).map(event_v1)).await.json();
    assert_eq!((&answer["successful_events"], &answer["failed_events"]), (&json!(10), &json!(5)));
    assert!(answer["results"][10]["errors"][0].as_str().unwrap().contains("month"), "{answer}");
    let refused = batch_v1(&server, &shop, (10..15).map(event_v1)).await;
    assert_eq!(refused.status, 429);
}
