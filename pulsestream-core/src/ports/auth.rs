//! Who is calling: credentials in, a principal out.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;

use crate::auth::{Action, Role, Scopes, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ApiKeyId, SessionId, TenantId, UserId};
use crate::text::Text;
use crate::time::Timestamp;

/// What a caller showed, and from where.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// What was shown.
    pub credential: Credential,
    /// Where the request came from, after trusted proxies were taken into account.
    pub origin: Origin,
}

/// What a caller showed. `Debug` prints no secret.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing.
    Missing,
    /// The value of `Authorization: Bearer`: an access token, a foreign token or an API key.
    Bearer(Secret),
    /// The value of `X-API-Key`.
    ApiKey(Secret),
    /// A short-lived ticket from the query of a WebSocket request.
    Ticket(Secret),
}

/// Where a request came from, for delays and the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address of the client; `None` when it is not known.
    pub address: Option<IpAddr>,
    /// What the client calls itself; cut to 200 characters where it is stored.
    pub user_agent: Option<Text>,
}

/// Whom a principal stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user of a local account.
    User(UserId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// Somebody the application or a foreign issuer vouches for, by its own name.
    External(Text),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user:{user}"),
            Self::ApiKey(key) => write!(f, "api_key:{key}"),
            Self::External(name) => write!(f, "external:{name}"),
        }
    }
}

/// An authenticated caller. Its tenant is the only one it can reach; a tenant named in a request is never believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant.
    pub tenant: TenantId,
    /// Who it is.
    pub subject: Subject,
    /// The role of a person; `None` for an API key.
    pub role: Option<Role>,
    /// The scopes of an API key or of a limited token; `None`: not limited by scopes.
    pub scopes: Option<Scopes>,
    /// The session, for a user who signed in here.
    pub session: Option<SessionId>,
    /// When the credential ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// Returns whether the caller may do `action`: it has a role or scopes, and each that it has allows it.
    pub fn allows(&self, action: Action) -> bool {
        let by_role = self.role.map(|role| action.allowed_to_role(role));
        let by_scopes = self.scopes.map(|scopes| action.allowed_to_scopes(scopes));
        match (by_role, by_scopes) {
            (None, None) => false,
            (role, scopes) => role.unwrap_or(true) && scopes.unwrap_or(true),
        }
    }

    /// Returns nothing when the caller may do `action`.
    ///
    /// # Errors
    /// `Forbidden`, with the action and what it takes.
    pub fn require(&self, action: Action) -> Result<()> {
        if self.allows(action) {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Forbidden, "auth.require", "the caller may not do this")
            .with_context("action", action)
            .with_context("needs_role", action.weakest_role());
        Err(match action.scope() {
            Some(scope) => error.with_context("needs_scope", scope),
            None => error,
        })
    }

    /// Returns the local user.
    ///
    /// # Errors
    /// `Forbidden` for an API key or an external caller: it takes a user who signed in.
    pub fn user(&self) -> Result<UserId> {
        match self.subject {
            Subject::User(user) => Ok(user),
            _ => Err(Error::new(ErrorKind::Forbidden, "auth.user", "this takes a signed-in user")),
        }
    }
}

/// Turns credentials into a principal. Implement it to plug in the identities of your application.
#[async_trait]
pub trait TenantAuth: fmt::Debug + Send + Sync + 'static {
    /// Says who is calling.
    ///
    /// # Contract
    /// - The tenant of the answer comes from the credential alone (`another_tenants_ids_are_those_of_nobody`).
    /// - A credential that was revoked, or whose holder was deactivated, is refused by the next call
    ///   (`what_one_node_ends_has_ended_on_the_other`, `revocation_and_regeneration_are_at_once`).
    /// - Every bad credential has the same answer, whether it never existed, ended or belongs to someone disabled; only a
    ///   genuine token that has expired may say so (`uses_are_kept_apart`, `every_attack_is_refused_alike`).
    ///
    /// # Errors
    /// `Unauthenticated` when there is no good credential, `Unavailable` when that cannot be found out now.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal>;
}
