//! Tokens in, principals out.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::auth::{CompactJws, Scopes};
use pulsestream_core::env::Env;
use pulsestream_core::ports::auth::{Credential, Credentials, Principal, Subject, TenantAuth};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_notify::egress::EgressGuard;
use pulsestream_notify::{DocumentReader, HttpConfig};

use crate::claims::{Claims, Refusal};
use crate::config::JwksConfig;
use crate::header::{Header, read_object};
use crate::key_cache::KeyCache;
use crate::tenants::ResolveTenant;

/// Most bytes of a key set.
const MAX_DOCUMENT_BYTES: usize = 256 * 1_024;

/// Believes the tokens of one identity provider; cheap to clone.
#[derive(Debug, Clone)]
pub struct JwksAuth {
    config: Arc<JwksConfig>,
    keys: Arc<KeyCache>,
    tenants: Arc<dyn ResolveTenant>,
    env: Env,
}

impl JwksAuth {
    /// Creates it; keys are fetched with the first token. The fetch goes where `guard` lets notifications of all tenants go.
    ///
    /// # Errors
    /// `Invalid` for a configuration that is wrong, `Forbidden` for a URL that leads to a closed place, `Unavailable` when TLS cannot
    /// be set up.
    pub fn new(
        config: JwksConfig,
        tenants: Arc<dyn ResolveTenant>,
        guard: EgressGuard,
        env: Env,
    ) -> Result<Self> {
        config.validate()?;
        let http = HttpConfig {
            deadline: config.fetch_deadline,
            connect_timeout: config.fetch_deadline,
            max_response_bytes: MAX_DOCUMENT_BYTES,
            extra_root_certificates: config.extra_root_certificates.clone(),
            ..HttpConfig::default()
        };
        let reader = DocumentReader::new(guard, http)?;
        reader.validate(&config.url)?;
        let config = Arc::new(config);
        let keys = KeyCache::new(Arc::clone(&config), reader, env.clone());
        Ok(Self { config, keys, tenants, env })
    }

    /// Returns the configuration in force.
    pub fn config(&self) -> &JwksConfig {
        &self.config
    }

    /// Returns whether a token says that this provider issued it. That is what it says, not what is so: it tells which of several
    /// verifiers to ask.
    pub fn is_addressed_by(&self, token: &str) -> bool {
        CompactJws::split(token, self.config.max_token_bytes)
            .and_then(|token| read_object(&token.claims))
            .is_some_and(|claims| {
                claims.get("iss").is_some_and(|issuer| *issuer == self.config.issuer.as_str())
            })
    }

    async fn verify(&self, token: &str) -> Result<Principal> {
        let token = CompactJws::split(token, self.config.max_token_bytes).ok_or_else(refused)?;
        let header = Header::read(&token.header, &self.config.algorithms).ok_or_else(refused)?;
        let keys = self.keys.keys_for(&header.key_id).await?;
        if !keys.verifies(&header.key_id, header.algorithm, token.signed, &token.signature) {
            return Err(refused());
        }
        let claims = match Claims::read(&token.claims, &self.config, self.env.now()) {
            Ok(claims) => claims,
            Err(Refusal::Unfit) => return Err(refused()),
            Err(Refusal::Expired) => {
                return Err(Error::new(
                    ErrorKind::Unauthenticated,
                    "jwks.authenticate",
                    "the token has expired",
                ));
            }
        };
        let tenant = self.tenants.tenant(&claims.tenant).await?.ok_or_else(refused)?;
        Ok(Principal {
            tenant,
            subject: Subject::External(claims.subject.into()),
            role: claims.role,
            // Without a role it is somebody who may do nothing.
            scopes: if claims.role.is_none() { Some(Scopes::NONE) } else { None },
            session: None,
            expires_at: Some(Timestamp::from_seconds(claims.expires_at)),
        })
    }
}

#[async_trait]
impl TenantAuth for JwksAuth {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal> {
        match &credentials.credential {
            Credential::Bearer(token) => self.verify(token.expose()).await,
            Credential::Missing => Err(Error::new(
                ErrorKind::Unauthenticated,
                "jwks.authenticate",
                "credentials are missing: send a token in Authorization: Bearer",
            )),
            Credential::ApiKey(_) | Credential::Ticket(_) => Err(refused()),
        }
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Unauthenticated, "jwks.authenticate", "the credentials are not valid")
}
