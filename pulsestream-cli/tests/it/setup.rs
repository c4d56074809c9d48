//! The link that `serve` prints at its first start.

use crate::program::{path, run, succeed, text};
use crate::server::{Server, request};

fn token(server: &Server) -> Option<String> {
    let line = server.printed.iter().find(|line| line.starts_with("setup"))?;
    let link = line.split_whitespace().nth(1).unwrap();
    let (place, token) = link.split_once('#').unwrap();
    assert_eq!(place, format!("http://{}/setup", server.address()));
    Some(token.to_owned())
}

fn body(token: &str, slug: &str) -> String {
    format!(
        r#"{{"token":"{token}","tenant_name":"Shop","tenant_slug":"{slug}","email":"ann@shop.example","full_name":"Ann","password":"a long enough secret"}}"#
    )
}

#[test]
fn the_first_start_prints_a_link_that_works_once_and_then_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let old = token(&Server::start(&folder, &[])).expect("there is nobody yet");
    let server = Server::start(&folder, &[]);
    let new = token(&server).expect("there is nobody yet");
    assert_ne!(old, new);
    let call = |method: &str, path: &str, body: &str| request(server.address(), method, path, "", body);
    let (status, page) = call("GET", "/setup", "");
    assert_eq!(status, 200);
    assert!(page.contains("setup.js") && !page.contains("pss_"));
    assert_eq!(call("GET", "/setup.js", "").0, 200);
    assert_eq!(call("POST", "/api/v2/setup", &body("pss_wrong", "shop")).0, 401);
    // The link of a start before works too.
    let (status, made) = call("POST", "/api/v2/setup", &body(&old, "shop"));
    assert_eq!(status, 201, "{made}");
    for (method, path, body) in [
        ("GET", "/setup", String::new()),
        ("GET", "/setup.js", String::new()),
        ("POST", "/api/v2/setup", body(&new, "other")),
    ] {
        assert_eq!(call(method, path, &body).0, 404, "{path}");
    }
    let login = r#"{"email":"ann@shop.example","password":"a long enough secret","tenant_slug":"shop"}"#;
    assert_eq!(call("POST", "/api/v1/auth/login", login).0, 200);
    drop(server);
    assert_eq!(token(&Server::start(&folder, &[])), None, "there is somebody");
}

#[test]
fn whoever_is_named_on_the_command_line_needs_no_link() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (place.path().join("a"), place.path().join("b"));
    let flags = ["--admin-tenant", "shop", "--admin-email", "ann@shop.example"];
    assert_eq!(token(&Server::start(&first, &flags)), None);
    succeed(&[
        "admin",
        "create",
        "--store",
        path(&second),
        "--tenant",
        "shop",
        "--email",
        "ann@shop.example",
    ]);
    assert_eq!(token(&Server::start(&second, &[])), None);
}

#[test]
fn keys_are_rotated_while_nobody_serves_and_refused_while_somebody_does() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    let flags = [
        "--admin-tenant",
        "shop",
        "--admin-email",
        "a@shop.example",
        "--admin-password",
        "a long enough secret",
    ];
    let login = r#"{"email":"a@shop.example","password":"a long enough secret","tenant_slug":"shop"}"#;
    let sign_in = |server: &Server| {
        let (status, answer) = request(server.address(), "POST", "/api/v1/auth/login", "", login);
        assert_eq!(status, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let profile =
        |server: &Server, token: &str| request(server.address(), "GET", "/api/v1/auth/profile", token, "").0;
    let rotate = ["admin", "rotate-keys", "--store", path(&folder)];
    let server = Server::start(&folder, &flags);
    let first = sign_in(&server);
    assert_eq!(profile(&server, &first), 200);
    let refused = run(&rotate);
    assert!(!refused.status.success() && text(&refused.stderr).contains("stop the other process"));
    drop(server);
    assert!(succeed(&rotate).contains("live out their time"));
    let server = Server::start(&folder, &[]);
    assert_eq!(profile(&server, &first), 200, "it lives out its time");
    let second = sign_in(&server);
    assert_eq!(profile(&server, &second), 200);
    drop(server);
    assert!(succeed(&[&rotate[..], &["--immediately"]].concat()).contains("has ended"));
    let server = Server::start(&folder, &[]);
    for token in [&first, &second] {
        assert_eq!(profile(&server, token), 401, "it has ended");
    }
    assert_eq!(profile(&server, &sign_in(&server)), 200);
}
