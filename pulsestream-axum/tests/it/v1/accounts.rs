//! `/api/v1/auth`.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream::core::auth::{ResetMail, ResetMailer};
use pulsestream::{PulseStream, Result};
use pulsestream_axum::ApiConfig;
use serde_json::{Value, json};

use super::has_exactly;
use crate::server::Server;

const USER: &str = "id email username full_name role is_active is_verified last_login_at last_active_at login_count \
    api_access_enabled created_at updated_at";
const TOKENS: &str =
    "access_token refresh_token token_type expires_in refresh_expires_in user_id tenant_id email role";
const TENANT: &str = "id name slug api_key is_active subscription_tier contact_email billing_email timezone \
    rate_limit_per_minute max_events_per_month current_month_events last_activity_at created_at updated_at";

fn tenant_body(slug: &str) -> Value {
    json!({"name": "A Shop", "slug": slug, "contact_email": "owner@shop.example"})
}

#[tokio::test]
async fn a_tenant_registers() {
    let server = Server::start().await;
    let made = server.call("POST", "/api/v1/auth/register/tenant", "", Some(&tenant_body("My-Shop"))).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    has_exactly(&made, "message tenant owner_user next_steps");
    has_exactly(&made["tenant"], "id name slug api_key");
    has_exactly(&made["owner_user"], "id email temporary_password");
    assert_eq!(made["tenant"]["slug"], "my-shop");
    assert!(made["tenant"]["api_key"].as_str().unwrap().starts_with("ps_live_"));
    assert!(!made["next_steps"].as_array().unwrap().is_empty());
    let mut all = tenant_body("all");
    for (name, value) in
        [("billing_email", "bills@shop.example"), ("subscription_tier", "team"), ("timezone", "Asia/Tokyo")]
    {
        all[name] = json!(value);
    }
    let whole = server.call("POST", "/api/v1/auth/register/tenant", "", Some(&all)).await.json();
    let key = format!("key:{}", whole["tenant"]["api_key"].as_str().unwrap());
    let shown = server.call("GET", "/api/v1/auth/tenant/profile", &key, None).await.json();
    for name in ["name", "contact_email", "billing_email", "subscription_tier", "timezone"] {
        assert_eq!(shown[name], all[name], "{name}");
    }
    let taken = server.call("POST", "/api/v1/auth/register/tenant", "", Some(&tenant_body("my-shop"))).await;
    assert_eq!((taken.status.as_u16(), taken.json()["error"].clone()), (409, json!("CONFLICT")));
}

#[tokio::test]
async fn a_bad_tenant_is_refused_field_by_field() {
    let server = Server::start().await;
    let bad =
        json!({"name": "x", "slug": "no spaces!", "contact_email": "nobody", "timezone": "Mars/Olympus"});
    let answer = server.call("POST", "/api/v1/auth/register/tenant", "", Some(&bad)).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", "name"]));
    let bad =
        json!({"name": "xx", "slug": "no spaces!", "contact_email": "nobody", "timezone": "Mars/Olympus"});
    let answer = server.call("POST", "/api/v1/auth/register/tenant", "", Some(&bad)).await.json();
    let places: Vec<_> = answer["detail"].as_array().unwrap().iter().map(|it| it["loc"][1].clone()).collect();
    assert_eq!(places.len(), 3, "{answer}");
    for name in ["slug", "contact_email", "timezone"] {
        assert!(places.contains(&json!(name)), "{name}");
    }
}

#[tokio::test]
async fn registration_can_be_switched_off() {
    let closed = Server::closed().await;
    let answer = closed.call("POST", "/api/v1/auth/register/tenant", "", Some(&tenant_body("shop"))).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].clone()), (403, json!("FORBIDDEN")));
}

#[tokio::test]
async fn signing_in_gives_tokens() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let tokens = server.login("shop", &shop.owner_email, &shop.owner_password).await;
    assert_eq!(tokens.status, 200);
    let tokens = tokens.json();
    has_exactly(&tokens, TOKENS);
    assert_eq!(tokens["token_type"], "bearer");
    assert_eq!((&tokens["expires_in"], &tokens["refresh_expires_in"]), (&json!(1_800), &json!(604_800)));
    assert_eq!((&tokens["tenant_id"], &tokens["role"]), (&json!(shop.id), &json!("owner")));

    let body = json!({
        "email": shop.owner_email, "password": shop.owner_password, "tenant_slug": "shop", "remember_me": true
    });
    let longer = server.call("POST", "/api/v1/auth/login", "", Some(&body)).await.json();
    assert!(longer["refresh_expires_in"].as_u64().unwrap() > 604_800);
}

#[tokio::test]
async fn a_failed_sign_in_tells_nothing() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let wrong = server.login("shop", &shop.owner_email, "not the password").await;
    let unknown = server.login("shop", "nobody@shop.example", "not the password").await;
    let no_tenant = server.login("none", "nobody@shop.example", "not the password").await;
    for answer in [&wrong, &unknown, &no_tenant] {
        assert_eq!(answer.status, 401);
        assert!(!answer.header("www-authenticate").is_empty());
        let strip = |answer: &crate::server::Response| {
            let mut body = answer.json();
            body["details"].as_object_mut().unwrap().remove("request_id");
            body
        };
        assert_eq!(strip(answer), strip(&wrong));
    }
    let short = server.login("shop", &shop.owner_email, "short").await;
    assert_eq!(
        (short.status.as_u16(), &short.json()["detail"][0]["loc"]),
        (422, &json!(["body", "password"]))
    );
}

#[tokio::test]
async fn refreshing_rotates_and_reuse_ends_the_session() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let first = server.login("shop", &shop.owner_email, &shop.owner_password).await.json();
    let refresh = |token: &Value| {
        let body = json!({"refresh_token": token});
        let server = &server;
        async move { server.call("POST", "/api/v1/auth/refresh", "", Some(&body)).await }
    };
    let second = refresh(&first["refresh_token"]).await;
    assert_eq!(second.status, 200);
    has_exactly(&second.json(), TOKENS);
    assert_eq!(second.json()["expires_in"], 1_800);
    assert_ne!(second.json()["refresh_token"], first["refresh_token"]);
    server.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(refresh(&first["refresh_token"]).await.status, 401, "reuse");
    assert_eq!(refresh(&second.json()["refresh_token"]).await.status, 401, "the family is gone");
    assert_eq!(refresh(&json!("nonsense")).await.status, 401);
    assert_eq!(refresh(&first["access_token"]).await.status, 401, "an access token does not refresh");
}

#[tokio::test]
async fn signing_out_ends_the_token_at_once() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let owner = server.owner(&shop).await;
    assert_eq!(server.call("GET", "/api/v1/auth/profile", &owner, None).await.status, 200);
    let out = server.call("POST", "/api/v1/auth/logout", &owner, None).await;
    assert_eq!(out.status, 200);
    has_exactly(&out.json(), "message");
    let after = server.call("GET", "/api/v1/auth/profile", &owner, None).await;
    assert_eq!((after.status.as_u16(), after.json()["error"].clone()), (401, json!("UNAUTHENTICATED")));
    assert_eq!(
        server.call("POST", "/api/v1/auth/logout", &shop.key, None).await.status,
        403,
        "a key is nobody"
    );
}

#[tokio::test]
async fn users_are_made_and_listed() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let owner = server.owner(&shop).await;
    let user = |email: &str, role: Option<&str>| {
        let mut body = json!({
            "email": email, "password": "a long enough secret", "confirm_password": "a long enough secret",
            "full_name": "Ada L"
        });
        if let Some(role) = role {
            body["role"] = json!(role);
        }
        body
    };
    let register = "/api/v1/auth/register/user";
    let made = server.call("POST", register, &owner, Some(&user("ada@shop.example", None))).await;
    assert_eq!(made.status, 200, "{}", made.text());
    has_exactly(&made.json(), USER);
    assert_eq!((&made.json()["role"], &made.json()["login_count"]), (&json!("viewer"), &json!("0")));
    let taken = server.call("POST", register, &owner, Some(&user("ADA@shop.example", None))).await;
    assert_eq!(taken.status, 409);
    assert_eq!(
        server.call("POST", register, &shop.key, Some(&user("b@shop.example", None))).await.status,
        403
    );
    let admin = server.call("POST", register, &owner, Some(&user("admin@shop.example", Some("admin")))).await;
    assert_eq!(admin.json()["role"], "admin");
    let tokens = server.login("shop", "admin@shop.example", "a long enough secret").await.json();
    let admin = format!("token:{}", tokens["access_token"].as_str().unwrap());
    let too_high = server.call("POST", register, &admin, Some(&user("x@shop.example", Some("owner")))).await;
    assert_eq!(too_high.status, 403, "an admin does not make owners");
    let unlike = json!({
        "email": "c@shop.example", "password": "a long enough secret", "confirm_password": "another one here",
        "full_name": "C D"
    });
    let unlike = server.call("POST", register, &owner, Some(&unlike)).await;
    assert_eq!(
        (unlike.status.as_u16(), &unlike.json()["detail"][0]["loc"]),
        (422, &json!(["body", "confirm_password"]))
    );

    let list = server.call("GET", "/api/v1/auth/users?limit=2", &owner, None).await.json();
    has_exactly(&list, "users total page size pages");
    assert_eq!(
        (&list["total"], &list["page"], &list["size"], &list["pages"]),
        (&json!(3), &json!(1), &json!(2), &json!(2))
    );
    has_exactly(&list["users"][0], USER);
    let last = server.call("GET", "/api/v1/auth/users?skip=2&limit=2", &owner, None).await.json();
    assert_eq!(
        (&last["page"], &last["total"], last["users"].as_array().unwrap().len()),
        (&json!(2), &json!(3), 1)
    );
    let whole = server.call("GET", "/api/v1/auth/users", &owner, None).await.json();
    assert_eq!((&whole["size"], whole["users"].as_array().unwrap().len()), (&json!(100), 3));
    assert_eq!(whole["users"][2], last["users"][0]);
    let found = server.call("GET", "/api/v1/auth/users?search=ada@", &admin, None).await.json();
    assert_eq!((&found["total"], &found["users"][0]["email"]), (&json!(1), &json!("ada@shop.example")));
    let tokens = server.login("shop", "ada@shop.example", "a long enough secret").await.json();
    let viewer = format!("token:{}", tokens["access_token"].as_str().unwrap());
    assert_eq!(server.call("GET", "/api/v1/auth/users", &viewer, None).await.status, 403);
}

#[tokio::test]
async fn a_profile_is_shown_and_changed() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let owner = server.owner(&shop).await;
    let change = json!({"username": "boss", "full_name": "The Boss", "preferences": {"theme": "dark"}});
    let changed = server.call("PUT", "/api/v1/auth/profile", &owner, Some(&change)).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let profile = server.call("GET", "/api/v1/auth/profile", &owner, None).await.json();
    has_exactly(&profile, USER);
    assert_eq!((&profile["username"], &profile["full_name"]), (&json!("boss"), &json!("The Boss")));
    assert_eq!(profile["login_count"], "1");
    let escalation = json!({"role": "owner", "is_active": false, "full_name": "Still The Boss"});
    let after = server.call("PUT", "/api/v1/auth/profile", &owner, Some(&escalation)).await.json();
    assert_eq!((&after["role"], &after["is_active"]), (&json!("owner"), &json!(true)));
    assert_eq!(server.call("GET", "/api/v1/auth/profile", &shop.key, None).await.status, 403);
}

#[tokio::test]
async fn a_changed_password_ends_other_sessions() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let (here, there) = (server.owner(&shop).await, server.owner(&shop).await);
    let change = |current: &str, new: &str| json!({"current_password": current, "new_password": new, "confirm_new_password": new});
    let path = "/api/v1/auth/change-password";
    let wrong =
        server.call("POST", path, &here, Some(&change("not the password", "correct horse battery"))).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["detail"][0]["loc"]),
        (422, &json!(["body", "current_password"]))
    );
    let mut unlike = change(&shop.owner_password, "correct horse battery");
    unlike["confirm_new_password"] = json!("correct horse staple");
    let unlike = server.call("POST", path, &here, Some(&unlike)).await;
    assert_eq!(
        (unlike.status.as_u16(), &unlike.json()["detail"][0]["loc"]),
        (422, &json!(["body", "confirm_new_password"]))
    );
    let body = change(&shop.owner_password, "correct horse battery");
    let changed = server.call("POST", path, &here, Some(&body)).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    has_exactly(&changed.json(), "message");
    assert_eq!(server.call("GET", "/api/v1/auth/profile", &there, None).await.status, 401);
    assert_eq!(server.login("shop", &shop.owner_email, &shop.owner_password).await.status, 401);
    assert_eq!(server.login("shop", &shop.owner_email, "correct horse battery").await.status, 200);
}

#[tokio::test]
async fn the_tenant_is_shown_and_changed() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let path = "/api/v1/auth/tenant/profile";
    let event = json!({
        "event_type": "api_call", "title": "t", "source": {"service": "s", "endpoint": "/", "method": "GET"}
    });
    server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event)).await;
    let tenant = server.call("GET", path, &shop.key, None).await.json();
    has_exactly(&tenant, TENANT);
    let whole = shop.key.strip_prefix("key:").unwrap();
    assert_ne!(tenant["api_key"], whole, "the key is masked");
    assert!(
        whole.starts_with(tenant["api_key"].as_str().unwrap().trim_end_matches(['*', '.', '_', '\u{2026}']))
    );
    assert_eq!((&tenant["subscription_tier"], &tenant["timezone"]), (&json!("free"), &json!("UTC")));
    assert_eq!((&tenant["rate_limit_per_minute"], &tenant["current_month_events"]), (&json!(100), &json!(1)));
    assert_eq!(tenant["last_activity_at"], "2026-01-15T12:00:00Z");
    let change = json!({"name": "New Name", "timezone": "Europe/Berlin", "slug": "taken-over", "rate_limit_per_minute": 9});
    let changed = server.call("PUT", path, &shop.key, Some(&change)).await.json();
    assert_eq!((&changed["name"], &changed["timezone"]), (&json!("New Name"), &json!("Europe/Berlin")));
    assert_eq!((&changed["slug"], &changed["rate_limit_per_minute"]), (&json!("shop"), &json!(100)));
}

#[tokio::test]
async fn a_regenerated_key_replaces_the_old_one() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let made = server.call("POST", "/api/v1/auth/tenant/regenerate-api-key", &shop.key, None).await;
    assert_eq!(made.status, 200, "{}", made.text());
    has_exactly(&made.json(), "message new_api_key warning");
    let stats = "/api/v1/ingestion/stats";
    assert_eq!(server.call("GET", stats, &shop.key, None).await.status, 401, "the old key");
    let new = format!("key:{}", made.json()["new_api_key"].as_str().unwrap());
    assert_eq!(server.call("GET", stats, &new, None).await.status, 200);
    let as_bearer = new.replace("key:", "token:");
    assert_eq!(server.call("GET", stats, &as_bearer, None).await.status, 200, "a key as a bearer token");
}

/// Keeps what it is to send.
#[derive(Debug, Default)]
struct Mailbox(Mutex<Vec<ResetMail>>);

#[async_trait]
impl ResetMailer for Mailbox {
    async fn send_reset(&self, mail: ResetMail) -> Result<()> {
        self.0.lock().unwrap().push(mail);
        Ok(())
    }
}

#[tokio::test]
async fn a_password_is_reset_by_mail() {
    let mailbox = Arc::new(Mailbox::default());
    let builder = PulseStream::builder().with_reset_mailer(mailbox.clone());
    let server = Server::with(builder, ApiConfig::default()).await;
    let shop = server.tenant("shop").await;
    let ask = |email: &str| {
        let body = json!({"email": email, "tenant_slug": "shop"});
        let server = &server;
        async move { server.call("POST", "/api/v1/auth/password-reset/request", "", Some(&body)).await }
    };
    let known = ask(&shop.owner_email).await;
    let unknown = ask("nobody@shop.example").await;
    assert_eq!((known.status.as_u16(), &known.body), (200, &unknown.body));
    has_exactly(&known.json(), "message");
    let mails = std::mem::take(&mut *mailbox.0.lock().unwrap());
    let [mail] = mails.as_slice() else { panic!("{} mails", mails.len()) };
    let confirm = |token: &str, password: &str| {
        let body = json!({"token": token, "new_password": password, "confirm_new_password": password});
        let server = &server;
        async move { server.call("POST", "/api/v1/auth/password-reset/confirm", "", Some(&body)).await }
    };
    assert_eq!(confirm("nonsense", "correct horse battery").await.status, 400);
    assert_eq!(confirm(mail.token.expose(), "short").await.status, 422);
    assert_eq!(confirm(mail.token.expose(), "correct horse battery").await.status, 200);
    assert_eq!(confirm(mail.token.expose(), "another horse battery").await.status, 400, "used");
    assert_eq!(server.login("shop", &shop.owner_email, "correct horse battery").await.status, 200);
    ask(&shop.owner_email).await;
    let old = mailbox.0.lock().unwrap().pop().unwrap();
    server.clock.advance(std::time::Duration::from_secs(31 * 60));
    assert_eq!(confirm(old.token.expose(), "correct horse staple").await.status, 400, "old");
}

#[tokio::test]
async fn the_health_of_accounts() {
    let server = Server::start().await;
    assert_eq!(
        server.get("/api/v1/auth/health").await.json(),
        json!({
            "status": "healthy", "service": "authentication", "timestamp": "2026-01-15T12:00:00Z",
            "version": env!("CARGO_PKG_VERSION"),
        })
    );
}

#[tokio::test]
async fn missing_and_bad_credentials_are_401_with_a_challenge() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let whole = shop.key.strip_prefix("key:").unwrap().to_owned();
    let cut = format!("key:{}", &whole[..whole.len() - 1]);
    for credential in ["", "key:x", "token:x", "key:ps_live_a_b", cut.as_str()] {
        let answer = server.call("GET", "/api/v1/ingestion/stats", credential, None).await;
        assert_eq!(answer.status, 401, "{credential}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        has_exactly(&answer.json(), "error message status_code details");
    }
}
