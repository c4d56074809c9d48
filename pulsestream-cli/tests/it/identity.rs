//! `serve` with tokens of another identity provider.

use std::process::Stdio;

use pulsestream_core::env::{Clock, SystemClock};
use pulsestream_testtools::identity::{Provider, Signer};
use serde_json::{Value, json};

use crate::program::{command, path, succeed};
use crate::server::{Server, request};

const ISSUER: &str = "https://id.example";

fn claims(tenant: &str, role: &str) -> Value {
    let now = SystemClock::new().now().as_seconds();
    let roles = json!({"roles": ["offline", role]});
    json!({"iss": ISSUER, "aud": "pulsestream", "sub": "ann", "iat": now, "exp": now + 300, "org": tenant, "realm": roles})
}

#[test]
fn tokens_of_the_provider_open_the_tenant_that_they_name() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let signer = Signer::p256("key-1");
    let provider = runtime.block_on(Provider::start(vec![signer.jwk()])).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (folder, authority) = (place.path().join("store"), place.path().join("authority.pem"));
    std::fs::write(&authority, provider.authority_pem()).unwrap();
    let create = ["admin", "create", "--email", "owner@example.com", "--store", path(&folder), "--tenant"];
    let printed = succeed(&[&create[..], &["shop-a"]].concat());
    let key = printed.split_whitespace().find(|word| word.starts_with("ps_live_")).unwrap().to_owned();
    succeed(&[&create[..], &["shop-b"]].concat());

    let url = provider.url();
    let flags = [
        "--jwks-url",
        &url,
        "--jwks-issuer",
        ISSUER,
        "--jwks-audience",
        "pulsestream",
        "--jwks-algorithm",
        "ES256",
        "--jwks-tenant-claim",
        "org",
        "--jwks-role-claim",
        "/realm/roles",
        "--jwks-role",
        "ops=admin,staff=viewer",
        "--jwks-ca",
        path(&authority),
        "--allow-egress",
        "127.0.0.0/8",
    ];
    let server = Server::start(&folder, &flags);
    let status = |method: &str, path: &str, token: &str, body: &str| {
        request(server.address(), method, path, token, body).0
    };
    let ops = signer.token(&claims("shop-a", "ops"));
    let event = r#"{"id":"e-1","event_type":"order"}"#;
    assert_eq!(status("POST", "/api/v2/events", &ops, event), 200);
    assert_eq!(status("GET", "/api/v2/events/e-1", &ops, ""), 200);
    assert_eq!(status("GET", "/api/v2/events/e-1", &key, ""), 200, "keys go on working beside it");
    let staff = signer.token(&claims("shop-a", "staff"));
    assert_eq!(status("GET", "/api/v2/events/e-1", &staff, ""), 200);
    assert_eq!(status("POST", "/api/v2/events", &staff, event), 403);
    let other = signer.token(&claims("shop-b", "ops"));
    assert_eq!(status("GET", "/api/v2/events/e-1", &other, ""), 404);
    assert_eq!(status("GET", "/api/v2/events/e-1", &signer.token(&claims("shop-c", "ops")), ""), 401);
    let forged = Signer::p256("key-1").token(&claims("shop-a", "ops"));
    assert_eq!(status("GET", "/api/v2/events/e-1", &forged, ""), 401);
    let registration = r#"{"name":"Shop","slug":"shop-c","contact_email":"x@example.com"}"#;
    assert_eq!(
        status("POST", "/api/v1/auth/register/tenant", "", registration),
        403,
        "a slug is not to be taken"
    );
    assert_eq!(provider.requests(), 1);
}

#[test]
fn flags_that_do_not_fit_say_so_at_the_start() {
    let serve = |flags: &[&str]| {
        let serve = ["serve", "--store", "memory:", "--listen", "127.0.0.1:0"];
        let output = command(&[&serve[..], flags].concat()).stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(serve(&["--jwks-url", "https://id.example/keys"]).contains("--jwks-issuer"));
    let provider = |url| ["--jwks-url", url, "--jwks-issuer", ISSUER, "--jwks-audience", "pulsestream"];
    assert!(serve(&provider("http://id.example/keys")).contains("must start with https://"));
    assert!(serve(&provider("https://127.0.0.1/keys")).contains("--allow-egress"));
    let wrong = [&provider("https://id.example/keys")[..], &["--jwks-algorithm", "HS256"]].concat();
    assert!(serve(&wrong).contains("RS256, ES256, EdDSA"));
}
