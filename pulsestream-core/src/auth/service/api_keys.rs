//! API keys: made, listed, rotated, revoked.

use std::time::Duration;

use super::{AuthService, MAX_ATTEMPTS, conflict_error, no_api_key, too_busy};
use crate::auth::api_key::ApiKeyText;
use crate::auth::permission::{Action, Scopes};
use crate::auth::request::{ApiKeyInfo, CreateApiKey, NewApiKey};
use crate::auth::validate::Checks;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ApiKeyId, TenantId};
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    ApiKeyRecord, AuditAction, AuditRecord, IdentityConflict, IdentityOutcome, IdentityWrite, TenantRecord,
};
use crate::time::Timestamp;

/// The longest overlap of a rotation: 90 days.
const MAX_OVERLAP: Duration = Duration::from_secs(90 * 86_400);

impl AuthService {
    /// Makes an API key.
    ///
    /// # Errors
    /// `Forbidden` for a caller that may not, or that lacks one of the scopes; `Invalid` for a bad name, no scope or an expiry
    /// in the past; `TooLarge` at the limit of live keys.
    pub async fn create_api_key(
        &self,
        actor: &Principal,
        request: &CreateApiKey,
        origin: &Origin,
    ) -> Result<NewApiKey> {
        const OPERATION: &str = "auth.create_api_key";
        self.require(actor, Action::WriteApiKeys, origin).await?;
        let now = self.0.env.now();
        let mut checks = Checks::default();
        let name = checks.text("/name", &request.name, 1, 100);
        checks.require(!request.scopes.is_empty(), "/scopes", "required", "must name at least one scope");
        let future = request.expires_at.is_none_or(|at| at > now);
        checks.require(future, "/expires_at", "in_the_past", "must be in the future");
        checks.finish(OPERATION)?;
        if actor.scopes.is_some_and(|own| !own.covers(request.scopes)) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                OPERATION,
                "a key cannot make one that may do more",
            ));
        }
        self.require_room_for_key(actor.tenant, now).await?;
        let created_by = actor.subject.to_string();
        let (new, record) = self.new_api_key(name, request.scopes, request.expires_at, created_by)?;
        let entry = self.key_audit(AuditAction::ApiKeyCreated, actor, &record, origin)?;
        let writes = vec![IdentityWrite::PutApiKey(Box::new(record)), IdentityWrite::Audit(entry)];
        self.commit(OPERATION, actor.tenant, writes).await?;
        Ok(new)
    }

    /// Lists the API keys of the caller's tenant, oldest first, also revoked ones.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn list_api_keys(&self, actor: &Principal, origin: &Origin) -> Result<Vec<ApiKeyInfo>> {
        self.require(actor, Action::ReadApiKeys, origin).await?;
        Ok(self.0.store.api_keys(actor.tenant).await?.into_iter().map(ApiKeyInfo::from).collect())
    }

    /// Returns an API key of the caller's tenant, also a revoked one.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub async fn api_key(&self, actor: &Principal, key: ApiKeyId, origin: &Origin) -> Result<ApiKeyInfo> {
        self.require(actor, Action::ReadApiKeys, origin).await?;
        Ok(self.key_of(actor.tenant, key, "auth.api_key").await?.1.into())
    }

    /// Makes a successor with the same name and scopes; the old key works for `overlap` longer, so that clients can change over. A key that
    /// was to expire has a successor that lives as long as it was to live.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, `Conflict` for a key that no longer works, `Invalid` for an overlap above 90 days.
    pub async fn rotate_api_key(
        &self,
        actor: &Principal,
        key: ApiKeyId,
        overlap: Duration,
        origin: &Origin,
    ) -> Result<NewApiKey> {
        const OPERATION: &str = "auth.rotate_api_key";
        self.require(actor, Action::WriteApiKeys, origin).await?;
        let mut checks = Checks::default();
        checks.require(overlap <= MAX_OVERLAP, "/overlap", "out_of_range", "must be at most 90d");
        checks.finish(OPERATION)?;
        for _ in 0..MAX_ATTEMPTS {
            let now = self.0.env.now();
            let (tenant, old) = self.key_of(actor.tenant, key, OPERATION).await?;
            if !old.is_live(now) {
                return Err(Error::new(ErrorKind::Conflict, OPERATION, "the key has expired or was revoked"));
            }
            let created_by = actor.subject.to_string();
            let expires_at = old.expires_at.map(|at| now.plus(at.since(old.created_at)));
            let (new, record) = self.new_api_key(old.name.clone(), old.scopes, expires_at, created_by)?;
            let end = now.plus(overlap);
            let ending = ApiKeyRecord {
                expires_at: Some(old.expires_at.map_or(end, |at| at.min(end))),
                revoked_at: overlap.is_zero().then_some(now),
                ..old
            };
            let writes =
                self.replacement(AuditAction::ApiKeyRotated, actor, tenant, ending, record, origin)?;
            if self.commit_key_change(OPERATION, actor.tenant, key, writes).await? {
                return Ok(new);
            }
        }
        Err(too_busy(OPERATION))
    }

    /// Revokes an API key at once; one that is revoked already stays so.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub async fn revoke_api_key(&self, actor: &Principal, key: ApiKeyId, origin: &Origin) -> Result<()> {
        const OPERATION: &str = "auth.revoke_api_key";
        self.require(actor, Action::WriteApiKeys, origin).await?;
        for _ in 0..MAX_ATTEMPTS {
            let (tenant, record) = self.key_of(actor.tenant, key, OPERATION).await?;
            if record.revoked_at.is_some() {
                return Ok(());
            }
            let entry = self.key_audit(AuditAction::ApiKeyRevoked, actor, &record, origin)?;
            let revoked = ApiKeyRecord { revoked_at: Some(self.0.env.now()), ..record };
            let mut writes = vec![IdentityWrite::PutApiKey(Box::new(revoked)), IdentityWrite::Audit(entry)];
            if tenant.primary_api_key == Some(key) {
                writes.push(IdentityWrite::PutTenant(Box::new(TenantRecord {
                    primary_api_key: None,
                    ..tenant
                })));
            }
            if self.commit_key_change(OPERATION, actor.tenant, key, writes).await? {
                return Ok(());
            }
        }
        Err(too_busy(OPERATION))
    }

    /// Replaces the tenant's primary API key; the old one stops at once.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn regenerate_api_key(&self, actor: &Principal, origin: &Origin) -> Result<NewApiKey> {
        const OPERATION: &str = "auth.regenerate_api_key";
        self.require(actor, Action::WriteApiKeys, origin).await?;
        for _ in 0..MAX_ATTEMPTS {
            let now = self.0.env.now();
            let tenant = self.tenant_of(actor.tenant, OPERATION).await?;
            let old = match tenant.primary_api_key {
                Some(key) => Some(self.key_of(actor.tenant, key, OPERATION).await?.1),
                None => None,
            };
            let scopes = old.as_ref().map_or(Scopes::ADMIN, |old| old.scopes);
            let (new, record) =
                self.new_api_key("primary".to_owned(), scopes, None, actor.subject.to_string())?;
            let committed = match old {
                Some(old) => {
                    let key = old.id;
                    let ending = ApiKeyRecord { revoked_at: old.revoked_at.or(Some(now)), ..old };
                    let writes =
                        self.replacement(AuditAction::ApiKeyRotated, actor, tenant, ending, record, origin)?;
                    self.commit_key_change(OPERATION, actor.tenant, key, writes).await?
                }
                None => {
                    let (key, entry) =
                        (record.id, self.key_audit(AuditAction::ApiKeyCreated, actor, &record, origin)?);
                    let tenant = TenantRecord { primary_api_key: Some(key), ..tenant };
                    let writes = vec![
                        IdentityWrite::PutTenant(Box::new(tenant)),
                        IdentityWrite::PutApiKey(Box::new(record)),
                        IdentityWrite::Audit(entry),
                    ];
                    self.commit_key_change(OPERATION, actor.tenant, key, writes).await?
                }
            };
            if committed {
                return Ok(new);
            }
        }
        Err(too_busy(OPERATION))
    }

    /// Draws a key; returns what is shown and what is stored.
    pub(super) fn new_api_key(
        &self,
        name: String,
        scopes: Scopes,
        expires_at: Option<Timestamp>,
        created_by: String,
    ) -> Result<(NewApiKey, ApiKeyRecord)> {
        let id = ApiKeyId::from_u128(self.0.env.uuid_v7()?);
        let key = ApiKeyText::generate(id, &self.0.env)?;
        let record = ApiKeyRecord {
            id,
            version: 0,
            name,
            scopes,
            digest: key.digest(&self.0.ring.pepper()),
            created_by,
            created_at: self.0.env.now(),
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        Ok((NewApiKey { key: key.into_secret(), info: record.clone().into() }, record))
    }

    /// Returns the writes that put `record` in the place of `ending`.
    fn replacement(
        &self,
        action: AuditAction,
        actor: &Principal,
        tenant: TenantRecord,
        ending: ApiKeyRecord,
        record: ApiKeyRecord,
        origin: &Origin,
    ) -> Result<Vec<IdentityWrite>> {
        let entry = self.key_audit(action, actor, &ending, origin)?;
        let entry = AuditRecord { detail: Some(format!("successor api_key:{}", record.id)), ..entry };
        let mut writes = Vec::with_capacity(4);
        if tenant.primary_api_key == Some(ending.id) {
            let tenant = TenantRecord { primary_api_key: Some(record.id), ..tenant };
            writes.push(IdentityWrite::PutTenant(Box::new(tenant)));
        }
        writes.push(IdentityWrite::PutApiKey(Box::new(ending)));
        writes.push(IdentityWrite::PutApiKey(Box::new(record)));
        writes.push(IdentityWrite::Audit(entry));
        Ok(writes)
    }

    /// Commits a change of a key; `false` when something changed meanwhile and must be read again.
    async fn commit_key_change(
        &self,
        operation: &'static str,
        tenant: TenantId,
        key: ApiKeyId,
        writes: Vec<IdentityWrite>,
    ) -> Result<bool> {
        let outcome = self.0.store.commit(tenant, writes).await?;
        self.0.keys.forget_key(&key);
        match outcome {
            IdentityOutcome::Committed => Ok(true),
            IdentityOutcome::Conflict(IdentityConflict::Version) => Ok(false),
            IdentityOutcome::Conflict(conflict) => Err(conflict_error(operation, conflict)),
        }
    }

    /// Returns a key of the tenant; one of another tenant does not exist.
    async fn key_of(
        &self,
        tenant: TenantId,
        key: ApiKeyId,
        operation: &'static str,
    ) -> Result<(TenantRecord, ApiKeyRecord)> {
        let state = self.0.store.api_key(key).await?.filter(|state| state.tenant.id == tenant);
        state.map(|state| (state.tenant, state.key)).ok_or_else(|| no_api_key(operation))
    }

    fn key_audit(
        &self,
        action: AuditAction,
        actor: &Principal,
        key: &ApiKeyRecord,
        origin: &Origin,
    ) -> Result<AuditRecord> {
        self.audit(action, actor, Some(format!("api_key:{}", key.id)), origin)
    }

    async fn require_room_for_key(&self, tenant: TenantId, now: Timestamp) -> Result<()> {
        let limit = self.0.settings.api_keys_per_tenant;
        let live = self.0.store.api_keys(tenant).await?.iter().filter(|key| key.is_live(now)).count();
        if live < limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            "auth.create_api_key",
            "the tenant has as many live keys as it may",
        )
        .with_context("api_keys_per_tenant", limit))
    }
}
