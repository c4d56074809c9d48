//! `/api/v2/events/stream`.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{problem, shops};
use crate::server::{Server, Shop};

const STREAM: &str = "/api/v2/events/stream";

/// A stream that is being read.
struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    async fn open(server: &Server, shop: &Shop, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(format!("{STREAM}{query}"));
        request = request.header("x-api-key", shop.key.strip_prefix("key:").unwrap());
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = server.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// Returns the next event with its id; `None` when the stream ends.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let found = field("id: ").zip(field("data: "));
                let found = found.map(|(id, data)| (id.to_owned(), serde_json::from_str(data).unwrap()));
                self.text = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }
}

async fn send(server: &Server, shop: &Shop, id: &str, event_type: &str) {
    let event = json!({"id": id, "event_type": event_type});
    let made = server.call("POST", "/api/v2/events", &shop.key, Some(&event)).await;
    assert_eq!(made.json()["status"], "stored", "{}", made.text());
}

#[tokio::test]
async fn a_stream_has_the_new_events_of_its_tenant_that_match() {
    let (server, own, other) = shops().await;
    send(&server, &own, "before", "order").await;
    let mut stream = Stream::open(&server, &own, "?filter=event_type+%3D+%27order%27", None).await;
    send(&server, &other, "foreign", "order").await;
    send(&server, &own, "other-type", "page_view").await;
    send(&server, &own, "first", "order").await;
    let (_, event) = stream.next().await.unwrap();
    assert_eq!((&event["id"], &event["event_type"]), (&json!("first"), &json!("order")));
    send(&server, &own, "second", "order").await;
    assert_eq!(stream.next().await.unwrap().1["id"], "second");
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event_without_gap_or_repeat() {
    let (server, own, other) = shops().await;
    let mut stream = Stream::open(&server, &own, "", None).await;
    send(&server, &own, "a", "x").await;
    let (first, _) = stream.next().await.unwrap();
    drop(stream);
    for id in ["b", "c"] {
        send(&server, &own, id, "x").await;
        send(&server, &other, id, "x").await;
    }
    let mut stream = Stream::open(&server, &own, "", Some(&first)).await;
    let (second, event) = stream.next().await.unwrap();
    assert_eq!(event["id"], "b");
    assert_eq!(stream.next().await.unwrap().1["id"], "c");
    assert!(second > first);
    // The place of another tenant opens nothing of it.
    let mut foreign = Stream::open(&server, &other, "", Some(&first)).await;
    assert_eq!(foreign.next().await.unwrap().1["id"], "b");
    send(&server, &own, "d", "x").await;
    send(&server, &other, "only-other", "x").await;
    assert_eq!(foreign.next().await.unwrap().1["id"], "c");
    assert_eq!(foreign.next().await.unwrap().1["id"], "only-other");
}

#[tokio::test]
async fn a_bad_place_or_filter_is_refused() {
    let (server, own, _) = shops().await;
    let key = own.key.strip_prefix("key:").unwrap();
    for bad in ["x", "12", &"g".repeat(32)] {
        let request = Request::get(STREAM).header("x-api-key", key).header("last-event-id", bad);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        problem(&answer, 400, "invalid_last_event_id");
    }
    let answer = server.call("GET", &format!("{STREAM}?filter=x+%3D"), &own.key, None).await;
    problem(&answer, 422, "invalid");
    problem(&server.call("GET", STREAM, "", None).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_ticket_opens_a_stream() {
    let (server, own, _) = shops().await;
    let made = server.call("POST", "/api/v2/events/stream/ticket", &own.key, None).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    let request = Request::get(format!("{STREAM}?token={ticket}")).body(Body::empty()).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_revoked_key_ends_its_streams() {
    let (server, own, _) = shops().await;
    let mut stream = Stream::open(&server, &own, "", None).await;
    let owner = server.owner(&own).await;
    let replaced = server.call("POST", "/api/v1/auth/tenant/regenerate-api-key", &owner, None).await;
    let new = format!("key:{}", replaced.json()["new_api_key"].as_str().unwrap());
    server.clock.advance(std::time::Duration::from_secs(20));
    let event = json!({"id": "late", "event_type": "x"});
    assert_eq!(server.call("POST", "/api/v2/events", &new, Some(&event)).await.status, 200);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn there_are_no_more_streams_than_there_may_be() {
    let server = Server::with_settings(r#"{"http": {"max_live_connections_per_tenant": 1}}"#).await;
    let (own, other) = (server.tenant("own").await, server.tenant("other").await);
    let first = Stream::open(&server, &own, "", None).await;
    let refused = server.call("GET", STREAM, &own.key, None).await;
    problem(&refused, 503, "unavailable");
    let _other = Stream::open(&server, &other, "", None).await;
    drop(first);
    let _again = Stream::open(&server, &own, "", None).await;
}
