//! The identity store over the key-value port.

use std::sync::Arc;

use async_trait::async_trait;

use super::identity_commit::{Attempt, try_commit};
use super::keys::identity as keys;
use super::record::{decode, encode};
use super::transaction::Attempts;
use super::turns::Turns;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ApiKeyId, AuditId, SessionId, TenantId, UserId};
use crate::ports::identity::{
    ApiKeyRecord, ApiKeyState, AuditQuery, AuditRecord, IdentityCapabilities, IdentityConflict,
    IdentityOutcome, IdentityStore, IdentityWrite, KeyringRecord, PurgeOptions, SessionRecord, SessionState,
    TenantRecord, TenantStatus, UserActivity, UserLookup, UserPage, UserQuery, UserRecord,
};
use crate::ports::key_value::{
    Commit, CommitOutcome, Entry, KeyValue, KeyValueExt, Read, ReadResult, prefix_end,
};
use crate::time::Timestamp;

/// Entries of one range read.
const PAGE: usize = 1_000;

/// Keeps identities in a [`KeyValue`] store.
#[derive(Debug, Clone)]
pub struct KeyValueIdentityStore {
    store: Arc<dyn KeyValue>,
    shared: bool,
    turns: Turns,
}

impl KeyValueIdentityStore {
    /// Creates a store over `store`; `shared` says whether other processes change it too.
    pub fn new(store: Arc<dyn KeyValue>, shared: bool) -> Self {
        Self { store, shared, turns: Turns::default() }
    }

    async fn values(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>> {
        let results = self.store.read(keys.into_iter().map(Read::Get).collect()).await?;
        Ok(results
            .into_iter()
            .map(|result| match result {
                ReadResult::Value(value) => value,
                ReadResult::Entries(_) => None,
            })
            .collect())
    }

    async fn range(&self, start: Vec<u8>, end: Vec<u8>, limit: usize, reverse: bool) -> Result<Vec<Entry>> {
        match self.store.read(vec![Read::Range { start, end, limit, reverse }]).await?.pop() {
            Some(ReadResult::Entries(entries)) => Ok(entries),
            _ => Ok(Vec::new()),
        }
    }

    /// Calls `visit` with every page of the entries under `prefix`, until it says stop.
    async fn each_page(
        &self,
        prefix: Vec<u8>,
        visit: &mut (dyn FnMut(Vec<Entry>) -> Result<bool> + Send),
    ) -> Result<()> {
        let end = prefix_end(&prefix);
        let mut start = prefix;
        loop {
            let page = self.range(start, end.clone(), PAGE, false).await?;
            let full = page.len() == PAGE;
            let Some((last, _)) = page.last() else { return Ok(()) };
            start = after(last);
            if !visit(page)? || !full {
                return Ok(());
            }
        }
    }

    async fn with_activity(&self, tenant: TenantId, users: &mut [&mut UserRecord]) -> Result<()> {
        let wanted = users.iter().map(|user| keys::activity(tenant, user.id)).collect();
        for (user, value) in users.iter_mut().zip(self.values(wanted).await?) {
            user.activity = activity(value.as_deref())?;
        }
        Ok(())
    }
}

#[async_trait]
impl IdentityStore for KeyValueIdentityStore {
    fn capabilities(&self) -> IdentityCapabilities {
        IdentityCapabilities { shared: self.shared }
    }

    async fn tenant(&self, tenant: TenantId) -> Result<Option<TenantRecord>> {
        self.store.get(keys::tenant(tenant)).await?.map(|value| decode(&value, "tenant")).transpose()
    }

    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<TenantRecord>> {
        match self.store.get(keys::slug(slug)).await? {
            Some(value) => self.tenant(TenantId::from_bytes(id_bytes(&value, "slug")?)).await,
            None => Ok(None),
        }
    }

    async fn tenants(&self, after_tenant: Option<TenantId>, limit: usize) -> Result<Vec<TenantRecord>> {
        let prefix = keys::tenant_index_prefix();
        let start = after_tenant.map_or_else(|| prefix.clone(), |tenant| after(&keys::tenant_index(tenant)));
        let entries = self.range(start, prefix_end(&prefix), limit, false).await?;
        let mut wanted = Vec::with_capacity(entries.len());
        for (key, _) in entries {
            wanted.push(keys::tenant(TenantId::from_bytes(id_at_end(&key)?)));
        }
        self.values(wanted).await?.iter().flatten().map(|value| decode(value, "tenant")).collect()
    }

    async fn users(&self, tenant: TenantId, lookups: &[UserLookup]) -> Result<Vec<Option<UserRecord>>> {
        let wanted = lookups.iter().map(|lookup| match lookup {
            UserLookup::Id(user) => keys::user(tenant, *user),
            UserLookup::Email(email) => keys::email(tenant, email),
            UserLookup::Username(username) => keys::username(tenant, username),
        });
        let mut found = self.values(wanted.collect()).await?;
        let mut names = Vec::new();
        let mut places = Vec::new();
        for (place, (lookup, value)) in lookups.iter().zip(&found).enumerate() {
            if let (UserLookup::Email(_) | UserLookup::Username(_), Some(value)) = (lookup, value) {
                names.push(keys::user(tenant, UserId::from_bytes(id_bytes(value, "user name")?)));
                places.push(place);
            }
        }
        if !names.is_empty() {
            for (place, value) in places.into_iter().zip(self.values(names).await?) {
                found[place] = value;
            }
        }
        let mut users = Vec::with_capacity(found.len());
        for value in found {
            users.push(value.map(|value| decode::<UserRecord>(&value, "user")).transpose()?);
        }
        self.with_activity(tenant, &mut users.iter_mut().flatten().collect::<Vec<_>>()).await?;
        Ok(users)
    }

    async fn find_users(&self, tenant: TenantId, query: &UserQuery) -> Result<UserPage> {
        let search = query.search.as_deref().map(str::to_lowercase);
        let (mut page, mut passed) = (UserPage::default(), 0);
        self.each_page(keys::users(tenant), &mut |entries| {
            for (_, value) in entries {
                let user: UserRecord = decode(&value, "user")?;
                if search.as_deref().is_none_or(|search| matches_search(&user, search)) {
                    page.total += 1;
                    if query.after.is_some_and(|after| user.id <= after) {
                        continue;
                    }
                    passed += 1;
                    if passed > query.skip && page.users.len() < query.limit {
                        page.users.push(user);
                    }
                }
            }
            Ok(true)
        })
        .await?;
        self.with_activity(tenant, &mut page.users.iter_mut().collect::<Vec<_>>()).await?;
        Ok(page)
    }

    async fn session(&self, tenant: TenantId, session: SessionId) -> Result<Option<SessionState>> {
        let mut first = self.values(vec![keys::session(tenant, session)]).await?;
        // The user of a session never changes, so reading it first does not tear the snapshot that is read next.
        let Some(value) = first.pop().flatten() else { return Ok(None) };
        let user = decode::<SessionRecord>(&value, "session")?.user;
        let wanted = [
            keys::session(tenant, session),
            keys::user(tenant, user),
            keys::activity(tenant, user),
            keys::tenant(tenant),
        ];
        let values = self.values(wanted.to_vec()).await?;
        let [Some(session), Some(user), activity_value, Some(tenant)] = values.as_slice() else {
            return Ok(None);
        };
        let mut user: UserRecord = decode(user, "user")?;
        user.activity = activity(activity_value.as_deref())?;
        Ok(Some(SessionState {
            session: decode(session, "session")?,
            user,
            tenant: decode(tenant, "tenant")?,
        }))
    }

    async fn sessions_of(&self, tenant: TenantId, user: UserId) -> Result<Vec<SessionRecord>> {
        let mut wanted = Vec::new();
        self.each_page(keys::user_sessions(tenant, user), &mut |entries| {
            for (key, _) in entries {
                wanted.push(keys::session(tenant, SessionId::from_bytes(id_at_end(&key)?)));
            }
            Ok(true)
        })
        .await?;
        self.values(wanted).await?.iter().flatten().map(|value| decode(value, "session")).collect()
    }

    async fn api_key(&self, key: ApiKeyId) -> Result<Option<ApiKeyState>> {
        let Some(owner) = self.store.get(keys::api_key_owner(key)).await? else { return Ok(None) };
        let tenant = TenantId::from_bytes(id_bytes(&owner, "api key owner")?);
        let wanted = [keys::api_key(tenant, key), keys::api_key_use(tenant, key), keys::tenant(tenant)];
        let values = self.values(wanted.to_vec()).await?;
        let [Some(key), used, Some(tenant)] = values.as_slice() else { return Ok(None) };
        let mut key: ApiKeyRecord = decode(key, "api key")?;
        key.last_used_at = used.as_deref().map(|value| decode(value, "api key use")).transpose()?;
        Ok(Some(ApiKeyState { key, tenant: decode(tenant, "tenant")? }))
    }

    async fn api_keys(&self, tenant: TenantId) -> Result<Vec<ApiKeyRecord>> {
        let mut found: Vec<ApiKeyRecord> = Vec::new();
        self.each_page(keys::api_keys(tenant), &mut |entries| {
            for (_, value) in entries {
                found.push(decode(&value, "api key")?);
            }
            Ok(true)
        })
        .await?;
        let uses = self.values(found.iter().map(|key| keys::api_key_use(tenant, key.id)).collect()).await?;
        for (key, used) in found.iter_mut().zip(uses) {
            key.last_used_at = used.map(|value| decode(&value, "api key use")).transpose()?;
        }
        Ok(found)
    }

    async fn commit(&self, tenant: TenantId, writes: Vec<IdentityWrite>) -> Result<IdentityOutcome> {
        let mut attempts = Attempts::in_turn("identity_store.commit", &self.turns);
        loop {
            attempts.next().await.map_err(|error| error.with_context("tenant", tenant))?;
            if let Attempt::Done(outcome) = try_commit(&*self.store, tenant, &writes).await? {
                return Ok(outcome);
            }
        }
    }

    async fn audit_log(&self, tenant: TenantId, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        let start = keys::audit_log(tenant);
        let end = query.before.map_or_else(|| prefix_end(&start), |entry| keys::audit(tenant, entry));
        let entries = self.range(start, end, query.limit, true).await?;
        entries.iter().map(|(_, value)| decode(value, "audit entry")).collect()
    }

    async fn keyring(&self) -> Result<Option<KeyringRecord>> {
        self.store.get(keys::keyring()).await?.map(|value| decode(&value, "keyring")).transpose()
    }

    async fn put_keyring(&self, record: &KeyringRecord) -> Result<IdentityOutcome> {
        let stored = self.store.get(keys::keyring()).await?;
        let version = stored
            .as_deref()
            .map_or(Ok(0), |value| decode::<KeyringRecord>(value, "keyring").map(|it| it.version))?;
        if version != record.version {
            return Ok(IdentityOutcome::Conflict(IdentityConflict::Version));
        }
        let next = KeyringRecord { version: version + 1, ..record.clone() };
        let mut commit = Commit::new();
        commit.expect(keys::keyring(), stored).put(keys::keyring(), encode(&next)?);
        Ok(match self.store.commit(commit).await? {
            CommitOutcome::Committed => IdentityOutcome::Committed,
            CommitOutcome::PreconditionFailed(_) => IdentityOutcome::Conflict(IdentityConflict::Version),
        })
    }

    async fn purge(&self, tenant: TenantId, options: &PurgeOptions) -> Result<usize> {
        let mut commits = Vec::new();
        let mut found = 0;
        self.each_page(keys::sessions(tenant), &mut |entries| {
            for (key, value) in entries {
                let session: SessionRecord = decode(&value, "session")?;
                if session.expires_at < options.sessions_before && found < options.limit {
                    found += 1;
                    let mut commit = Commit::new();
                    commit.expect(key.clone(), Some(value)).delete(key);
                    commit.delete(keys::user_session(tenant, session.user, session.id));
                    commits.push(commit);
                }
            }
            Ok(found < options.limit)
        })
        .await?;
        let mut purged = 0;
        for commit in commits {
            // A session that changed meanwhile is in use after all.
            if self.store.commit(commit).await? == CommitOutcome::Committed {
                purged += 1;
            }
        }
        let start = keys::audit_log(tenant);
        let end = keys::audit(tenant, first_audit_id(options.audit_before));
        let old = self.range(start, end, options.limit.saturating_sub(purged), false).await?;
        purged += old.len();
        let mut commit = Commit::new();
        for (key, _) in old {
            commit.delete(key);
        }
        if !commit.writes.is_empty() && self.store.commit(commit).await? != CommitOutcome::Committed {
            return Err(Error::new(
                ErrorKind::Internal,
                "identity_store.purge",
                "a commit without conditions failed",
            ));
        }
        Ok(purged)
    }

    async fn delete_tenant(&self, tenant: TenantId) -> Result<()> {
        let record_key = keys::tenant(tenant);
        // From here on no write of anybody else can succeed, because each depends on the record of the tenant.
        let record = loop {
            let Some(record) = self.tenant(tenant).await? else { return Ok(()) };
            if record.status == TenantStatus::Deleting {
                break record;
            }
            let deleting = TenantRecord { status: TenantStatus::Deleting, ..record };
            let _ = self.commit(tenant, vec![IdentityWrite::PutTenant(Box::new(deleting))]).await?;
        };
        let prefix = keys::tenant_prefix(tenant);
        loop {
            let entries = self.range(prefix.clone(), prefix_end(&prefix), PAGE, false).await?;
            let mut commit = Commit::new();
            for (key, value) in entries {
                if key == record_key {
                    continue;
                }
                if key.starts_with(&keys::api_keys(tenant)) {
                    commit.delete(keys::api_key_owner(decode::<ApiKeyRecord>(&value, "api key")?.id));
                }
                commit.delete(key);
            }
            // The record goes last and alone: until then a crash leaves something that says what is still to be deleted.
            let last = commit.writes.is_empty();
            if last {
                commit
                    .delete(record_key.clone())
                    .delete(keys::slug(&record.slug))
                    .delete(keys::tenant_index(tenant));
            }
            let outcome = self.store.commit(commit).await?;
            if last && outcome == CommitOutcome::Committed {
                return Ok(());
            }
        }
    }
}

/// Returns the smallest key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn id_bytes(value: &[u8], what: &'static str) -> Result<[u8; 16]> {
    value.try_into().map_err(|_| {
        Error::new(ErrorKind::Corrupt, "identity_store.read", "a stored id cannot be read")
            .with_context("record", what)
    })
}

fn id_at_end(key: &[u8]) -> Result<[u8; 16]> {
    id_bytes(&key[key.len().saturating_sub(16)..], "key")
}

fn activity(value: Option<&[u8]>) -> Result<UserActivity> {
    value.map_or_else(|| Ok(UserActivity::default()), |value| decode(value, "user activity"))
}

fn matches_search(user: &UserRecord, search: &str) -> bool {
    let contains = |text: &str| text.to_lowercase().contains(search);
    contains(&user.email) || contains(&user.full_name) || user.username.as_deref().is_some_and(contains)
}

/// Returns the smallest UUIDv7 of a millisecond.
fn first_audit_id(at: Timestamp) -> AuditId {
    let millis = u128::try_from(at.as_micros() / 1_000).unwrap_or(0);
    AuditId::from_u128(millis << 80)
}
