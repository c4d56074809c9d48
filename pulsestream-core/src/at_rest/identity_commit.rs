//! One attempt to apply identity writes: read what they touch, check, and commit on the condition that nothing of it changed.

use super::keys::identity as keys;
use super::transaction::Transaction;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::identity::{
    ApiKeyRecord, IdentityConflict, IdentityOutcome, IdentityWrite, SessionRecord, TenantRecord,
    TenantStatus, UserActivity, UserRecord, unique_form,
};
use crate::ports::key_value::KeyValue;
use crate::time::Timestamp;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// With an outcome.
    Done(IdentityOutcome),
    /// Something that was read had changed by the time of the commit.
    Raced,
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
    let mut draft = Transaction::new(store);
    draft.load(touched).await?;
    if let Err(conflict) = apply_all(&mut draft, tenant, writes).await? {
        return Ok(Attempt::Done(IdentityOutcome::Conflict(conflict)));
    }
    let committed = draft.commit().await?;
    Ok(if committed { Attempt::Done(IdentityOutcome::Committed) } else { Attempt::Raced })
}

/// Adds the keys whose value decides about `write`.
fn touch(tenant: TenantId, write: &IdentityWrite, touched: &mut Vec<Vec<u8>>) {
    match write {
        IdentityWrite::PutTenant(record) => touched.push(keys::slug(&record.slug)),
        IdentityWrite::PutUser(record) => {
            touched.extend([keys::user(tenant, record.id), keys::email(tenant, &record.email)]);
            touched.extend(record.username.as_deref().map(|username| keys::username(tenant, username)));
        }
        IdentityWrite::DeleteUser(user, _) => touched.push(keys::user(tenant, *user)),
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

async fn apply_all(draft: &mut Transaction<'_>, tenant: TenantId, writes: &[IdentityWrite]) -> Step {
    for write in writes {
        if !matches!(write, IdentityWrite::PutTenant(_)) {
            let stored: Option<TenantRecord> = draft.get(&keys::tenant(tenant), "tenant").await?;
            let status = stored.map(|stored| stored.status);
            let alive = matches!(status, Some(TenantStatus::Active | TenantStatus::Suspended));
            if !alive {
                return Ok(Err(IdentityConflict::TenantGone));
            }
        }
        step!(apply(draft, tenant, write).await);
    }
    Ok(Ok(()))
}

async fn apply(draft: &mut Transaction<'_>, tenant: TenantId, write: &IdentityWrite) -> Step {
    match write {
        IdentityWrite::PutTenant(record) => return put_tenant(draft, tenant, record).await,
        IdentityWrite::PutUser(record) => return put_user(draft, tenant, record).await,
        IdentityWrite::DeleteUser(user, version) => {
            let key = keys::user(tenant, *user);
            let Some(stored) = draft.get::<UserRecord>(&key, "user").await? else {
                return Ok(Err(IdentityConflict::Version));
            };
            step!(at_version(Some(stored.version), *version));
            draft.delete(keys::email(tenant, &stored.email));
            if let Some(username) = &stored.username {
                draft.delete(keys::username(tenant, username));
            }
            draft.delete(keys::activity(tenant, *user));
            draft.delete(key);
        }
        IdentityWrite::PutSession(record) => {
            let key = keys::session(tenant, record.id);
            let stored: Option<SessionRecord> = draft.get(&key, "session").await?;
            step!(at_version(stored.map(|it| it.version), record.version));
            draft.put_bytes(keys::user_session(tenant, record.user, record.id), Vec::new());
            let next = SessionRecord { version: record.version + 1, ..(**record).clone() };
            draft.put(key, &next)?;
        }
        IdentityWrite::DeleteSession(session) => {
            let key = keys::session(tenant, *session);
            if let Some(stored) = draft.get::<SessionRecord>(&key, "session").await? {
                draft.delete(keys::user_session(tenant, stored.user, stored.id));
                draft.delete(key);
            }
        }
        IdentityWrite::PutApiKey(record) => {
            let key = keys::api_key(tenant, record.id);
            let stored: Option<ApiKeyRecord> = draft.get(&key, "api key").await?;
            step!(at_version(stored.map(|it| it.version), record.version));
            step!(
                claim(draft, keys::api_key_owner(record.id), &tenant.to_bytes(), IdentityConflict::Version)
                    .await
            );
            let next = ApiKeyRecord { version: record.version + 1, last_used_at: None, ..(**record).clone() };
            draft.put(key, &next)?;
        }
        IdentityWrite::RecordLogin(user, at) => {
            let key = keys::activity(tenant, *user);
            let mut activity: UserActivity = draft.get(&key, "user activity").await?.unwrap_or_default();
            activity.login_count += 1;
            activity.last_login_at = activity.last_login_at.max(Some(*at));
            activity.last_active_at = activity.last_active_at.max(Some(*at));
            draft.put(key, &activity)?;
        }
        IdentityWrite::RecordActivity(user, at) => {
            let key = keys::activity(tenant, *user);
            let mut activity: UserActivity = draft.get(&key, "user activity").await?.unwrap_or_default();
            activity.last_active_at = activity.last_active_at.max(Some(*at));
            draft.put(key, &activity)?;
        }
        IdentityWrite::RecordKeyUse(api_key, at) => {
            let key = keys::api_key_use(tenant, *api_key);
            let before: Option<Timestamp> = draft.get(&key, "api key use").await?;
            draft.put(key, &before.max(Some(*at)))?;
        }
        IdentityWrite::Audit(record) => draft.put(keys::audit(tenant, record.id), record)?,
    }
    Ok(Ok(()))
}

async fn put_tenant(draft: &mut Transaction<'_>, tenant: TenantId, record: &TenantRecord) -> Step {
    let key = keys::tenant(tenant);
    let stored: Option<TenantRecord> = draft.get(&key, "tenant").await?;
    step!(at_version(stored.as_ref().map(|it| it.version), record.version));
    step!(claim(draft, keys::slug(&record.slug), &tenant.to_bytes(), IdentityConflict::Slug).await);
    if let Some(old) = stored.filter(|old| unique_form(&old.slug) != unique_form(&record.slug)) {
        draft.delete(keys::slug(&old.slug));
    }
    draft.put_bytes(keys::tenant_index(tenant), Vec::new());
    let next = TenantRecord { id: tenant, version: record.version + 1, ..record.clone() };
    draft.put(key, &next)?;
    Ok(Ok(()))
}

async fn put_user(draft: &mut Transaction<'_>, tenant: TenantId, record: &UserRecord) -> Step {
    let key = keys::user(tenant, record.id);
    let stored: Option<UserRecord> = draft.get(&key, "user").await?;
    step!(at_version(stored.as_ref().map(|it| it.version), record.version));
    let owner = record.id.to_bytes();
    step!(claim(draft, keys::email(tenant, &record.email), &owner, IdentityConflict::Email).await);
    if let Some(username) = &record.username {
        step!(claim(draft, keys::username(tenant, username), &owner, IdentityConflict::Username).await);
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
    draft.put(key, &next)?;
    Ok(Ok(()))
}

/// Gives `key` to `owner`, unless somebody else has it.
async fn claim(
    draft: &mut Transaction<'_>,
    key: Vec<u8>,
    owner: &[u8; 16],
    conflict: IdentityConflict,
) -> Step {
    match draft.bytes(&key).await? {
        Some(holder) if holder != owner => return Ok(Err(conflict)),
        Some(_) => {}
        None => draft.put_bytes(key, owner.to_vec()),
    }
    Ok(Ok(()))
}

fn at_version(stored: Option<u64>, expected: u64) -> Step {
    Ok(if stored.unwrap_or(0) == expected { Ok(()) } else { Err(IdentityConflict::Version) })
}
