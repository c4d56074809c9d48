//! Pages: every list of the OpenAPI document that has a cursor, found there, so that a new one is paged here too.

use pulsestream_axum::openapi_document;
use serde_json::{Value, json};

use super::alerting::stored;
use super::{problem, shops};

/// Returns the rows of a page, which are its only array.
fn rows(page: &Value) -> &Vec<Value> {
    let mut arrays = page.as_object().unwrap().values().filter_map(Value::as_array);
    let rows = arrays.next().unwrap_or_else(|| panic!("no rows in {page}"));
    assert!(arrays.next().is_none(), "{page}");
    rows
}

#[tokio::test]
async fn nobody_is_left_out_when_a_user_of_an_earlier_page_goes() {
    let (server, own, _) = shops().await;
    let owner = server.owner(&own).await;
    let mut made = Vec::new();
    for number in 0..4_u8 {
        let user = json!({
            "email": format!("u{number}@own.example"), "password": "a long passphrase 42", "full_name": "A User"
        });
        let user = server.call("POST", "/api/v2/users", &owner, Some(&user)).await.json();
        made.push(user["id"].as_str().unwrap().to_owned());
    }
    let first = server.call("GET", "/api/v2/users?limit=3", &owner, None).await.json();
    let gone = server.call("DELETE", &format!("/api/v2/users/{}", made[0]), &owner, None).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    let next = format!("/api/v2/users?limit=3&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = server.call("GET", &next, &owner, None).await.json();
    let ids = |page: &Value| {
        rows(page).iter().map(|user| user["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((&ids(&first)[1..], &ids(&second)[..]), (&made[..2], &made[2..]));
    assert_eq!((&second["total"], &second["next_cursor"]), (&json!(4), &Value::Null));
}

#[tokio::test]
async fn every_list_has_pages_that_follow_each_other() {
    let (server, own, other) = shops().await;
    let (owner, others) = (server.owner(&own).await, server.owner(&other).await);
    let silence = json!({
        "matchers": [{"label": "a", "op": "=", "value": "b"}], "ends_at": "2026-01-16T00:00:00Z"
    });
    for number in 0..3_u8 {
        let user = json!({
            "email": format!("u{number}@own.example"), "password": "a long passphrase 42", "full_name": "A User"
        });
        for (path, body) in [
            ("/api/v2/events", json!({"event_type": "x"})),
            ("/api/v2/rules", json!({"name": format!("r{number}"), "expression": "count > 1 over 5m"})),
            ("/api/v2/users", user),
            // Names that take as many characters as they can in a cursor.
            (
                "/api/v2/channels",
                json!({"name": format!("{number}{}", "\u{1}".repeat(199)), "config": {"type": "log"}}),
            ),
            ("/api/v2/silences", silence.clone()),
            ("/api/v2/keys", json!({"name": "k", "scopes": ["events:read"]})),
        ] {
            let made = server.call("POST", path, &owner, Some(&body)).await;
            assert!(made.status.is_success(), "{path}: {}", made.text());
        }
        stored(&server, &own, number, |_| ()).await;
    }
    let document = openapi_document("v2").unwrap();
    let mut lists = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let parameters = methods.pointer("/get/parameters").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<_> = parameters.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        if !names.contains(&"cursor") {
            continue;
        }
        let get = async |query: &str, credential: &str| {
            server.call("GET", &format!("{path}?{query}"), credential, None).await
        };
        let whole = get("limit=1000", &owner).await;
        assert_eq!((whole.status.as_u16(), whole.header("link")), (200, ""), "{path}: {}", whole.text());
        let whole = whole.json();
        assert_eq!(whole["next_cursor"], Value::Null, "{path}");
        assert!(rows(&whole).len() >= 3, "{path} has too little to page: {whole}");
        assert!(rows(&whole).len() <= 100, "{path} does not fit a page of the usual size");
        assert_eq!(rows(&get("", &owner).await.json()), rows(&whole), "{path}: 100 unless it says");
        let (mut paged, mut query) = (Vec::new(), "limit=1".to_owned());
        loop {
            let answer = get(&query, &owner).await;
            let page = answer.json();
            paged.extend(rows(&page).clone());
            let Some(cursor) = page["next_cursor"].as_str() else {
                assert_eq!(answer.header("link"), "", "{path}");
                break;
            };
            assert_eq!(answer.header("link"), format!("<?limit=1&cursor={cursor}>; rel=\"next\""), "{path}");
            query = format!("limit=1&cursor={cursor}");
            problem(&get(&query, &others).await, 400, "invalid_cursor");
        }
        assert_eq!(&paged, rows(&whole), "{path}: nothing is left out, and nothing comes twice");
        problem(&get("cursor=x", &owner).await, 400, "invalid_cursor");
        for limit in ["0", "1001", "-1", "x"] {
            let refused = problem(&get(&format!("limit={limit}"), &owner).await, 422, "invalid");
            assert_eq!(refused["errors"][0]["parameter"], "limit", "{path}: {refused}");
        }
        lists += 1;
    }
    assert!(lists >= 10, "only {lists} lists have pages");
}
