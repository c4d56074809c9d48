//! What operators do: the first administrator, the audit log, housekeeping.

use super::users::NewUser;
use super::{AuthService, conflict_error};
use crate::auth::permission::{Action, Role};
use crate::auth::request::{EnsureAdmin, EnsuredAdmin, RegisterTenant};
use crate::auth::secret::Secret;
use crate::auth::validate::Checks;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    AuditAction, AuditQuery, AuditRecord, IdentityConflict, IdentityOutcome, IdentityWrite, PurgeOptions,
    TenantRecord, UserLookup, UserRecord,
};

/// The most audit entries of one page.
const MAX_AUDIT_PAGE: usize = 1_000;

/// An administrator in the making.
pub(super) struct AdminDraft {
    tenant: TenantRecord,
    owner: UserRecord,
    temporary_password: Option<Secret>,
    api_key: Option<Secret>,
    writes: Vec<IdentityWrite>,
}

impl AuthService {
    /// Sees to it that a tenant exists and has this owner; both are made when absent, and nothing is changed when present.
    ///
    /// It may be called at every start, on every node at once. For the operator: it checks no caller.
    ///
    /// # Errors
    /// `Invalid` with every refused field.
    pub async fn ensure_admin(&self, request: &EnsureAdmin) -> Result<EnsuredAdmin> {
        const OPERATION: &str = "auth.ensure_admin";
        loop {
            let tenant = self.0.store.tenant_by_slug(&request.tenant_slug).await?;
            if let Some(tenant) = &tenant {
                let lookup = [UserLookup::Email(request.email.clone())];
                if let Some(user) = self.0.store.users(tenant.id, &lookup).await?.pop().flatten() {
                    return Ok(EnsuredAdmin::Exists { tenant: tenant.clone().into(), user: user.into() });
                }
            }
            let draft = self.draft_admin(OPERATION, request, tenant, &Origin::default()).await?;
            match self.commit_admin(draft).await? {
                Ok(created) => return Ok(created),
                // Another node was first: look again.
                Err(IdentityConflict::Slug | IdentityConflict::Email | IdentityConflict::Version) => {}
                Err(conflict) => return Err(conflict_error(OPERATION, conflict)),
            }
        }
    }

    /// Checks what an administrator is made of; nothing is stored yet.
    pub(super) async fn draft_admin(
        &self,
        operation: &'static str,
        request: &EnsureAdmin,
        existing: Option<TenantRecord>,
        origin: &Origin,
    ) -> Result<AdminDraft> {
        let mut writes = Vec::new();
        let mut api_key = None;
        let tenant = match existing {
            Some(tenant) => tenant,
            None => {
                let new = self.draft_tenant(
                    operation,
                    &RegisterTenant {
                        name: request.tenant_name.clone(),
                        slug: request.tenant_slug.clone(),
                        contact_email: request.email.clone(),
                        billing_email: None,
                        subscription_tier: None,
                        timezone: None,
                    },
                )?;
                api_key = Some(new.key.key);
                writes.push(IdentityWrite::PutTenant(Box::new(new.tenant.clone())));
                writes.push(IdentityWrite::PutApiKey(Box::new(new.key_record)));
                new.tenant
            }
        };
        let mut checks = Checks::default();
        let email = checks.email("/email", &request.email);
        let full_name = checks.text("/full_name", &request.full_name, 2, 100);
        let (password, made_up) = match &request.password {
            Some(password) => {
                let (context, rules) = ([&*email, &*tenant.slug, &*tenant.name], &self.0.settings.password);
                checks.password(("/password", password), ("/password", password), rules, &context);
                (password.clone(), None)
            }
            None => {
                let password = self.temporary_password()?;
                (password.clone(), Some(password))
            }
        };
        checks.finish(operation)?;
        let now = self.0.env.now();
        let owner = self.new_user(NewUser {
            email,
            username: None,
            full_name,
            role: Role::Owner,
            password_hash: self.0.hasher.hash(&password, &self.0.env).await?,
            password_expires_at: made_up.as_ref().map(|_| now.plus(self.0.settings.temporary_password_ttl)),
        })?;
        let target = Some(format!("user:{}", owner.id));
        writes.push(IdentityWrite::PutUser(Box::new(owner.clone())));
        let entry = self.audit_by(AuditAction::UserCreated, "operator".to_owned(), target, origin)?;
        writes.push(IdentityWrite::Audit(AuditRecord { detail: Some("role:owner".to_owned()), ..entry }));
        Ok(AdminDraft { tenant, owner, temporary_password: made_up, api_key, writes })
    }

    /// Stores an administrator that was drafted.
    pub(super) async fn commit_admin(
        &self,
        draft: AdminDraft,
    ) -> Result<std::result::Result<EnsuredAdmin, IdentityConflict>> {
        let AdminDraft { tenant, owner, temporary_password, api_key, writes } = draft;
        Ok(match self.0.store.commit(tenant.id, writes).await? {
            IdentityOutcome::Committed => Ok(EnsuredAdmin::Created {
                tenant: tenant.into(),
                owner: owner.into(),
                temporary_password,
                api_key,
            }),
            IdentityOutcome::Conflict(conflict) => Err(conflict),
        })
    }

    /// Lists the audit log of the caller's tenant, newest first.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` for a limit of 0 or above 1,000.
    pub async fn audit_log(
        &self,
        actor: &Principal,
        query: &AuditQuery,
        origin: &Origin,
    ) -> Result<Vec<AuditRecord>> {
        self.require(actor, Action::ReadAudit, origin).await?;
        let mut checks = Checks::default();
        checks.require(
            (1..=MAX_AUDIT_PAGE).contains(&query.limit),
            "/limit",
            "out_of_range",
            "must be 1 to 1000",
        );
        checks.finish("auth.audit_log")?;
        self.0.store.audit_log(actor.tenant, query).await
    }

    /// Deletes expired sessions and old audit entries of a tenant, at most `limit` records; returns how many went.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn purge(&self, tenant: TenantId, limit: usize) -> Result<usize> {
        let now = self.0.env.now();
        let options = PurgeOptions {
            sessions_before: now,
            audit_before: now.minus(self.0.settings.audit_retention),
            limit,
        };
        self.0.store.purge(tenant, &options).await
    }
}
