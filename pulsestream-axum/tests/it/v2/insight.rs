//! Backtests, explanations, previews, the log of changes and the routing of `/api/v2`.

use serde_json::json;

use super::{pointers, problem, shops};
use crate::server::{Server, Shop};

const RULES: &str = "/api/v2/rules";

/// Five failing calls within a minute, then quiet.
async fn trouble(server: &Server, shop: &Shop) {
    let events: Vec<_> = (0..5)
        .map(|second| {
            json!({
                "event_type": "call", "timestamp": format!("2026-01-15T11:30:{:02}Z", second * 10),
                "metrics": {"status_code": 503}, "source": {"service": "shop"}
            })
        })
        .collect();
    let sent = server.call("POST", "/api/v2/events", &shop.key, Some(&json!(events))).await;
    assert!(sent.status.is_success(), "{}", sent.text());
}

#[tokio::test]
async fn a_rule_is_tried_on_the_past_and_explained() {
    let (server, own, other) = shops().await;
    trouble(&server, &own).await;
    let rule = json!({
        "name": "failing", "expression": "count >= 3 over 1m where metrics.status_code >= 500 by source.service",
        "annotations": {"title": "{{ labels['source.service'] }} fails", "message": "{{ nothing }}"}
    });
    let body = json!({"rule": rule, "from": "2026-01-15T11:00:00Z"});
    let tried = server.call("POST", &format!("{RULES}/backtest"), &own.key, Some(&body)).await;
    assert_eq!(tried.status, 200, "{}", tried.text());
    let tried = tried.json();
    assert_eq!((&tried["fired"], &tried["omitted"]), (&json!(1), &json!(0)));
    assert_eq!(tried["transitions"][0]["to"], "firing");
    assert_eq!(tried["transitions"][0]["at"], "2026-01-15T11:30:20Z");
    assert_eq!(tried["transitions"][0]["group"]["source.service"], "shop");
    let theirs = server.call("POST", &format!("{RULES}/backtest"), &other.key, Some(&body)).await.json();
    assert_eq!(theirs["transitions"], json!([]), "another tenant has no such past");
    let wrong =
        json!({"rule": {"name": "x", "expression": "cout > 3 over 1m"}, "from": "2026-01-15T11:00:00Z"});
    let wrong = server.call("POST", &format!("{RULES}/backtest"), &own.key, Some(&wrong)).await;
    assert_eq!(pointers(&wrong.json()), ["/rule/expression"]);
    let backwards = json!({"rule": rule, "from": "2026-01-15T11:00:00Z", "to": "2026-01-15T10:00:00Z"});
    let backwards = server.call("POST", &format!("{RULES}/backtest"), &own.key, Some(&backwards)).await;
    assert_eq!(pointers(&backwards.json()), ["/to"]);

    let shown = server.call("POST", &format!("{RULES}/preview"), &own.key, Some(&rule)).await.json();
    assert_eq!(shown["texts"]["title"]["text"], "example fails");
    assert!(shown["texts"]["message"]["error"].as_str().unwrap().contains("undefined"), "{shown}");

    let made = server.call("POST", RULES, &own.key, Some(&rule)).await.json();
    let path = format!("{RULES}/{}", made["id"].as_str().unwrap());
    let again = json!({"from": "2026-01-15T11:00:00Z"});
    let again = server.call("POST", &format!("{path}/backtest"), &own.key, Some(&again)).await.json();
    assert_eq!(again["fired"], 1);
    let silence = json!({
        "matchers": [{"label": "source.service", "op": "=", "value": "shop"}], "comment": "maintenance",
        "starts_at": "2026-01-15T11:00:00Z", "ends_at": "2026-01-15T13:00:00Z"
    });
    let silence = server.call("POST", "/api/v2/silences", &own.key, Some(&silence)).await.json();
    let at = format!("{path}/explain?at=2026-01-15T11:30:30Z");
    let why = server.call("GET", &at, &own.key, None).await.json();
    assert_eq!(why["instances"][0]["state"], "firing", "{why}");
    assert_eq!(why["instances"][0]["silenced_by"], json!([silence["id"]]));
    assert!(why["instances"][0]["text"].as_str().unwrap().contains("the value is"), "{why}");
    problem(&server.call("GET", &at, &other.key, None).await, 404, "not_found");
}

#[tokio::test]
async fn changes_say_who_made_them() {
    let (server, own, other) = shops().await;
    let rule = json!({"name": "silent", "expression": "absent over 15m"});
    let made = server.call("POST", RULES, &own.key, Some(&rule)).await.json();
    let id = made["id"].as_str().unwrap();
    server.call("POST", &format!("{RULES}/{id}/disable"), &own.key, None).await;
    let channel = json!({"name": "ops", "config": {
        "type": "webhook", "url": "https://example.com/hook", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    }});
    assert_eq!(server.call("POST", "/api/v2/channels", &own.key, Some(&channel)).await.status, 201);
    let log = server.call("GET", "/api/v2/changes?limit=2", &own.key, None).await;
    assert!(!log.text().contains("whsec_"), "{}", log.text());
    let first = log.json();
    let told: Vec<_> =
        first["changes"].as_array().unwrap().iter().map(|it| (&it["object"], &it["action"])).collect();
    assert_eq!(told, [(&json!("channel"), &json!("created")), (&json!("rule"), &json!("changed"))]);
    assert_eq!(
        first["changes"][1]["fields"],
        json!([{"pointer": "/is_active", "before": true, "after": false}])
    );
    assert!(first["changes"][0]["actor"].as_str().unwrap().starts_with("api_key:"), "{first}");
    let next = format!("/api/v2/changes?limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let rest = server.call("GET", &next, &own.key, None).await.json();
    assert_eq!((&rest["changes"][0]["action"], &rest["next_cursor"]), (&json!("created"), &json!(null)));
    let of_rule =
        server.call("GET", &format!("/api/v2/changes?object=rule&id={id}"), &own.key, None).await.json();
    assert_eq!(of_rule["changes"].as_array().unwrap().len(), 2);
    let theirs = server.call("GET", "/api/v2/changes", &other.key, None).await.json();
    assert_eq!(theirs["changes"], json!([]));
    let half = server.call("GET", "/api/v2/changes?object=rule", &own.key, None).await;
    problem(&half, 422, "invalid");
}

#[tokio::test]
async fn routes_and_mute_schedules_are_put_by_version() {
    let (server, own, other) = shops().await;
    let empty = server.call("GET", "/api/v2/routing", &own.key, None).await;
    assert_eq!((empty.header("etag"), &empty.json()["version"]), ("\"0\"", &json!(0)));
    let body = json!({
        "root": {"channels": ["log"], "group_by": ["source.service"], "mute_during": ["nights"]},
        "inhibitions": [{
            "source": [{"label": "severity", "op": "=", "value": "critical"}],
            "target": [{"label": "severity", "op": "=", "value": "low"}], "equal": ["source.service"]
        }],
        "mute_schedules": [{
            "name": "nights", "time_zone": "Europe/Berlin",
            "intervals": [{"start_minute": 1320, "end_minute": 360}]
        }]
    });
    let put = server.call("PUT", "/api/v2/routing", &own.key, Some(&body)).await;
    assert_eq!((put.status.as_u16(), put.header("etag")), (200, "\"1\""), "{}", put.text());
    let found = server.call("GET", "/api/v2/routing", &own.key, None).await.json();
    assert_eq!(found, put.json());
    assert_eq!(server.call("GET", "/api/v2/routing", &other.key, None).await.json()["version"], 0);
    let unknown = json!({"root": {"mute_during": ["days"]}});
    let unknown = server.call("PUT", "/api/v2/routing", &own.key, Some(&unknown)).await;
    assert_eq!(pointers(&unknown.json()), ["/root/mute_during"], "{}", unknown.text());
    let changes = server.call("GET", "/api/v2/changes?object=routing", &own.key, None).await.json();
    assert_eq!(changes["changes"][0]["version"], 1);
}
