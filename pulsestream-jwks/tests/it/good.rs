//! Tokens that pass, and what they open.

use std::time::Duration;

use pulsestream_core::auth::{Action, Role};
use pulsestream_core::error::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::auth::Subject;
use pulsestream_core::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Application, NOW, Provider, Signer, claims, with};

#[tokio::test]
async fn each_algorithm_passes() {
    let signers = [Signer::rsa("r"), Signer::p256("p"), Signer::ed25519("e")];
    let provider = Provider::start(signers.iter().map(Signer::jwk).collect()).await.unwrap();
    let application = Application::new(&provider);
    for signer in &signers {
        let principal = application.show(&signer.token(&claims())).await.unwrap();
        assert_eq!(principal.tenant, TenantId::from_name("shop-a"));
        assert_eq!(principal.subject, Subject::External("f:1:ann".into()));
        assert_eq!(principal.role, Some(Role::Admin));
        assert_eq!((principal.scopes, principal.session), (None, None));
        assert_eq!(principal.expires_at, Some(Timestamp::from_seconds(NOW + 600)));
    }
    assert_eq!(provider.requests(), 1, "the keys are fetched once");
}

#[tokio::test]
async fn headers_and_claims_that_providers_write_differently_pass() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    let header = |name, value: Value| with(signer.header(), name, value).to_string();
    let headers = [
        header("typ", Value::Null),
        header("typ", json!("at+jwt")),
        header("typ", json!("application/AT+JWT")),
        header("x5t", json!("thumbprint of a certificate")),
    ];
    for header in headers {
        assert!(application.show(&signer.sign(&header, &claims().to_string())).await.is_ok(), "{header}");
    }
    for change in [("aud", json!(["other", AUDIENCE])), ("nbf", Value::Null), ("azp", json!("web"))] {
        let token = signer.token(&with(claims(), change.0, change.1));
        assert!(application.show(&token).await.is_ok(), "{}", change.0);
    }
}

#[tokio::test]
async fn a_token_opens_its_own_tenant() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::with(&provider, |config| config.tenant_claim = "/org/name".to_owned());
    for name in ["shop-a", "shop-b"] {
        // A claim of the default name is not looked at.
        let claims = with(claims(), "org", json!({"name": name}));
        let principal = application.show(&signer.token(&claims)).await.unwrap();
        assert_eq!(principal.tenant, TenantId::from_name(name));
    }
    assert!(application.show(&signer.token(&claims())).await.is_err());
}

#[tokio::test]
async fn roles_are_mapped_and_the_strongest_counts() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::with(&provider, |config| {
        config.role_claim = "/realm_access/roles".to_owned();
        config.roles = vec![("staff".to_owned(), Role::Viewer), ("ops".to_owned(), Role::Admin)];
    });
    let shown = async |roles: Value| {
        let claims = with(claims(), "realm_access", json!({"roles": roles}));
        application.show(&signer.token(&claims)).await.unwrap()
    };
    assert_eq!(shown(json!(["staff"])).await.role, Some(Role::Viewer));
    assert_eq!(shown(json!(["other", "staff", "ops"])).await.role, Some(Role::Admin));
    assert_eq!(shown(json!("ops")).await.role, Some(Role::Admin));
    // Who has no role that means something here is known, and may do nothing; names of our roles mean nothing unless mapped.
    for roles in [json!([]), json!(["owner"]), json!(7), json!(["ops", 7])] {
        let principal = shown(roles.clone()).await;
        assert_eq!(principal.role, None, "{roles}");
        assert!(Action::ALL.iter().all(|action| !principal.allows(*action)), "{roles}");
    }
    let generous = Application::with(&provider, |config| config.default_role = Some(Role::Viewer));
    let principal = generous.show(&signer.token(&with(claims(), "role", Value::Null))).await.unwrap();
    assert_eq!(principal.role, Some(Role::Viewer));
}

#[tokio::test]
async fn the_leeway_holds_on_both_sides() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    let token = signer.token(&claims());
    application.clock.jump_to(Timestamp::from_seconds(NOW - 5));
    assert!(application.show(&token).await.is_ok());
    application.clock.jump_to(Timestamp::from_seconds(NOW - 6));
    assert!(application.show(&token).await.is_err());
    application.clock.jump_to(Timestamp::from_seconds(NOW + 604));
    assert!(application.show(&token).await.is_ok());
    application.clock.advance(Duration::from_secs(1));
    let expired = application.show(&token).await.unwrap_err();
    assert_eq!(expired.kind(), ErrorKind::Unauthenticated);
    assert_eq!(expired.message(), "the token has expired");
}

#[tokio::test]
async fn a_token_tells_whom_to_ask() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let application = Application::new(&provider);
    assert!(application.auth.is_addressed_by(&signer.token(&claims())));
    assert!(!application.auth.is_addressed_by(&signer.token(&with(
        claims(),
        "iss",
        "https://other.example"
    ))));
    assert!(!application.auth.is_addressed_by("ps_live_1_2"));
    assert_eq!(provider.requests(), 0);
}
