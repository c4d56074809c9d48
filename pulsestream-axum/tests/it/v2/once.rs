//! `Idempotency-Key` on what makes something.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::{problem, shops};
use crate::server::{Response, Server};

async fn under_key(server: &Server, path: &str, credential: &str, key: &str, body: &Value) -> Response {
    send(server, path, credential, key, body.to_string().into_bytes(), "identity").await
}

async fn send(
    server: &Server,
    path: &str,
    credential: &str,
    key: &str,
    body: Vec<u8>,
    coding: &str,
) -> Response {
    let token = credential.strip_prefix("token:").unwrap();
    let request = Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("content-encoding", coding)
        .header("idempotency-key", key);
    server.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn what_is_made_under_a_key_is_made_once() {
    let (server, own, other) = shops().await;
    let (owner, others) = (server.owner(&own).await, server.owner(&other).await);
    let silence = |comment: &str| {
        json!({
            "matchers": [{"label": "a", "op": "=", "value": "b"}], "ends_at": "2026-01-16T00:00:00Z",
            "comment": comment
        })
    };
    let user = json!({"email": "u@own.example", "password": "a long passphrase 42", "full_name": "A User"});
    for (path, body, list) in [
        ("/api/v2/rules", json!({"name": "r", "expression": "count > 1 over 5m"}), "rules"),
        ("/api/v2/silences", silence("first"), "silences"),
        ("/api/v2/channels", json!({"name": "c", "config": {"type": "log"}}), "channels"),
        ("/api/v2/users", user, "users"),
    ] {
        let count =
            async || server.call("GET", path, &owner, None).await.json()[list].as_array().unwrap().len();
        let before = count().await;
        let first = under_key(&server, path, &owner, "k", &body).await;
        assert_eq!(first.status, 201, "{path}: {}", first.text());
        assert_eq!(first.header("idempotency-replayed"), "");
        server.clock.advance(std::time::Duration::from_secs(60));
        let again = under_key(&server, path, &owner, "k", &body).await;
        assert_eq!((again.status, again.json()), (first.status, first.json()), "{path}");
        assert_eq!(again.header("etag"), first.header("etag"), "{path}");
        assert_eq!(again.header("content-type"), "application/json", "{path}");
        assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
        assert_eq!(count().await, before + 1, "{path}");
        let mut changed = body.clone();
        changed["name"] = json!("another");
        let refused = under_key(&server, path, &owner, "k", &changed).await;
        problem(&refused, 422, "idempotency_key_reused");
        // The key of another tenant is another key, and nobody without a right is answered from what is kept.
        let theirs = under_key(&server, path, &others, "k", &body).await;
        assert_eq!((theirs.status.as_u16(), theirs.header("idempotency-replayed")), (201, ""), "{path}");
        problem(&under_key(&server, path, "token:x", "k", &body).await, 401, "unauthenticated");
        problem(
            &under_key(&server, path, &owner, &"k".repeat(256), &body).await,
            400,
            "invalid_idempotency_key",
        );
    }
    // A failure is not kept.
    let bad = silence(&"x".repeat(2_001));
    problem(&under_key(&server, "/api/v2/silences", &owner, "k2", &bad).await, 422, "invalid");
    let good = under_key(&server, "/api/v2/silences", &owner, "k2", &silence("good")).await;
    assert_eq!(good.status, 201, "{}", good.text());
    // A compressed body is what it says when it is decompressed.
    let body = silence("compressed").to_string().into_bytes();
    let packed = zstd::bulk::compress(&body, 3).unwrap();
    let first = send(&server, "/api/v2/silences", &owner, "k3", packed, "zstd").await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = send(&server, "/api/v2/silences", &owner, "k3", body, "identity").await;
    assert_eq!((again.json(), again.header("idempotency-replayed")), (first.json(), "true"));
    // Two at once make one.
    let body = silence("both");
    let both = tokio::join!(
        under_key(&server, "/api/v2/silences", &owner, "k4", &body),
        under_key(&server, "/api/v2/silences", &owner, "k4", &body),
    );
    let made = [&both.0, &both.1].into_iter().filter(|answer| answer.status == 201).collect::<Vec<_>>();
    assert!(made.iter().all(|answer| answer.json() == made[0].json()), "{both:?}");
    let all = server.call("GET", "/api/v2/silences", &owner, None).await.json();
    assert_eq!(all["silences"].as_array().unwrap().len(), 4, "{all}");
}
