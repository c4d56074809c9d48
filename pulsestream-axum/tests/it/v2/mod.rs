//! `/api/v2`.

mod accounts;
pub(crate) mod alerting;
mod events;
mod insight;
mod once;
mod pages;
mod races;
mod stream;

use serde_json::{Value, json};

use crate::server::{Response, Server, Shop};

/// A server where two tenants may send as fast as tests do.
async fn shops() -> (Server, Shop, Shop) {
    let settings = r#"{"ingest": {"rate_limit_per_minute": 100000, "rate_limit_burst": 100000}}"#;
    let server = Server::with_settings(settings).await;
    let (own, other) = (server.tenant("own").await, server.tenant("other").await);
    (server, own, other)
}

/// Asserts that an answer is a problem with this status and code, and returns it.
#[track_caller]
fn problem(answer: &Response, status: u16, code: &str) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{problem}");
    problem
}

/// Asserts that two answers cannot be told apart, ids of requests aside.
#[track_caller]
fn same(left: &Response, right: &Response) {
    let body = |answer: &Response| {
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        body
    };
    assert_eq!((left.status, body(left)), (right.status, body(right)));
}

/// Returns the pointers of a problem.
fn pointers(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().filter_map(|error| error["pointer"].as_str()).collect()
}
