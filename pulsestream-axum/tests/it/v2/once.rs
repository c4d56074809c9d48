//! `Idempotency-Key` on what makes something.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use pulsestream::Builder;
use pulsestream::core::auth::Keyring;
use pulsestream::core::env::Env;
use pulsestream::core::memory::MemoryKeyValue;
use pulsestream::core::time::Timestamp;
use pulsestream_axum::{ApiConfig, router};
use serde_json::{Value, json};

use super::{problem, shops};
use crate::server::{Response, START, Server};

/// Opens a node over a store, with a cache of its own.
async fn node(store: &Arc<MemoryKeyValue>, keyring: &Keyring, seed: u64) -> Server {
    let (env, clock) = Env::manual(Timestamp::from_seconds(START), seed);
    let builder =
        Builder::default().with_keyring(keyring.clone()).with_key_value(store.clone()).with_env(env);
    let ps = builder.open("memory:").await.unwrap();
    Server { router: router(ps.clone(), ApiConfig::default()).unwrap(), ps, clock }
}

#[tokio::test]
async fn a_node_that_lost_the_answer_knows_what_was_made_under_a_key() {
    let keyring = Keyring::generate(&Env::manual(Timestamp::from_seconds(START), 7).0).unwrap();
    let store = Arc::new(MemoryKeyValue::new());
    let (one, two) = (node(&store, &keyring, 1).await, node(&store, &keyring, 2).await);
    let shop = one.tenant("own").await;
    let owner = one.owner(&shop).await;
    let silence = json!({
        "matchers": [{"label": "a", "op": "=", "value": "b"}], "ends_at": "2026-01-16T00:00:00Z"
    });
    let webhook =
        json!({"type": "webhook", "url": "https://hook.example/x", "headers": [["x-token", "secret"]]});
    for (path, body) in [
        ("/api/v2/rules", json!({"name": "r", "expression": "count > 1 over 5m"})),
        ("/api/v2/silences", silence),
        ("/api/v2/channels", json!({"name": "c", "config": webhook})),
    ] {
        let list = path.rsplit('/').next().unwrap();
        let count = async || two.call("GET", path, &owner, None).await.json()[list].as_array().unwrap().len();
        // Both at once make one, whichever comes first.
        let both = tokio::join!(
            under_key(&one, path, &owner, "k", &body),
            under_key(&two, path, &owner, "k", &body)
        );
        assert_eq!((both.0.status.as_u16(), both.1.status.as_u16()), (201, 201), "{path}: {both:?}");
        assert_eq!((both.0.json(), both.0.header("etag")), (both.1.json(), both.1.header("etag")), "{path}");
        // One that starts later, too.
        let three = node(&store, &keyring, 3).await;
        three.clock.advance(std::time::Duration::from_secs(9));
        for _ in 0..2 {
            let again = under_key(&three, path, &owner, "k", &body).await;
            assert_eq!((again.status.as_u16(), again.json()), (201, both.0.json()), "{path}");
            assert_eq!(
                (again.header("etag"), again.header("idempotency-replayed")),
                ("\"1\"", "true"),
                "{path}"
            );
        }
        assert_eq!(count().await, 1, "{path}");
        // Another body is another request, and so is what was changed since.
        let four = node(&store, &keyring, 4).await;
        let mut other = body.clone();
        if list == "silences" {
            other["comment"] = json!("another");
        } else {
            other["name"] = json!("another");
        }
        problem(&under_key(&four, path, &owner, "k", &other).await, 422, "idempotency_key_reused");
        let id = both.0.json()["id"].as_str().unwrap().to_owned();
        let put = two.call("PUT", &format!("{path}/{id}"), &owner, Some(&other)).await;
        assert_eq!(put.status.as_u16(), 200, "{path}: {}", put.text());
        problem(&under_key(&four, path, &owner, "k", &body).await, 409, "conflict");
        assert_eq!(count().await, 1, "{path}");
    }
}

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
