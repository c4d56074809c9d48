//! `/api/v1/ingestion`.

use std::io::Write;

use axum::body::Body;
use axum::http::Request;
use pulsestream::PulseStream;
use pulsestream::core::settings::Settings;
use pulsestream_axum::ApiConfig;
use serde_json::{Value, json};

use super::has_exactly;
use crate::server::{Server, Shop};

const EVENTS: &str = "/api/v1/ingestion/events";
const BATCH: &str = "/api/v1/ingestion/events/batch";
const EVENT_ANSWER: &str = "success event_id ingested_at processing_status message errors";
const EVENT_OUT: &str = "id event_type source source_version event_timestamp ingested_at title message severity payload \
    event_metadata external_id correlation_id processing_status processed_at duration_ms status_code error_message \
    user_agent geo_country geo_city device_type alert_processed alerts_triggered tenant_id";

async fn shop() -> (Server, Shop) {
    let settings =
        Settings::from_json(r#"{"ingest": {"rate_limit_per_minute": 100000, "rate_limit_burst": 100000}}"#)
            .unwrap();
    let server = Server::with(PulseStream::builder().with_settings(settings), ApiConfig::default()).await;
    let shop = server.tenant("shop").await;
    (server, shop)
}

fn event(id: &str) -> Value {
    json!({
        "event_id": id, "event_type": "api_call", "title": "GET /cart",
        "source": {"service": "shop", "endpoint": "/cart", "method": "GET"},
    })
}

fn full(id: &str) -> Value {
    json!({
        "event_id": id, "event_type": "error_event", "title": "Checkout failed", "message": "card declined",
        "severity": "error",
        "source": {
            "service": "checkout", "endpoint": "/pay", "method": "POST", "version": "1.2.3", "environment": "prod"
        },
        "context": {
            "user_id": "u1", "session_id": "s1", "request_id": "r1", "ip_address": "203.0.113.9",
            "user_agent": "curl/8", "referrer": "https://shop.example", "tags": {"region": "eu"}
        },
        "metrics": {
            "response_time_ms": 12.5, "status_code": 502, "request_size_bytes": 10, "response_size_bytes": 20,
            "cache_hit": false
        },
        "error_details": {"error_code": "E1", "error_message": "declined", "stack_trace": "at pay", "error_type": "Card"},
        "payload": {"plan": "free"}, "metadata": {"sdk": "py"},
        "timestamp": "2026-01-15T11:59:00", "a field nobody knows": 1
    })
}

#[tokio::test]
async fn an_event_is_stored_and_found_again_with_every_field() {
    let (server, shop) = shop().await;
    let answer = server.call("POST", EVENTS, &shop.key, Some(&full("e1"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    has_exactly(&answer, EVENT_ANSWER);
    assert_eq!(answer["success"], true);
    assert_eq!(answer["event_id"], "e1");
    assert_eq!(answer["ingested_at"], "2026-01-15T12:00:00Z");
    assert_eq!(answer["processing_status"], "completed");
    assert_eq!(answer["errors"], Value::Null);

    let found = server.call("GET", &format!("{EVENTS}/e1"), &shop.key, None).await.json();
    has_exactly(&found, EVENT_OUT);
    assert_eq!(
        found,
        json!({
            "id": "e1", "event_type": "error_event", "source": "checkout", "source_version": "1.2.3",
            "event_timestamp": "2026-01-15T11:59:00Z", "ingested_at": "2026-01-15T12:00:00Z",
            "title": "Checkout failed", "message": "card declined", "severity": "error",
            "payload": {"plan": "free"}, "event_metadata": {"sdk": "py"}, "external_id": null,
            "correlation_id": "r1", "processing_status": "completed", "processed_at": "2026-01-15T12:00:00Z",
            "duration_ms": 12.5, "status_code": 502, "error_message": "declined", "user_agent": "curl/8",
            "geo_country": null, "geo_city": null, "device_type": null, "alert_processed": null,
            "alerts_triggered": null, "tenant_id": shop.id,
        })
    );
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let (server, shop) = shop().await;
    let mut small = event("x");
    small.as_object_mut().unwrap().remove("event_id");
    let answer = server.call("POST", EVENTS, &shop.key, Some(&small)).await.json();
    let id = answer["event_id"].as_str().unwrap();
    assert_eq!(id.len(), 36);
    let found = server.call("GET", &format!("{EVENTS}/{id}"), &shop.key, None).await.json();
    assert_eq!(found["severity"], "info");
    assert_eq!(found["event_timestamp"], "2026-01-15T12:00:00Z");
    assert_eq!(found["payload"], json!({}));
}

#[tokio::test]
async fn event_timestamp_is_another_name_and_the_future_is_refused() {
    let (server, shop) = shop().await;
    let at = |name: &str, time: &str| {
        let mut event = event(time);
        event[name] = json!(time);
        event
    };
    let named = at("event_timestamp", "2026-01-01T00:00:00+02:00");
    assert_eq!(server.call("POST", EVENTS, &shop.key, Some(&named)).await.status, 200);
    let found =
        server.call("GET", &format!("{EVENTS}/2026-01-01T00:00:00+02:00"), &shop.key, None).await.json();
    assert_eq!(found["event_timestamp"], "2025-12-31T22:00:00Z");
    for (time, status) in [("2026-01-15T12:05:00Z", 200), ("2026-01-15T12:05:01Z", 422)] {
        let answer = server.call("POST", EVENTS, &shop.key, Some(&at("timestamp", time))).await;
        assert_eq!(answer.status, status, "{time}: {}", answer.text());
    }
}

#[tokio::test]
async fn everything_wrong_with_an_event_is_told_at_once() {
    let (server, shop) = shop().await;
    let bad = json!({
        "event_type": "api_cal", "title": "", "severity": "bad",
        "source": {"service": "s", "endpoint": "/", "method": "LONGER-THAN-10"},
        "metrics": {"status_code": 99, "response_time_ms": -1}
    });
    let answer = server.call("POST", EVENTS, &shop.key, Some(&bad)).await;
    assert_eq!(answer.status, 422);
    let answer = answer.json();
    has_exactly(&answer, "detail error message");
    assert_eq!(answer["error"], "VALIDATION_ERROR");
    let places: Vec<_> =
        answer["detail"].as_array().unwrap().iter().map(|it| it["loc"].to_string()).collect();
    for place in [
        r#"["body","event_type"]"#,
        r#"["body","title"]"#,
        r#"["body","severity"]"#,
        r#"["body","source","method"]"#,
        r#"["body","metrics","status_code"]"#,
        r#"["body","metrics","response_time_ms"]"#,
    ] {
        assert!(places.contains(&place.to_owned()), "{place} is not in {places:?}");
    }
    for entry in answer["detail"].as_array().unwrap() {
        has_exactly(entry, "loc msg type");
    }
}

#[tokio::test]
async fn lengths_at_their_limits() {
    let (server, shop) = shop().await;
    let with = |pointer: &str, length: usize| {
        let mut event = full(&format!("{}{length}", pointer.replace('/', "")));
        *event.pointer_mut(pointer).unwrap() = json!("x".repeat(length));
        event
    };
    for (pointer, most) in [
        ("/event_id", 100),
        ("/title", 200),
        ("/message", 2000),
        ("/source/service", 100),
        ("/source/endpoint", 500),
        ("/source/method", 10),
        ("/source/version", 20),
        ("/source/environment", 50),
        ("/context/user_agent", 500),
        ("/error_details/error_code", 100),
        ("/error_details/error_message", 1000),
        ("/error_details/error_type", 100),
    ] {
        let good = server.call("POST", EVENTS, &shop.key, Some(&with(pointer, most))).await;
        assert_eq!(good.status, 200, "{pointer}: {}", good.text());
        let bad = server.call("POST", EVENTS, &shop.key, Some(&with(pointer, most + 1))).await;
        assert_eq!(bad.status, 422, "{pointer}");
        let place: Vec<_> = pointer.split('/').skip(1).collect();
        assert_eq!(bad.json()["detail"][0]["loc"], json!([&["body"][..], &place].concat()));
    }
}

#[tokio::test]
async fn malformed_bodies_are_refused_with_a_body_of_ours() {
    let (server, shop) = shop().await;
    let deep = "[".repeat(100_000);
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\u{feff}{}",
        "{\"a\":1e999999}",
        &deep,
        "{\"title\":\"a\",\"title\":\"b\"}",
    ];
    for body in bodies {
        let request =
            Request::post(EVENTS).header("x-api-key", &shop.key[4..]).body(Body::from(body.to_owned()));
        let answer = server.send(request.unwrap()).await;
        assert_eq!(answer.status, 422, "{}", body.chars().take(40).collect::<String>());
        assert_eq!(answer.json()["error"], "VALIDATION_ERROR");
        assert!(answer.json()["detail"][0]["msg"].is_string());
    }
    let request = Request::post(EVENTS)
        .header("x-api-key", &shop.key[4..])
        .header("content-type", "text/plain")
        .body(Body::from(event("e").to_string()));
    let answer = server.send(request.unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].clone()),
        (415, json!("UNSUPPORTED_MEDIA_TYPE"))
    );
}

#[tokio::test]
async fn the_same_event_id_is_stored_once() {
    let (server, shop) = shop().await;
    let first = server.call("POST", EVENTS, &shop.key, Some(&event("e1"))).await.json();
    let again = server.call("POST", EVENTS, &shop.key, Some(&event("e1"))).await;
    assert_eq!(again.status, 200);
    let again = again.json();
    assert_eq!(again["event_id"], first["event_id"]);
    assert_eq!(again["success"], true);
    assert!(again["message"].as_str().unwrap().contains("duplicate"), "{again}");
    let found = server.call("GET", &format!("{EVENTS}/search"), &shop.key, None).await.json();
    assert_eq!(found["total_count"], 1);
}

async fn under_key(
    server: &Server,
    shop: &Shop,
    path: &str,
    key: &str,
    body: &Value,
) -> crate::server::Response {
    let request = Request::post(path)
        .header("x-api-key", &shop.key[4..])
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    server.send(request.unwrap()).await
}

#[tokio::test]
async fn an_idempotency_key_has_one_answer() {
    let (server, shop) = shop().await;
    let mut anonymous = event("x");
    anonymous.as_object_mut().unwrap().remove("event_id");
    let first = under_key(&server, &shop, EVENTS, "k1", &anonymous).await;
    assert_eq!(first.status, 200);
    server.clock.advance(std::time::Duration::from_secs(60));
    let again = under_key(&server, &shop, EVENTS, "k1", &anonymous).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("idempotency-replayed"), "true");

    let other = under_key(&server, &shop, EVENTS, "k1", &event("other")).await;
    assert_eq!(other.status, 422);
    assert_eq!(other.json()["error"], "IDEMPOTENCY_KEY_REUSED");
    let second = under_key(&server, &shop, EVENTS, "k2", &anonymous).await.json();
    assert_ne!(second["event_id"], first.json()["event_id"]);

    // The key of one tenant is not the key of another.
    let neighbour = server.tenant("neighbour").await;
    let theirs = under_key(&server, &neighbour, EVENTS, "k1", &event("theirs")).await;
    assert_eq!(theirs.status, 200);
    let found = server.call("GET", &format!("{EVENTS}/search"), &shop.key, None).await.json();
    assert_eq!(found["total_count"], 2);

    let batch = json!({"events": [event("b1"), {"title": 7}]});
    let first = under_key(&server, &shop, BATCH, "k1", &batch).await;
    let again = under_key(&server, &shop, BATCH, "k1", &batch).await;
    assert_eq!((first.status.as_u16(), &first.body), (200, &again.body));
    for bad in ["", &"k".repeat(256)] {
        assert_eq!(under_key(&server, &shop, EVENTS, bad, &event("e")).await.status, 400, "{bad:?}");
    }
}

#[tokio::test]
async fn a_key_whose_answer_was_forgotten_still_makes_one_event() {
    let (server, shop) = shop().await;
    let mut anonymous = event("x");
    anonymous.as_object_mut().unwrap().remove("event_id");
    let first = under_key(&server, &shop, EVENTS, "k1", &anonymous).await.json();
    server.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    let again = under_key(&server, &shop, EVENTS, "k1", &anonymous).await.json();
    assert_eq!(again, first);
    server.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    anonymous["title"] = json!("another");
    assert_eq!(under_key(&server, &shop, EVENTS, "k1", &anonymous).await.status, 422);
}

#[tokio::test]
async fn one_bad_event_of_a_batch_does_not_refuse_the_others() {
    let (server, shop) = shop().await;
    let batch = json!({"events": [event("b1"), {"event_type": "api_call"}, event("b1"), event("b2")], "batch_id": "mine"});
    let answer = server.call("POST", BATCH, &shop.key, Some(&batch)).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    has_exactly(
        &answer,
        "batch_id total_events successful_events failed_events successful_count failed_count ingested_at results \
         processing_status",
    );
    assert_eq!(answer["batch_id"], "mine");
    assert_eq!(
        (&answer["total_events"], &answer["successful_events"], &answer["failed_events"]),
        (&json!(4), &json!(3), &json!(1))
    );
    assert_eq!((&answer["successful_count"], &answer["failed_count"]), (&json!(3), &json!(1)));
    assert_eq!(answer["processing_status"], "partial");
    let results = answer["results"].as_array().unwrap();
    results.iter().for_each(|result| has_exactly(result, EVENT_ANSWER));
    assert_eq!(results[0]["event_id"], "b1");
    assert_eq!(results[1]["success"], false);
    let errors = results[1]["errors"].as_array().unwrap();
    assert!(errors.contains(&json!("title: is required")), "{errors:?}");
    assert!(results[2]["message"].as_str().unwrap().contains("duplicate"));

    let all_bad = json!({"events": [{}]});
    assert_eq!(
        server.call("POST", BATCH, &shop.key, Some(&all_bad)).await.json()["processing_status"],
        "failed"
    );
    let all_good = json!({"events": [event("b3")]});
    let all_good = server.call("POST", BATCH, &shop.key, Some(&all_good)).await.json();
    assert_eq!(all_good["processing_status"], "completed");
    assert_eq!(all_good["batch_id"].as_str().unwrap().len(), 36);
}

#[tokio::test]
async fn batches_at_their_edges() {
    let (server, shop) = shop().await;
    let batch =
        |count: usize| json!({"events": (0..count).map(|n| event(&n.to_string())).collect::<Vec<_>>()});
    let empty = server.call("POST", BATCH, &shop.key, Some(&batch(0))).await;
    assert_eq!((empty.status.as_u16(), empty.json()["error"].clone()), (400, json!("EMPTY_BATCH")));
    let most = server.call("POST", BATCH, &shop.key, Some(&batch(1_000))).await;
    assert_eq!((most.status.as_u16(), most.json()["successful_events"].clone()), (200, json!(1_000)));
    let more = server.call("POST", BATCH, &shop.key, Some(&batch(1_001))).await;
    assert_eq!(more.status, 422);
    assert_eq!(more.json()["detail"][0]["loc"], json!(["body", "events"]));
    let missing = server.call("POST", BATCH, &shop.key, Some(&json!({}))).await;
    assert_eq!(
        (missing.status.as_u16(), &missing.json()["detail"][0]["loc"]),
        (422, &json!(["body", "events"]))
    );
}

#[tokio::test]
async fn every_filter_of_the_search_filters() {
    let (server, shop) = shop().await;
    for (index, body) in [full("a"), event("b"), event("c")].into_iter().enumerate() {
        server.clock.advance(std::time::Duration::from_secs(60 * index as u64));
        assert_eq!(server.call("POST", EVENTS, &shop.key, Some(&body)).await.status, 200);
    }
    let search = |query: String| {
        let path = format!("{EVENTS}/search?{query}");
        let (server, shop) = (&server, &shop);
        async move {
            let answer = server.call("GET", &path, &shop.key, None).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            answer.json()
        }
    };
    let ids = |answer: &Value| {
        let ids: Vec<_> =
            answer["events"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
        ids.join("")
    };
    let all = search(String::new()).await;
    has_exactly(&all, "events total_count filtered_count has_more search_id execution_time_ms");
    assert_eq!(ids(&all), "cba");
    for (query, expected) in [
        ("event_type=api_call", "cb"),
        ("event_type=nothing", ""),
        ("severity=error", "a"),
        ("service=checkout", "a"),
        ("endpoint=/cart", "cb"),
        ("endpoint=%2Fpay", "a"),
        ("status_code=502", "a"),
        ("status_code=200", ""),
        ("user_id=u1", "a"),
        ("user_id=", "cba"),
        ("start_time=2026-01-15T12:01:00Z", "cb"),
        ("start_time=2026-01-15T12:01:00", "cb"),
        ("start_time=2026-01-15T14:01:00+02:00", "cb"),
        ("start_time=2026-01-15T12:01:00Z&end_time=2026-01-15T12:01:00Z", "b"),
        ("end_time=2026-01-15T12:00:59Z", "a"),
        ("event_type=api_call&service=checkout", ""),
    ] {
        let answer = search(query.to_owned()).await;
        assert_eq!(ids(&answer), expected, "{query}");
        assert_eq!(answer["total_count"], expected.len(), "{query}");
        assert_eq!(answer["filtered_count"], expected.len(), "{query}");
    }
    let page = search("limit=2".to_owned()).await;
    assert_eq!(
        (ids(&page), &page["has_more"], &page["total_count"]),
        ("cb".to_owned(), &json!(true), &json!(3))
    );
    let page = search("limit=2&offset=2".to_owned()).await;
    assert_eq!((ids(&page), &page["has_more"]), ("a".to_owned(), &json!(false)));
    for bad in [
        "limit=0",
        "limit=1001",
        "offset=-1",
        "severity=bad",
        "status_code=600",
        "start_time=soon",
        "limit=x",
    ] {
        let answer = server.call("GET", &format!("{EVENTS}/search?{bad}"), &shop.key, None).await;
        assert_eq!(answer.status, 422, "{bad}");
        let name = bad.split('=').next().unwrap();
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["query", name]));
    }
}

#[tokio::test]
async fn a_search_that_does_not_say_has_a_hundred_events() {
    let (server, shop) = shop().await;
    let events: Vec<_> = (0..101).map(|number| event(&format!("e{number}"))).collect();
    let stored = server.call("POST", BATCH, &shop.key, Some(&json!({"events": events}))).await.json();
    assert_eq!(stored["successful_events"], 101);
    let page = server.call("GET", &format!("{EVENTS}/search"), &shop.key, None).await.json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["has_more"]), (100, &json!(true)));
    assert_eq!(page["total_count"], 101);
    let latest = server.call("GET", "/api/v1/dashboard/events/stream", &shop.key, None).await.json();
    assert_eq!(latest["total_count"], 50);
}

#[tokio::test]
async fn events_are_deleted_and_processed_again() {
    let (server, shop) = shop().await;
    server.call("POST", EVENTS, &shop.key, Some(&event("e1"))).await;
    let path = format!("{EVENTS}/e1");
    let retried = server.call("POST", &format!("{path}/retry"), &shop.key, None).await;
    assert_eq!(retried.status, 200);
    has_exactly(&retried.json(), "message");
    let deleted = server.call("DELETE", &path, &shop.key, None).await;
    assert_eq!(deleted.status, 200);
    has_exactly(&deleted.json(), "message");
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/retry"))]
    {
        let answer = server.call(method, &path, &shop.key, None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].clone()),
            (404, json!("NOT_FOUND")),
            "{method}"
        );
    }
    let unfit = format!("{EVENTS}/{}", "x".repeat(200));
    assert_eq!(server.call("GET", &unfit, &shop.key, None).await.status, 404);
}

#[tokio::test]
async fn types_and_severities_are_lists() {
    let (server, shop) = shop().await;
    let types = server.call("GET", &format!("{EVENTS}/types"), &shop.key, None).await.json();
    assert_eq!(types, json!(["api_call", "user_action", "system_event", "error_event", "custom_event"]));
    let severities = server.call("GET", &format!("{EVENTS}/severities"), &shop.key, None).await.json();
    assert_eq!(severities, json!(["info", "warning", "error", "critical"]));
}

#[tokio::test]
async fn statistics_are_counted() {
    let (server, shop) = shop().await;
    let stats = || server.call("GET", "/api/v1/ingestion/stats", &shop.key, None);
    let empty = stats().await.json();
    assert_eq!(
        empty,
        json!({
            "tenant_id": shop.id, "total_events": 0, "events_today": 0, "events_this_hour": 0, "events_this_minute": 0,
            "last_event_at": null, "processing_queue_size": 0, "error_rate": 0.0,
        })
    );
    for (id, at, severity) in [
        ("now", "2026-01-15T12:00:00Z", "info"),
        ("morning", "2026-01-15T02:00:00Z", "error"),
        ("yesterday", "2026-01-14T13:00:00Z", "critical"),
        ("late", "2026-01-14T12:00:01Z", "info"),
        ("long ago", "2025-01-01T00:00:00Z", "critical"),
    ] {
        let mut event = event(id);
        event["timestamp"] = json!(at);
        event["severity"] = json!(severity);
        server.call("POST", EVENTS, &shop.key, Some(&event)).await;
    }
    let counted = stats().await.json();
    assert_eq!(
        counted,
        json!({
            "tenant_id": shop.id, "total_events": 5, "events_today": 2, "events_this_hour": 1, "events_this_minute": 1,
            "last_event_at": "2026-01-15T12:00:00Z", "processing_queue_size": 0, "error_rate": 0.5,
        })
    );
}

#[tokio::test]
async fn health_is_measured() {
    let (server, shop) = shop().await;
    let events: Vec<_> = (0..60).map(|n| event(&n.to_string())).chain([full("bad")]).collect();
    server.call("POST", BATCH, &shop.key, Some(&json!({"events": events}))).await;
    server.clock.advance(std::time::Duration::from_secs(30));
    let health = server.call("GET", "/api/v1/ingestion/health", &shop.key, None).await.json();
    assert_eq!(
        health,
        json!({
            "status": "healthy", "timestamp": "2026-01-15T12:00:30Z", "ingestion_rate": 1.0, "queue_size": 0,
            "worker_status": "running", "last_event_received": "2026-01-15T12:00:00Z", "errors_last_hour": 1,
            "uptime_seconds": 30,
        })
    );
}

#[tokio::test]
async fn the_rate_limit_is_shown_and_kept() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let view = || server.call("GET", "/api/v1/ingestion/rate-limit", &shop.key, None);
    assert_eq!(
        view().await.json(),
        json!({
            "limit": 100, "remaining": 200, "reset_time": "2026-01-15T12:00:00Z", "window_size_seconds": 60,
            "exceeded": false,
        })
    );
    let batch = json!({"events": (0..200).map(|n| event(&n.to_string())).collect::<Vec<_>>()});
    assert_eq!(server.call("POST", BATCH, &shop.key, Some(&batch)).await.json()["successful_events"], 200);
    let refused = server.call("POST", EVENTS, &shop.key, Some(&event("more"))).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"].clone()), (429, json!("RATE_LIMITED")));
    assert_eq!(refused.header("retry-after"), "1");
    let spent = view().await.json();
    assert_eq!((&spent["remaining"], &spent["exceeded"]), (&json!(0), &json!(true)));
    assert_eq!(spent["reset_time"], "2026-01-15T12:02:00Z");
    // A neighbour is not held up.
    let neighbour = server.tenant("neighbour").await;
    assert_eq!(server.call("POST", EVENTS, &neighbour.key, Some(&event("e"))).await.status, 200);
    server.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(server.call("POST", EVENTS, &shop.key, Some(&event("more"))).await.status, 200);
}

#[tokio::test]
async fn a_limit_of_the_tenants_own_counts() {
    use pulsestream::core::ports::identity::TenantStatus;
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let id = shop.id.parse().unwrap();
    server.ps.accounts().set_tenant_limits(id, 6_000, 1_000_000, TenantStatus::Active).await.unwrap();
    let view = server.call("GET", "/api/v1/ingestion/rate-limit", &shop.key, None).await.json();
    assert_eq!((&view["limit"], &view["remaining"]), (&json!(6_000), &json!(12_000)));
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_are_not() {
    let (server, shop) = shop().await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let send = |coding: &'static str, body: Vec<u8>| {
        let request = Request::post(EVENTS)
            .header("x-api-key", &shop.key[4..])
            .header("content-type", "application/json")
            .header("content-encoding", coding)
            .body(Body::from(body))
            .unwrap();
        server.send(request)
    };
    let answer = send("gzip", gzip(event("z1").to_string().as_bytes())).await;
    assert_eq!((answer.status.as_u16(), answer.json()["event_id"].clone()), (200, json!("z1")));
    let zstd = zstd::bulk::compress(event("z2").to_string().as_bytes(), 3).unwrap();
    assert_eq!(send("zstd", zstd).await.json()["event_id"], "z2");
    let bomb = send("gzip", gzip(&vec![b' '; 64 << 20])).await;
    assert_eq!((bomb.status.as_u16(), bomb.json()["error"].clone()), (413, json!("TOO_LARGE")));
    assert_eq!(send("br", vec![1]).await.status, 415);
    assert_eq!(send("gzip", b"not gzip".to_vec()).await.status, 400);
    let large = server.call("POST", EVENTS, &shop.key, Some(&json!("x".repeat(20 << 20)))).await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn the_payload_may_have_ten_mebibytes() {
    let (server, shop) = shop().await;
    let with = |length: usize| {
        let mut event = event(&length.to_string());
        event["payload"] = json!({"x": "y".repeat(length - 8)});
        event
    };
    assert_eq!(server.call("POST", EVENTS, &shop.key, Some(&with(10 << 20))).await.status, 200);
    let more = server.call("POST", EVENTS, &shop.key, Some(&with((10 << 20) + 1))).await;
    assert_eq!((more.status.as_u16(), &more.json()["detail"][0]["loc"]), (422, &json!(["body", "payload"])));
}
