//! Whose tokens are believed besides our own.

use std::path::PathBuf;

use clap::Args;
use pulsestream::Builder;
use pulsestream::jwks::{Algorithm, JwksConfig};
use pulsestream_core::Result;
use pulsestream_core::auth::{AuthSettings, Role};

use crate::open;

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Believes the tokens of an identity provider whose keys are at this https:// URL; nobody can register a tenant then.
    #[arg(
        long,
        env = "PULSESTREAM_JWKS_URL",
        value_name = "URL",
        requires_all = ["jwks_issuer", "jwks_audience"]
    )]
    pub jwks_url: Option<String>,
    /// The `iss` of those tokens, exactly.
    #[arg(long, env = "PULSESTREAM_JWKS_ISSUER", value_name = "TEXT", requires = "jwks_url")]
    pub jwks_issuer: Option<String>,
    /// The `aud` of those tokens that are meant for us.
    #[arg(long, env = "PULSESTREAM_JWKS_AUDIENCE", value_name = "TEXT", requires = "jwks_url")]
    pub jwks_audience: Option<String>,
    /// How they may be signed: RS256, ES256, EdDSA; all when absent.
    #[arg(
        long,
        env = "PULSESTREAM_JWKS_ALGORITHM",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "jwks_url"
    )]
    pub jwks_algorithm: Vec<Algorithm>,
    /// The claim with the slug or the id of the tenant, by name or as a JSON pointer; `tenant` when absent.
    #[arg(long, env = "PULSESTREAM_JWKS_TENANT_CLAIM", value_name = "CLAIM", requires = "jwks_url")]
    pub jwks_tenant_claim: Option<String>,
    /// The claim with the role or the roles, by name or as a JSON pointer such as /realm_access/roles; `role` when absent.
    #[arg(long, env = "PULSESTREAM_JWKS_ROLE_CLAIM", value_name = "CLAIM", requires = "jwks_url")]
    pub jwks_role_claim: Option<String>,
    /// What a value of that claim means, for example staff=viewer; can be given several times. The names of the roles when absent.
    #[arg(
        long,
        env = "PULSESTREAM_JWKS_ROLE",
        value_name = "VALUE=ROLE",
        value_delimiter = ',',
        value_parser = parse_role,
        requires = "jwks_url"
    )]
    pub jwks_role: Vec<(String, Role)>,
    /// The role of a token that names none: viewer, admin or owner; when absent it may do nothing.
    #[arg(long, env = "PULSESTREAM_JWKS_DEFAULT_ROLE", value_name = "ROLE", requires = "jwks_url")]
    pub jwks_default_role: Option<Role>,
    /// Certificate (PEM) of an authority that the provider is trusted by, besides those of the system.
    #[arg(long, env = "PULSESTREAM_JWKS_CA", value_name = "FILE", requires = "jwks_url")]
    pub jwks_ca: Option<PathBuf>,
}

fn parse_role(text: &str) -> std::result::Result<(String, Role), String> {
    let (value, role) = text.rsplit_once('=').ok_or("give VALUE=ROLE, for example staff=viewer")?;
    Ok((value.to_owned(), role.parse().map_err(|error: pulsestream_core::Error| error.to_string())?))
}

impl IdentityArgs {
    /// Keeps people from registering tenants beside a provider: whoever could register the slug that it gives to somebody would be
    /// taken for it.
    pub(crate) fn restrict(&self, accounts: &mut AuthSettings) {
        accounts.open_registration &= self.jwks_url.is_none();
    }

    /// Says it to the builder.
    pub(crate) fn apply(&self, builder: Builder) -> Result<Builder> {
        let (Some(url), Some(issuer), Some(audience)) =
            (&self.jwks_url, &self.jwks_issuer, &self.jwks_audience)
        else {
            return Ok(builder);
        };
        let mut config = JwksConfig::new(url, issuer, audience);
        if !self.jwks_algorithm.is_empty() {
            config.algorithms.clone_from(&self.jwks_algorithm);
        }
        if let Some(claim) = &self.jwks_tenant_claim {
            config.tenant_claim.clone_from(claim);
        }
        if let Some(claim) = &self.jwks_role_claim {
            config.role_claim.clone_from(claim);
        }
        if !self.jwks_role.is_empty() {
            config.roles.clone_from(&self.jwks_role);
        }
        config.default_role = self.jwks_default_role;
        if let Some(path) = &self.jwks_ca {
            config.extra_root_certificates.push(open::certificate(path)?);
        }
        Ok(builder.with_jwks(config))
    }
}
