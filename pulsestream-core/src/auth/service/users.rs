//! The users of a tenant, and the own profile.

use super::{AuthService, MAX_ATTEMPTS, conflict_error, no_user, too_busy};
use crate::auth::permission::{Action, Role};
use crate::auth::request::{ProfileUpdate, RegisterUser, UserList, UserProfile};
use crate::auth::secret::Secret;
use crate::auth::validate::Checks;
use crate::error::{Error, ErrorKind, Result};
use crate::event::JsonObject;
use crate::id::{TenantId, UserId};
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    AuditAction, AuditRecord, IdentityConflict, IdentityOutcome, IdentityWrite, TenantRecord, UserActivity,
    UserLookup, UserQuery, UserRecord,
};
use crate::time::Timestamp;

/// The most users of one page.
const MAX_PAGE: usize = 1_000;
/// The most bytes of a preferences object.
const MAX_PREFERENCES_BYTES: usize = 16 * 1_024;

/// What makes a user record.
pub(super) struct NewUser {
    pub(super) email: String,
    pub(super) username: Option<String>,
    pub(super) full_name: String,
    pub(super) role: Role,
    pub(super) password_hash: Secret,
    pub(super) password_expires_at: Option<Timestamp>,
}

impl AuthService {
    /// Makes a user in the caller's tenant.
    ///
    /// # Errors
    /// `Forbidden` for a caller that may not grant the role, `Invalid` with every refused field, `Conflict` when the address or
    /// user name is taken, `TooLarge` at the limit of users.
    pub async fn register_user(
        &self,
        actor: &Principal,
        request: &RegisterUser,
        origin: &Origin,
    ) -> Result<UserProfile> {
        const OPERATION: &str = "auth.register_user";
        self.require(actor, Action::WriteUsers, origin).await?;
        self.require_grant(actor, request.role, origin).await?;
        let tenant = self.tenant_of(actor.tenant, OPERATION).await?;
        let mut checks = Checks::default();
        let email = checks.email("/email", &request.email);
        let full_name = checks.text("/full_name", &request.full_name, 2, 100);
        let username = request.username.as_deref().map(|username| checks.username("/username", username));
        checks.password(
            ("/password", &request.password),
            ("/confirm_password", &request.confirm_password),
            &self.0.settings.password,
            &[&email, username.as_deref().unwrap_or(""), &tenant.slug, &tenant.name],
        );
        checks.finish(OPERATION)?;
        self.require_room(actor.tenant).await?;
        let user = self.new_user(NewUser {
            email,
            username,
            full_name,
            role: request.role,
            password_hash: self.0.hasher.hash(&request.password, &self.0.env).await?,
            password_expires_at: None,
        })?;
        let target = Some(format!("user:{}", user.id));
        let entry = self.audit(AuditAction::UserCreated, actor, target, origin)?;
        let entry = AuditRecord { detail: Some(format!("role:{}", user.role)), ..entry };
        let writes = vec![IdentityWrite::PutUser(Box::new(user.clone())), IdentityWrite::Audit(entry)];
        self.commit(OPERATION, actor.tenant, writes).await?;
        Ok(user.into())
    }

    /// Returns the caller's profile.
    ///
    /// # Errors
    /// `Forbidden` for a caller that is no local user.
    pub async fn profile(&self, actor: &Principal, origin: &Origin) -> Result<UserProfile> {
        self.require(actor, Action::ReadOwnProfile, origin).await?;
        self.user_of(actor.tenant, actor.user()?, "auth.profile").await.map(UserProfile::from)
    }

    /// Changes the caller's profile. Role, address and password have calls of their own.
    ///
    /// # Errors
    /// `Invalid` with every refused field, `Conflict` when the user name is taken.
    pub async fn update_profile(
        &self,
        actor: &Principal,
        update: &ProfileUpdate,
        origin: &Origin,
    ) -> Result<UserProfile> {
        const OPERATION: &str = "auth.update_profile";
        self.require(actor, Action::WriteOwnProfile, origin).await?;
        let mut checks = Checks::default();
        let username = update.username.as_deref().map(|username| checks.username("/username", username));
        let full_name = update.full_name.as_deref().map(|name| checks.text("/full_name", name, 2, 100));
        for (pointer, object) in [
            ("/preferences", &update.preferences),
            ("/notification_preferences", &update.notification_preferences),
        ] {
            checks.preferences(pointer, object.as_ref());
        }
        checks.finish(OPERATION)?;
        self.change_user(OPERATION, actor.tenant, actor.user()?, |user| {
            user.username = username.clone().or(user.username.take());
            if let Some(full_name) = &full_name {
                user.full_name.clone_from(full_name);
            }
            if let Some(preferences) = &update.preferences {
                user.preferences = preferences.clone();
            }
            if let Some(preferences) = &update.notification_preferences {
                user.notification_preferences = preferences.clone();
            }
            Ok(Some(self.audit(
                AuditAction::UserUpdated,
                actor,
                Some(format!("user:{}", user.id)),
                origin,
            )?))
        })
        .await
        .map(UserProfile::from)
    }

    /// Returns a user of the caller's tenant.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub async fn user(&self, actor: &Principal, user: UserId, origin: &Origin) -> Result<UserProfile> {
        self.require(actor, Action::ReadUsers, origin).await?;
        self.user_of(actor.tenant, user, "auth.user").await.map(UserProfile::from)
    }

    /// Lists the users of the caller's tenant, oldest first.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` for a limit of 0 or above 1,000.
    pub async fn list_users(
        &self,
        actor: &Principal,
        query: &UserQuery,
        origin: &Origin,
    ) -> Result<UserList> {
        self.require(actor, Action::ReadUsers, origin).await?;
        let mut checks = Checks::default();
        checks.require((1..=MAX_PAGE).contains(&query.limit), "/limit", "out_of_range", "must be 1 to 1000");
        checks.finish("auth.list_users")?;
        let search = query.search.as_deref().map(str::trim).filter(|search| !search.is_empty());
        let query = UserQuery { search: search.map(str::to_owned), ..*query };
        let page = self.0.store.find_users(actor.tenant, &query).await?;
        Ok(UserList {
            users: page.users.into_iter().map(UserProfile::from).collect(),
            total: page.total,
            page: query.skip / query.limit + 1,
            size: query.limit,
            pages: page.total.div_ceil(query.limit),
        })
    }

    /// Activates or deactivates a user. A deactivated user's sessions end at once.
    ///
    /// # Errors
    /// `Forbidden` for a user of a higher role or oneself, `NotFound`, `Conflict` for the last active owner.
    pub async fn set_user_active(
        &self,
        actor: &Principal,
        user: UserId,
        is_active: bool,
        origin: &Origin,
    ) -> Result<UserProfile> {
        const OPERATION: &str = "auth.set_user_active";
        self.require(actor, Action::WriteUsers, origin).await?;
        let current = self.user_of(actor.tenant, user, OPERATION).await?;
        self.require_grant(actor, current.role, origin).await?;
        self.refuse_oneself(OPERATION, actor, user)?;
        let action = if is_active { AuditAction::UserActivated } else { AuditAction::UserDeactivated };
        self.change_user(OPERATION, actor.tenant, user, |record| {
            may_grant(OPERATION, actor, record.role)?;
            if record.is_active == is_active {
                return Ok(None);
            }
            record.is_active = is_active;
            // Sessions of before do not come back with the account, and neither does a reset that was asked for.
            record.epoch += 1;
            record.reset = None;
            Ok(Some(self.audit(action, actor, Some(format!("user:{user}")), origin)?))
        })
        .await
        .map(UserProfile::from)
    }

    /// Deletes a user for good, with its sessions. API keys that it made stay, and lines of the audit log name it by its id only.
    ///
    /// # Errors
    /// `Forbidden` for a user of a higher role or oneself, `NotFound`, `Conflict` for the last active owner.
    pub async fn delete_user(&self, actor: &Principal, user: UserId, origin: &Origin) -> Result<()> {
        const OPERATION: &str = "auth.delete_user";
        self.require(actor, Action::WriteUsers, origin).await?;
        for _ in 0..MAX_ATTEMPTS {
            let current = self.user_of(actor.tenant, user, OPERATION).await?;
            self.require_grant(actor, current.role, origin).await?;
            self.refuse_oneself(OPERATION, actor, user)?;
            let sessions = self.0.store.sessions_of(actor.tenant, user).await?;
            let sessions = sessions.into_iter().map(|session| IdentityWrite::DeleteSession(session.id));
            let entry = self.audit(AuditAction::UserDeleted, actor, Some(format!("user:{user}")), origin)?;
            let deletion = [IdentityWrite::DeleteUser(user, current.version), IdentityWrite::Audit(entry)];
            let mut writes: Vec<_> = sessions.chain(deletion).collect();
            if is_active_owner(&current) {
                writes.push(self.with_another_owner(OPERATION, actor.tenant, &current).await?);
            }
            let outcome = self.0.store.commit(actor.tenant, writes).await?;
            self.forget_user(actor.tenant, user);
            match outcome {
                IdentityOutcome::Committed => return Ok(()),
                IdentityOutcome::Conflict(IdentityConflict::Version) => {}
                IdentityOutcome::Conflict(conflict) => return Err(conflict_error(OPERATION, conflict)),
            }
        }
        Err(too_busy(OPERATION))
    }

    /// Changes the role of a user, effective with the user's next call.
    ///
    /// # Errors
    /// `Forbidden` when the caller may not grant the new role or take the old one, or for oneself; `NotFound`; `Conflict` for
    /// the last active owner.
    pub async fn change_role(
        &self,
        actor: &Principal,
        user: UserId,
        role: Role,
        origin: &Origin,
    ) -> Result<UserProfile> {
        const OPERATION: &str = "auth.change_role";
        self.require(actor, Action::WriteUsers, origin).await?;
        self.require_grant(actor, role, origin).await?;
        let current = self.user_of(actor.tenant, user, OPERATION).await?;
        self.require_grant(actor, current.role, origin).await?;
        self.refuse_oneself(OPERATION, actor, user)?;
        self.change_user(OPERATION, actor.tenant, user, |record| {
            may_grant(OPERATION, actor, record.role)?;
            if record.role == role {
                return Ok(None);
            }
            let entry = self.audit(AuditAction::RoleChanged, actor, Some(format!("user:{user}")), origin)?;
            let detail = Some(format!("{} to {role}", record.role));
            record.role = role;
            Ok(Some(AuditRecord { detail, ..entry }))
        })
        .await
        .map(UserProfile::from)
    }

    /// Reads a user, changes it and writes it, again if somebody else changed it meanwhile; `change` returns the audit entry, or
    /// `None` when there is nothing to change. What was remembered of the user's sessions is forgotten.
    pub(super) async fn change_user(
        &self,
        operation: &'static str,
        tenant: TenantId,
        user: UserId,
        mut change: impl FnMut(&mut UserRecord) -> Result<Option<AuditRecord>> + Send,
    ) -> Result<UserRecord> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.user_of(tenant, user, operation).await?;
            let mut record = before.clone();
            let Some(entry) = change(&mut record)? else { return Ok(record) };
            record.updated_at = self.0.env.now();
            let mut writes =
                vec![IdentityWrite::PutUser(Box::new(record.clone())), IdentityWrite::Audit(entry)];
            if is_active_owner(&before) && !is_active_owner(&record) {
                writes.push(self.with_another_owner(operation, tenant, &before).await?);
            }
            let outcome = self.0.store.commit(tenant, writes).await?;
            self.forget_user(tenant, user);
            match outcome {
                IdentityOutcome::Committed => return Ok(record),
                IdentityOutcome::Conflict(IdentityConflict::Version) => {}
                IdentityOutcome::Conflict(conflict) => return Err(conflict_error(operation, conflict)),
            }
        }
        Err(too_busy(operation))
    }

    pub(super) fn new_user(&self, user: NewUser) -> Result<UserRecord> {
        let now = self.0.env.now();
        Ok(UserRecord {
            id: UserId::from_u128(self.0.env.uuid_v7()?),
            version: 0,
            email: user.email,
            username: user.username,
            full_name: user.full_name,
            role: user.role,
            is_active: true,
            is_verified: false,
            password_hash: user.password_hash,
            password_changed_at: now,
            password_expires_at: user.password_expires_at,
            epoch: 0,
            reset: None,
            preferences: JsonObject::default(),
            notification_preferences: JsonObject::default(),
            created_at: now,
            updated_at: now,
            activity: UserActivity::default(),
        })
    }

    pub(super) async fn user_of(
        &self,
        tenant: TenantId,
        user: UserId,
        operation: &'static str,
    ) -> Result<UserRecord> {
        let found = self.0.store.users(tenant, &[UserLookup::Id(user)]).await?.pop().flatten();
        found.ok_or_else(|| no_user(operation))
    }

    pub(super) async fn tenant_of(&self, tenant: TenantId, operation: &'static str) -> Result<TenantRecord> {
        self.0.store.tenant(tenant).await?.ok_or_else(|| super::no_tenant(operation))
    }

    async fn require_grant(&self, actor: &Principal, role: Role, origin: &Origin) -> Result<()> {
        let Err(refusal) = may_grant("auth.grant_role", actor, role) else { return Ok(()) };
        self.audit_denial(actor, Action::WriteUsers, origin).await?;
        Err(refusal)
    }

    /// One cannot deactivate or demote oneself by accident.
    fn refuse_oneself(&self, operation: &'static str, actor: &Principal, user: UserId) -> Result<()> {
        if actor.user().is_ok_and(|own| own == user) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                operation,
                "another administrator must do this to you",
            ));
        }
        Ok(())
    }

    /// A tenant keeps an owner: refuses to take the last active one away. Otherwise returns the tenant as it is, to be written in the
    /// same commit: of two owners that end each other at once the second finds another version, and looks again.
    async fn with_another_owner(
        &self,
        operation: &'static str,
        tenant: TenantId,
        user: &UserRecord,
    ) -> Result<IdentityWrite> {
        let record = self.tenant_of(tenant, operation).await?;
        let everybody = UserQuery { limit: usize::MAX, ..UserQuery::default() };
        let users = self.0.store.find_users(tenant, &everybody).await?.users;
        if users.iter().any(|other| other.id != user.id && is_active_owner(other)) {
            return Ok(IdentityWrite::PutTenant(Box::new(record)));
        }
        Err(Error::new(ErrorKind::Conflict, operation, "this is the last active owner of the tenant"))
    }

    async fn require_room(&self, tenant: TenantId) -> Result<()> {
        let query = UserQuery { limit: 1, ..UserQuery::default() };
        let limit = self.0.settings.users_per_tenant;
        if self.0.store.find_users(tenant, &query).await?.total < limit {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, "auth.register_user", "the tenant has as many users as it may")
            .with_context("users_per_tenant", limit))
    }
}

fn is_active_owner(user: &UserRecord) -> bool {
    user.role == Role::Owner && user.is_active
}

/// Whether a caller may give or take a role: a person of at least that role.
fn may_grant(operation: &'static str, actor: &Principal, role: Role) -> Result<()> {
    if actor.role.is_some_and(|own| own.may_grant(role)) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Forbidden, operation, "the caller may not grant or take this role")
        .with_context("role", role))
}

impl Checks {
    fn preferences(&mut self, pointer: &str, object: Option<&JsonObject>) {
        let fits = object.is_none_or(|object| object.as_str().len() <= MAX_PREFERENCES_BYTES);
        self.require(fits, pointer, "too_large", "must have at most 16384 bytes");
    }
}
