//! Another tenant's ids, in every place of a request where an id can stand: generated from the OpenAPI documents, so that an
//! operation with a new kind of id, or with a body that has no example, fails here until it is probed.

use std::collections::BTreeMap;

use pulsestream::core::auth::{Scope, Scopes};
use pulsestream_axum::{Operation, openapi_document, operations};
use serde_json::{Value, json};

use crate::prober::{comparable, filled, key, unknown_id};
use crate::server::{Response, Server, Shop};

/// What the probes look for in answers: it is in everything that the victim has.
const CANARY: &str = "canary";

/// Something of everything, by the names that paths have for their ids.
async fn belongings(server: &Server, shop: &Shop, owner: &str, word: &str) -> BTreeMap<&'static str, String> {
    let make = async |method: &str, path: &str, body: Value| {
        let answer = server.call(method, path, owner, Some(&body)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer.json()
    };
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
    let event = json!({
        "event_id": format!("{word}-event"), "event_type": "api_call", "title": word,
        "source": {"service": word, "endpoint": "/", "method": "GET"}
    });
    make("POST", "/api/v1/ingestion/events", event).await;
    let channel = json!({"name": format!("{word} channel"), "config": {"type": "log"}});
    let channel = text(&make("POST", "/api/v2/channels", channel).await["id"]);
    let rule = json!({
        "name": format!("{word} rule"), "severity": "low", "condition": {"type": "count", "min_count": 1},
        "notification_channels": [format!("{word} channel")]
    });
    let rule = text(&make("POST", "/api/v1/alerting/rules", rule).await["rule_id"]);
    let alert =
        text(&make("POST", &format!("/api/v1/alerting/rules/{rule}/test"), json!({})).await["alert_id"]);
    let delivery = format!("/api/v2/channels/{channel}/test");
    let delivery = text(&make("POST", &delivery, json!({})).await["delivery_id"]);
    let silence = json!({
        "matchers": [{"label": "rule", "op": "=", "value": word}], "ends_at": "2100-01-01T00:00:00Z", "comment": word
    });
    let silence = text(&make("POST", "/api/v2/silences", silence).await["id"]);
    let made = json!({"name": format!("{word} key"), "scopes": ["events:write"]});
    let made = text(&make("POST", "/api/v2/keys", made).await["info"]["id"]);
    let user = json!({
        "email": format!("{word}@{}.example", shop.slug), "password": "a long enough secret", "full_name": word
    });
    let user = text(&make("POST", "/api/v2/users", user).await["id"]);
    BTreeMap::from([
        ("event_id", format!("{word}-event")),
        ("rule_id", rule),
        ("alert_id", alert),
        ("channel_id", channel),
        ("delivery_id", delivery),
        ("silence_id", silence),
        ("key_id", made),
        ("user_id", user),
        ("tenant_id", shop.id.clone()),
    ])
}

/// Waits until the test delivery among the belongings was attempted: by itself nothing changes after that, because no time passes.
async fn until_attempted(server: &Server, belongings: &BTreeMap<&'static str, String>) {
    let tenant = belongings["tenant_id"].parse().unwrap();
    let id = belongings["delivery_id"].parse().unwrap();
    while server.ps.outbox().delivery(tenant, id).await.unwrap().unwrap().0.attempts == 0 {
        tokio::task::yield_now().await;
    }
}

/// Everything that a tenant can read of itself.
async fn everything(server: &Server, owner: &str) -> Vec<String> {
    let mut all = Vec::new();
    for path in [
        "/api/v2/events",
        "/api/v2/rules",
        "/api/v2/alerts",
        "/api/v2/channels",
        "/api/v2/silences",
        "/api/v2/deliveries",
        "/api/v2/users",
        "/api/v2/tenant",
    ] {
        let answer = server.call("GET", path, owner, None).await;
        assert_eq!(answer.status, 200, "{path}");
        all.push(answer.text());
    }
    // When a key was last used is no change that anybody made.
    let keys = server.call("GET", "/api/v2/keys", owner, None).await.json();
    let names = keys["keys"].as_array().unwrap().iter();
    all.push(names.map(|key| format!("{} {} {}", key["id"], key["name"], key["revoked_at"])).collect());
    all
}

/// A body that the operation takes: the example of the document, or one that is stated here.
pub(crate) fn body(documents: &[Value], operation: &Operation) -> Option<Value> {
    let method = operation.method.as_str().to_ascii_lowercase();
    let document = documents.iter().find(|it| it["paths"].get(operation.path).is_some()).unwrap();
    let described = &document["paths"][operation.path][&method];
    let reference =
        described.pointer("/requestBody/content/application~1json/schema/$ref")?.as_str().unwrap();
    let name = reference.rsplit('/').next().unwrap();
    let schema = &document["components"]["schemas"][name];
    let example = schema.get("example").or_else(|| schema["examples"].get(0)).cloned();
    Some(example.unwrap_or_else(|| match (operation.method.as_str(), operation.path) {
        (_, path) if path.ends_with("/comment") => json!({"note": "n"}),
        (_, path) if path.ends_with("/role") => json!({"role": "viewer"}),
        ("PUT", "/api/v1/alerting/rules/{rule_id}") => json!({"description": "d"}),
        ("POST", "/api/v1/alerting/alerts/{alert_id}/resolve") => json!({"resolved_by": "x"}),
        (_, path) if path.ends_with("acknowledge") || path.ends_with("/resolve") => json!({}),
        (method, path) => {
            panic!("{method} {path} has a body without an example: give one in the document or here")
        }
    }))
}

async fn probe(
    server: &Server,
    documents: &[Value],
    it: &Operation,
    path: &str,
    credential: &str,
) -> Response {
    server.call(it.method.as_str(), path, credential, body(documents, it).as_ref()).await
}

/// The credentials of every kind of caller of a tenant, with their names.
async fn callers(server: &Server, shop: &Shop, owner: &str) -> Vec<(String, String)> {
    let mut callers = vec![("owner".to_owned(), owner.to_owned())];
    for role in ["viewer", "admin"] {
        let (email, password) = (format!("{role}@{}.example", shop.slug), "a long enough secret");
        let user = json!({"email": email, "password": password, "full_name": "Some Body", "role": role});
        assert_eq!(server.call("POST", "/api/v2/users", owner, Some(&user)).await.status, 201);
        let tokens = server.login(&shop.slug, &email, password).await.json();
        callers.push((role.to_owned(), format!("token:{}", tokens["access_token"].as_str().unwrap())));
    }
    for scope in Scope::ALL {
        callers.push((format!("key with {scope}"), key(server, shop, Scopes::of(*scope)).await));
    }
    callers
}

#[tokio::test]
async fn a_foreign_id_is_an_unknown_id_for_everybody_everywhere() {
    let server = Server::start().await;
    let (victim, attacker) = (server.tenant("victim").await, server.tenant("attacker").await);
    let (victims_owner, owner) = (server.owner(&victim).await, server.owner(&attacker).await);
    let theirs = belongings(&server, &victim, &victims_owner, CANARY).await;
    until_attempted(&server, &theirs).await;
    let before = everything(&server, &victims_owner).await;
    let documents = ["v1", "v2"].map(|version| openapi_document(version).unwrap());
    let is_fixed = |it: &&Operation| it.path.contains("{format}") || it.path.contains("{widget}");
    let mut with_ids: Vec<_> = operations();
    with_ids.retain(|it| it.path.contains('{') && !is_fixed(&it));
    assert!(with_ids.len() > 30, "the table has operations on single things");
    let id = |path: &str, it: &Operation| {
        path.split('/').find(|part| !it.path.split('/').any(|known| known == *part)).unwrap().to_owned()
    };
    for (name, credential) in callers(&server, &attacker, &owner).await {
        for it in &with_ids {
            let foreign = filled(it.path, |name| {
                theirs.get(name).cloned().unwrap_or_else(|| panic!("the victim has no {{{name}}}: make one"))
            });
            let unknown = filled(it.path, unknown_id);
            let place = format!("{name}: {} {}", it.method, it.path);
            let answer = probe(&server, &documents, it, &foreign, &credential).await;
            let of_nobody = probe(&server, &documents, it, &unknown, &credential).await;
            assert!(
                !answer.text().replace(&id(&foreign, it), "").contains(CANARY),
                "{place}: {}",
                answer.text()
            );
            assert!(matches!(answer.status.as_u16(), 403 | 404), "{place}: {}", answer.text());
            let (answer, of_nobody) =
                (comparable(&answer, &id(&foreign, it)), comparable(&of_nobody, &id(&unknown, it)));
            assert_eq!(answer, of_nobody, "{place}");
        }
    }
    assert_eq!(everything(&server, &victims_owner).await, before, "nothing of the victim has changed");
    // The same requests reach something when the id is the caller's own: the probes are no empty blows.
    for (number, it) in with_ids.iter().filter(|it| !it.path.contains("/ws/")).enumerate() {
        // Each has things of its own, because some end what they are about.
        let own = belongings(&server, &attacker, &owner, &format!("own{number}")).await;
        server.clock.advance(std::time::Duration::from_secs(30));
        let answer = probe(&server, &documents, it, &filled(it.path, |name| own[name].clone()), &owner).await;
        let reached = answer.status.is_success() || matches!(answer.status.as_u16(), 409 | 412);
        assert!(reached, "{} {}: {}", it.method, it.path, answer.text());
    }
}

#[tokio::test]
async fn a_foreign_id_in_a_query_or_a_body_is_an_unknown_id_too() {
    let server = Server::start().await;
    let (victim, attacker) = (server.tenant("victim").await, server.tenant("attacker").await);
    let (victims_owner, owner) = (server.owner(&victim).await, server.owner(&attacker).await);
    let theirs = belongings(&server, &victim, &victims_owner, CANARY).await;
    belongings(&server, &attacker, &owner, "own").await;
    until_attempted(&server, &theirs).await;
    let before = everything(&server, &victims_owner).await;
    let document = openapi_document("v2").unwrap();
    let mut probed = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for parameter in methods.pointer("/get/parameters").and_then(Value::as_array).into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            if parameter["in"] != "query" || !name.ends_with("_id") {
                continue;
            }
            let ask = async |value: &str| {
                comparable(&server.call("GET", &format!("{path}?{name}={value}"), &owner, None).await, value)
            };
            let foreign = theirs.get(name).unwrap_or_else(|| panic!("{path}: the victim has no {name}"));
            assert_eq!(ask(foreign).await, ask(&unknown_id(name)).await, "{path}?{name}");
            probed += 1;
        }
    }
    assert!(probed >= 3, "lists can be narrowed by ids");
    let nobodys = "00000000-0000-7000-8000-000000000000";
    let rule = |channel: &str| json!({"name": format!("to {channel}"), "expression": "count > 1 over 5m", "channels": [channel]});
    let selection = |name: &str, id: &str| match name {
        "ids" => json!({"ids": [id]}),
        _ => json!({"dead": true, "channel_id": id}),
    };
    for (path, foreign, unknown) in [
        ("/api/v2/rules", rule(&theirs["channel_id"]), rule(nobodys)),
        ("/api/v2/rules", rule("canary channel"), rule("no such channel")),
        ("/api/v2/deliveries/replay", selection("ids", &theirs["delivery_id"]), selection("ids", nobodys)),
        (
            "/api/v2/deliveries/replay",
            selection("channel_id", &theirs["channel_id"]),
            selection("channel_id", nobodys),
        ),
    ] {
        let answer = server.call("POST", path, &owner, Some(&foreign)).await;
        assert!(!answer.text().replace("canary channel", "").contains(CANARY), "{path}: {}", answer.text());
        let of_nobody = server.call("POST", path, &owner, Some(&unknown)).await;
        assert_eq!(answer.status, of_nobody.status, "{path} {foreign}: {}", answer.text());
    }
    // A place in a list of the victim's is no place in a list of another.
    let page = server.call("GET", "/api/v2/users?limit=1", &victims_owner, None).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let answer = server.call("GET", &format!("/api/v2/users?limit=1&cursor={cursor}"), &owner, None).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].clone()), (400, json!("invalid_cursor")));
    assert_eq!(everything(&server, &victims_owner).await, before, "nothing of the victim has changed");
}

#[tokio::test]
async fn the_same_names_in_two_tenants_are_two_things() {
    let server = Server::start().await;
    let (first, second) = (server.tenant("first").await, server.tenant("second").await);
    let (one, two) = (server.owner(&first).await, server.owner(&second).await);
    let (ones, twos) =
        (belongings(&server, &first, &one, "same").await, belongings(&server, &second, &two, "same").await);
    assert_eq!(ones["event_id"], twos["event_id"]);
    let send = |shop: &Shop, title: &str| {
        let body = json!({"event_type": "order", "title": title}).to_string();
        let request = axum::http::Request::post("/api/v2/events")
            .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
            .header("content-type", "application/json")
            .header("idempotency-key", "the same key");
        server.send(request.body(axum::body::Body::from(body)).unwrap())
    };
    let (left, right) = (send(&first, "mine").await, send(&second, "yours").await);
    assert_eq!((left.status.as_u16(), right.status.as_u16()), (200, 200), "{}", right.text());
    assert_ne!(left.json()["id"], right.json()["id"]);
    let deleted = server.call("DELETE", "/api/v1/ingestion/events/same-event", &one, None).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(server.call("GET", "/api/v1/ingestion/events/same-event", &two, None).await.status, 200);
    // What is cached for one is not shown to the other.
    for path in ["/api/v2/dashboard/overview", "/api/v1/dashboard/overview", "/api/v2/dashboard/export/json"]
    {
        server.call("GET", path, &one, None).await;
        let shown = server.call("GET", path, &two, None).await;
        assert_eq!(shown.header("age").trim_start_matches('0'), "", "{path}");
        assert!(!shown.text().contains(&first.id), "{path}");
    }
}
