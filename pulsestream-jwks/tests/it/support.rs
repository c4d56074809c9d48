//! An identity provider, its keys, and an application that believes it.

use std::sync::Arc;

use pulsestream_core::auth::Secret;
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::error::Result;
use pulsestream_core::ports::auth::{Credential, Credentials, Origin, Principal, TenantAuth};
use pulsestream_core::time::Timestamp;
use pulsestream_jwks::{JwksAuth, JwksConfig, TenantsByName};
use pulsestream_notify::egress::{EgressGuard, EgressPolicy};
use serde_json::{Value, json};

pub(crate) use pulsestream_testtools::identity::{Answer, Provider, Signer, base64url, token};

/// The time at which every test starts.
pub(crate) const NOW: i64 = 1_768_478_400;
pub(crate) const ISSUER: &str = "https://id.example/realms/shop";
pub(crate) const AUDIENCE: &str = "pulsestream";

/// An application with one provider.
pub(crate) struct Application {
    pub(crate) auth: JwksAuth,
    pub(crate) clock: Arc<ManualClock>,
}

/// Lets requests go to this machine, where the provider of a test is.
pub(crate) fn open_guard() -> EgressGuard {
    EgressGuard::new(EgressPolicy::new().allow("127.0.0.0/8".parse().unwrap()))
}

impl Application {
    pub(crate) fn new(provider: &Provider) -> Self {
        Self::with(provider, |_| ())
    }

    pub(crate) fn with(provider: &Provider, change: impl FnOnce(&mut JwksConfig)) -> Self {
        let mut config = config(provider);
        change(&mut config);
        let (env, clock) = Env::manual(Timestamp::from_seconds(NOW), 3);
        let auth = JwksAuth::new(config, Arc::new(TenantsByName), open_guard(), env).unwrap();
        Self { auth, clock }
    }

    pub(crate) async fn show(&self, token: &str) -> Result<Principal> {
        let credential = Credential::Bearer(Secret::new(token));
        self.auth.authenticate(&Credentials { credential, origin: Origin::default() }).await
    }
}

pub(crate) fn config(provider: &Provider) -> JwksConfig {
    let mut config = JwksConfig::new(provider.url(), ISSUER, AUDIENCE);
    config.extra_root_certificates.push(provider.authority_pem());
    config
}

/// Claims that are right in every way.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "f:1:ann", "iat": NOW, "nbf": NOW, "exp": NOW + 600,
        "tenant": "shop-a", "role": "admin", "email": "ann@shop-a.example", "amr": ["pwd", "otp"],
    })
}

/// Changes one member; `Null` takes it away.
pub(crate) fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    match value.into() {
        Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
        value => object[name] = value,
    }
    object
}
