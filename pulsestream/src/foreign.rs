//! Tokens of another identity provider, beside the local accounts.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::auth::AuthService;
use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::auth::{Credential, Credentials, Principal, TenantAuth};
use pulsestream_core::{Error, Result};
use pulsestream_jwks::{JwksAuth, JwksConfig, ResolveTenant};
use pulsestream_notify::egress::{EgressGuard, EgressPolicy};

/// People come with tokens of the provider, programs with API keys, and whoever has a local account with that.
#[derive(Debug)]
pub(crate) struct ForeignAuth {
    foreign: JwksAuth,
    local: AuthService,
}

/// Believes a provider beside the local accounts, whose tenants it opens.
pub(crate) fn beside_accounts(
    config: JwksConfig,
    local: AuthService,
    policy: EgressPolicy,
    env: Env,
) -> Result<Arc<dyn TenantAuth>> {
    if config.issuer == local.settings().issuer {
        let message = "must not be the issuer of the local accounts";
        return Err(Error::invalid("pulsestream.open", "/jwks/issuer", "invalid_setting", message));
    }
    let tenants = Arc::new(LocalTenants(local.clone()));
    let foreign = JwksAuth::new(config, tenants, EgressGuard::new(policy), env)?;
    Ok(Arc::new(ForeignAuth { foreign, local }))
}

#[async_trait]
impl TenantAuth for ForeignAuth {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal> {
        match &credentials.credential {
            // Who a token says it is from only tells whom to ask: each of the two believes its own issuer alone.
            Credential::Bearer(token) if self.foreign.is_addressed_by(token.expose()) => {
                self.foreign.authenticate(credentials).await
            }
            _ => self.local.authenticate(credentials).await,
        }
    }
}

/// Tenants with a local account, by id or slug: one that is suspended or deleted is closed to foreign tokens too.
#[derive(Debug)]
struct LocalTenants(AuthService);

#[async_trait]
impl ResolveTenant for LocalTenants {
    async fn tenant(&self, name: &str) -> Result<Option<TenantId>> {
        self.0.active_tenant(name).await
    }
}
