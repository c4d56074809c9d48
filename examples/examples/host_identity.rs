//! A web application with sign-in of its own mounts the API: PulseStream has no user table and asks the application who is calling.
//!
//! `cargo run -p pulsestream-examples --example host_identity`

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use pulsestream::core::auth::Role;
use pulsestream::core::ports::auth::{Credential, Credentials, Principal, Subject, TenantAuth};
use pulsestream::prelude::*;
use pulsestream::{Error, ErrorKind};
use pulsestream_axum::ApiConfig;
use tower::ServiceExt;

/// Somebody who is signed in, as the application sees it.
#[derive(Debug, Clone)]
struct Member {
    name: &'static str,
    company: &'static str,
    may_write: bool,
}

/// The sessions of the application. Its own pages read them too.
#[derive(Debug, Clone, Default)]
struct Sessions(Arc<RwLock<HashMap<String, Member>>>);

impl Sessions {
    fn sign_in(&self, session: &str, member: Member) {
        self.0.write().expect("nobody panics here").insert(session.to_owned(), member);
    }

    fn sign_out(&self, session: &str) {
        self.0.write().expect("nobody panics here").remove(session);
    }
}

/// The only thing to implement: credentials in, a principal out.
#[async_trait]
impl TenantAuth for Sessions {
    async fn authenticate(&self, credentials: &Credentials) -> pulsestream::Result<Principal> {
        let refused = || Error::new(ErrorKind::Unauthenticated, "shop.authenticate", "sign in first");
        let Credential::Bearer(session) = &credentials.credential else { return Err(refused()) };
        let sessions = self.0.read().expect("nobody panics here");
        let member = sessions.get(session.expose()).ok_or_else(refused)?;
        Ok(Principal {
            // A company has the same id for ever, and no table says which: it is derived from the name.
            tenant: TenantId::from_name(member.company),
            subject: Subject::External(member.name.into()),
            role: Some(if member.may_write { Role::Admin } else { Role::Viewer }),
            scopes: None,
            session: None,
            expires_at: None,
        })
    }
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example shows what it did")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::default();
    sessions.sign_in("s-1", Member { name: "ann", company: "Acme", may_write: true });
    sessions.sign_in("s-2", Member { name: "bob", company: "Bolt", may_write: true });
    sessions.sign_in("s-3", Member { name: "cleo", company: "Acme", may_write: false });

    let ps = PulseStream::builder().with_tenant_auth(Arc::new(sessions.clone())).open("memory:").await?;
    let config = ApiConfig { accounts: false, ..ApiConfig::default() };
    let app = Router::new()
        .route("/", get(async || "the application's own page"))
        .nest("/pulse", pulsestream_axum::router(ps.clone(), config)?);

    let event = r#"{"id":"order-17","event_type":"order"}"#;
    let steps = [
        ("ann stores an event of Acme", "s-1", "POST", "/pulse/api/v2/events", event, StatusCode::OK),
        ("cleo of Acme reads it", "s-3", "GET", "/pulse/api/v2/events/order-17", "", StatusCode::OK),
        ("cleo may not write", "s-3", "POST", "/pulse/api/v2/events", event, StatusCode::FORBIDDEN),
        (
            "bob of Bolt does not see it",
            "s-2",
            "GET",
            "/pulse/api/v2/events/order-17",
            "",
            StatusCode::NOT_FOUND,
        ),
        ("a stranger is not let in", "s-9", "GET", "/pulse/api/v2/events", "", StatusCode::UNAUTHORIZED),
        ("there are no accounts", "s-1", "GET", "/pulse/api/v2/users", "", StatusCode::NOT_FOUND),
    ];
    for (what, session, method, path, body, expected) in steps {
        let status = request(&app, session, method, path, body).await?;
        println!("{what:<30} {method:<4} {path:<34} {status}");
        assert_eq!(status, expected, "{what}");
    }
    sessions.sign_out("s-1");
    let status = request(&app, "s-1", "GET", "/pulse/api/v2/events/order-17", "").await?;
    println!("{:<30} {:<4} {:<34} {status}", "ann has signed out", "GET", "/pulse/api/v2/events/order-17");
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    ps.close().await?;
    Ok(())
}

/// Sends a request to the application, as a browser with this session would.
async fn request(
    app: &Router,
    session: &str,
    method: &str,
    path: &str,
    body: &'static str,
) -> std::result::Result<StatusCode, Box<dyn std::error::Error>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {session}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))?;
    Ok(app.clone().oneshot(request).await?.status())
}
