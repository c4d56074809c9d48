//! The account service.

mod admin;
mod api_keys;
mod builder;
mod even;
mod passwords;
mod ring;
mod sessions;
mod setup;
mod tenants;
mod users;
mod verify;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::cache::CheckedCache;
use super::password::PasswordHasher;
use super::permission::Action;
use super::secret::Secret;
use super::settings::AuthSettings;
use super::throttle::Throttle;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ApiKeyId, AuditId, SessionId, TenantId};
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    AuditAction, AuditRecord, IdentityConflict, IdentityOutcome, IdentityStore, IdentityWrite,
};
use crate::ports::timer::Timer;
pub use builder::AuthServiceBuilder;
pub use ring::KeyRotation;
use ring::Ring;
use verify::{CheckedKey, CheckedSession};

/// How often a change is tried again when somebody else changed the same record meanwhile.
const MAX_ATTEMPTS: usize = 64;
/// The most characters of a client's name that are stored.
const MAX_USER_AGENT_CHARS: usize = 200;

/// A password-reset message to be sent. `Debug` prints no token.
#[derive(Debug, Clone)]
pub struct ResetMail {
    /// The tenant.
    pub tenant: TenantId,
    /// Name of the tenant.
    pub tenant_name: String,
    /// Address to send to.
    pub email: String,
    /// Full name of the user.
    pub full_name: String,
    /// The token that `confirm_password_reset` takes.
    pub token: Secret,
    /// How long the token works.
    pub expires_in: std::time::Duration,
}

/// Sends password-reset messages.
#[async_trait]
pub trait ResetMailer: fmt::Debug + Send + Sync + 'static {
    /// Takes a message over.
    ///
    /// # Contract
    /// - Queues the message and returns at once: a slow return would tell who has an account.
    /// - Writes the token to no log.
    async fn send_reset(&self, mail: ResetMail) -> Result<()>;
}

/// Deletes what another component keeps of a tenant that is going away.
#[async_trait]
pub trait TenantDeletionHook: fmt::Debug + Send + Sync + 'static {
    /// Deletes everything of `tenant`.
    ///
    /// # Contract
    /// - Can be called again, after a failure or a crash, and then finishes.
    async fn delete_tenant_data(&self, tenant: TenantId) -> Result<()>;
}

/// Accounts: registration, sign-in, sessions, users, API keys. Cheap to clone.
///
/// Methods that take a [`Principal`] check what it may do; those without one are open to anybody.
#[derive(Debug, Clone)]
pub struct AuthService(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    store: Arc<dyn IdentityStore>,
    settings: AuthSettings,
    hasher: PasswordHasher,
    throttle: Throttle,
    ring: Ring,
    sessions: CheckedCache<(TenantId, SessionId), CheckedSession>,
    keys: CheckedCache<ApiKeyId, CheckedKey>,
    /// Active tenants by the names that foreign tokens call them.
    tenants: CheckedCache<String, TenantId>,
    /// Denials that were written to the audit log a moment ago.
    denials: CheckedCache<(String, Action), ()>,
    mailer: Option<Arc<dyn ResetMailer>>,
    timer: Option<Arc<dyn Timer>>,
    deletion_hooks: Vec<Arc<dyn TenantDeletionHook>>,
}

impl AuthService {
    /// Returns the settings in force.
    pub fn settings(&self) -> &AuthSettings {
        &self.0.settings
    }

    /// Checks that a caller may do something; a refusal goes to the audit log, once a minute for the same caller and action.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn require(&self, actor: &Principal, action: Action, origin: &Origin) -> Result<()> {
        let Err(refusal) = actor.require(action) else { return Ok(()) };
        self.audit_denial(actor, action, origin).await?;
        Err(refusal)
    }

    async fn audit_denial(&self, actor: &Principal, action: Action, origin: &Origin) -> Result<()> {
        let (key, now) = ((actor.subject.to_string(), action), self.0.env.monotonic());
        if let Err(generation) = self.0.denials.get(&key, now) {
            let entry = self.audit(AuditAction::AccessDenied, actor, None, origin)?;
            let entry = AuditRecord { detail: Some(action.as_str().to_owned()), ..entry };
            self.commit("auth.require", actor.tenant, vec![IdentityWrite::Audit(entry)]).await?;
            self.0.denials.insert(key, (), now, generation);
        }
        Ok(())
    }

    /// Returns an audit entry about something that `actor` did.
    fn audit(
        &self,
        action: AuditAction,
        actor: &Principal,
        target: Option<String>,
        origin: &Origin,
    ) -> Result<AuditRecord> {
        self.audit_by(action, actor.subject.to_string(), target, origin)
    }

    fn audit_by(
        &self,
        action: AuditAction,
        actor: String,
        target: Option<String>,
        origin: &Origin,
    ) -> Result<AuditRecord> {
        Ok(AuditRecord {
            id: AuditId::from_u128(self.0.env.uuid_v7()?),
            at: self.0.env.now(),
            action,
            actor,
            target,
            address: origin.address.map(|address| address.to_string()),
            detail: None,
        })
    }

    /// Commits writes that conflict with nobody's but by accident.
    async fn commit(
        &self,
        operation: &'static str,
        tenant: TenantId,
        writes: Vec<IdentityWrite>,
    ) -> Result<()> {
        match self.0.store.commit(tenant, writes).await? {
            IdentityOutcome::Committed => Ok(()),
            IdentityOutcome::Conflict(conflict) => Err(conflict_error(operation, conflict)),
        }
    }
}

/// What a conflict means to a caller.
fn conflict_error(operation: &'static str, conflict: IdentityConflict) -> Error {
    let taken = |message: &'static str| Error::new(ErrorKind::Conflict, operation, message);
    match conflict {
        IdentityConflict::Slug => taken("the slug is taken"),
        IdentityConflict::Email => taken("the e-mail address is taken"),
        IdentityConflict::Username => taken("the user name is taken"),
        IdentityConflict::Version => {
            taken("somebody else changed it at the same time: read again and decide")
        }
        IdentityConflict::TenantGone => no_tenant(operation),
    }
}

fn no_tenant(operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such tenant")
}

fn no_user(operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such user")
}

fn no_api_key(operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such API key")
}

fn too_busy(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "others change the same record all the time")
}

/// What a client calls itself, cut and without control characters.
fn user_agent(origin: &Origin) -> Option<String> {
    let name = origin.user_agent.as_deref()?;
    Some(name.chars().filter(|it| !it.is_control()).take(MAX_USER_AGENT_CHARS).collect())
}

#[cfg(test)]
mod tests;
