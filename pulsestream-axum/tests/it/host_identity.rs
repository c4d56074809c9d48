//! An application with identities of its own: it says who is calling, and there is no user table.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use pulsestream::core::auth::{Role, Scope, Scopes};
use pulsestream::core::id::TenantId;
use pulsestream::core::ports::auth::{Credential, Credentials, Principal, Subject, TenantAuth};
use pulsestream::{Builder, Error, ErrorKind, Result};
use pulsestream_axum::{ApiConfig, operations};
use serde_json::{Value, json};

use crate::prober::{comparable, filled, unknown_id};
use crate::server::Server;

/// The sign-in of the application: a session is the name of a company and a role, as long as it is not ended.
#[derive(Debug, Default)]
struct Host {
    ended: RwLock<Vec<String>>,
}

#[async_trait]
impl TenantAuth for Host {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal> {
        let refused = || Error::new(ErrorKind::Unauthenticated, "host.authenticate", "sign in first");
        let Credential::Bearer(session) = &credentials.credential else { return Err(refused()) };
        let session = session.expose();
        if session == "down" {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "host.authenticate",
                "the directory does not answer",
            ));
        }
        let (company, role) = session.split_once('.').ok_or_else(refused)?;
        if self.ended.read().unwrap().iter().any(|ended| ended == session) {
            return Err(refused());
        }
        Ok(Principal {
            tenant: TenantId::from_name(company),
            subject: Subject::External(session.into()),
            role: role.parse().ok(),
            scopes: (role == "sensor").then_some(Scopes::of(Scope::EventsWrite)),
            session: None,
            expires_at: None,
        })
    }
}

async fn host() -> (Server, Arc<Host>) {
    let host = Arc::new(Host::default());
    let config = ApiConfig { accounts: false, ..ApiConfig::default() };
    (Server::with(Builder::default().with_tenant_auth(host.clone()), config).await, host)
}

fn is_of_accounts(path: &str) -> bool {
    [
        "/api/v1/auth",
        "/api/v2/keys",
        "/api/v2/users",
        "/api/v2/tenant",
        "/api/v2/audit",
        "/api/v2/setup",
        "/setup",
    ]
    .iter()
    .any(|prefix| path.starts_with(prefix))
}

/// Makes one thing of each kind and returns the ids, by the names that paths have for them.
async fn belongings(server: &Server, company: &str) -> BTreeMap<&'static str, String> {
    let admin = format!("token:{company}.admin");
    let make = async |path: &str, body: Value| {
        let answer = server.call("POST", path, &admin, Some(&body)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text());
        answer.json()
    };
    let id = |made: &Value, name: &str| made[name].as_str().unwrap().to_owned();
    make("/api/v2/events", json!({"id": format!("{company}-event"), "event_type": "order"})).await;
    let channel = json!({"name": format!("{company} log"), "config": {"type": "log"}});
    let channel = id(&make("/api/v2/channels", channel).await, "id");
    let rule = json!({
        "name": format!("{company} rule"), "severity": "low", "condition": {"type": "count", "min_count": 1},
        "notification_channels": [format!("{company} log")]
    });
    let rule = id(&make("/api/v1/alerting/rules", rule).await, "rule_id");
    let alert = id(&make(&format!("/api/v1/alerting/rules/{rule}/test"), json!({})).await, "alert_id");
    let delivery = id(&make(&format!("/api/v2/channels/{channel}/test"), json!({})).await, "delivery_id");
    let silence = json!({
        "matchers": [{"label": "rule", "op": "=", "value": company}], "ends_at": "2100-01-01T00:00:00Z", "comment": company
    });
    let silence = id(&make("/api/v2/silences", silence).await, "id");
    BTreeMap::from([
        ("event_id", format!("{company}-event")),
        ("channel_id", channel),
        ("rule_id", rule),
        ("alert_id", alert),
        ("delivery_id", delivery),
        ("silence_id", silence),
        ("tenant_id", TenantId::from_name(company).to_string()),
    ])
}

#[tokio::test]
async fn tenants_of_the_application_are_apart() {
    let (server, _) = host().await;
    let victims = belongings(&server, "acme").await;
    let mut probed = 0;
    for operation in operations().iter().filter(|operation| !is_of_accounts(operation.path)) {
        let Some((_, rest)) = operation.path.split_once('{') else { continue };
        let name = rest.split_once('}').unwrap().0;
        let Some(foreign) = victims.get(name) else { continue };
        let ask = async |id: &str| {
            let path = filled(operation.path, |_| id.to_owned());
            let takes_body = !matches!(operation.method.as_str(), "GET" | "DELETE");
            let body = takes_body.then(|| json!({}));
            let answer =
                server.call(operation.method.as_str(), &path, "token:bolt.owner", body.as_ref()).await;
            assert!(!answer.status.is_success(), "{} {path}: {}", operation.method, answer.text());
            comparable(&answer, id)
        };
        let place = format!("{} {}", operation.method, operation.path);
        assert_eq!(ask(foreign).await, ask(&unknown_id(name)).await, "{place}");
        probed += 1;
    }
    assert!(probed >= 25, "{probed}");
    for path in
        ["/api/v2/events", "/api/v2/rules", "/api/v2/alerts", "/api/v2/channels", "/api/v2/deliveries"]
    {
        let seen = |answer: String| answer.contains("acme");
        assert!(seen(server.call("GET", path, "token:acme.viewer", None).await.text()), "{path}");
        assert!(!seen(server.call("GET", path, "token:bolt.owner", None).await.text()), "{path}");
    }
}

#[tokio::test]
async fn what_the_application_says_is_what_may_be_done() {
    let (server, host) = host().await;
    let event = json!({"id": "e-1", "event_type": "order"});
    let send = async |session: &str| {
        server.call("POST", "/api/v2/events", &format!("token:{session}"), Some(&event)).await.status.as_u16()
    };
    let read = async |session: &str| {
        server.call("GET", "/api/v2/events/e-1", &format!("token:{session}"), None).await.status.as_u16()
    };
    assert_eq!((send("acme.admin").await, read("acme.admin").await), (200, 200));
    assert_eq!((send("acme.sensor").await, read("acme.sensor").await), (200, 403), "scopes limit");
    assert_eq!((send("acme.viewer").await, read("acme.viewer").await), (403, 200), "roles limit");
    assert_eq!((send("acme.guest").await, read("acme.guest").await), (403, 403), "neither role nor scope");
    assert_eq!(send("nobody").await, 401);
    assert_eq!(send("down").await, 503);
    host.ended.write().unwrap().push("acme.admin".to_owned());
    assert_eq!(send("acme.admin").await, 401, "from the next call on");
}

#[tokio::test]
async fn there_are_no_accounts_and_nothing_is_written_where_they_would_be() {
    let (server, _) = host().await;
    belongings(&server, "acme").await;
    for operation in operations().iter().filter(|operation| is_of_accounts(operation.path)) {
        let path = filled(operation.path, unknown_id);
        let answer =
            server.call(operation.method.as_str(), &path, "token:acme.owner", Some(&json!({}))).await;
        assert_eq!(answer.status, 404, "{} {path}", operation.method);
    }
    for version in ["v1", "v2"] {
        let document = server.get(&format!("/api/{version}/openapi.json")).await.json();
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
        assert!(paths.len() > 10 && !paths.iter().any(|path| is_of_accounts(path)), "{paths:?}");
    }
    // A refusal of somebody who has no account is no entry of an audit log that nobody could read.
    let refused = server.call("POST", "/api/v2/events", "token:acme.viewer", Some(&json!({}))).await;
    assert_eq!(refused.status, 403);
    let owner = Principal {
        tenant: TenantId::from_name("acme"),
        subject: Subject::External("test".into()),
        role: Some(Role::Owner),
        scopes: None,
        session: None,
        expires_at: None,
    };
    let accounts = server.ps.accounts();
    let profile = accounts.tenant_profile(&owner, &Default::default()).await.unwrap_err();
    assert_eq!(profile.kind(), ErrorKind::NotFound);
}
