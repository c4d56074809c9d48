//! Who may call what, and what is seen of others: each operation of the table, with every kind of caller and with the ids of
//! another tenant. An operation, or a parameter in a path, that is not known here fails the test.

use pulsestream::core::auth::{Action, CreateApiKey, Role, Scope, Scopes};
use pulsestream::core::ports::auth::{Credential, Credentials, Origin};
use pulsestream_axum::{Access, Operation, operations};
use serde_json::{Value, json};

use crate::server::{Response, Server, Shop};

/// Fills the parameters of a path.
pub(crate) fn filled(path: &str, value: impl Fn(&str) -> String) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').unwrap();
        filled.push_str(before);
        filled.push_str(&value(name));
        rest = tail;
    }
    filled + rest
}

/// An id of the right form that nobody has.
pub(crate) fn unknown_id(name: &str) -> String {
    match name {
        "event_id" => "nobody-has-this".to_owned(),
        "tenant_id" | "rule_id" | "alert_id" | "id" | "silence_id" | "channel_id" | "delivery_id"
        | "key_id" | "user_id" => "00000000-0000-7000-8000-000000000000".to_owned(),
        "widget" | "format" => "none".to_owned(),
        other => panic!("the prober does not know the parameter {{{other}}}: say what an unknown one is"),
    }
}

/// What every answer names differently: the request, and the id asked for.
pub(crate) fn comparable(answer: &Response, id: &str) -> (u16, String) {
    let mut body = answer.text().replace(id, "ID");
    if let Ok(mut json) = serde_json::from_str::<Value>(&body) {
        json["request_id"] = Value::Null;
        if let Some(details) = json.get_mut("details").and_then(Value::as_object_mut) {
            details.remove("request_id");
        }
        body = json.to_string();
    }
    (answer.status.as_u16(), body)
}

async fn probe(server: &Server, operation: &Operation, path: &str, credential: &str) -> Response {
    let takes_body = !matches!(operation.method.as_str(), "GET" | "DELETE");
    server.call(operation.method.as_str(), path, credential, takes_body.then_some(&json!({}))).await
}

#[tokio::test]
async fn nobody_is_let_in_without_credentials() {
    let server = Server::start().await;
    for operation in operations() {
        let path = filled(operation.path, unknown_id);
        let answer = probe(&server, &operation, &path, "").await;
        let place = format!("{} {path}: {}", operation.method, answer.text());
        match operation.access {
            Access::Open | Access::Metrics => {
                assert!(!matches!(answer.status.as_u16(), 403 | 500..), "{place}")
            }
            Access::May(_) | Access::MayWithTicket(_) => {
                assert_eq!(answer.status, 401, "{place}");
                assert!(!answer.header("www-authenticate").is_empty(), "{place}");
            }
        }
    }
}

/// Returns a key with these scopes.
pub(crate) async fn key(server: &Server, shop: &Shop, scopes: Scopes) -> String {
    let credential = Credential::ApiKey(shop.key.strip_prefix("key:").unwrap().into());
    let credentials = Credentials { credential, origin: Origin::default() };
    let admin = server.ps.tenant_auth().authenticate(&credentials).await.unwrap();
    let request = CreateApiKey { name: format!("{scopes:?}"), scopes, expires_at: None };
    let made = server.ps.accounts().create_api_key(&admin, &request, &Origin::default()).await.unwrap();
    format!("key:{}", made.key.expose())
}

#[tokio::test]
async fn each_scope_opens_what_the_matrix_says_and_nothing_else() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    for scope in Scope::ALL {
        let scopes = Scopes::of(*scope);
        let key = key(&server, &shop, scopes).await;
        for operation in operations() {
            let Some(action) = operation.access.action() else { continue };
            let path = filled(operation.path, unknown_id);
            let answer = probe(&server, &operation, &path, &key).await;
            assert_access(
                &answer,
                action.allowed_to_scopes(scopes),
                &format!("{scope} {} {path}", operation.method),
            );
        }
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_matrix_says_and_nothing_else() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let owner = server.owner(&shop).await;
    for role in Role::ALL {
        let email = format!("a-{role}@shop.example");
        let password = "a long enough secret";
        let body = json!({
            "email": email, "password": password, "confirm_password": password, "full_name": "Some Body", "role": role
        });
        let made = server.call("POST", "/api/v1/auth/register/user", &owner, Some(&body)).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let sign_in = async || {
            let tokens = server.login("shop", &email, password).await.json();
            format!("token:{}", tokens["access_token"].as_str().unwrap())
        };
        let mut token = sign_in().await;
        for operation in operations() {
            let Some(action) = operation.access.action() else { continue };
            let path = filled(operation.path, unknown_id);
            let answer = probe(&server, &operation, &path, &token).await;
            assert_access(
                &answer,
                action.allowed_to_role(role),
                &format!("{role} {} {path}", operation.method),
            );
            if action == Action::WriteOwnProfile {
                token = sign_in().await;
            }
        }
    }
}

#[track_caller]
fn assert_access(answer: &Response, allowed: bool, place: &str) {
    let status = answer.status.as_u16();
    assert_ne!(status, 401, "{place}");
    // A tenant in the path that is not the caller's is refused with 403 whoever asks.
    if place.contains("/ws/") {
        return;
    }
    assert_eq!(status == 403, !allowed, "{place}: {}", answer.text());
    assert!(status < 500 || status == 501, "{place}: {}", answer.text());
}

/// What a tenant has, by the parameters that name it.
async fn belongings(server: &Server, shop: &Shop) -> Vec<(&'static str, String)> {
    let event = json!({
        "event_id": "canary-event", "event_type": "api_call", "title": "canary title",
        "source": {"service": "canary-service", "endpoint": "/", "method": "GET"}
    });
    server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event)).await;
    let rule =
        json!({"name": "canary rule", "severity": "low", "condition": {"type": "count", "min_count": 1}});
    let rule = server.call("POST", "/api/v1/alerting/rules", &shop.key, Some(&rule)).await.json();
    let rule = rule["rule_id"].as_str().unwrap().to_owned();
    let event = json!({
        "event_type": "api_call", "title": "canary title",
        "source": {"service": "canary-service", "endpoint": "/", "method": "GET"}
    });
    server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event)).await;
    let tested =
        server.call("POST", &format!("/api/v1/alerting/rules/{rule}/test"), &shop.key, None).await.json();
    let alert = tested["alert_id"].as_str().unwrap_or_else(|| panic!("{tested}")).to_owned();
    vec![
        ("event_id", "canary-event".to_owned()),
        ("rule_id", rule),
        ("alert_id", alert),
        ("tenant_id", shop.id.clone()),
    ]
}

#[tokio::test]
async fn what_another_tenant_has_is_as_unknown_as_what_nobody_has() {
    let server = Server::start().await;
    let (victim, caller) = (server.tenant("victim").await, server.tenant("caller").await);
    let belongings = belongings(&server, &victim).await;
    for operation in operations() {
        if operation.access.action().is_none() {
            continue;
        }
        let foreign = |name: &str| {
            let found = belongings.iter().find(|(known, _)| *known == name);
            found.map_or_else(|| unknown_id(name), |(_, id)| id.clone())
        };
        let (theirs, nobodys) = (filled(operation.path, foreign), filled(operation.path, unknown_id));
        let answer = probe(&server, &operation, &theirs, &caller.key).await;
        let text = answer.text();
        for canary in ["canary title", "canary rule", "canary-service", "owner@victim.example"] {
            assert!(!text.contains(canary), "{} {theirs} shows {canary}: {text}", operation.method);
        }
        if theirs != nobodys {
            let unknown = probe(&server, &operation, &nobodys, &caller.key).await;
            let id = |path: &str| {
                path.split('/').find(|part| !operation.path.contains(*part)).unwrap_or("-").to_owned()
            };
            let (theirs, nobodys) = (comparable(&answer, &id(&theirs)), comparable(&unknown, &id(&nobodys)));
            assert_eq!(theirs, nobodys, "{} {}", operation.method, operation.path);
            assert!(matches!(theirs.0, 400..500), "{} {}: {}", operation.method, operation.path, theirs.1);
        }
    }
    // The victim still has everything.
    for (name, id) in belongings {
        let path = match name {
            "event_id" => format!("/api/v1/ingestion/events/{id}"),
            "rule_id" => format!("/api/v1/alerting/rules/{id}"),
            "alert_id" => format!("/api/v1/alerting/alerts/{id}"),
            _ => "/api/v1/auth/tenant/profile".to_owned(),
        };
        assert_eq!(server.call("GET", &path, &victim.key, None).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_tenant_in_a_header_or_a_body_is_not_believed() {
    let server = Server::start().await;
    let (victim, caller) = (server.tenant("victim").await, server.tenant("caller").await);
    let event = json!({
        "event_id": "e", "event_type": "api_call", "title": "t", "tenant_id": victim.id,
        "source": {"service": "s", "endpoint": "/", "method": "GET"}
    });
    let request = axum::http::Request::post("/api/v1/ingestion/events")
        .header("x-api-key", caller.key.strip_prefix("key:").unwrap())
        .header("x-tenant-id", &victim.id)
        .header("content-type", "application/json")
        .body(axum::body::Body::from(event.to_string()))
        .unwrap();
    assert_eq!(server.send(request).await.status, 200);
    assert_eq!(
        server.call("GET", "/api/v1/ingestion/events/e", &caller.key, None).await.json()["tenant_id"],
        caller.id
    );
    assert_eq!(server.call("GET", "/api/v1/ingestion/events/e", &victim.key, None).await.status, 404);
}
