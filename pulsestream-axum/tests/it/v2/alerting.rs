//! Rules, alerts, silences, channels and deliveries of `/api/v2`.

use axum::body::Body;
use axum::http::Request;
use pulsestream::core::alerting::{
    AlertChange, AlertState, Author, Delivery, Fingerprint, NotificationContent, NotificationKind, Routing,
    Transition, TransitionReason, alert_id,
};
use pulsestream::core::id::{AlertId, ChannelId, DeliveryId, RuleId, TenantId};
use pulsestream::core::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, CheckpointUpdate, PutMode, TenantAlertChanges,
};
use pulsestream::core::ports::event_store::{Partition, Position};
use pulsestream::core::time::Timestamp;
use serde_json::{Value, json};

use super::{pointers, problem, same, shops};
use crate::server::{Response, START, Server, Shop};

const RULES: &str = "/api/v2/rules";
const UNKNOWN: &str = "00000000-0000-8000-8000-000000000001";

async fn with_if_match(
    server: &Server,
    method: &str,
    path: &str,
    shop: &Shop,
    tag: &str,
    body: &Value,
) -> Response {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
        .header("content-type", "application/json")
        .header("if-match", tag);
    server.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn a_rule_is_made_from_text_changed_by_version_and_deleted() {
    let (server, own, _) = shops().await;
    let text =
        "p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' by source.endpoint for 2m";
    let body = json!({"name": "slow", "expression": text, "severity": "high", "labels": {"team": "web"}});
    let made = server.call("POST", RULES, &own.key, Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("etag"), "\"1\"");
    let rule = made.json();
    assert_eq!(rule["expression"], text);
    assert_eq!((&rule["kind"]["type"], &rule["for"]), (&json!("threshold"), &json!("2m")));
    assert_eq!((&rule["created_at"], &rule["total_fired"]), (&json!("2026-01-15T12:00:00Z"), &json!(0)));
    let path = format!("{RULES}/{}", rule["id"].as_str().unwrap());
    let found = server.call("GET", &path, &own.key, None).await;
    assert_eq!((found.json(), found.header("etag")), (rule, "\"1\""));

    let taken = server.call("POST", RULES, &own.key, Some(&body)).await;
    problem(&taken, 409, "conflict");
    let next =
        json!({"name": "silent", "kind": {"type": "absence", "window": "15m"}, "filter": "event_type = 'x'"});
    let stale = with_if_match(&server, "PUT", &path, &own, "\"7\"", &next).await;
    problem(&stale, 412, "precondition_failed");
    let changed = with_if_match(&server, "PUT", &path, &own, "\"1\"", &next).await;
    assert_eq!((changed.status.as_u16(), changed.header("etag")), (200, "\"2\""), "{}", changed.text());
    assert_eq!(changed.json()["expression"], "absent over 15m where event_type = 'x'");
    let off = server.call("POST", &format!("{path}/disable"), &own.key, None).await;
    assert_eq!((&off.json()["is_active"], off.header("etag")), (&json!(false), "\"3\""));
    let off = server.call("GET", &format!("{RULES}?is_active=false"), &own.key, None).await.json();
    assert_eq!((&off["total"], &off["rules"][0]["name"]), (&json!(1), &json!("silent")));
    let on = server.call("POST", &format!("{path}/enable"), &own.key, None).await;
    assert_eq!(on.json()["is_active"], true);
    problem(
        &with_if_match(&server, "DELETE", &path, &own, "\"1\"", &json!({})).await,
        412,
        "precondition_failed",
    );
    assert_eq!(server.call("DELETE", &path, &own.key, None).await.status, 204);
    problem(&server.call("GET", &path, &own.key, None).await, 404, "not_found");
}

#[tokio::test]
async fn a_bad_rule_is_refused_where_it_is_wrong() {
    let (server, own, _) = shops().await;
    for (body, expected) in [
        (json!({"name": "x"}), vec!["/expression"]),
        (json!({"name": "x", "expression": "count > over 5m"}), vec!["/expression"]),
        (json!({"name": "x", "expression": "count > 1 over 1ms"}), vec!["/expression"]),
        (
            json!({"name": "x", "expression": "count > 1 over 5m", "for": "1m", "kind": {}}),
            vec!["/kind", "/for"],
        ),
        (
            json!({"name": "x", "kind": {"type": "absence", "windw": "5m"}, "for": "soon", "filter": "x ="}),
            vec!["/kind", "/filter", "/for"],
        ),
        (json!({"name": "", "expresion": "count > 1 over 5m"}), vec!["/name", "/expresion"]),
        (
            json!({"name": "x", "expression": "count > 1 over 5m", "labels": {"a b": "c"}}),
            vec!["/labels/a b"],
        ),
        (
            json!({"name": "x", "expression": "count > 1 over 5m", "annotations": {"title": "{{ value"}}),
            vec!["/annotations/title"],
        ),
    ] {
        let answer = server.call("POST", RULES, &own.key, Some(&body)).await;
        let refused = problem(&answer, 422, "invalid");
        assert_eq!(pointers(&refused), expected, "{refused}");
    }
}

#[tokio::test]
async fn rules_have_pages() {
    let (server, own, other) = shops().await;
    for index in 0..5 {
        let body = json!({"name": format!("r{index}"), "expression": "count > 1 over 5m"});
        assert_eq!(server.call("POST", RULES, &own.key, Some(&body)).await.status, 201);
        server.clock.advance(std::time::Duration::from_secs(1));
    }
    let (mut names, mut path) = (Vec::new(), format!("{RULES}?limit=2"));
    loop {
        let page = server.call("GET", &path, &own.key, None).await.json();
        assert_eq!(page["total"], 5);
        for rule in page["rules"].as_array().unwrap() {
            names.push(rule["name"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{RULES}?limit=2&cursor={cursor}");
        let foreign = server.call("GET", &path, &other.key, None).await;
        problem(&foreign, 400, "invalid_cursor");
        let elsewhere = format!("/api/v2/alerts?cursor={cursor}");
        problem(&server.call("GET", &elsewhere, &own.key, None).await, 400, "invalid_cursor");
    }
    assert_eq!(names, ["r0", "r1", "r2", "r3", "r4"]);
}

#[tokio::test]
async fn a_text_is_explained() {
    let (server, own, _) = shops().await;
    let ask = async |expression: &str| {
        let body = json!({"expression": expression});
        server.call("POST", "/api/v2/rules/explain", &own.key, Some(&body)).await
    };
    let answer = ask("count>5 over 5m where source.service='shop'").await.json();
    assert_eq!(answer["expression"], "count > 5 over 5m where source.service = 'shop'");
    assert_eq!(answer["events"], "events where the service is 'shop'");
    assert_eq!(pointers(&problem(&ask("cuont > 5").await, 422, "invalid")), ["/expression"]);
}

/// Stores an alert of a tenant that fires, with a delivery about it, as the alerting processor does.
async fn firing(server: &Server, shop: &Shop, number: u8) -> (AlertId, DeliveryId) {
    stored(server, shop, number, |_| ()).await
}

/// Does the same after the alert was changed.
pub(crate) async fn stored(
    server: &Server,
    shop: &Shop,
    number: u8,
    change: impl FnOnce(&mut AlertChange),
) -> (AlertId, DeliveryId) {
    let tenant: TenantId = shop.id.parse().unwrap();
    let (rule, fingerprint) = (RuleId::from_u128(7), Fingerprint(u64::from(number)));
    let at = Timestamp::from_seconds(START + i64::from(number));
    let alert = alert_id(tenant, rule, fingerprint, at);
    let transition = Transition {
        alert,
        sequence: 1,
        rule,
        rule_version: 1,
        fingerprint,
        group: Default::default(),
        from: None,
        to: AlertState::Firing,
        at,
        started_at: at,
        fired_at: Some(at),
        value: Some(9.0),
        reason: TransitionReason::Condition,
        muted: None,
    };
    let mut changed = AlertChange {
        transition,
        rule_name: "slow".into(),
        severity: Default::default(),
        labels: Default::default(),
        annotations: Default::default(),
        summary: "count > 5".into(),
        suppressed_by: None,
    };
    change(&mut changed);
    let channel = ChannelId::from_u128(9);
    let content = NotificationContent {
        kind: NotificationKind::Firing,
        title: "slow".into(),
        message: "slow".into(),
        group: Default::default(),
        alerts: Vec::new(),
        omitted: 0,
    };
    let delivery_id = Delivery::id_for_transition(alert, 1, channel);
    let delivery = Delivery::new(delivery_id, channel, "ops".into(), content, at, at);
    let checkpoint = CheckpointUpdate {
        processor: format!("test-{number}").into(),
        partition: Partition::of(tenant),
        fencing_token: 1,
        after_sequence: 0,
        position: Position::START,
        state: Vec::new(),
    };
    let changes = TenantAlertChanges {
        tenant,
        alerts: vec![changed],
        timeline: Vec::new(),
        deliveries: vec![delivery],
    };
    let commit = AlertCommit { checkpoint, changes: vec![changes] };
    // Commits pass over tenants without any configuration.
    let (routing, author) = (Routing::default(), Author::server(at));
    server.ps.alert_store().put_routing(tenant, routing, PutMode::Always, &author).await.unwrap();
    assert_eq!(server.ps.alert_store().commit(commit).await.unwrap(), AlertCommitOutcome::Committed);
    (alert, delivery_id)
}

#[tokio::test]
async fn people_handle_an_alert() {
    let (server, own, other) = shops().await;
    let (alert, _) = firing(&server, &own, 1).await;
    let (second, _) = firing(&server, &own, 2).await;
    let path = format!("/api/v2/alerts/{alert}");
    let page = server.call("GET", "/api/v2/alerts?limit=1&count=true", &own.key, None).await.json();
    assert_eq!((&page["alerts"][0]["id"], &page["total"]), (&json!(second.to_string()), &json!(2)));
    let next = format!("/api/v2/alerts?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = server.call("GET", &next, &own.key, None).await.json();
    assert_eq!((&page["alerts"][0]["id"], &page["next_cursor"]), (&json!(alert.to_string()), &Value::Null));
    assert_eq!(server.call("GET", "/api/v2/alerts", &other.key, None).await.json()["alerts"], json!([]));

    let act = async |verb: &str, body: Option<&Value>| {
        server.call("POST", &format!("{path}/{verb}"), &own.key, body).await
    };
    let past = json!({"expires_at": "2026-01-15T11:00:00Z"});
    assert_eq!(pointers(&problem(&act("acknowledge", Some(&past)).await, 422, "invalid")), ["/expires_at"]);
    let taken = act("acknowledge", Some(&json!({"note": "on it"}))).await;
    assert_eq!(taken.json()["acknowledgement"]["note"], "on it", "{}", taken.text());
    assert_eq!(act("unacknowledge", None).await.json()["acknowledgement"], Value::Null);
    problem(&act("unacknowledge", None).await, 409, "conflict");
    assert_eq!(act("comment", Some(&json!({"note": "looks bad"}))).await.status, 200);
    let over = act("resolve", Some(&json!({}))).await;
    assert_eq!(over.json()["state"], "resolved");
    problem(&act("resolve", Some(&json!({}))).await, 409, "conflict");
    let shown = server.call("GET", &path, &own.key, None).await.json();
    let kinds: Vec<_> = shown["timeline"].as_array().unwrap().iter().map(|it| &it["kind"]["type"]).collect();
    assert_eq!(kinds.len(), 5, "{shown}");
    for kind in ["transition", "acknowledged", "unacknowledged", "commented"] {
        assert!(kinds.contains(&&json!(kind)), "{kind}");
    }
    let open = server.call("GET", "/api/v2/alerts?state=firing,pending", &own.key, None).await.json();
    assert_eq!(open["alerts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn silences_come_and_go() {
    let (server, own, _) = shops().await;
    let silences = "/api/v2/silences";
    let body = json!({
        "matchers": [{"label": "severity", "op": "=", "value": "high"}], "ends_at": "2026-01-15T13:00:00Z",
        "comment": "maintenance",
    });
    let made = server.call("POST", silences, &own.key, Some(&body)).await;
    assert_eq!((made.status.as_u16(), made.header("etag")), (201, "\"1\""), "{}", made.text());
    let made = made.json();
    assert!(made["created_by"].as_str().unwrap().starts_with("api_key:"));
    let path = format!("{silences}/{}", made["id"].as_str().unwrap());
    assert_eq!(server.call("GET", &path, &own.key, None).await.json(), made);
    let mut longer = body.clone();
    longer["ends_at"] = json!("2026-01-15T14:00:00Z");
    problem(&with_if_match(&server, "PUT", &path, &own, "\"2\"", &longer).await, 412, "precondition_failed");
    let changed = with_if_match(&server, "PUT", &path, &own, "\"1\"", &longer).await;
    assert_eq!((&changed.json()["ends_at"], changed.header("etag")), (&longer["ends_at"], "\"2\""));
    server.clock.advance(std::time::Duration::from_secs(3 * 3_600));
    let current = server.call("GET", &format!("{silences}?current=true"), &own.key, None).await.json();
    assert_eq!(current, json!({"silences": [], "next_cursor": null, "total": 0}));
    let all = server.call("GET", silences, &own.key, None).await.json();
    assert_eq!(all["silences"].as_array().unwrap().len(), 1);
    assert_eq!(server.call("DELETE", &path, &own.key, None).await.status, 204);
    problem(&server.call("GET", &path, &own.key, None).await, 404, "not_found");
    let bad =
        json!({"matchers": [{"label": "x", "op": "=~", "value": "("}], "ends_at": "2020-01-01T00:00:00Z"});
    let refused = problem(&server.call("POST", silences, &own.key, Some(&bad)).await, 422, "invalid");
    assert_eq!(pointers(&refused), ["/matchers/0", "/ends_at"]);
}

#[tokio::test]
async fn secrets_of_channels_go_in_and_never_come_out() {
    let (server, own, _) = shops().await;
    let channels = "/api/v2/channels";
    let webhook = |url: &str, secret: &str, header: &str| {
        json!({"name": "ops", "config": {
            "type": "webhook", "url": url, "secrets": [secret], "headers": [["Authorization", header]],
        }})
    };
    let (url, secret, header) = ("https://hooks.example/a", "whsec_c2VjcmV0", "Bearer canary");
    let made = server.call("POST", channels, &own.key, Some(&webhook(url, secret, header))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id: ChannelId = made.json()["id"].as_str().unwrap().parse().unwrap();
    let path = format!("{channels}/{id}");
    let masked = webhook(url, "***", "***");
    let changed = server.call("PUT", &path, &own.key, Some(&masked)).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let answers = [
        made,
        changed,
        server.call("GET", &path, &own.key, None).await,
        server.call("GET", channels, &own.key, None).await,
    ];
    for answer in &answers {
        assert!(
            !answer.text().contains("canary") && !answer.text().contains("c2VjcmV0"),
            "{}",
            answer.text()
        );
    }
    let stored = server.ps.alert_store().channel(own.id.parse().unwrap(), id).await.unwrap().unwrap();
    let stored = serde_json::to_string(&stored).unwrap();
    assert!(stored.contains("canary") && stored.contains("c2VjcmV0"), "{stored}");
    let stale = with_if_match(&server, "PUT", &path, &own, "\"1\"", &masked).await;
    problem(&stale, 412, "precondition_failed");
    let fresh = with_if_match(&server, "PUT", &path, &own, "\"2\"", &masked).await;
    assert_eq!((fresh.status.as_u16(), fresh.header("etag")), (200, "\"3\""), "{}", fresh.text());
    problem(
        &with_if_match(&server, "DELETE", &path, &own, "\"2\"", &json!({})).await,
        412,
        "precondition_failed",
    );
    // A stored secret does not follow to another address.
    let moved = webhook("https://evil.example/a", "***", "***");
    let moved = server.call("PUT", &path, &own.key, Some(&moved)).await;
    assert_eq!(pointers(&problem(&moved, 422, "invalid")), ["/config"]);
    let wrong = json!({"name": "x", "config": {"type": "webhook", "ur": "https://a.example"}});
    let wrong = server.call("POST", channels, &own.key, Some(&wrong)).await;
    assert_eq!(pointers(&problem(&wrong, 422, "invalid")), ["/config"]);
    let tested = server.call("POST", &format!("{path}/test"), &own.key, None).await;
    assert_eq!(tested.status, 202, "{}", tested.text());
    let delivery = format!("/api/v2/deliveries/{}", tested.json()["delivery_id"].as_str().unwrap());
    let delivery = server.call("GET", &delivery, &own.key, None).await.json();
    assert_eq!((&delivery["content"]["kind"], &delivery["channel_name"]), (&json!("test"), &json!("ops")));
    assert_eq!(server.call("DELETE", &path, &own.key, None).await.status, 204);
}

#[tokio::test]
async fn deliveries_are_listed_and_sent_again() {
    let (server, own, other) = shops().await;
    let (alert, delivery) = firing(&server, &own, 1).await;
    let list = async |query: &str, shop: &Shop| {
        server.call("GET", &format!("/api/v2/deliveries?{query}"), &shop.key, None).await.json()["deliveries"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(list(&format!("alert_id={alert}"), &own).await, 0, "the delivery tells of no alert");
    assert_eq!((list("", &own).await, list("", &other).await), (1, 0));
    let path = format!("/api/v2/deliveries/{delivery}");
    let shown = server.call("GET", &path, &own.key, None).await.json();
    assert_eq!((&shown["id"], shown["log"].is_array()), (&json!(delivery.to_string()), true));
    let replayed = server.call("POST", &format!("{path}/replay"), &own.key, None).await;
    assert_eq!(replayed.status, 200, "{}", replayed.text());
    let replay = async |body: &Value, shop: &Shop| {
        server.call("POST", "/api/v2/deliveries/replay", &shop.key, Some(body)).await
    };
    let foreign = replay(&json!({"ids": [delivery.to_string()]}), &other).await;
    assert_eq!(foreign.json(), json!({"replayed": 0}));
    assert_eq!(replay(&json!({"dead": true}), &own).await.status, 200);
    problem(&replay(&json!({}), &own).await, 422, "invalid");
    problem(&replay(&json!({"dead": true, "ids": [UNKNOWN]}), &own).await, 422, "invalid");
    let bad = server.call("GET", "/api/v2/deliveries?channel_id=x", &own.key, None).await;
    assert_eq!(problem(&bad, 422, "invalid")["errors"][0]["parameter"], "channel_id");
}

/// Every operation on an id answers the id of another tenant as it answers one that does not exist, and one that cannot exist.
#[tokio::test]
async fn ids_of_others_are_unknown_ids() {
    let (server, own, other) = shops().await;
    let rule = json!({"name": "r", "expression": "count > 1 over 5m"});
    let silence =
        json!({"matchers": [{"label": "a", "op": "=", "value": "b"}], "ends_at": "2026-01-16T00:00:00Z"});
    let channel = json!({"name": "c", "config": {"type": "log"}});
    let key = json!({"name": "k", "scopes": ["events:write"]});
    let user = json!({"email": "u@own.example", "password": "a long passphrase 42", "full_name": "A User"});
    let owner = server.owner(&own).await;
    let make = async |path: &str, credential: &str, body: &Value, pointer: &str| {
        let made = server.call("POST", path, credential, Some(body)).await;
        assert!(made.status.is_success(), "{path}: {}", made.text());
        made.json().pointer(pointer).unwrap().as_str().unwrap().to_owned()
    };
    let (alert, delivery) = firing(&server, &own, 1).await;
    let event = json!({"id": "event-of-own", "event_type": "x"});
    let ids = [
        ("event_id", make("/api/v2/events", &own.key, &event, "/id").await),
        ("rule_id", make(RULES, &own.key, &rule, "/id").await),
        ("silence_id", make("/api/v2/silences", &own.key, &silence, "/id").await),
        ("channel_id", make("/api/v2/channels", &own.key, &channel, "/id").await),
        ("key_id", make("/api/v2/keys", &own.key, &key, "/info/id").await),
        ("user_id", make("/api/v2/users", &owner, &user, "/id").await),
        ("alert_id", alert.to_string()),
        ("delivery_id", delivery.to_string()),
    ];
    let foreign_owner = server.owner(&other).await;
    let mut probed = 0;
    for operation in pulsestream_axum::operations() {
        let Some((before, rest)) = operation.path.split_once('{') else { continue };
        let (name, after) = rest.split_once('}').unwrap();
        if !operation.path.starts_with("/api/v2/") || operation.path.starts_with("/api/v2/dashboard") {
            continue;
        }
        let (_, id) = ids.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name}"));
        let method = operation.method.as_str();
        let body = match (name, method, after) {
            ("rule_id", "PUT", _) => Some(rule.clone()),
            ("silence_id", "PUT", _) => Some(silence.clone()),
            ("channel_id", "PUT", _) => Some(channel.clone()),
            ("user_id", "PUT", _) => Some(json!({"role": "viewer"})),
            (_, _, "/comment") => Some(json!({"note": "x"})),
            (_, _, "/backtest") => Some(json!({"from": "2026-01-15T00:00:00Z"})),
            (_, _, "/acknowledge" | "/resolve" | "/rotate") => Some(json!({})),
            _ => None,
        };
        let call = async |id: &str| {
            let path = format!("{before}{id}{after}");
            server.call(method, &path, &foreign_owner, body.as_ref()).await
        };
        let answer = call(id).await;
        problem(&answer, 404, "not_found");
        same(&answer, &call(UNKNOWN).await);
        same(&answer, &call("no-such-id").await);
        probed += 1;
    }
    assert!(probed >= 26, "{probed}");
    // Nothing of it changed anything.
    for (name, id) in &ids[..4] {
        let path = format!("/api/v2/{}s/{id}", name.trim_end_matches("_id"));
        assert_eq!(server.call("GET", &path, &own.key, None).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_rules_refer_to_is_there_and_stays() {
    let (server, own, _) = shops().await;
    let rule = |name: &str, channel: &str| json!({"name": name, "expression": "count > 3 over 5m", "channels": [channel]});
    let refused = server.call("POST", RULES, &own.key, Some(&rule("a", "pagr"))).await;
    assert_eq!((refused.status.as_u16(), pointers(&refused.json())), (422, vec!["/channels/0"]));
    let pager = json!({"name": "pager", "config": {"type": "log"}});
    let pager = server.call("POST", "/api/v2/channels", &own.key, Some(&pager)).await.json();
    let made = server.call("POST", RULES, &own.key, Some(&rule("a", "pager"))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let channel = format!("/api/v2/channels/{}", pager["id"].as_str().unwrap());
    problem(&server.call("DELETE", &channel, &own.key, None).await, 409, "conflict");
    let made = format!("{RULES}/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &made, &own.key, None).await.status, 204);
    assert_eq!(server.call("DELETE", &channel, &own.key, None).await.status, 204);
}
