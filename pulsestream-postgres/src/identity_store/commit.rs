//! Writes of the identity store: all or none.

use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::id::{TenantId, UserId};
use pulsestream_core::ports::identity::{
    ApiKeyRecord, AuditRecord, IdentityConflict, IdentityOutcome, IdentityWrite, SessionRecord, TenantRecord,
    TenantStatus, UserActivity, UserRecord, unique_form,
};
use sqlx::PgConnection;

use super::{or_conflict, version};
use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::record::encode;
use crate::wire::{Columns, Param};

const OPERATION: &str = "identity_store.commit";

/// A step fails, finds a conflict, or goes on.
type Step = Result<Result<(), IdentityConflict>, Fault>;

pub(super) async fn commit(
    database: &Arc<Database>,
    tenant: TenantId,
    writes: Vec<IdentityWrite>,
) -> Result<IdentityOutcome> {
    let schema: Arc<str> = Arc::from(database.schema());
    let writes = Arc::new(writes);
    let keep = |outcome: &IdentityOutcome| *outcome == IdentityOutcome::Committed;
    or_conflict(
        database
            .write_if(OPERATION, Scope::Tenant(tenant), keep, move |connection| {
                let (schema, writes) = (schema.clone(), writes.clone());
                Box::pin(async move {
                    let mut writer = Writer { connection, schema: &schema, tenant, status: None };
                    Ok(match writer.apply_all(&writes).await? {
                        Ok(()) => IdentityOutcome::Committed,
                        Err(conflict) => IdentityOutcome::Conflict(conflict),
                    })
                })
            })
            .await,
    )
}

struct Writer<'c> {
    connection: &'c mut PgConnection,
    schema: &'c str,
    tenant: TenantId,
    /// The status of the tenant as of the writes so far; `None` when there is no such tenant.
    status: Option<TenantStatus>,
}

impl Writer<'_> {
    async fn apply_all(&mut self, writes: &[IdentityWrite]) -> Step {
        let changes_tenant = writes.iter().any(|write| matches!(write, IdentityWrite::PutTenant(_)));
        // The tenant cannot go away, nor begin to be deleted, while others write to it. Whoever changes it locks it at once for
        // itself: two that had it shared could not.
        let lock = if changes_tenant { "for update" } else { "for share" };
        let sql = format!("select status from {}.tenants where tenant_id = $1 {lock}", self.schema);
        let rows = bound(Arc::from(sql), &[self.tenant_id()]).fetch_all(&mut *self.connection).await?;
        self.status = match rows.first() {
            None => None,
            Some(row) => Some(status_named(Columns::new(row).str()?)),
        };
        for write in writes {
            if let Err(conflict) = self.apply(write).await? {
                return Ok(Err(conflict));
            }
        }
        Ok(Ok(()))
    }

    async fn apply(&mut self, write: &IdentityWrite) -> Step {
        let alive = matches!(self.status, Some(TenantStatus::Active | TenantStatus::Suspended));
        if !alive && !matches!(write, IdentityWrite::PutTenant(_)) {
            return Ok(Err(IdentityConflict::TenantGone));
        }
        match write {
            IdentityWrite::PutTenant(record) => self.put_tenant(record).await,
            IdentityWrite::PutUser(record) => self.put_user(record).await,
            IdentityWrite::DeleteUser(user, read_version) => self.delete_user(*user, *read_version).await,
            IdentityWrite::PutSession(record) => self.put_session(record).await,
            IdentityWrite::PutApiKey(record) => self.put_api_key(record).await,
            IdentityWrite::DeleteSession(session) => {
                let params = [self.tenant_id(), Param::uuid(session.as_u128())];
                self.execute(
                    "delete from {schema}.sessions where tenant_id = $1 and session_id = $2",
                    &params,
                )
                .await
            }
            IdentityWrite::RecordLogin(user, at) => {
                let sql = "update {schema}.users set login_count = login_count + 1, \
                           last_login_at = greatest(last_login_at, $3), \
                           last_active_at = greatest(last_active_at, $3) where tenant_id = $1 and user_id = $2";
                let params = [self.tenant_id(), Param::uuid(user.as_u128()), Param::timestamp(*at)];
                self.execute(sql, &params).await
            }
            IdentityWrite::RecordActivity(user, at) => {
                let sql = "update {schema}.users set last_active_at = greatest(last_active_at, $3) \
                           where tenant_id = $1 and user_id = $2";
                let params = [self.tenant_id(), Param::uuid(user.as_u128()), Param::timestamp(*at)];
                self.execute(sql, &params).await
            }
            IdentityWrite::RecordKeyUse(key, at) => {
                let sql = "update {schema}.api_keys set last_used_at = greatest(last_used_at, $3) \
                           where tenant_id = $1 and key_id = $2";
                let params = [self.tenant_id(), Param::uuid(key.as_u128()), Param::timestamp(*at)];
                self.execute(sql, &params).await
            }
            IdentityWrite::Audit(record) => self.add_audit(record).await,
        }
    }

    async fn put_tenant(&mut self, record: &TenantRecord) -> Step {
        let next = TenantRecord { id: self.tenant, version: record.version + 1, ..record.clone() };
        let params = [
            self.tenant_id(),
            version(record.version),
            version(next.version),
            Param::text(&unique_form(&record.slug)),
            Param::text(status_name(record.status)),
            Param::jsonb(&encode(&next, "tenant")?),
        ];
        let step = self
            .put(
                record.version,
                "insert into {schema}.tenants (tenant_id, version, slug_form, status, record) \
                 select $1, $3, $4, $5, $6 where $2 = 0",
                "update {schema}.tenants set version = $3, slug_form = $4, status = $5, record = $6 \
                 where tenant_id = $1 and version = $2",
                &params,
            )
            .await?;
        if step.is_ok() {
            self.status = Some(record.status);
        }
        Ok(step)
    }

    async fn put_user(&mut self, record: &UserRecord) -> Step {
        let next =
            UserRecord { version: record.version + 1, activity: UserActivity::default(), ..record.clone() };
        let search = [Some(&record.email), Some(&record.full_name), record.username.as_ref()];
        let search: Vec<String> = search.into_iter().flatten().map(|text| text.to_lowercase()).collect();
        let params = [
            self.tenant_id(),
            version(record.version),
            version(next.version),
            Param::uuid(record.id.as_u128()),
            Param::text(&unique_form(&record.email)),
            Param::optional_text(record.username.as_deref().map(unique_form).as_deref()),
            Param::texts(search.iter().map(String::as_str)),
            Param::jsonb(&encode(&next, "user")?),
        ];
        self.put(
            record.version,
            "insert into {schema}.users (tenant_id, version, user_id, email_form, username_form, search, record) \
             select $1, $3, $4, $5, $6, $7, $8 where $2 = 0",
            "update {schema}.users set version = $3, email_form = $5, username_form = $6, search = $7, record = $8 \
             where tenant_id = $1 and version = $2 and user_id = $4",
            &params,
        )
        .await
    }

    async fn delete_user(&mut self, user: UserId, read_version: u64) -> Step {
        let sql = "delete from {schema}.users where tenant_id = $1 and user_id = $2 and version = $3";
        let params = [self.tenant_id(), Param::uuid(user.as_u128()), version(read_version)];
        let sql = Arc::from(sql.replace("{schema}", self.schema));
        let deleted = bound(sql, &params).execute(&mut *self.connection).await?.rows_affected();
        Ok(if deleted == 1 { Ok(()) } else { Err(IdentityConflict::Version) })
    }

    async fn put_session(&mut self, record: &SessionRecord) -> Step {
        let next = SessionRecord { version: record.version + 1, ..record.clone() };
        let params = [
            self.tenant_id(),
            version(record.version),
            version(next.version),
            Param::uuid(record.id.as_u128()),
            Param::uuid(record.user.as_u128()),
            Param::timestamp(record.expires_at),
            Param::jsonb(&encode(&next, "session")?),
        ];
        self.put(
            record.version,
            "insert into {schema}.sessions (tenant_id, version, session_id, user_id, expires_at, record) \
             select $1, $3, $4, $5, $6, $7 where $2 = 0",
            "update {schema}.sessions set version = $3, user_id = $5, expires_at = $6, record = $7 \
             where tenant_id = $1 and version = $2 and session_id = $4",
            &params,
        )
        .await
    }

    async fn put_api_key(&mut self, record: &ApiKeyRecord) -> Step {
        let next = ApiKeyRecord { version: record.version + 1, last_used_at: None, ..record.clone() };
        let params = [
            self.tenant_id(),
            version(record.version),
            version(next.version),
            Param::uuid(record.id.as_u128()),
            Param::jsonb(&encode(&next, "API key")?),
        ];
        self.put(
            record.version,
            "insert into {schema}.api_keys (tenant_id, version, key_id, record) select $1, $3, $4, $5 where $2 = 0",
            "update {schema}.api_keys set version = $3, record = $5 \
             where tenant_id = $1 and version = $2 and key_id = $4",
            &params,
        )
        .await
    }

    async fn add_audit(&mut self, record: &AuditRecord) -> Step {
        let params = [
            self.tenant_id(),
            Param::uuid(record.id.as_u128()),
            Param::timestamp(record.at),
            Param::text(record.action.as_str()),
            Param::jsonb(&encode(record, "audit entry")?),
        ];
        self.execute(
            "insert into {schema}.audit_log (tenant_id, audit_id, at, action, record) values ($1, $2, $3, $4, $5) \
             on conflict (tenant_id, audit_id) do update set at = excluded.at, action = excluded.action, \
             record = excluded.record",
            &params,
        )
        .await
    }

    /// Inserts a new record or replaces the version that was read. A record that is there already violates its primary key, which
    /// becomes the conflict.
    async fn put(&mut self, read_version: u64, insert: &str, update: &str, params: &[Param]) -> Step {
        let sql = if read_version == 0 { insert } else { update }.replace("{schema}", self.schema);
        let done = bound(Arc::from(sql), params).execute(&mut *self.connection).await?;
        Ok(if done.rows_affected() == 1 { Ok(()) } else { Err(IdentityConflict::Version) })
    }

    async fn execute(&mut self, sql: &str, params: &[Param]) -> Step {
        bound(Arc::from(sql.replace("{schema}", self.schema)), params).execute(&mut *self.connection).await?;
        Ok(Ok(()))
    }

    fn tenant_id(&self) -> Param {
        Param::uuid(self.tenant.as_u128())
    }
}

const fn status_name(status: TenantStatus) -> &'static str {
    match status {
        TenantStatus::Active => "active",
        TenantStatus::Suspended => "suspended",
        TenantStatus::Deleting => "deleting",
    }
}

/// What is not known is as good as being deleted: nothing is written.
fn status_named(name: &str) -> TenantStatus {
    match name {
        "active" => TenantStatus::Active,
        "suspended" => TenantStatus::Suspended,
        _ => TenantStatus::Deleting,
    }
}
