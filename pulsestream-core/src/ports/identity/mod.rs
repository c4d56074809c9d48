//! Tenants, users, API keys, sessions and the audit log, at rest.

mod audit;
mod record;

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{ApiKeyId, AuditId, SessionId, TenantId, UserId};
use crate::time::Timestamp;
pub use audit::{AuditAction, AuditRecord};
pub use record::{
    ApiKeyRecord, KeyringRecord, PendingReset, PendingSetup, SessionEnd, SessionRecord, SpentToken,
    TenantRecord, TenantStatus, UserActivity, UserRecord, unique_form,
};

/// How to find a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserLookup {
    /// By id.
    Id(UserId),
    /// By e-mail address, compared by [`unique_form`].
    Email(String),
    /// By user name, compared by [`unique_form`].
    Username(String),
}

/// Which users to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserQuery {
    /// Part of the e-mail address, user name or full name, upper or lower case.
    pub search: Option<String>,
    /// Only those that come after this one.
    pub after: Option<UserId>,
    /// Users to leave out at the start of these.
    pub skip: usize,
    /// Most users to return.
    pub limit: usize,
}

/// A page of users, by ascending id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPage {
    /// The users.
    pub users: Vec<UserRecord>,
    /// How many match in all.
    pub total: usize,
}

/// A session with what decides whether it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// The session.
    pub session: SessionRecord,
    /// Its user.
    pub user: UserRecord,
    /// Its tenant.
    pub tenant: TenantRecord,
}

/// An API key with its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyState {
    /// The key.
    pub key: ApiKeyRecord,
    /// Its tenant.
    pub tenant: TenantRecord,
}

/// Which audit entries to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only entries before this one.
    pub before: Option<AuditId>,
    /// Most entries to return.
    pub limit: usize,
}

/// What to purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeOptions {
    /// Sessions that expired before this.
    pub sessions_before: Timestamp,
    /// Audit entries before this.
    pub audit_before: Timestamp,
    /// Most records to delete in this call.
    pub limit: usize,
}

/// One change. A record is written if the stored version is the one it carries, and gets the next version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityWrite {
    /// Writes the tenant.
    PutTenant(Box<TenantRecord>),
    /// Writes a user.
    PutUser(Box<UserRecord>),
    /// Deletes the user at this version, with its names and what it did. Its sessions have writes of their own.
    DeleteUser(UserId, u64),
    /// Writes a session.
    PutSession(Box<SessionRecord>),
    /// Deletes a session, if it is there.
    DeleteSession(SessionId),
    /// Writes an API key.
    PutApiKey(Box<ApiKeyRecord>),
    /// Counts a sign-in. Never conflicts.
    RecordLogin(UserId, Timestamp),
    /// Notes that a user is active. Never conflicts.
    RecordActivity(UserId, Timestamp),
    /// Notes that a key was used. Never conflicts.
    RecordKeyUse(ApiKeyId, Timestamp),
    /// Appends to the audit log.
    Audit(AuditRecord),
}

/// What stood in the way of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityConflict {
    /// The slug belongs to another tenant.
    Slug,
    /// The e-mail address belongs to another user of the tenant.
    Email,
    /// The user name belongs to another user of the tenant.
    Username,
    /// A record is not at the version it was read at, or is there though it should be new.
    Version,
    /// The tenant does not exist, or is being deleted.
    TenantGone,
}

/// Whether a commit happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum IdentityOutcome {
    /// It did, durably.
    Committed,
    /// It did not, and nothing changed.
    Conflict(IdentityConflict),
}

/// What a store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityCapabilities {
    /// Whether other processes may change the same store, so that nothing may be remembered for long.
    pub shared: bool,
}

/// Keeps identities. The tenant comes first in every method, but in those that find out which tenant it is.
#[async_trait]
pub trait IdentityStore: fmt::Debug + Send + Sync + 'static {
    /// Returns what the store can do.
    fn capabilities(&self) -> IdentityCapabilities;

    /// Returns a tenant.
    async fn tenant(&self, tenant: TenantId) -> Result<Option<TenantRecord>>;

    /// Returns the tenant with a slug, compared by [`unique_form`].
    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<TenantRecord>>;

    /// Returns tenants by ascending id, those after `after`, at most `limit`.
    async fn tenants(&self, after: Option<TenantId>, limit: usize) -> Result<Vec<TenantRecord>>;

    /// Returns users, one answer per look-up, in the order asked.
    ///
    /// # Contract
    /// - A user of another tenant is not found (`identity_foreign_user_is_absent`).
    async fn users(&self, tenant: TenantId, lookups: &[UserLookup]) -> Result<Vec<Option<UserRecord>>>;

    /// Lists users by ascending id.
    async fn find_users(&self, tenant: TenantId, query: &UserQuery) -> Result<UserPage>;

    /// Returns a session with its user and tenant, from one snapshot; also an ended one.
    async fn session(&self, tenant: TenantId, session: SessionId) -> Result<Option<SessionState>>;

    /// Returns the sessions of a user, in no particular order, also ended ones.
    async fn sessions_of(&self, tenant: TenantId, user: UserId) -> Result<Vec<SessionRecord>>;

    /// Returns an API key and its tenant, from one snapshot; also a revoked one.
    async fn api_key(&self, key: ApiKeyId) -> Result<Option<ApiKeyState>>;

    /// Returns the API keys of a tenant by ascending id, also revoked ones.
    async fn api_keys(&self, tenant: TenantId) -> Result<Vec<ApiKeyRecord>>;

    /// Applies all writes or none.
    ///
    /// # Contract
    /// - A write whose record is not at the stored version is a conflict (`identity_versions_guard`).
    /// - Slugs are unique, e-mail addresses and user names are unique in a tenant, also among concurrent commits, and a name
    ///   given up can be taken (`identity_names_are_unique`).
    /// - A deleted user is not found, and its names can be taken (`identity_users_can_be_deleted`).
    /// - Two tenants may have users of the same address (`identity_names_are_per_tenant`).
    /// - After a conflict nothing has changed (`identity_commit_is_atomic`).
    /// - Nothing can be written to a tenant that does not exist or is being deleted, but for its own record
    ///   (`identity_gone_tenant_refuses`).
    async fn commit(&self, tenant: TenantId, writes: Vec<IdentityWrite>) -> Result<IdentityOutcome>;

    /// Lists the audit log, newest first.
    async fn audit_log(&self, tenant: TenantId, query: &AuditQuery) -> Result<Vec<AuditRecord>>;

    /// Returns the secrets of the deployment.
    async fn keyring(&self) -> Result<Option<KeyringRecord>>;

    /// Writes the secrets of the deployment, guarded by their version.
    async fn put_keyring(&self, record: &KeyringRecord) -> Result<IdentityOutcome>;

    /// Deletes expired sessions and old audit entries of a tenant; returns how many records went.
    async fn purge(&self, tenant: TenantId, options: &PurgeOptions) -> Result<usize>;

    /// Deletes a tenant with all it has here; one that does not exist is fine.
    ///
    /// # Contract
    /// - Afterwards no method finds anything of it, and its slug can be taken (`identity_deleted_tenant_is_gone`).
    /// - It can be called again after a crash in the middle (`identity_delete_resumes`).
    async fn delete_tenant(&self, tenant: TenantId) -> Result<()>;
}
