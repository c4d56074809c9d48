//! `/api/v1/alerting`.

use std::time::Duration;

use pulsestream::Builder;
use pulsestream::core::ports::event_store::Partition;
use pulsestream_axum::ApiConfig;
use serde_json::{Value, json};

use super::has_exactly;
use crate::server::{Server, Shop};
use crate::v2::alerting::stored;

const RULES: &str = "/api/v1/alerting/rules";
const ALERTS: &str = "/api/v1/alerting/alerts";
const RULE: &str = "id name description event_type severity is_active time_window evaluation_interval cooldown_minutes \
    max_alerts_per_hour last_evaluated_at last_triggered_at total_triggers created_at";
const DETAIL: &str =
    " condition threshold_value threshold_operator notification_channels notification_template updated_at";
const ALERT: &str = "id title message severity status triggered_at resolved_at duration_minutes alert_rule_id rule_name \
    notifications_sent notification_failures";

fn rule(name: &str) -> Value {
    json!({"name": name, "severity": "high", "condition": {"type": "count", "min_count": 3}})
}

async fn made(server: &Server, shop: &Shop, rule: &Value) -> String {
    let made = server.call("POST", RULES, &shop.key, Some(rule)).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()["rule_id"].as_str().unwrap().to_owned()
}

async fn sent(server: &Server, shop: &Shop, count: usize, status: u16) {
    let event = json!({
        "event_type": "api_call", "title": "t", "source": {"service": "s", "endpoint": "/", "method": "GET"},
        "metrics": {"status_code": status, "response_time_ms": 50}
    });
    let batch = json!({"events": vec![event; count]});
    let answer = server.call("POST", "/api/v1/ingestion/events/batch", &shop.key, Some(&batch)).await;
    assert_eq!(answer.json()["successful_events"], count, "{}", answer.text());
}

#[tokio::test]
async fn a_rule_is_made_listed_and_shown_with_its_defaults() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let made = server.call("POST", RULES, &shop.key, Some(&rule("Busy"))).await.json();
    has_exactly(&made, "success rule_id message rule");
    has_exactly(&made["rule"], "id name description severity is_active");
    let list = server.call("GET", RULES, &shop.key, None).await.json();
    has_exactly(&list, "success rules total_count tenant_id");
    has_exactly(&list["rules"][0], RULE);
    assert_eq!((&list["total_count"], &list["tenant_id"]), (&json!(1), &json!(shop.id)));
    let path = format!("{RULES}/{}", made["rule_id"].as_str().unwrap());
    let found = server.call("GET", &path, &shop.key, None).await.json();
    has_exactly(&found, "success rule");
    has_exactly(&found["rule"], &format!("{RULE}{DETAIL}"));
    assert_eq!(
        found["rule"],
        json!({
            "id": made["rule_id"], "name": "Busy", "description": null, "event_type": null, "severity": "high",
            "is_active": true, "time_window": "5m", "evaluation_interval": 60, "cooldown_minutes": 5,
            "max_alerts_per_hour": 10, "last_evaluated_at": null, "last_triggered_at": null, "total_triggers": 0,
            "created_at": "2026-01-15T12:00:00Z", "condition": {"type": "count", "min_count": 3},
            "threshold_value": null, "threshold_operator": null, "notification_channels": [],
            "notification_template": null, "updated_at": "2026-01-15T12:00:00Z",
        })
    );
}

#[tokio::test]
async fn every_condition_comes_back_as_it_was_stated() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let conditions = [
        (json!({"type": "count", "max_count": 7}), None),
        (json!({"type": "count", "min_count": 2, "max_count": 7}), None),
        (json!({"type": "threshold", "metric_field": "status_code"}), Some((400.5, ">="))),
        (json!({"type": "threshold", "metric_field": "duration_ms"}), Some((800.0, ">"))),
        (json!({"type": "threshold", "metric_field": "count"}), Some((3.0, "=="))),
        (json!({"type": "pattern", "pattern": {"type": "error_rate", "max_error_rate": 0.25}}), None),
        (
            json!({"type": "pattern", "pattern": {"type": "response_time", "max_avg_response_time": 500.0}}),
            None,
        ),
    ];
    for (index, (condition, threshold)) in conditions.into_iter().enumerate() {
        let mut body = json!({
            "name": format!("rule {index}"), "severity": "low", "condition": condition, "event_type": "api_call",
            "time_window": "24h", "evaluation_interval": 30, "cooldown_minutes": 0, "max_alerts_per_hour": 1,
            "is_active": false, "description": "d", "notification_template": "{{ rule_name }} fired"
        });
        if let Some((value, operator)) = threshold {
            body["threshold_value"] = json!(value);
            body["threshold_operator"] = json!(operator);
        }
        let id = made(&server, &shop, &body).await;
        let found = server.call("GET", &format!("{RULES}/{id}"), &shop.key, None).await.json();
        for (name, value) in body.as_object().unwrap() {
            assert_eq!(&found["rule"][name], value, "{name} of {condition}");
        }
    }
    let active = server.call("GET", RULES, &shop.key, None).await.json();
    assert_eq!(active["total_count"], 0);
    let all = server
        .call("GET", &format!("{RULES}?active_only=false&limit=2&offset=6"), &shop.key, None)
        .await
        .json();
    assert_eq!((&all["total_count"], all["rules"].as_array().unwrap().len()), (&json!(7), 1));
}

#[tokio::test]
async fn bad_rules_are_refused() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let with = |name: &str, value: Value| {
        let mut rule = rule("r");
        rule[name] = value;
        rule
    };
    let mut nameless = rule("r");
    nameless.as_object_mut().unwrap().remove("name");
    for (body, status) in [
        (nameless, 400),
        (json!({}), 400),
        (with("condition", json!({})), 400),
        (with("condition", json!({"type": "count"})), 400),
        (with("condition", json!({"type": "threshold", "metric_field": "count"})), 400),
        (with("condition", json!({"type": "nonsense"})), 422),
        (with("severity", json!("terrible")), 422),
        (with("time_window", json!("2m")), 422),
        (with("max_alerts_per_hour", json!(0)), 422),
        (with("notification_channels", json!({"webhook": {"url": 7}})), 400),
        (with("notification_channels", json!(7)), 422),
    ] {
        let answer = server.call("POST", RULES, &shop.key, Some(&body)).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    made(&server, &shop, &rule("twice")).await;
    assert_eq!(server.call("POST", RULES, &shop.key, Some(&rule("twice"))).await.status, 409);
}

#[tokio::test]
async fn channels_of_a_rule_are_shown_without_their_secrets() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let mut body = rule("r");
    body["notification_channels"] = json!({
        "webhook": {"url": "https://hooks.example/x", "secret": "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQh"},
        "email": {"to": ["ops@shop.example"]},
    });
    let id = made(&server, &shop, &body).await;
    let path = format!("{RULES}/{id}");
    let shown = server.call("GET", &path, &shop.key, None).await;
    assert!(!shown.text().contains("c2VjcmV0"), "{}", shown.text());
    let channels = &shown.json()["rule"]["notification_channels"];
    assert_eq!(channels["webhook"]["url"], "https://hooks.example/x");
    assert_eq!(channels["email"]["to"], json!(["ops@shop.example"]));
    let change = json!({"notification_channels": ["email", "slack"]});
    assert_eq!(server.call("PUT", &path, &shop.key, Some(&change)).await.status, 200);
    let shown = server.call("GET", &path, &shop.key, None).await.json();
    assert_eq!(shown["rule"]["notification_channels"], json!(["email", "slack"]));
    let tenant = shop.id.parse().unwrap();
    assert!(server.ps.alert_store().channels(tenant).await.unwrap().is_empty(), "what is not used is gone");
}

#[tokio::test]
async fn a_rule_is_changed_and_deleted() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let path = format!("{RULES}/{}", made(&server, &shop, &rule("r")).await);
    let change = json!({"name": "renamed", "is_active": false, "time_window": "1h", "condition": {"type": "count", "max_count": 1}});
    let changed = server.call("PUT", &path, &shop.key, Some(&change)).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    has_exactly(&changed.json(), "success message rule_id");
    let found = server.call("GET", &path, &shop.key, None).await.json();
    for (name, value) in change.as_object().unwrap() {
        assert_eq!(&found["rule"][name], value, "{name}");
    }
    assert_eq!(found["rule"]["severity"], "high", "what is absent stays");
    let deleted = server.call("DELETE", &path, &shop.key, None).await;
    has_exactly(&deleted.json(), "success message rule_id");
    for (method, body) in [("GET", None), ("PUT", Some(json!({}))), ("DELETE", None)] {
        assert_eq!(server.call(method, &path, &shop.key, body.as_ref()).await.status, 404, "{method}");
    }
}

#[tokio::test]
async fn a_rule_fires_and_its_alert_is_resolved_by_hand() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let id = made(&server, &shop, &rule("Busy")).await;
    let quiet = server.call("POST", &format!("{RULES}/{id}/test"), &shop.key, None).await.json();
    has_exactly(&quiet, "success message alert_id alert_title triggered_at");
    assert_eq!(
        (&quiet["success"], &quiet["alert_id"], &quiet["triggered_at"]),
        (&json!(true), &Value::Null, &Value::Null)
    );

    sent(&server, &shop, 3, 200).await;
    let fired = server.call("POST", &format!("{RULES}/{id}/test"), &shop.key, None).await.json();
    assert_eq!(fired["alert_title"], "Busy", "{fired}");
    let evaluated = server.call("POST", "/api/v1/alerting/evaluate", &shop.key, None).await.json();
    has_exactly(&evaluated, "success message total_rules_evaluated alerts_triggered alerts");
    assert_eq!((&evaluated["total_rules_evaluated"], &evaluated["alerts_triggered"]), (&json!(1), &json!(1)));
    has_exactly(&evaluated["alerts"][0], "id title severity triggered_at");

    let list = server.call("GET", ALERTS, &shop.key, None).await.json();
    has_exactly(&list, "success alerts total_count tenant_id");
    has_exactly(&list["alerts"][0], ALERT);
    assert_eq!((&list["total_count"], &list["alerts"][0]["status"]), (&json!(1), &json!("active")));
    for (query, count) in
        [("severity_filter=low", 0), ("severity_filter=high", 1), ("status_filter=resolved", 0)]
    {
        let list = server.call("GET", &format!("{ALERTS}?{query}"), &shop.key, None).await.json();
        assert_eq!(list["total_count"], count, "{query}");
    }
    let path = format!("{ALERTS}/{}", fired["alert_id"].as_str().unwrap());
    let found = server.call("GET", &path, &shop.key, None).await.json();
    has_exactly(&found, "success alert");
    let more = " trigger_data alert_metadata resolved_by resolution_note created_at updated_at";
    has_exactly(&found["alert"], &format!("{ALERT}{more}"));
    assert_eq!(
        (&found["alert"]["alert_rule_id"], &found["alert"]["rule_name"]),
        (&json!(id), &json!("Busy"))
    );

    let body = json!({"resolved_by": "ada", "note": "restarted"});
    let resolved = server.call("POST", &format!("{path}/resolve"), &shop.key, Some(&body)).await;
    assert_eq!(resolved.status, 200, "{}", resolved.text());
    has_exactly(&resolved.json(), "success message alert_id resolved_by resolved_at");
    assert_eq!(resolved.json()["resolved_by"], "ada");
    let found = server.call("GET", &path, &shop.key, None).await.json();
    let alert = &found["alert"];
    assert_eq!(
        (&alert["status"], &alert["resolved_by"], &alert["resolution_note"]),
        (&json!("resolved"), &json!("ada"), &json!("restarted"))
    );
    assert_eq!(server.call("POST", &format!("{path}/resolve"), &shop.key, Some(&body)).await.status, 409);

    let stats = server.call("GET", "/api/v1/alerting/stats", &shop.key, None).await.json();
    has_exactly(&stats, "success stats recent_alerts");
    assert_eq!(
        stats["stats"],
        json!({
            "total_alerts": 1, "active_alerts": 0, "resolved_alerts": 1, "total_rules": 1, "active_rules": 1,
            "alert_resolution_rate": 100.0,
        })
    );
    has_exactly(&stats["recent_alerts"][0], "id title severity status triggered_at");
    let unknown = format!("{ALERTS}/00000000-0000-7000-8000-000000000000");
    assert_eq!(server.call("GET", &unknown, &shop.key, None).await.status, 404);
}

#[tokio::test]
async fn every_condition_fires_when_it_holds_and_only_then() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let pattern = |name: &str, field: &str, most: f64| json!({"type": "pattern", "pattern": {"type": name, field: most}});
    let threshold = |field: &str| json!({"type": "threshold", "metric_field": field});
    // Three calls with status 503 that take 50 ms each.
    let conditions = [
        ("at least 3", json!({"type": "count", "min_count": 3}), None, true),
        ("at least 4", json!({"type": "count", "min_count": 4}), None, false),
        ("at most 7", json!({"type": "count", "max_count": 7}), None, true),
        ("at most 2", json!({"type": "count", "max_count": 2}), None, false),
        ("2 to 7", json!({"type": "count", "min_count": 2, "max_count": 7}), None, true),
        ("5 to 7", json!({"type": "count", "min_count": 5, "max_count": 7}), None, false),
        ("status", threshold("status_code"), Some((503.0, ">=")), true),
        ("fast", threshold("duration_ms"), Some((10.0, "<")), false),
        ("exactly 3", threshold("count"), Some((3.0, "==")), true),
        ("up to 3", threshold("count"), Some((3.0, "<=")), true),
        ("more than 3", threshold("count"), Some((3.0, ">")), false),
        ("not 3", threshold("count"), Some((3.0, "!=")), false),
        ("failing", pattern("error_rate", "max_error_rate", 0.5), None, true),
        ("slow", pattern("response_time", "max_avg_response_time", 500.0), None, false),
    ];
    for (name, condition, limit, _) in &conditions {
        let mut body = json!({"name": name, "severity": "low", "condition": condition});
        if let Some((value, operator)) = limit {
            (body["threshold_value"], body["threshold_operator"]) = (json!(value), json!(operator));
        }
        made(&server, &shop, &body).await;
    }
    sent(&server, &shop, 3, 503).await;
    // The first whole window ends five minutes later.
    server.clock.advance(Duration::from_secs(306));
    let mut expected: Vec<_> = conditions.iter().filter(|it| it.3).map(|it| it.0.to_owned()).collect();
    expected.sort();
    let mut fired = Vec::new();
    for _ in 0..200 {
        let list = server.call("GET", &format!("{ALERTS}?limit=100"), &shop.key, None).await.json();
        let names = list["alerts"].as_array().unwrap().iter();
        fired = names.map(|alert| alert["rule_name"].as_str().unwrap().to_owned()).collect();
        fired.sort();
        if fired.len() >= expected.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(fired, expected);
}

#[tokio::test]
async fn a_rule_tells_when_it_was_evaluated_last() {
    let builder = Builder::default().without_background();
    let server = Server::with(builder, ApiConfig::default()).await;
    let shop = server.tenant("shop").await;
    let condition = json!({"type": "count", "min_count": 1});
    let rule = json!({"name": "r", "severity": "low", "condition": condition});
    let made = server.call("POST", "/api/v1/alerting/rules", &shop.key, Some(&rule)).await.json();
    let path = format!("/api/v1/alerting/rules/{}", made["rule_id"].as_str().unwrap());
    let shown = async || {
        let one =
            server.call("GET", &path, &shop.key, None).await.json()["rule"]["last_evaluated_at"].clone();
        let list =
            server.call("GET", "/api/v1/alerting/rules?active_only=false", &shop.key, None).await.json();
        assert_eq!(list["rules"][0]["last_evaluated_at"], one);
        one
    };
    assert_eq!(shown().await, Value::Null, "nobody evaluates");
    let tenant = shop.id.parse().unwrap();
    let resource = format!("alerting/{}", Partition::of(tenant).number());
    let ttl = server.ps.settings().alerting.lease_ttl;
    let evaluate = async || drop(server.ps.coordinator().acquire(&resource, "a node", ttl).await.unwrap());
    evaluate().await;
    assert_eq!(shown().await, Value::Null, "not since it was made");
    server.clock.advance(Duration::from_secs(10));
    evaluate().await;
    assert_eq!(shown().await, "2026-01-15T12:00:10Z");
    server.clock.advance(Duration::from_secs(5));
    assert_eq!(shown().await, "2026-01-15T12:00:10Z");
    server.call("PUT", &path, &shop.key, Some(&json!({"is_active": false}))).await;
    evaluate().await;
    assert_eq!(shown().await, Value::Null, "it is off");
}

#[tokio::test]
async fn alerts_are_listed_by_state_and_severity() {
    use pulsestream::core::alerting::{AlertSeverity, AlertState, Suppression};
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let states = [
        ("pending", AlertState::Pending, false),
        ("active", AlertState::Firing, false),
        ("suppressed", AlertState::Firing, true),
        ("active", AlertState::NoData, false),
        ("active", AlertState::Recovering, false),
        ("resolved", AlertState::Resolved, false),
    ];
    let severities =
        [AlertSeverity::Low, AlertSeverity::Medium, AlertSeverity::High, AlertSeverity::Critical];
    let mut ids = Vec::new();
    for (number, (_, state, is_suppressed)) in states.into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let (id, _) = stored(&server, &shop, number, |change| {
            change.transition.to = state;
            change.severity = severities[usize::from(number) % 4];
            change.suppressed_by = is_suppressed.then_some(Suppression::MuteSchedule("night".into()));
        })
        .await;
        ids.push(id.to_string());
    }
    let list = async |query: &str| {
        let list = server.call("GET", &format!("{ALERTS}?{query}"), &shop.key, None).await.json();
        let alerts = list["alerts"].as_array().unwrap().clone();
        (list["total_count"].as_u64().unwrap(), alerts)
    };
    for wanted in ["pending", "active", "suppressed", "resolved"] {
        let (total, alerts) = list(&format!("status_filter={wanted}")).await;
        let mut expected: Vec<_> = states
            .iter()
            .zip(&ids)
            .filter(|((name, ..), _)| *name == wanted)
            .map(|(_, id)| id.clone())
            .collect();
        expected.reverse();
        let found: Vec<_> = alerts.iter().map(|alert| alert["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!((total, found), (expected.len() as u64, expected), "{wanted}, the latest first");
        assert!(alerts.iter().all(|alert| alert["status"] == wanted), "{alerts:?}");
    }
    assert_eq!(list("").await.0, 3, "the active ones");
    let (total, alerts) = list("severity_filter=critical").await;
    assert_eq!((total, &alerts[0]["severity"]), (1, &json!("critical")));
    let (total, alerts) = list("limit=1&offset=1").await;
    assert_eq!((total, alerts.len(), &alerts[0]["id"]), (3, 1, &json!(ids[3])));
    for bad in ["status_filter=open", "severity_filter=error", "limit=0", "limit=1001", "offset=-1"] {
        assert_eq!(
            server.call("GET", &format!("{ALERTS}?{bad}"), &shop.key, None).await.status,
            422,
            "{bad}"
        );
    }
    let stats = server.call("GET", "/api/v1/alerting/stats", &shop.key, None).await.json();
    for (name, expected) in [("total_alerts", 6), ("active_alerts", 3), ("resolved_alerts", 1)] {
        assert_eq!(stats["stats"][name], expected, "{name}: {stats}");
    }
    let summary = server.call("GET", "/api/v1/dashboard/alerts/summary", &shop.key, None).await.json();
    assert_eq!(summary["data"]["active_alerts_count"], 3, "{summary}");
    assert_eq!(stats["recent_alerts"].as_array().unwrap().len(), 5, "five at most");
    // Whoever resolves without a name is the system.
    let path = format!("{ALERTS}/{}/resolve", ids[1]);
    let resolved = server.call("POST", &path, &shop.key, Some(&json!({}))).await.json();
    assert_eq!((&resolved["resolved_by"], &resolved["alert_id"]), (&json!("system"), &json!(ids[1])));
}

#[tokio::test]
async fn a_rule_tells_the_channels_it_names_and_brings_at_once_and_one_by_one() {
    use std::sync::Arc;

    use pulsestream::core::alerting::{Channel, ChannelConfig, NotificationKind};
    use pulsestream::core::event::JsonObject;
    use pulsestream::core::id::ChannelId;
    use pulsestream::core::memory::RecordingNotifier;
    let config = |kind: &str| ChannelConfig::Custom { kind: kind.into(), settings: JsonObject::default() };
    let kinds =
        ["webhook", "of the server", "of the tenant"].map(|kind| Arc::new(RecordingNotifier::new(kind)));
    let mut builder = Builder::default();
    for (number, (name, kind)) in
        [("email", "of the server"), ("slack", "of the server")].into_iter().enumerate()
    {
        let id = ChannelId::from_u128(number as u128 + 1);
        builder = builder.with_server_channel(Channel::new(id, name, config(kind)));
    }
    for notifier in &kinds {
        builder = builder.with_notifier(notifier.clone());
    }
    let server = Server::with(builder, ApiConfig::default()).await;
    let shop = server.tenant("shop").await;
    // The tenant's own channel of a name comes before the server's.
    let own = json!({"name": "slack", "config": {"type": "custom", "kind": "of the tenant"}});
    assert_eq!(server.call("POST", "/api/v2/channels", &shop.key, Some(&own)).await.status, 201);
    for (name, channels) in [
        ("names", json!(["email", "slack"])),
        ("brings", json!({"webhook": {"url": "https://hooks.example/x"}})),
    ] {
        let mut rule = rule(name);
        rule["notification_channels"] = channels;
        made(&server, &shop, &rule).await;
    }
    sent(&server, &shop, 3, 200).await;
    let evaluated = server.call("POST", "/api/v1/alerting/evaluate", &shop.key, None).await.json();
    assert_eq!(evaluated["alerts_triggered"], 2, "{evaluated}");
    // No time passes: what is told is told at once, each alert by itself.
    let mut told = [Vec::new(), Vec::new(), Vec::new()];
    let all_told = async {
        while told.iter().any(Vec::is_empty) {
            for (told, notifier) in told.iter_mut().zip(&kinds) {
                told.extend(notifier.take().into_iter().map(|it| it.delivery.content));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        loop {
            let list = server.call("GET", ALERTS, &shop.key, None).await.json();
            let counts = |alert: &Value| {
                let expected = if alert["rule_name"] == "names" { 2 } else { 1 };
                alert["notifications_sent"] == expected && alert["notification_failures"] == 0
            };
            if list["alerts"].as_array().unwrap().iter().all(counts) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_told)
        .await
        .expect("every channel is told, and counted");
    for (told, name) in told.iter().zip(["brings", "names", "names"]) {
        assert_eq!(
            (told.len(), told[0].kind, told[0].alerts.len()),
            (1, NotificationKind::Firing, 1),
            "{told:?}"
        );
        assert_eq!(told[0].alerts[0].rule_name, name);
    }
}

#[tokio::test]
async fn processing_an_event_again_doubles_nothing() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let mut once = rule("once");
    once["condition"] = json!({"type": "count", "min_count": 1});
    made(&server, &shop, &once).await;
    let event = json!({
        "event_id": "e1", "event_type": "api_call", "title": "t",
        "source": {"service": "s", "endpoint": "/", "method": "GET"}
    });
    assert_eq!(server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event)).await.status, 200);
    let mut alerts = Vec::new();
    for _ in 0..3 {
        let again = server.call("POST", "/api/v1/ingestion/events/e1/retry", &shop.key, None).await;
        assert_eq!(again.status, 200, "{}", again.text());
        let list = server.call("GET", ALERTS, &shop.key, None).await.json();
        assert_eq!(list["total_count"], 1, "{list}");
        alerts.push(list["alerts"][0]["id"].clone());
    }
    assert!(alerts.iter().all(|id| *id == alerts[0]), "{alerts:?}");
    let stats = server.call("GET", "/api/v1/ingestion/stats", &shop.key, None).await.json();
    assert_eq!(stats["total_events"], 1, "{stats}");
}
