//! What is never told, never logged and never taken: secrets, lines of others' making, fields that are not the caller's.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Body;
use axum::http::Request;
use pulsestream_axum::{openapi_document, operations};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::isolation;
use crate::limits::with_held_store;
use crate::server::{Server, send};

/// A log in memory.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Writes everything that this thread logs from now on, at every level.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        // Where there is one subscriber only, a place in the code that a thread without one meets first is switched off for all.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Self::default().dispatch());
        let log = Self::default();
        let guard = tracing::dispatcher::set_default(&log.dispatch());
        (log, guard)
    }

    fn dispatch(&self) -> tracing::Dispatch {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::level_filters::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        tracing::Dispatch::new(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn secrets_are_in_no_answer_and_no_log() {
    let (log, _guard) = Log::start();
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let mut secrets = vec![
        shop.key.strip_prefix("key:").unwrap().rsplit('_').next().unwrap().to_owned(),
        shop.owner_password.clone(),
    ];
    let mut answers = String::new();
    let tokens = server.login("shop", &shop.owner_email, &shop.owner_password).await.json();
    for name in ["access_token", "refresh_token"] {
        secrets.push(tokens[name].as_str().unwrap().to_owned());
    }
    let owner = format!("token:{}", tokens["access_token"].as_str().unwrap());
    let canary = |name: &str| format!("canary-{name}-0c5d9f");
    secrets.extend(
        ["wrong", "user", "header", "slack", "custom", "reset", "refresh", "key", "bearer", "new"]
            .map(canary),
    );
    let signing = "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LTBjNWQ5Zg==".to_owned();
    secrets.push(signing.clone());
    answers += &server.login("shop", &shop.owner_email, &canary("wrong")).await.text();
    let user = json!({
        "email": "a@shop.example", "password": canary("user"), "confirm_password": canary("user"), "full_name": "Some Body"
    });
    let webhook = json!({
        "type": "webhook", "url": "https://hooks.example/in", "secrets": [signing],
        "headers": [["x-auth", canary("header")]]
    });
    let slack = json!({"type": "slack", "url": format!("https://hooks.slack.com/services/T0/B0/{}", canary("slack"))});
    let custom = json!({"type": "custom", "kind": "pager", "settings": {"token": canary("custom")}});
    let change = json!({
        "current_password": canary("wrong"), "new_password": canary("new"), "confirm_new_password": canary("new")
    });
    let reset = json!({
        "token": canary("reset"), "new_password": canary("new"), "confirm_new_password": canary("new")
    });
    let broken =
        json!({"name": 7, "config": {"type": "webhook", "url": "no url", "secrets": [canary("key")]}});
    for (path, body) in [
        ("/api/v1/auth/register/user", user),
        ("/api/v2/channels", json!({"name": "hook", "config": webhook})),
        ("/api/v2/channels", json!({"name": "slack", "config": slack})),
        ("/api/v2/channels", json!({"name": "custom", "config": custom})),
        ("/api/v2/channels", broken),
        ("/api/v1/auth/change-password", change),
        ("/api/v1/auth/password-reset/confirm", reset),
        ("/api/v1/auth/refresh", json!({"refresh_token": canary("refresh")})),
    ] {
        let answer = server.call("POST", path, &owner, Some(&body)).await;
        let is_stored = path == "/api/v2/channels" && body["name"].is_string();
        assert!(!is_stored || answer.status == 201, "{}", answer.text());
        answers += &answer.text();
    }
    for credential in [format!("key:{}", canary("key")), format!("token:{}", canary("bearer"))] {
        answers += &server.call("GET", "/api/v2/rules", &credential, None).await.text();
        let ticket = format!("/api/v2/events/stream?token={}", canary("bearer"));
        answers += &server.call("GET", &ticket, "", None).await.text();
    }
    for it in operations().iter().filter(|it| it.method == "GET" && !it.path.contains('{')) {
        let answer = server.call("GET", it.path, &owner, None).await;
        answers += &answer.text();
        answers += &format!("{:?}", answer.headers);
    }
    let channels = server.call("GET", "/api/v2/channels", &owner, None).await.json();
    for channel in channels["channels"].as_array().unwrap() {
        let path = format!("/api/v2/channels/{}", channel["id"].as_str().unwrap());
        answers += &server.call("GET", &path, &owner, None).await.text();
        answers += &server.call("POST", &format!("{path}/test"), &owner, None).await.text();
    }
    server.ps.close().await.unwrap();
    let (log, debug) = (log.text(), format!("{:?}", server.ps));
    assert!(log.contains("request{"), "the log is written");
    for secret in &secrets {
        assert!(!answers.contains(secret), "an answer has {secret}");
        assert!(!log.contains(secret), "the log has {secret}");
        assert!(!debug.contains(secret), "debug output has {secret}");
    }
}

#[tokio::test]
async fn a_request_writes_one_line_whatever_is_in_it() {
    let (log, _guard) = Log::start();
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let forged = "\n2026-01-01T00:00:00Z ERROR forged: \u{1b}[31mred\r\nforged too\u{85}forged\u{2028}";
    let encoded: String = forged.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for path in [
        format!("/api/v2/events?filter={encoded}"),
        format!("/api/v2/events/{encoded}"),
        format!("/{encoded}"),
        format!("/api/v1/ingestion/events/search?start_time={encoded}"),
        format!("/api/v2/rules?{encoded}=1"),
    ] {
        server.call("GET", &path, &shop.key, None).await;
    }
    for (path, body) in [
        ("/api/v2/events", json!({"event_type": forged, "severity": forged})),
        ("/api/v2/rules", json!({"name": forged, "expression": forged})),
        (
            "/api/v1/alerting/rules",
            json!({"name": forged, "severity": forged, "condition": {"type": forged}}),
        ),
        ("/api/v1/auth/login", json!({"email": forged, "password": "12345678", "tenant_slug": forged})),
    ] {
        server.call("POST", path, &shop.key, Some(&body)).await;
    }
    let request =
        Request::get("/api/v2/rules").header("x-request-id", "a\tforged").header("user-agent", "b\tforged");
    server.send(request.body(Body::empty()).unwrap()).await;
    let text = log.text();
    assert!(text.contains("request refused"), "{text}");
    for line in text.split(['\n', '\r', '\u{85}', '\u{2028}']).filter(|line| !line.is_empty()) {
        // Every line is one of the logger's own.
        let time = line.split_whitespace().next().unwrap();
        assert!(time.len() > 20 && time.ends_with('Z'), "{line:?}");
        let level = line.split_whitespace().nth(1).unwrap();
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

#[tokio::test]
async fn a_request_is_found_in_the_log_by_its_trace_its_id_and_its_tenant() {
    let (log, _guard) = Log::start();
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let request = Request::get("/api/v2/rules/unknown?filter=x")
        .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
        .header("x-request-id", "request-17")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(server.send(request.body(Body::empty()).unwrap()).await.status, 404);
    let text = log.text();
    let line = text.lines().find(|line| line.contains("request-17") && line.contains("request refused"));
    let line = line.unwrap_or_else(|| panic!("the refusal is not logged: {text}"));
    for part in [
        "request{method=GET path=\"/api/v2/rules/unknown\"",
        "trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"",
        &format!("tenant={}", shop.id),
        "status=404",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test]
async fn refusals_of_an_overload_are_one_line_a_second() {
    let (log, _guard) = Log::start();
    let (server, store) = with_held_store(r#"{"http": {"max_concurrent_requests": 1}}"#).await;
    let shop = server.tenant("shop").await;
    store.interceptor().hold();
    let key = shop.key.strip_prefix("key:").unwrap();
    let request = Request::get("/api/v2/events").header("x-api-key", key).body(Body::empty()).unwrap();
    let held = tokio::spawn(send(server.router.clone(), request));
    store.interceptor().waiting(1).await;
    let lines = || {
        let text = log.text();
        text.lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect::<Vec<_>>()
    };
    for _ in 0..100 {
        assert_eq!(server.get("/api/v2/events").await.status, 503);
    }
    assert_eq!(lines().len(), 1, "{:?}", lines());
    server.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(server.get("/api/v2/events").await.status, 503);
    assert_eq!(lines().len(), 2);
    assert!(lines()[1].contains("http.concurrency") && lines()[1].contains("left_out=99"), "{:?}", lines());
    store.interceptor().release();
    assert_eq!(held.await.unwrap().status, 200);
}

#[tokio::test]
async fn fields_that_are_not_for_callers_to_set_are_refused() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let owner = server.owner(&shop).await;
    let documents = ["v1", "v2"].map(|version| openapi_document(version).unwrap());
    let mut probed = 0;
    for it in operations().iter().filter(|it| it.path.starts_with("/api/v2/")) {
        let method = it.method.as_str().to_ascii_lowercase();
        let described = &documents[1]["paths"][it.path][&method];
        // A bare `{}` is a body that no example is needed for.
        let has_example = described.get("requestBody").is_some() && !it.path.ends_with("/config");
        if !has_example || ["/api/v2/events", "/api/v2/tenant"].contains(&it.path) {
            continue;
        }
        let Some(body) = isolation::body(&documents, it) else { continue };
        for field in ["tenant_id", "tenant", "created_at", "updated_at", "version", "is_admin"] {
            let mut body = body.clone();
            body[field] = json!("x");
            let path = crate::prober::filled(it.path, crate::prober::unknown_id);
            let answer = server.call(it.method.as_str(), &path, &owner, Some(&body)).await;
            let refused = answer.json();
            let place = format!("{} {} {field}: {refused}", it.method, it.path);
            assert_eq!(answer.status, 422, "{place}");
            let pointer = format!("/{field}");
            let errors = refused["errors"].as_array().unwrap();
            assert!(
                errors.iter().any(|it| it["pointer"] == *pointer && it["code"] == "unknown_field"),
                "{place}"
            );
            probed += 1;
        }
    }
    assert!(probed > 60, "{probed} fields were probed");
    // Version 1 ignores what it does not know: nothing happens.
    let before = server.call("GET", "/api/v1/auth/profile", &owner, None).await.json();
    let wish = json!({
        "id": "x", "role": "viewer", "tenant_id": "x", "is_active": false, "is_verified": true, "login_count": "0",
        "email": "other@shop.example", "created_at": "2000-01-01T00:00:00Z", "api_access_enabled": false
    });
    let after = server.call("PUT", "/api/v1/auth/profile", &owner, Some(&wish)).await.json();
    let without_time = |mut value: Value| {
        value["updated_at"] = Value::Null;
        value
    };
    assert_eq!(without_time(after), without_time(before));
    let before = server.call("GET", "/api/v1/auth/tenant/profile", &owner, None).await.json();
    let wish = json!({
        "id": "x", "slug": "other", "is_active": false, "subscription_tier": "enterprise", "api_key": "x",
        "rate_limit_per_minute": 1_000_000, "max_events_per_month": 0, "current_month_events": 0
    });
    let after = server.call("PUT", "/api/v1/auth/tenant/profile", &owner, Some(&wish)).await.json();
    assert_eq!(without_time(after), without_time(before));
}
