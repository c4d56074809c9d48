//! `/api/v2/events`.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::{pointers, problem, same, shops};
use crate::server::{Response, Server, Shop};

const EVENTS: &str = "/api/v2/events";

fn event(id: &str, status_code: u16) -> Value {
    json!({
        "id": id, "event_type": "api_call", "severity": if status_code >= 500 { "error" } else { "info" },
        "source": {"service": "shop"}, "metrics": {"status_code": status_code},
    })
}

async fn raw(server: &Server, shop: &Shop, content_type: &str, body: &str) -> Response {
    let key = shop.key.strip_prefix("key:").unwrap();
    let request = Request::post(EVENTS).header("x-api-key", key).header("content-type", content_type);
    server.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// Stores ten events, the i-th a second after the one before and with a status code of 200 or 500.
async fn filled() -> (Server, Shop, Shop) {
    let (server, own, other) = shops().await;
    let events: Vec<Value> = (0..10)
        .map(|index| {
            let mut event = event(&format!("e{index}"), if index % 2 == 0 { 200 } else { 500 });
            event["timestamp"] = json!(format!("2026-01-15T11:00:0{index}Z"));
            event
        })
        .collect();
    let made = server.call("POST", EVENTS, &own.key, Some(&json!(events))).await;
    assert_eq!(made.json()["stored"], 10, "{}", made.text());
    (server, own, other)
}

fn ids(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn one_event_is_stored_once_and_comes_back_as_it_was() {
    let (server, own, _) = shops().await;
    let full = json!({
        "id": "e1", "event_type": "order_placed", "timestamp": "2026-01-15T11:59:00Z", "severity": "warning",
        "title": "Order", "message": "of a book",
        "source": {"service": "shop", "endpoint": "/cart", "method": "POST", "version": "1", "environment": "prod"},
        "context": {"user_id": "u", "tags": {"region": "eu"}},
        "metrics": {"response_time_ms": 12.5, "status_code": 201, "cache_hit": true},
        "error": {"code": "E", "message": "m", "type": "T", "stack_trace": "at x"},
        "payload": {"plan": "free"}, "metadata": {"sdk": "py"},
    });
    let made = server.call("POST", EVENTS, &own.key, Some(&full)).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let outcome = json!({"status": "stored", "id": "e1", "received_at": "2026-01-15T12:00:00Z"});
    assert_eq!(made.json(), outcome);
    assert_eq!(made.header("ratelimit-policy"), "\"ingest\";q=100000;w=60");
    assert_eq!(made.header("ratelimit"), "\"ingest\";r=99999;t=1");
    let again = server.call("POST", EVENTS, &own.key, Some(&full)).await;
    assert_eq!(again.json()["status"], "duplicate");
    let found = server.call("GET", &format!("{EVENTS}/e1"), &own.key, None).await.json();
    let mut expected = full;
    expected["received_at"] = json!("2026-01-15T12:00:00Z");
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_bad_event_is_refused_with_pointers_and_the_nearest_name() {
    let (server, own, _) = shops().await;
    let bad =
        json!({"event_type": "x", "sevrity": "error", "metrics": {"status_code": 9}, "source": {"host": 1}});
    let answer = server.call("POST", EVENTS, &own.key, Some(&bad)).await;
    let refused = problem(&answer, 422, "invalid");
    assert_eq!(pointers(&refused), ["/sevrity", "/source/host", "/metrics/status_code"]);
    assert!(refused["errors"][0]["detail"].as_str().unwrap().contains("severity"), "{refused}");
    assert!(answer.headers.contains_key("ratelimit"));
    problem(&raw(&server, &own, "application/json", "{").await, 422, "invalid");
    problem(&raw(&server, &own, "application/json", "[]").await, 422, "invalid");
    problem(&raw(&server, &own, "text/plain", "x").await, 415, "unsupported_media_type");
}

#[tokio::test]
async fn arrays_and_lines_have_an_outcome_for_each_event() {
    let (server, own, _) = shops().await;
    let lines =
        "{\"id\":\"a\",\"event_type\":\"x\"}\n\n{\"id\":\"b\"}\n{\"id\":\"a\",\"event_type\":\"x\"}\n";
    let array = format!("[{}]", lines.trim().replace("\n\n", ",").replace('\n', ","));
    for (content_type, body, stored) in
        [("application/x-ndjson", lines, 1), ("application/json", array.as_str(), 0)]
    {
        let answer = raw(&server, &own, content_type, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let counts = [&answer["stored"], &answer["duplicates"], &answer["refused"]];
        assert_eq!(counts, [&json!(stored), &json!(2 - stored), &json!(1)], "{answer}");
        let refused = &answer["outcomes"][1];
        assert_eq!(refused["status"], "refused");
        assert_eq!(refused["errors"][0]["pointer"], "/event_type");
        assert_eq!(refused["errors"][0]["code"], "required");
        assert_eq!(answer["outcomes"][2]["status"], "duplicate");
    }
}

#[tokio::test]
async fn an_idempotency_key_repeats_the_first_answer() {
    let (server, own, _) = shops().await;
    let send = async |body: &str| {
        let key = own.key.strip_prefix("key:").unwrap();
        let request = Request::post(EVENTS)
            .header("x-api-key", key)
            .header("content-type", "application/json")
            .header("idempotency-key", "k1");
        server.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let first = send(r#"{"event_type": "x"}"#).await;
    let second = send(r#"{"event_type": "x"}"#).await;
    assert_eq!((first.status.as_u16(), first.json()), (200, second.json()));
    assert_eq!(second.header("idempotency-replayed"), "true");
    problem(&send(r#"{"event_type": "y"}"#).await, 422, "idempotency_key_reused");
    let found = server.call("GET", &format!("{EVENTS}?count=true"), &own.key, None).await.json();
    assert_eq!(found["total"], 1);
}

#[tokio::test]
async fn pages_follow_each_other_by_cursor_and_by_link() {
    let (server, own, _) = filled().await;
    let mut path = format!(
        "{EVENTS}?filter=metrics.status_code+%3E%3D+500&order=oldest_first&limit=2&from=2026-01-15T11:00:00Z"
    );
    let mut seen = Vec::new();
    loop {
        let answer = server.call("GET", &path, &own.key, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let link = answer.header("link");
        let Some(next) = page["next_cursor"].as_str() else {
            assert_eq!(link, "");
            break;
        };
        let query = link.strip_prefix("<?").and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
        assert!(query.ends_with(&format!("cursor={next}")), "{link}");
        path = format!("{EVENTS}?{query}");
    }
    assert_eq!(seen, ["e1", "e3", "e5", "e7", "e9"]);
    let newest = server.call("GET", &format!("{EVENTS}?limit=1&count=true"), &own.key, None).await.json();
    assert_eq!((ids(&newest), &newest["total"]), (vec!["e9"], &json!(10)));
    let ranged = format!("{EVENTS}?from=2026-01-15T11:00:03Z&to=2026-01-15T11:00:05Z");
    assert_eq!(ids(&server.call("GET", &ranged, &own.key, None).await.json()), ["e4", "e3"]);
}

#[tokio::test]
async fn a_cursor_is_good_for_its_tenant_and_its_question_only() {
    let (server, own, other) = filled().await;
    let get = async |query: &str, shop: &Shop| {
        server.call("GET", &format!("{EVENTS}?{query}"), &shop.key, None).await
    };
    let first = get("limit=2", &own).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let more = get(&format!("limit=5&cursor={cursor}"), &own).await;
    assert_eq!(ids(&more.json()), ["e7", "e6", "e5", "e4", "e3"], "the length of pages may change");
    problem(&get(&format!("limit=2&cursor={cursor}"), &other).await, 400, "invalid_cursor");
    problem(&get(&format!("order=oldest_first&cursor={cursor}"), &own).await, 400, "invalid_cursor");
    problem(&get(&format!("filter=true+or+true&cursor={cursor}"), &own).await, 400, "invalid_cursor");
    for at in 0..cursor.len() {
        let mut forged = cursor.as_bytes().to_vec();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let answer = get(&format!("limit=2&cursor={forged}"), &own).await;
        problem(&answer, 400, "invalid_cursor");
    }
    for bad in ["x", "!", "AAAA", &"A".repeat(5_000)] {
        problem(&get(&format!("cursor={bad}"), &own).await, 400, "invalid_cursor");
    }
}

#[tokio::test]
async fn a_bad_question_says_what_is_wrong() {
    let (server, own, _) = shops().await;
    let ask = async |query: &str| server.call("GET", &format!("{EVENTS}?{query}"), &own.key, None).await;
    let wrong = problem(&ask("filter=severty+%3D+%27error%27").await, 422, "invalid");
    assert_eq!(wrong["errors"][0]["parameter"], "filter");
    assert!(wrong["errors"][0]["detail"].as_str().unwrap().contains("severity"), "{wrong}");
    let wrong = problem(&ask("limits=5&limit=0&order=up&from=yesterday").await, 422, "invalid");
    let names: Vec<_> = wrong["errors"].as_array().unwrap().iter().map(|it| &it["parameter"]).collect();
    assert_eq!(names, ["from", "limit", "order", "limits"], "{wrong}");
    assert!(wrong["errors"][3]["detail"].as_str().unwrap().contains("`limit`"), "{wrong}");
}

#[tokio::test]
async fn events_are_deleted_by_id_and_by_condition() {
    let (server, own, other) = filled().await;
    let delete = async |path: &str, shop: &Shop| {
        server.call("DELETE", &format!("{EVENTS}{path}"), &shop.key, None).await
    };
    assert_eq!(delete("/e0", &own).await.status, 204);
    let gone = delete("/e0", &own).await;
    problem(&gone, 404, "not_found");
    same(&gone, &delete("/e1", &other).await);
    let get =
        async |id: &str, shop: &Shop| server.call("GET", &format!("{EVENTS}/{id}"), &shop.key, None).await;
    same(&get("none", &own).await, &get("e1", &other).await);
    assert_eq!(delete("?filter=true", &other).await.json(), json!({"deleted": 0}));
    problem(&delete("", &own).await, 422, "invalid");
    assert_eq!(delete("?filter=metrics.status_code+%3D+500", &own).await.json(), json!({"deleted": 5}));
    assert_eq!(delete("?to=2026-01-15T11:00:05Z", &own).await.json(), json!({"deleted": 2}));
    let left = server.call("GET", EVENTS, &own.key, None).await.json();
    assert_eq!(ids(&left), ["e8", "e6"]);
}

#[tokio::test]
async fn aggregates_measure_groups_and_buckets() {
    let (server, own, other) = filled().await;
    let ask = async |body: &Value, shop: &Shop| {
        server.call("POST", "/api/v2/events/aggregate", &shop.key, Some(body)).await
    };
    let question = json!({
        "range": {"from": "2026-01-15T11:00:00Z", "to": "2026-01-15T12:00:00Z"},
        "filter": "source.service = 'shop'", "group_by": ["severity"], "bucket": "5s",
        "measures": ["count", "max(metrics.status_code)"], "order": {"by": "count", "descending": true}, "limit": 3,
    });
    let answer = ask(&question, &own).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({
            "group_by": ["severity"], "measures": ["count", "max(metrics.status_code)"], "total_rows": 4,
            "rows": [
                {"bucket": "2026-01-15T11:00:00Z", "group": ["info"], "values": [3.0, 200.0]},
                {"bucket": "2026-01-15T11:00:05Z", "group": ["error"], "values": [3.0, 500.0]},
                {"bucket": "2026-01-15T11:00:00Z", "group": ["error"], "values": [2.0, 500.0]},
            ],
        })
    );
    assert_eq!(ask(&question, &other).await.json()["rows"], json!([]));
    let bad = json!({
        "range": {"from": "2024-01-15T11:00:00Z"}, "filter": "x =", "group_by": ["sevrity"], "bucket": "5 parsecs",
        "measures": ["cuont"], "order": {"by": "sum"},
    });
    let wrong = problem(&ask(&bad, &own).await, 422, "invalid");
    assert_eq!(
        pointers(&wrong),
        ["/range", "/filter", "/group_by/0", "/measures/0", "/bucket", "/order/by"],
        "{wrong}"
    );
    let wrong = problem(&ask(&json!({"ranges": {}}), &own).await, 422, "invalid");
    assert_eq!(pointers(&wrong), ["/range", "/ranges"]);
}

#[tokio::test]
async fn a_sum_beyond_the_largest_number_is_that_number() {
    let (server, own, _) = shops().await;
    let event = |v: f64| json!({"event_type": "x", "payload": {"v": v}});
    let events = json!([event(-1.7e308), event(-1.7e308)]);
    assert_eq!(server.call("POST", EVENTS, &own.key, Some(&events)).await.json()["stored"], 2);
    let question = json!({
        "range": {"from": "2026-01-15T00:00:00Z", "to": "2026-01-16T00:00:00Z"},
        "measures": ["sum(payload.v)", "max(payload.v)"],
    });
    let answer = server.call("POST", "/api/v2/events/aggregate", &own.key, Some(&question)).await.json();
    assert_eq!(answer["rows"][0]["values"], json!([f64::MIN, -1.7e308]), "{answer}");
}

#[tokio::test]
async fn who_may_not_is_refused() {
    let (server, own, _) = shops().await;
    problem(&server.call("GET", EVENTS, "", None).await, 401, "unauthenticated");
    problem(&server.call("GET", EVENTS, "key:ps_live_x", None).await, 401, "unauthenticated");
    let owner = server.owner(&own).await;
    let viewer = json!({
        "email": "v@own.example", "password": "a long passphrase 42", "confirm_password": "a long passphrase 42",
        "full_name": "A Viewer",
    });
    let made = server.call("POST", "/api/v1/auth/register/user", &owner, Some(&viewer)).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let tokens = server.login("own", "v@own.example", "a long passphrase 42").await.json();
    let viewer = format!("token:{}", tokens["access_token"].as_str().unwrap());
    assert_eq!(server.call("GET", EVENTS, &viewer, None).await.status, 200);
    for (method, path) in
        [("POST", EVENTS), ("DELETE", "/api/v2/events?filter=true"), ("DELETE", "/api/v2/events/e1")]
    {
        let answer = server.call(method, path, &viewer, Some(&event("x", 200))).await;
        problem(&answer, 403, "forbidden");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let (server, own, _) = shops().await;
    problem(&server.call("GET", "/api/v2/nothing", &own.key, None).await, 404, "not_found");
    problem(&server.call("PUT", EVENTS, &own.key, None).await, 405, "method_not_allowed");
}
