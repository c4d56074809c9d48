//! One attempt to apply identity writes: read what they touch, check, and commit on the condition that nothing of it changed.

use std::collections::HashMap;

use super::keys::identity as keys;
use super::record::{decode, encode};
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::identity::{
    ApiKeyRecord, IdentityConflict, IdentityOutcome, IdentityWrite, SessionRecord, TenantRecord,
    TenantStatus, UserActivity, UserRecord, unique_form,
};
use crate::ports::key_value::{Commit, CommitOutcome, KeyValue, Read, ReadResult};
use crate::time::Timestamp;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// With an outcome.
    Done(IdentityOutcome),
    /// Something that was read had changed by the time of the commit.
    Raced,
}

/// The values read, as changed by the writes so far, and the commit that makes it so.
struct Draft {
    values: HashMap<Vec<u8>, Option<Vec<u8>>>,
    commit: Commit,
}

impl Draft {
    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key)?.as_deref()
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.commit.put(key.clone(), value.clone());
        self.values.insert(key, Some(value));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.commit.delete(key.clone());
        self.values.insert(key, None);
    }

    /// Gives `key` to `owner`, unless somebody else has it.
    fn claim(&mut self, key: Vec<u8>, owner: &[u8; 16], conflict: IdentityConflict) -> Step {
        match self.value(&key) {
            Some(holder) if holder != owner => return Ok(Err(conflict)),
            Some(_) => {}
            None => self.put(key, owner.to_vec()),
        }
        Ok(Ok(()))
    }
}

/// A step either fails, finds a conflict, or goes on.
type Step = Result<std::result::Result<(), IdentityConflict>>;

macro_rules! step {
    ($step:expr) => {
        match $step? {
            Ok(value) => value,
            Err(conflict) => return Ok(Err(conflict)),
        }
    };
}

pub(super) async fn try_commit(
    store: &dyn KeyValue,
    tenant: TenantId,
    writes: &[IdentityWrite],
) -> Result<Attempt> {
    let mut touched = vec![keys::tenant(tenant)];
    for write in writes {
        touch(tenant, write, &mut touched);
    }
    touched.sort_unstable();
    touched.dedup();
    let results = store.read(touched.iter().cloned().map(Read::Get).collect()).await?;
    let mut draft = Draft { values: HashMap::with_capacity(touched.len()), commit: Commit::new() };
    for (key, result) in touched.into_iter().zip(results) {
        let value = match result {
            ReadResult::Value(value) => value,
            ReadResult::Entries(_) => None,
        };
        draft.commit.expect(key.clone(), value.clone());
        draft.values.insert(key, value);
    }
    if let Err(conflict) = apply_all(&mut draft, tenant, writes)? {
        return Ok(Attempt::Done(IdentityOutcome::Conflict(conflict)));
    }
    Ok(match store.commit(draft.commit).await? {
        CommitOutcome::Committed => Attempt::Done(IdentityOutcome::Committed),
        CommitOutcome::PreconditionFailed(_) => Attempt::Raced,
    })
}

/// Adds the keys whose value decides about `write`.
fn touch(tenant: TenantId, write: &IdentityWrite, touched: &mut Vec<Vec<u8>>) {
    match write {
        IdentityWrite::PutTenant(record) => touched.push(keys::slug(&record.slug)),
        IdentityWrite::PutUser(record) => {
            touched.extend([keys::user(tenant, record.id), keys::email(tenant, &record.email)]);
            touched.extend(record.username.as_deref().map(|username| keys::username(tenant, username)));
        }
        IdentityWrite::PutSession(record) => touched.push(keys::session(tenant, record.id)),
        IdentityWrite::DeleteSession(session) => touched.push(keys::session(tenant, *session)),
        IdentityWrite::PutApiKey(record) => {
            touched.extend([keys::api_key(tenant, record.id), keys::api_key_owner(record.id)]);
        }
        IdentityWrite::RecordLogin(user, _) | IdentityWrite::RecordActivity(user, _) => {
            touched.push(keys::activity(tenant, *user));
        }
        IdentityWrite::RecordKeyUse(key, _) => touched.push(keys::api_key_use(tenant, *key)),
        IdentityWrite::Audit(_) => {}
    }
}

fn apply_all(draft: &mut Draft, tenant: TenantId, writes: &[IdentityWrite]) -> Step {
    for write in writes {
        if !matches!(write, IdentityWrite::PutTenant(_)) {
            let stored = draft.value(&keys::tenant(tenant));
            let status = stored
                .map(|value| decode::<TenantRecord>(value, "tenant").map(|it| it.status))
                .transpose()?;
            let alive = matches!(status, Some(TenantStatus::Active | TenantStatus::Suspended));
            if !alive {
                return Ok(Err(IdentityConflict::TenantGone));
            }
        }
        step!(apply(draft, tenant, write));
    }
    Ok(Ok(()))
}

fn apply(draft: &mut Draft, tenant: TenantId, write: &IdentityWrite) -> Step {
    match write {
        IdentityWrite::PutTenant(record) => return put_tenant(draft, tenant, record),
        IdentityWrite::PutUser(record) => return put_user(draft, tenant, record),
        IdentityWrite::PutSession(record) => {
            let key = keys::session(tenant, record.id);
            let stored: Option<SessionRecord> = read(draft, &key, "session")?;
            step!(at_version(stored.map(|it| it.version), record.version));
            draft.put(keys::user_session(tenant, record.user, record.id), Vec::new());
            let next = SessionRecord { version: record.version + 1, ..(**record).clone() };
            draft.put(key, encode(&next)?);
        }
        IdentityWrite::DeleteSession(session) => {
            let key = keys::session(tenant, *session);
            if let Some(stored) = read::<SessionRecord>(draft, &key, "session")? {
                draft.delete(keys::user_session(tenant, stored.user, stored.id));
                draft.delete(key);
            }
        }
        IdentityWrite::PutApiKey(record) => {
            let key = keys::api_key(tenant, record.id);
            let stored: Option<ApiKeyRecord> = read(draft, &key, "api key")?;
            step!(at_version(stored.map(|it| it.version), record.version));
            step!(draft.claim(keys::api_key_owner(record.id), &tenant.to_bytes(), IdentityConflict::Version));
            let next = ApiKeyRecord { version: record.version + 1, last_used_at: None, ..(**record).clone() };
            draft.put(key, encode(&next)?);
        }
        IdentityWrite::RecordLogin(user, at) => {
            let key = keys::activity(tenant, *user);
            let mut activity: UserActivity = read(draft, &key, "user activity")?.unwrap_or_default();
            activity.login_count += 1;
            activity.last_login_at = activity.last_login_at.max(Some(*at));
            activity.last_active_at = activity.last_active_at.max(Some(*at));
            draft.put(key, encode(&activity)?);
        }
        IdentityWrite::RecordActivity(user, at) => {
            let key = keys::activity(tenant, *user);
            let mut activity: UserActivity = read(draft, &key, "user activity")?.unwrap_or_default();
            activity.last_active_at = activity.last_active_at.max(Some(*at));
            draft.put(key, encode(&activity)?);
        }
        IdentityWrite::RecordKeyUse(api_key, at) => {
            let key = keys::api_key_use(tenant, *api_key);
            let before: Option<Timestamp> = read(draft, &key, "api key use")?;
            draft.put(key, encode(&before.max(Some(*at)))?);
        }
        IdentityWrite::Audit(record) => draft.put(keys::audit(tenant, record.id), encode(record)?),
    }
    Ok(Ok(()))
}

fn put_tenant(draft: &mut Draft, tenant: TenantId, record: &TenantRecord) -> Step {
    let key = keys::tenant(tenant);
    let stored: Option<TenantRecord> = read(draft, &key, "tenant")?;
    step!(at_version(stored.as_ref().map(|it| it.version), record.version));
    step!(draft.claim(keys::slug(&record.slug), &tenant.to_bytes(), IdentityConflict::Slug));
    if let Some(old) = stored.filter(|old| unique_form(&old.slug) != unique_form(&record.slug)) {
        draft.delete(keys::slug(&old.slug));
    }
    draft.put(keys::tenant_index(tenant), Vec::new());
    let next = TenantRecord { id: tenant, version: record.version + 1, ..record.clone() };
    draft.put(key, encode(&next)?);
    Ok(Ok(()))
}

fn put_user(draft: &mut Draft, tenant: TenantId, record: &UserRecord) -> Step {
    let key = keys::user(tenant, record.id);
    let stored: Option<UserRecord> = read(draft, &key, "user")?;
    step!(at_version(stored.as_ref().map(|it| it.version), record.version));
    let owner = record.id.to_bytes();
    step!(draft.claim(keys::email(tenant, &record.email), &owner, IdentityConflict::Email));
    if let Some(username) = &record.username {
        step!(draft.claim(keys::username(tenant, username), &owner, IdentityConflict::Username));
    }
    if let Some(old) = stored {
        if unique_form(&old.email) != unique_form(&record.email) {
            draft.delete(keys::email(tenant, &old.email));
        }
        let kept = record.username.as_deref().map(unique_form);
        if let Some(username) = old.username.filter(|username| kept != Some(unique_form(username))) {
            draft.delete(keys::username(tenant, &username));
        }
    }
    let next =
        UserRecord { version: record.version + 1, activity: UserActivity::default(), ..record.clone() };
    draft.put(key, encode(&next)?);
    Ok(Ok(()))
}

fn read<T: serde::de::DeserializeOwned>(draft: &Draft, key: &[u8], what: &'static str) -> Result<Option<T>> {
    draft.value(key).map(|value| decode(value, what)).transpose()
}

fn at_version(stored: Option<u64>, expected: u64) -> Step {
    Ok(if stored.unwrap_or(0) == expected { Ok(()) } else { Err(IdentityConflict::Version) })
}
