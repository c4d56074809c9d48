//! `/api/v1/dashboard`.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::has_exactly;
use crate::server::{Server, Shop};

async fn sent(server: &Server, shop: &Shop, at: &str, endpoint: &str, status: u16, took: u32) {
    let event = json!({
        "event_type": "api_call", "title": "t", "timestamp": at,
        "source": {"service": "s", "endpoint": endpoint, "method": "GET"},
        "metrics": {"status_code": status, "response_time_ms": took}, "payload": {"a": 1}, "metadata": {"b": 2}
    });
    let answer = server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Makes an alert that fires.
async fn firing(server: &Server, shop: &Shop) {
    let rule = json!({"name": "r", "severity": "critical", "condition": {"type": "count", "min_count": 1}});
    let rule = server.call("POST", "/api/v1/alerting/rules", &shop.key, Some(&rule)).await.json();
    sent(server, shop, "2026-01-15T12:00:00Z", "/a", 200, 10).await;
    let test = format!("/api/v1/alerting/rules/{}/test", rule["rule_id"].as_str().unwrap());
    let fired = server.call("POST", &test, &shop.key, None).await.json();
    assert!(fired["alert_id"].is_string(), "{fired}");
}

#[tokio::test]
async fn the_overview_is_counted_and_says_how_old_it_is() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    sent(&server, &shop, "2026-01-15T12:00:00Z", "/a", 200, 10).await;
    sent(&server, &shop, "2026-01-15T11:30:00Z", "/a", 500, 30).await;
    let path = "/api/v1/dashboard/overview";
    let answer = server.call("GET", path, &shop.key, None).await;
    has_exactly(&answer.json(), "success data tenant_id");
    assert_eq!(
        (answer.json()["success"].clone(), answer.json()["tenant_id"].clone()),
        (json!(true), json!(shop.id))
    );
    let data = &answer.json()["data"];
    assert_eq!(
        (&data["total_events"], &data["events_last_hour"], &data["error_rate"]),
        (&json!(2), &json!(2), &json!(50.0))
    );
    assert_eq!(data["avg_response_time"], 20.0);
    assert_eq!((answer.header("age"), answer.header("cache-control")), ("0", "private, max-age=5"));
    server.clock.advance(Duration::from_secs(3));
    sent(&server, &shop, "2026-01-15T12:00:01Z", "/a", 200, 10).await;
    let again = server.call("GET", path, &shop.key, None).await;
    assert_eq!((again.header("age"), &again.body), ("3", &answer.body));
    server.clock.advance(Duration::from_secs(2));
    let fresh = server.call("GET", path, &shop.key, None).await;
    assert_eq!((fresh.header("age"), fresh.json()["data"]["total_events"].clone()), ("0", json!(3)));
    let neighbour = server.tenant("neighbour").await;
    assert_eq!(server.call("GET", path, &neighbour.key, None).await.json()["data"]["total_events"], 0);
}

#[tokio::test]
async fn the_stream_has_the_latest_events() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    for minute in 0..3 {
        sent(&server, &shop, &format!("2026-01-15T11:0{minute}:00Z"), "/a", 200, 10).await;
    }
    let answer = server.call("GET", "/api/v1/dashboard/events/stream?limit=2", &shop.key, None).await.json();
    has_exactly(&answer, "success events total_count tenant_id");
    assert_eq!(answer["total_count"], 2);
    has_exactly(
        &answer["events"][0],
        "id event_type timestamp status_code duration_ms source payload event_metadata",
    );
    assert_eq!(answer["events"][0]["timestamp"], "2026-01-15T11:02:00Z");
    assert_eq!(
        (&answer["events"][0]["payload"], &answer["events"][0]["event_metadata"]),
        (&json!({"a": 1}), &json!({"b": 2}))
    );
}

#[tokio::test]
async fn alerts_are_summed_up() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    firing(&server, &shop).await;
    let answer = server.call("GET", "/api/v1/dashboard/alerts/summary", &shop.key, None).await.json();
    has_exactly(&answer, "success data");
    has_exactly(
        &answer["data"],
        "tenant_id active_alerts_count severity_distribution total_rules recent_alerts",
    );
    assert_eq!(
        answer["data"]["severity_distribution"],
        json!({"low": 0, "medium": 0, "high": 0, "critical": 1})
    );
    assert_eq!(
        (&answer["data"]["active_alerts_count"], &answer["data"]["total_rules"]),
        (&json!(1), &json!(1))
    );
    has_exactly(&answer["data"]["recent_alerts"][0], "id title severity triggered_at");
}

#[tokio::test]
async fn real_time_metrics() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    for (at, endpoint, status, took) in [
        ("2026-01-15T11:58:10Z", "/a", 200, 10),
        ("2026-01-15T11:58:20Z", "/a", 503, 30),
        ("2026-01-15T11:59:00Z", "/b", 200, 50),
        ("2026-01-15T10:00:00Z", "/old", 200, 50),
    ] {
        sent(&server, &shop, at, endpoint, status, took).await;
    }
    let answer =
        server.call("GET", "/api/v1/dashboard/metrics/real-time?time_window=1h", &shop.key, None).await;
    assert_eq!(
        answer.json(),
        json!({
            "success": true,
            "data": {
                "tenant_id": shop.id, "time_window": "1h", "since": "2026-01-15T11:00:00Z",
                "until": "2026-01-15T12:00:00Z",
                "event_volume": [
                    {"timestamp": "2026-01-15T11:58:00Z", "count": 2},
                    {"timestamp": "2026-01-15T11:59:00Z", "count": 1},
                ],
                "error_trend": [
                    {"timestamp": "2026-01-15T11:58:00Z", "total": 2, "errors": 1, "error_rate": 50.0},
                    {"timestamp": "2026-01-15T11:59:00Z", "total": 1, "errors": 0, "error_rate": 0.0},
                ],
                "top_endpoints": [
                    {"endpoint": "/a", "request_count": 2, "avg_response_time": 20.0, "error_count": 1, "error_rate": 50.0},
                    {"endpoint": "/b", "request_count": 1, "avg_response_time": 50.0, "error_count": 0, "error_rate": 0.0},
                ],
            },
        })
    );
    let bad = server.call("GET", "/api/v1/dashboard/metrics/real-time?time_window=1w", &shop.key, None).await;
    assert_eq!(
        (bad.status.as_u16(), &bad.json()["detail"][0]["loc"]),
        (422, &json!(["query", "time_window"]))
    );
}

#[tokio::test]
async fn the_ten_busiest_endpoints_are_listed() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    for number in 0..12_u32 {
        let count = if number < 2 { 1 } else { 2 + number % 3 };
        for _ in 0..count {
            sent(&server, &shop, "2026-01-15T11:59:00Z", &format!("/{number}"), 200, 10).await;
        }
    }
    let answer = server.call("GET", "/api/v1/dashboard/metrics/real-time", &shop.key, None).await.json();
    let data = &answer["data"];
    assert_eq!(data["time_window"], "1h", "an hour, when the call does not say");
    let counts: Vec<_> = data["top_endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["request_count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [4, 4, 4, 4, 3, 3, 3, 2, 2, 2], "{data}");
    for (window, since) in
        [("30s", "2026-01-15T11:59:30Z"), ("90m", "2026-01-15T10:30:00Z"), ("2d", "2026-01-13T12:00:00Z")]
    {
        let path = format!("/api/v1/dashboard/metrics/real-time?time_window={window}");
        let data = server.call("GET", &path, &shop.key, None).await.json()["data"].clone();
        assert_eq!((&data["time_window"], &data["since"]), (&json!(window), &json!(since)));
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn listening(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Opens a WebSocket; `Err` has the status that refused it.
async fn open(address: SocketAddr, path: &str, key: Option<&str>) -> Result<Socket, u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some(key) = key {
        request.headers_mut().insert("x-api-key", key.strip_prefix("key:").unwrap().parse().unwrap());
    }
    match client_async(request, TcpStream::connect(address).await.unwrap()).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn ask(socket: &mut Socket, message: &Value) -> Value {
    socket.send(Message::text(message.to_string())).await.unwrap();
    next(socket).await
}

#[tokio::test]
async fn a_socket_answers_and_pushes_what_it_is_subscribed_to() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let neighbour = server.tenant("neighbour").await;
    let address = listening(&server).await;
    let path = format!("/api/v1/dashboard/ws/{}", shop.id);
    let mut socket = open(address, &path, Some(&shop.key)).await.unwrap();
    assert_eq!(ask(&mut socket, &json!({"type": "heartbeat"})).await["type"], "heartbeat_response");
    for data_type in ["overview", "events", "alerts"] {
        let answer = ask(&mut socket, &json!({"type": "get_data", "data_type": data_type})).await;
        has_exactly(&answer, "type data_type data timestamp");
        assert_eq!((&answer["type"], &answer["data_type"]), (&json!("data_response"), &json!(data_type)));
    }
    assert_eq!(ask(&mut socket, &json!({"type": "nonsense"})).await["type"], "error");
    assert_eq!(ask(&mut socket, &json!({"type": "subscribe"})).await["type"], "subscription_confirmed");

    sent(&server, &neighbour, "2026-01-15T11:59:00Z", "/theirs", 200, 1).await;
    sent(&server, &shop, "2026-01-15T11:59:00Z", "/ours", 503, 7).await;
    let pushed = next(&mut socket).await;
    has_exactly(&pushed, "type data missed timestamp");
    has_exactly(
        &pushed["data"],
        "id event_type timestamp status_code duration_ms source payload event_metadata",
    );
    assert_eq!((&pushed["type"], &pushed["data"]["status_code"]), (&json!("event"), &json!(503)));

    let unsubscribed = ask(&mut socket, &json!({"type": "unsubscribe", "subscription": "events"})).await;
    assert_eq!(unsubscribed["type"], "unsubscription_confirmed");
    assert_eq!(unsubscribed["subscriptions"], json!(["alerts"]));
    firing(&server, &shop).await;
    let pushed = next(&mut socket).await;
    has_exactly(
        &pushed["data"],
        "id title message severity status triggered_at resolved_at duration_minutes alert_rule_id rule_name \
         notifications_sent notification_failures",
    );
    assert_eq!((&pushed["type"], &pushed["data"]["status"]), (&json!("alert"), &json!("active")));
    assert_eq!(
        ask(&mut socket, &json!({"type": "heartbeat"})).await["type"],
        "heartbeat_response",
        "no event"
    );

    let stats = server.call("GET", "/api/v1/dashboard/connections/stats", &shop.key, None).await.json();
    has_exactly(&stats, "success data timestamp");
    assert_eq!(stats["data"]["total_connections"], 1);
    let stats = server.call("GET", "/api/v1/dashboard/connections/stats", &neighbour.key, None).await.json();
    assert_eq!(stats["data"]["total_connections"], 0, "only the caller's own");
}

#[tokio::test]
async fn a_key_that_cannot_read_alerts_is_not_told_of_them() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let owner = server.owner(&shop).await;
    let body = json!({"name": "reader", "scopes": ["events:read"]});
    let made = server.call("POST", "/api/v2/keys", &owner, Some(&body)).await.json();
    let key = format!("key:{}", made["key"].as_str().unwrap());
    let address = listening(&server).await;
    let path = format!("/api/v1/dashboard/ws/{}", shop.id);
    let mut socket = open(address, &path, Some(&key)).await.unwrap();
    for refused in [
        json!({"type": "subscribe", "subscription": "alerts"}),
        json!({"type": "get_data", "data_type": "alerts"}),
    ] {
        assert_eq!(ask(&mut socket, &refused).await["type"], "error", "{refused}");
    }
    let confirmed = ask(&mut socket, &json!({"type": "subscribe"})).await;
    assert_eq!(confirmed["subscriptions"], json!(["events"]));
    firing(&server, &shop).await;
    assert_eq!(next(&mut socket).await["type"], "event");
    assert_eq!(
        ask(&mut socket, &json!({"type": "heartbeat"})).await["type"],
        "heartbeat_response",
        "no alert"
    );
}

#[tokio::test]
async fn a_socket_is_authenticated_like_every_call() {
    let server = Server::with_settings(r#"{"http": {"max_live_connections_per_tenant": 1}}"#).await;
    let shop = server.tenant("shop").await;
    let neighbour = server.tenant("neighbour").await;
    let address = listening(&server).await;
    let path = format!("/api/v1/dashboard/ws/{}", shop.id);
    assert_eq!(open(address, &path, None).await.unwrap_err(), 401);
    assert_eq!(open(address, &path, Some("key:nonsense")).await.unwrap_err(), 401);
    assert_eq!(open(address, &format!("{path}?token=nonsense"), None).await.unwrap_err(), 401);
    assert_eq!(open(address, &path, Some(&neighbour.key)).await.unwrap_err(), 403);
    // A browser, which cannot set headers here, shows a ticket.
    let ticket = async |shop: &Shop| {
        let made = server.call("POST", "/api/v2/events/stream/ticket", &shop.key, None).await.json();
        format!("{path}?token={}", made["ticket"].as_str().unwrap())
    };
    assert_eq!(open(address, &ticket(&neighbour).await, None).await.unwrap_err(), 403);
    let mut socket = open(address, &ticket(&shop).await, None).await.unwrap();
    assert_eq!(ask(&mut socket, &json!({"type": "heartbeat"})).await["type"], "heartbeat_response");
    assert_eq!(open(address, &path, Some(&shop.key)).await.unwrap_err(), 503, "one more than there may be");
    let bearer = shop.key.replace("key:", "token:");
    let old = ticket(&shop).await;
    server.clock.advance(Duration::from_secs(3_600));
    assert_eq!(open(address, &old, None).await.unwrap_err(), 401, "a ticket is short-lived");
    assert_eq!(server.call("GET", &old, &bearer, None).await.status, 400, "a header comes before a ticket");
    let plain = server.call("GET", &path, &shop.key, None).await;
    assert_eq!((plain.status.as_u16(), plain.json()["error"].clone()), (400, json!("WEBSOCKET_EXPECTED")));
}

/// Returns the code with which the server closes a socket.
async fn close_code(socket: &mut Socket) -> CloseCode {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => return frame.expect("a close says why").code,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_socket_ends_with_its_credential_and_with_the_server() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let address = listening(&server).await;
    let path = format!("/api/v1/dashboard/ws/{}", shop.id);
    let mut socket = open(address, &path, Some(&shop.key)).await.unwrap();
    let owner = server.owner(&shop).await;
    let made = server.call("POST", "/api/v1/auth/tenant/regenerate-api-key", &owner, None).await.json();
    let new = format!("key:{}", made["new_api_key"].as_str().unwrap());
    let mut stays = open(address, &path, Some(&new)).await.unwrap();
    server.clock.advance(Duration::from_secs(20));
    // It is looked at again when something happens.
    socket.send(Message::text(json!({"type": "heartbeat"}).to_string())).await.unwrap();
    assert_eq!(close_code(&mut socket).await, CloseCode::Policy, "the old key does not work any more");
    assert_eq!(ask(&mut stays, &json!({"type": "heartbeat"})).await["type"], "heartbeat_response");
    server.ps.close().await.unwrap();
    assert_eq!(close_code(&mut stays).await, CloseCode::Away);
}
