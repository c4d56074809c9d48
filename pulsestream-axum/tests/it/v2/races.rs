//! Changes under `If-Match` while somebody else changes the same thing.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use pulsestream::Builder;
use pulsestream::core::Result;
use pulsestream::core::auth::Keyring;
use pulsestream::core::env::Env;
use pulsestream::core::id::RuleId;
use pulsestream::core::memory::MemoryKeyValue;
use pulsestream::core::ports::key_value::{Commit, CommitOutcome, KeyValue, Read, ReadResult};
use pulsestream::core::time::Timestamp;
use pulsestream_axum::{ApiConfig, router};
use serde_json::{Value, json};

use super::problem;
use crate::server::{Response, START, Server, Shop};

type Rival = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store in which somebody else is faster: before a commit that writes a certain key, a rival has its way.
#[derive(Default)]
struct Interleaved {
    store: Arc<MemoryKeyValue>,
    rival: Mutex<Option<([u8; 16], Rival)>>,
}

impl fmt::Debug for Interleaved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Interleaved").finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyValue for Interleaved {
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<ReadResult>> {
        self.store.read(reads).await
    }

    async fn commit(&self, commit: Commit) -> Result<CommitOutcome> {
        let rival = self.rival.lock().unwrap().take_if(|(id, _)| {
            commit.writes.iter().any(|write| write.key.windows(id.len()).any(|part| part == id))
        });
        if let Some((_, rival)) = rival {
            rival.await;
        }
        self.store.commit(commit).await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

async fn send(server: &Server, method: &str, path: &str, shop: &Shop, tag: &str, body: &Value) -> Response {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-api-key", shop.key.strip_prefix("key:").unwrap())
        .header("content-type", "application/json");
    if !tag.is_empty() {
        request = request.header("if-match", tag);
    }
    let body = if method == "PUT" { Body::from(body.to_string()) } else { Body::empty() };
    server.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn a_change_of_another_version_is_refused_whoever_was_faster() {
    let keyring = Keyring::generate(&Env::manual(Timestamp::from_seconds(START), 7).0).unwrap();
    let store = Arc::new(Interleaved::default());
    let open = async |store: Arc<dyn KeyValue>, seed: u64| {
        let (env, clock) = Env::manual(Timestamp::from_seconds(START), seed);
        let builder = Builder::default().with_keyring(keyring.clone()).with_key_value(store).with_env(env);
        let ps = builder.open("memory:").await.unwrap();
        let router = router(ps.clone(), ApiConfig::default()).unwrap();
        Server { ps, clock, router }
    };
    let server = open(store.clone(), 1).await;
    let rivals = Arc::new(open(store.store.clone(), 2).await);
    let shop = server.tenant("own").await;

    let rule = json!({"name": "r", "expression": "count > 1 over 5m"});
    let silence = json!({
        "matchers": [{"label": "a", "op": "=", "value": "b"}], "ends_at": "2026-01-16T00:00:00Z"
    });
    let channel = json!({"name": "c", "config": {"type": "log"}});
    let mut checked = 0;
    for (list, body) in
        [("rules", rule), ("silences", silence), ("channels", channel), ("routing", json!({}))]
    {
        let changes: &[(&str, &str)] = match list {
            "rules" => &[("PUT", ""), ("POST", "/disable"), ("POST", "/enable"), ("DELETE", "")],
            "routing" => &[("PUT", "")],
            _ => &[("PUT", ""), ("DELETE", "")],
        };
        for (method, action) in changes {
            for guarded in [true, false] {
                let (path, id) = if list == "routing" {
                    ("/api/v2/routing".to_owned(), shop.id.clone())
                } else {
                    let mut body = body.clone();
                    if body["name"].is_string() {
                        body["name"] = json!(format!("{method} {action} {guarded}"));
                    }
                    let made = server.call("POST", &format!("/api/v2/{list}"), &shop.key, Some(&body)).await;
                    assert_eq!(made.status, 201, "{list}: {}", made.text());
                    let id = made.json()["id"].as_str().unwrap().to_owned();
                    (format!("/api/v2/{list}/{id}"), id)
                };
                let read = server.call("GET", &path, &shop.key, None).await;
                let tag = read.header("etag").to_owned();
                let mut next = body.clone();
                if next["name"].is_string() {
                    next["name"] = json!(format!("rival of {method} {action} {guarded}"));
                }
                let rival = {
                    let (rivals, path, shop, next) =
                        (rivals.clone(), path.clone(), shop.clone(), next.clone());
                    async move {
                        let put = send(&rivals, "PUT", &path, &shop, "", &next).await;
                        assert_eq!(put.status, 200, "{}", put.text());
                    }
                };
                // Every id is a UUID, and a tenant’s is that of its routing.
                let watched = id.parse::<RuleId>().unwrap().to_bytes();
                *store.rival.lock().unwrap() = Some((watched, Box::pin(rival)));
                let changed = {
                    let tag = if guarded { tag.as_str() } else { "" };
                    send(&server, method, &format!("{path}{action}"), &shop, tag, &next).await
                };
                let what = format!("{method} {list}{action}, guarded: {guarded}: {}", changed.text());
                if *action == "/enable" {
                    // It is on already: there is nothing to write, and so nobody to be faster than.
                    assert_eq!(
                        (changed.status.as_u16(), changed.header("etag")),
                        (200, tag.as_str()),
                        "{what}"
                    );
                    *store.rival.lock().unwrap() = None;
                    continue;
                }
                assert!(store.rival.lock().unwrap().is_none(), "the rival had no turn: {what}");
                let left = server.call("GET", &path, &shop.key, None).await;
                let moved = |by: u64| {
                    let version = tag.trim_matches('"').parse::<u64>().unwrap() + by;
                    (200, format!("\"{version}\""))
                };
                let found = (left.status.as_u16(), left.header("etag").to_owned());
                if guarded {
                    problem(&changed, 412, "precondition_failed");
                    assert_eq!(found, moved(1), "{what}");
                } else if *method == "DELETE" {
                    assert_eq!((changed.status.as_u16(), left.status.as_u16()), (204, 404), "{what}");
                } else {
                    assert_eq!((changed.status.as_u16(), found), (200, moved(2)), "{what}");
                }
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 16);
}
