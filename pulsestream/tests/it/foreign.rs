//! Tokens of another identity provider beside the local accounts.

use std::sync::Arc;

use pulsestream::core::auth::{EnsureAdmin, EnsuredAdmin, Role, Secret};
use pulsestream::core::env::{Env, ManualClock};
use pulsestream::core::id::TenantId;
use pulsestream::core::ports::auth::{Credential, Credentials, Origin, Principal};
use pulsestream::core::time::Timestamp;
use pulsestream::jwks::JwksConfig;
use pulsestream::notify::egress::EgressPolicy;
use pulsestream::{Builder, ErrorKind, PulseStream, Result};
use pulsestream_testtools::identity::{Provider, Signer};
use serde_json::{Value, json};

const NOW: i64 = 1_768_478_400;
const ISSUER: &str = "https://id.example";

fn claims(tenant: &str) -> Value {
    json!({"iss": ISSUER, "aud": "us", "sub": "ann", "iat": NOW, "exp": NOW + 600, "tenant": tenant, "role": "admin"})
}

fn builder(provider: &Provider) -> (Builder, Arc<ManualClock>) {
    let mut config = JwksConfig::new(provider.url(), ISSUER, "us");
    config.extra_root_certificates.push(provider.authority_pem());
    let (env, clock) = Env::manual(Timestamp::from_seconds(NOW), 5);
    let policy = EgressPolicy::new().allow("127.0.0.0/8".parse().unwrap());
    (PulseStream::builder().with_env(env).with_egress_policy(policy).with_jwks(config), clock)
}

async fn show(ps: &PulseStream, credential: Credential) -> Result<Principal> {
    ps.tenant_auth().authenticate(&Credentials { credential, origin: Origin::default() }).await
}

async fn tenant(ps: &PulseStream, slug: &str) -> (TenantId, Secret) {
    let request = EnsureAdmin {
        tenant_name: slug.to_owned(),
        tenant_slug: slug.to_owned(),
        email: format!("owner@{slug}.example"),
        full_name: "Owner".to_owned(),
        password: None,
    };
    match ps.accounts().ensure_admin(&request).await.unwrap() {
        EnsuredAdmin::Created { tenant, api_key: Some(key), .. } => (tenant.id, key),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_name_tenants_with_an_account_and_keys_work_beside_them() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let ps = builder(&provider).0.open("memory:").await.unwrap();
    let (id, key) = tenant(&ps, "shop-a").await;
    let (other, _) = tenant(&ps, "shop-b").await;
    let bearer = |tenant: &str| Credential::Bearer(Secret::new(signer.token(&claims(tenant))));
    for name in ["shop-a", &id.to_string()] {
        let principal = show(&ps, bearer(name)).await.unwrap();
        assert_eq!((principal.tenant, principal.role), (id, Some(Role::Admin)), "{name}");
    }
    assert_eq!(show(&ps, bearer("shop-b")).await.unwrap().tenant, other);
    for nobody in ["shop-c", "Shop-A", "shop-a ", "", &TenantId::from_u128(9).to_string()] {
        assert_eq!(
            show(&ps, bearer(nobody)).await.unwrap_err().kind(),
            ErrorKind::Unauthenticated,
            "{nobody}"
        );
    }
    assert_eq!(show(&ps, Credential::ApiKey(key.clone())).await.unwrap().tenant, id);
    assert_eq!(show(&ps, Credential::Bearer(key)).await.unwrap().tenant, id);
    let mut of_another = claims("shop-a");
    of_another["iss"] = json!("https://evil.example");
    let token = Credential::Bearer(Secret::new(signer.token(&of_another)));
    assert_eq!(show(&ps, token).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_deleted_tenant_is_closed_at_once() {
    let signer = Signer::ed25519("e");
    let provider = Provider::start(vec![signer.jwk()]).await.unwrap();
    let ps = builder(&provider).0.open("memory:").await.unwrap();
    tenant(&ps, "shop-a").await;
    let token = || Credential::Bearer(Secret::new(signer.token(&claims("shop-a"))));
    let mut principal = show(&ps, token()).await.unwrap();
    principal.role = Some(Role::Owner);
    ps.accounts().delete_tenant(&principal, &Origin::default()).await.unwrap();
    assert_eq!(show(&ps, token()).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_at_the_start() {
    let provider = Provider::start(Vec::new()).await.unwrap();
    let own = Arc::new(PulseStream::open("memory:").await.unwrap().accounts().clone());
    let both = builder(&provider).0.with_tenant_auth(own.clone()).open("memory:").await.unwrap_err();
    assert_eq!(both.fields()[0].pointer, "/jwks");
    let config = JwksConfig::new(provider.url(), own.settings().issuer.clone(), "us");
    let same = builder(&provider).0.with_jwks(config).open("memory:").await.unwrap_err();
    assert_eq!(same.fields()[0].pointer, "/jwks/issuer");
}
