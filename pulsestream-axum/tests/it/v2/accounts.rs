//! Keys, users, the tenant and its usage of `/api/v2`.

use serde_json::json;

use super::{pointers, problem, shops};

const PASSWORD: &str = "a long passphrase 42";

#[tokio::test]
async fn keys_are_made_rotated_and_revoked() {
    let (server, own, _) = shops().await;
    let body = json!({"name": "browser", "scopes": ["events:write"]});
    let made = server.call("POST", "/api/v2/keys", &own.key, Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = format!("key:{}", made["key"].as_str().unwrap());
    let event = json!({"event_type": "x"});
    assert_eq!(server.call("POST", "/api/v2/events", &key, Some(&event)).await.status, 200);
    problem(&server.call("GET", "/api/v2/events", &key, None).await, 403, "forbidden");
    let path = format!("/api/v2/keys/{}", made["info"]["id"].as_str().unwrap());
    let hour = json!({"overlap": "1h"});
    let next = server.call("POST", &format!("{path}/rotate"), &own.key, Some(&hour)).await;
    assert_eq!(next.status, 201, "{}", next.text());
    let next = format!("key:{}", next.json()["key"].as_str().unwrap());
    for key in [&key, &next] {
        assert_eq!(server.call("POST", "/api/v2/events", key, Some(&event)).await.status, 200);
    }
    let shown = server.call("GET", &path, &own.key, None).await.json();
    assert_eq!((&shown["id"], &shown["expires_at"]), (&made["info"]["id"], &json!("2026-01-15T13:00:00Z")));
    assert_eq!(server.call("DELETE", &path, &own.key, None).await.status, 204);
    let revoked = server.call("GET", &path, &own.key, None).await.json();
    assert_eq!(revoked["revoked_at"], "2026-01-15T12:00:00Z");
    problem(&server.call("POST", "/api/v2/events", &key, Some(&event)).await, 401, "unauthenticated");
    let list = server.call("GET", "/api/v2/keys", &own.key, None).await;
    assert_eq!(list.json()["keys"].as_array().unwrap().len(), 3);
    assert!(!list.text().contains(next.strip_prefix("key:").unwrap()));
    let bad = json!({"name": "x", "scopes": ["events:wrte"]});
    let bad = server.call("POST", "/api/v2/keys", &own.key, Some(&bad)).await;
    assert_eq!(pointers(&problem(&bad, 422, "invalid")), ["/scopes/0"]);
    let long = json!({"overlap": "91d"});
    let long = server.call("POST", &format!("{path}/rotate"), &own.key, Some(&long)).await;
    assert_eq!(pointers(&problem(&long, 422, "invalid")), ["/overlap"]);
}

#[tokio::test]
async fn users_are_made_listed_promoted_and_deactivated() {
    let (server, own, other) = shops().await;
    let owner = server.owner(&own).await;
    for name in ["ann", "bob"] {
        let body =
            json!({"email": format!("{name}@own.example"), "password": PASSWORD, "full_name": "Some Body"});
        let made = server.call("POST", "/api/v2/users", &owner, Some(&body)).await;
        assert_eq!((made.status.as_u16(), &made.json()["role"]), (201, &json!("viewer")), "{}", made.text());
    }
    let page = server.call("GET", "/api/v2/users?limit=2", &owner, None).await.json();
    assert_eq!((&page["total"], page["users"].as_array().unwrap().len()), (&json!(3), 2));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = server.call("GET", &format!("/api/v2/users?limit=2&cursor={cursor}"), &owner, None).await;
    let bob = rest.json()["users"][0].clone();
    assert_eq!((&bob["email"], &rest.json()["next_cursor"]), (&json!("bob@own.example"), &json!(null)));
    let foreign = server.owner(&other).await;
    let foreign = server.call("GET", &format!("/api/v2/users?limit=2&cursor={cursor}"), &foreign, None).await;
    problem(&foreign, 400, "invalid_cursor");
    let path = format!("/api/v2/users/{}", bob["id"].as_str().unwrap());
    let role = server.call("PUT", &format!("{path}/role"), &owner, Some(&json!({"role": "admin"}))).await;
    assert_eq!(role.json()["role"], "admin");
    assert_eq!(server.call("GET", &path, &owner, None).await.json(), role.json());
    let bad = server.call("PUT", &format!("{path}/role"), &owner, Some(&json!({"role": "root"}))).await;
    assert_eq!(pointers(&problem(&bad, 422, "invalid")), ["/role"]);
    let off = server.call("POST", &format!("{path}/deactivate"), &owner, None).await;
    assert_eq!(off.json()["is_active"], false);
    assert_eq!(server.login("own", "bob@own.example", PASSWORD).await.status, 401);
    let on = server.call("POST", &format!("{path}/activate"), &owner, None).await;
    assert_eq!(on.json()["is_active"], true);
    assert_eq!(server.call("DELETE", &path, &owner, None).await.status, 204);
    problem(&server.call("GET", &path, &owner, None).await, 404, "not_found");
    problem(&server.call("DELETE", &path, &owner, None).await, 404, "not_found");
    assert_eq!(server.login("own", "bob@own.example", PASSWORD).await.status, 401);
    let left = server.call("GET", "/api/v2/users", &owner, None).await.json();
    assert_eq!(left["total"], 2);
    let oneself = left["users"].as_array().unwrap().iter().find(|user| user["role"] == "owner").unwrap();
    let oneself = format!("/api/v2/users/{}", oneself["id"].as_str().unwrap());
    problem(&server.call("DELETE", &oneself, &owner, None).await, 403, "forbidden");
}

#[tokio::test]
async fn the_tenant_is_shown_and_changed_and_its_usage_counted() {
    let (server, own, _) = shops().await;
    let changed =
        server.call("PUT", "/api/v2/tenant", &own.key, Some(&json!({"timezone": "Europe/Berlin"}))).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let shown = server.call("GET", "/api/v2/tenant", &own.key, None).await.json();
    assert_eq!((&shown["id"], &shown["timezone"]), (&json!(own.id), &json!("Europe/Berlin")));
    let bad = json!({"timezon": "UTC"});
    let bad = server.call("PUT", "/api/v2/tenant", &own.key, Some(&bad)).await;
    assert_eq!(pointers(&problem(&bad, 422, "invalid")), ["/timezon"]);
    server.call("POST", "/api/v2/events", &own.key, Some(&json!({"event_type": "x"}))).await;
    let usage = server.call("GET", "/api/v2/usage", &own.key, None).await.json();
    assert_eq!(usage["events"]["month"], "2026-01-01T00:00:00Z");
    assert_eq!(usage["events"]["used"], 1);
    assert_eq!(usage["rate_limit"], json!({"limit": 100_000, "remaining": 99_999, "reset_after": 1}));
}

#[tokio::test]
async fn the_audit_log_is_read_by_pages_and_by_its_own_tenant() {
    let (server, own, other) = shops().await;
    let owner = server.owner(&own).await;
    assert_eq!(server.login(&own.slug, &own.owner_email, "not the password").await.status, 401);
    let page = server.call("GET", "/api/v2/audit?limit=1", &owner, None).await;
    let latest = &page.json()["entries"][0];
    assert_eq!(latest["action"], "sign_in.failed", "{}", page.text());
    let mut seen = vec![latest["id"].clone()];
    let mut next = page.json()["next_cursor"].clone();
    while let Some(cursor) = next.as_str() {
        let path = format!("/api/v2/audit?limit=1&cursor={cursor}");
        let page = server.call("GET", &path, &owner, None).await.json();
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["id"].clone()));
        next = page["next_cursor"].clone();
    }
    let all = server.call("GET", "/api/v2/audit", &owner, None).await.json();
    let all: Vec<_> = all["entries"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(seen, all);
    let foreign = server.owner(&other).await;
    let theirs = server.call("GET", "/api/v2/audit", &foreign, None).await.json();
    assert!(theirs["entries"].as_array().unwrap().iter().all(|entry| !all.contains(&entry["id"])));
}

#[tokio::test]
async fn an_owner_who_means_it_deletes_the_tenant() {
    let (server, own, other) = shops().await;
    let owner = server.owner(&own).await;
    let delete = async |credential: &str, confirm: &str| {
        let path = format!("/api/v2/tenant?confirm={confirm}");
        server.call("DELETE", &path, credential, None).await.status.as_u16()
    };
    assert_eq!(delete(&own.key, &own.slug).await, 403, "a key cannot");
    assert_eq!(delete(&owner, "").await, 422);
    assert_eq!(delete(&owner, &other.slug).await, 409);
    assert_eq!(server.call("GET", "/api/v2/tenant", &owner, None).await.status, 200);
    assert_eq!(delete(&owner, &own.slug).await, 204);
    for credential in [&owner, &own.key] {
        assert_eq!(server.call("GET", "/api/v2/events", credential, None).await.status, 401);
    }
    assert_eq!(server.call("GET", "/api/v2/events", &other.key, None).await.status, 200);
}
