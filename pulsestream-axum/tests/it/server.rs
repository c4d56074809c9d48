//! A server in the process, with tenants, keys and users.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use pulsestream::core::auth::AuthSettings;
use pulsestream::core::env::{Env, ManualClock};
use pulsestream::core::settings::Settings;
use pulsestream::core::time::Timestamp;
use pulsestream::{Builder, PulseStream};
use pulsestream_axum::{ApiConfig, router};
use serde_json::{Value, json};
use tower::ServiceExt;

/// The time at which every test starts: 2026-01-15T12:00:00Z.
pub(crate) const START: i64 = 1_768_478_400;

/// A router over a memory backend, on a clock that the test drives.
pub(crate) struct Server {
    pub(crate) ps: PulseStream,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) router: Router,
}

/// A tenant, with the credential of its first key.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) id: String,
    pub(crate) slug: String,
    pub(crate) key: String,
    pub(crate) owner_email: String,
    pub(crate) owner_password: String,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Builder::default(), ApiConfig::default()).await
    }

    /// A server where nobody can register.
    pub(crate) async fn closed() -> Self {
        let auth = AuthSettings { open_registration: false, ..AuthSettings::default() };
        Self::with(Builder::default().with_auth_settings(auth), ApiConfig::default()).await
    }

    /// A server with settings in JSON.
    pub(crate) async fn with_settings(settings: &str) -> Self {
        let settings = Settings::from_json(settings).unwrap();
        Self::with(Builder::default().with_settings(settings), ApiConfig::default()).await
    }

    pub(crate) async fn with(builder: Builder, config: ApiConfig) -> Self {
        let (env, clock) = Env::manual(Timestamp::from_seconds(START), 7);
        let ps = builder.with_env(env).open("memory:").await.unwrap();
        let router = router(ps.clone(), config).unwrap();
        Self { ps, clock, router }
    }

    /// Registers a tenant with this slug.
    pub(crate) async fn tenant(&self, slug: &str) -> Shop {
        let body = json!({"name": format!("Shop {slug}"), "slug": slug, "contact_email": format!("owner@{slug}.example")});
        let made = self.call("POST", "/api/v1/auth/register/tenant", "", Some(&body)).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let made = made.json();
        let text = |pointer: &str| made.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        Shop {
            id: text("/tenant/id"),
            slug: slug.to_owned(),
            key: format!("key:{}", text("/tenant/api_key")),
            owner_email: text("/owner_user/email"),
            owner_password: text("/owner_user/temporary_password"),
        }
    }

    /// Signs in and returns the answer.
    pub(crate) async fn login(&self, slug: &str, email: &str, password: &str) -> Response {
        let body = json!({"email": email, "password": password, "tenant_slug": slug});
        self.call("POST", "/api/v1/auth/login", "", Some(&body)).await
    }

    /// Signs the owner in and returns the credential.
    pub(crate) async fn owner(&self, shop: &Shop) -> String {
        let tokens = self.login(&shop.slug, &shop.owner_email, &shop.owner_password).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        format!("token:{}", tokens.json()["access_token"].as_str().unwrap())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        send(self.router.clone(), request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Sends a JSON body with a credential: `key:K` or `token:T`, or none.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        credential: &str,
        body: Option<&Value>,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        request = match credential.split_once(':') {
            Some(("key", key)) => request.header("x-api-key", key),
            Some(("token", token)) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            _ => request,
        };
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Response {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    // A stream of events has no end to read to.
    let is_stream = parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
    let body = if is_stream { Vec::new() } else { body.collect().await.unwrap().to_bytes().to_vec() };
    Response { status: parts.status, headers: parts.headers, body }
}
