//! The identity store: tenants, users, sessions, API keys and the audit log.

mod commit;

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::error::{ErrorKind, Result};
use pulsestream_core::id::{ApiKeyId, AuditId, SessionId, TenantId, UserId};
use pulsestream_core::ports::identity::{
    ApiKeyRecord, ApiKeyState, AuditQuery, AuditRecord, IdentityCapabilities, IdentityConflict,
    IdentityOutcome, IdentityStore, IdentityWrite, KeyringRecord, PurgeOptions, SessionRecord, SessionState,
    TenantRecord, UserActivity, UserLookup, UserPage, UserQuery, UserRecord, unique_form,
};
use pulsestream_core::time::Timestamp;
use sqlx::postgres::PgRow;

use crate::database::{Database, Scope, bound, query};
use crate::error::Fault;
use crate::event_store::saturating;
use crate::record::{decode, encode};
use crate::wire::{Columns, Param};

const USER_COLUMNS: &str = "u.record, u.last_login_at, u.last_active_at, u.login_count";

/// Keeps identities in PostgreSQL.
#[derive(Debug)]
pub struct PostgresIdentityStore {
    database: Arc<Database>,
}

impl PostgresIdentityStore {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    fn schema(&self) -> &str {
        self.database.schema()
    }

    /// Reads rows with one statement.
    async fn rows<T: Send + 'static>(
        &self,
        operation: &'static str,
        scope: Scope,
        sql: String,
        params: Vec<Param>,
        read: fn(&PgRow) -> Result<T, Fault>,
    ) -> Result<Vec<T>> {
        let sql: Arc<str> = Arc::from(sql);
        self.database
            .read(operation, scope, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move { statement.fetch_all(connection).await?.iter().map(read).collect() })
            })
            .await
    }
}

#[async_trait]
impl IdentityStore for PostgresIdentityStore {
    fn capabilities(&self) -> IdentityCapabilities {
        IdentityCapabilities { shared: true }
    }

    async fn tenant(&self, tenant: TenantId) -> Result<Option<TenantRecord>> {
        let sql = format!("select record from {}.tenants where tenant_id = $1", self.schema());
        let params = vec![Param::uuid(tenant.as_u128())];
        let found =
            self.rows("identity_store.tenant", Scope::Tenant(tenant), sql, params, first_column).await?;
        Ok(found.into_iter().next())
    }

    async fn tenant_by_slug(&self, slug: &str) -> Result<Option<TenantRecord>> {
        if slug.contains('\0') {
            return Ok(None);
        }
        let sql = format!("select record from {}.tenants where slug_form = $1", self.schema());
        let params = vec![Param::text(&unique_form(slug))];
        let found =
            self.rows("identity_store.tenant_by_slug", Scope::Processor, sql, params, first_column).await?;
        Ok(found.into_iter().next())
    }

    async fn tenants(&self, after: Option<TenantId>, limit: usize) -> Result<Vec<TenantRecord>> {
        let (sign, start) = after.map_or((">=", 0), |tenant| (">", tenant.as_u128()));
        let sql = format!(
            "select record from {}.tenants where tenant_id {sign} $1 order by tenant_id limit $2",
            self.schema()
        );
        let params = vec![Param::uuid(start), Param::int8(saturating(limit))];
        self.rows("identity_store.tenants", Scope::Processor, sql, params, first_column).await
    }

    async fn users(&self, tenant: TenantId, lookups: &[UserLookup]) -> Result<Vec<Option<UserRecord>>> {
        let (mut ids, mut emails, mut usernames) = (Vec::new(), Vec::new(), Vec::new());
        for lookup in lookups {
            match lookup {
                UserLookup::Id(user) => ids.push(user.as_u128()),
                UserLookup::Email(email) => emails.push(unique_form(email)),
                UserLookup::Username(username) => usernames.push(unique_form(username)),
            }
        }
        let texts = |texts: &[String]| {
            Param::texts(texts.iter().map(String::as_str).filter(|text| !text.contains('\0')))
        };
        let sql = format!(
            "select {USER_COLUMNS} from {}.users u where u.tenant_id = $1 \
             and (u.user_id = any($2) or u.email_form = any($3) or u.username_form = any($4))",
            self.schema()
        );
        let params =
            vec![Param::uuid(tenant.as_u128()), Param::uuids(ids), texts(&emails), texts(&usernames)];
        let found = self.rows("identity_store.users", Scope::Tenant(tenant), sql, params, user_of).await?;
        let answer = |lookup: &UserLookup| {
            let is_meant = |user: &&UserRecord| match lookup {
                UserLookup::Id(id) => user.id == *id,
                UserLookup::Email(email) => unique_form(&user.email) == unique_form(email),
                UserLookup::Username(name) => {
                    user.username.as_deref().is_some_and(|own| unique_form(own) == unique_form(name))
                }
            };
            found.iter().find(is_meant).cloned()
        };
        Ok(lookups.iter().map(answer).collect())
    }

    async fn find_users(&self, tenant: TenantId, query: &UserQuery) -> Result<UserPage> {
        let search = query.search.as_deref().map(str::to_lowercase);
        if search.as_deref().is_some_and(|search| search.contains('\0')) {
            return Ok(UserPage::default());
        }
        let matches = format!(
            "{}.users u where u.tenant_id = $1 \
             and ($2 is null or exists (select from unnest(u.search) as part where strpos(part, $2) > 0))",
            self.schema()
        );
        let page: Arc<str> = Arc::from(format!(
            "select {USER_COLUMNS} from {matches} and ($5::uuid is null or u.user_id > $5) order by u.user_id limit $3 offset $4"
        ));
        let count: Arc<str> = Arc::from(format!("select count(*) from {matches}"));
        let selected = vec![Param::uuid(tenant.as_u128()), Param::optional_text(search.as_deref())];
        let mut params = selected.clone();
        params.extend([Param::int8(saturating(query.limit)), Param::int8(saturating(query.skip))]);
        params.push(Param::optional_uuid(query.after.map(UserId::as_u128)));
        self.database
            .read("identity_store.find_users", Scope::Tenant(tenant), move |connection| {
                let (page, count) = (bound(page.clone(), &params), bound(count.clone(), &selected));
                Box::pin(async move {
                    let users = page.fetch_all(&mut *connection).await?;
                    let users = users.iter().map(user_of).collect::<Result<Vec<_>, _>>()?;
                    let total = Columns::new(&count.fetch_one(connection).await?).int8()?;
                    Ok(UserPage { users, total: usize::try_from(total).unwrap_or_default() })
                })
            })
            .await
    }

    async fn session(&self, tenant: TenantId, session: SessionId) -> Result<Option<SessionState>> {
        let schema = self.schema();
        let sql = format!(
            "select s.record, t.record, {USER_COLUMNS} from {schema}.sessions s \
             join {schema}.users u on u.tenant_id = s.tenant_id and u.user_id = s.user_id \
             join {schema}.tenants t on t.tenant_id = s.tenant_id where s.tenant_id = $1 and s.session_id = $2"
        );
        let params = vec![Param::uuid(tenant.as_u128()), Param::uuid(session.as_u128())];
        let found = self
            .rows("identity_store.session", Scope::Tenant(tenant), sql, params, |row| {
                let mut columns = Columns::new(row);
                let session = decode(columns.jsonb()?, "session")?;
                let tenant = decode(columns.jsonb()?, "tenant")?;
                Ok(SessionState { session, tenant, user: user_from(&mut columns)? })
            })
            .await?;
        Ok(found.into_iter().next())
    }

    async fn sessions_of(&self, tenant: TenantId, user: UserId) -> Result<Vec<SessionRecord>> {
        let sql =
            format!("select record from {}.sessions where tenant_id = $1 and user_id = $2", self.schema());
        let params = vec![Param::uuid(tenant.as_u128()), Param::uuid(user.as_u128())];
        self.rows("identity_store.sessions_of", Scope::Tenant(tenant), sql, params, first_column).await
    }

    async fn api_key(&self, key: ApiKeyId) -> Result<Option<ApiKeyState>> {
        let schema = self.schema();
        let sql = format!(
            "select t.record, k.record, k.last_used_at from {schema}.api_keys k \
             join {schema}.tenants t on t.tenant_id = k.tenant_id where k.key_id = $1"
        );
        let params = vec![Param::uuid(key.as_u128())];
        let found = self
            .rows("identity_store.api_key", Scope::Processor, sql, params, |row| {
                let mut columns = Columns::new(row);
                let tenant = decode(columns.jsonb()?, "tenant")?;
                Ok(ApiKeyState { tenant, key: api_key_from(&mut columns)? })
            })
            .await?;
        Ok(found.into_iter().next())
    }

    async fn api_keys(&self, tenant: TenantId) -> Result<Vec<ApiKeyRecord>> {
        let sql = format!(
            "select record, last_used_at from {}.api_keys where tenant_id = $1 order by key_id",
            self.schema()
        );
        let params = vec![Param::uuid(tenant.as_u128())];
        self.rows("identity_store.api_keys", Scope::Tenant(tenant), sql, params, |row| {
            api_key_from(&mut Columns::new(row))
        })
        .await
    }

    async fn commit(&self, tenant: TenantId, writes: Vec<IdentityWrite>) -> Result<IdentityOutcome> {
        commit::commit(&self.database, tenant, writes).await
    }

    async fn audit_log(&self, tenant: TenantId, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        let sql = format!(
            "select record from {}.audit_log where tenant_id = $1 and ($2 is null or audit_id < $2) \
             order by audit_id desc limit $3",
            self.schema()
        );
        let params = vec![
            Param::uuid(tenant.as_u128()),
            Param::optional_uuid(query.before.map(AuditId::as_u128)),
            Param::int8(saturating(query.limit)),
        ];
        self.rows("identity_store.audit_log", Scope::Tenant(tenant), sql, params, first_column).await
    }

    async fn keyring(&self) -> Result<Option<KeyringRecord>> {
        let sql = format!("select record from {}.keyring", self.schema());
        let found =
            self.rows("identity_store.keyring", Scope::Processor, sql, Vec::new(), first_column).await?;
        Ok(found.into_iter().next())
    }

    async fn put_keyring(&self, record: &KeyringRecord) -> Result<IdentityOutcome> {
        let next = KeyringRecord { version: record.version + 1, ..record.clone() };
        // Two that make the first one: the second waits for the first, and then finds its version.
        let sql: Arc<str> = Arc::from(format!(
            "insert into {schema}.keyring as kept (version, record) select $2, $3 \
             where $1 = 0 or exists (select from {schema}.keyring) \
             on conflict (singleton) do update set version = excluded.version, record = excluded.record \
             where kept.version = $1 returning version",
            schema = self.schema(),
        ));
        let params =
            [version(record.version), version(next.version), Param::jsonb(&encode(&next, "keyring")?)];
        self.database
            .write("identity_store.put_keyring", Scope::Processor, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    Ok(if statement.fetch_all(connection).await?.is_empty() {
                        IdentityOutcome::Conflict(IdentityConflict::Version)
                    } else {
                        IdentityOutcome::Committed
                    })
                })
            })
            .await
    }

    async fn purge(&self, tenant: TenantId, options: &PurgeOptions) -> Result<usize> {
        let schema = self.schema();
        let sessions: Arc<str> = Arc::from(format!(
            "delete from {schema}.sessions where tenant_id = $1 and session_id in \
             (select session_id from {schema}.sessions where tenant_id = $1 and expires_at < $2 limit $3) \
             and expires_at < $2"
        ));
        let audit: Arc<str> = Arc::from(format!(
            "delete from {schema}.audit_log where tenant_id = $1 and audit_id in (select audit_id \
             from {schema}.audit_log where tenant_id = $1 and audit_id < $2 order by audit_id limit $3)"
        ));
        let (tenant_id, options) = (Param::uuid(tenant.as_u128()), options.clone());
        self.database
            .write("identity_store.purge", Scope::Tenant(tenant), move |connection| {
                let (sessions, audit) = (sessions.clone(), audit.clone());
                let (tenant_id, options) = (tenant_id.clone(), options.clone());
                Box::pin(async move {
                    let before = Param::timestamp(options.sessions_before);
                    let params = [tenant_id.clone(), before, Param::int8(saturating(options.limit))];
                    let done = bound(sessions, &params).execute(&mut *connection).await?.rows_affected();
                    let done = usize::try_from(done).unwrap_or(usize::MAX);
                    let left = options.limit.saturating_sub(done);
                    let before = Param::uuid(first_audit_id(options.audit_before));
                    let params = [tenant_id, before, Param::int8(saturating(left))];
                    let old = bound(audit, &params).execute(connection).await?.rows_affected();
                    Ok(done.saturating_add(usize::try_from(old).unwrap_or(usize::MAX)))
                })
            })
            .await
    }

    async fn delete_tenant(&self, tenant: TenantId) -> Result<()> {
        // One transaction takes all, through the foreign keys: a crash in the middle leaves everything, and it can be called again.
        let sql: Arc<str> = Arc::from(format!("delete from {}.tenants where tenant_id = $1", self.schema()));
        let params = [Param::uuid(tenant.as_u128())];
        self.database
            .write("identity_store.delete_tenant", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    // The rows of a big tenant take longer than a request.
                    query("select set_config('statement_timeout', '0', true)")
                        .execute(&mut *connection)
                        .await?;
                    statement.execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }
}

/// Which conflict the constraint with this name stands for.
fn conflict_of(constraint: &str) -> Option<IdentityConflict> {
    Some(match constraint {
        "tenants_slug" => IdentityConflict::Slug,
        "users_email" => IdentityConflict::Email,
        "users_username" => IdentityConflict::Username,
        "tenants_pkey" | "users_pkey" | "sessions_pkey" | "api_keys_pkey" | "api_keys_id" => {
            IdentityConflict::Version
        }
        // A foreign key: the tenant went away.
        name if name.ends_with("_tenant_id_fkey") => IdentityConflict::TenantGone,
        _ => return None,
    })
}

/// Turns the refusal of a constraint into the conflict that it guards against.
fn or_conflict(result: Result<IdentityOutcome>) -> Result<IdentityOutcome> {
    result.or_else(|error| {
        let constraint = error.context().iter().find(|(key, _)| *key == "constraint");
        match constraint.and_then(|(_, name)| conflict_of(name)) {
            Some(conflict) if error.kind() == ErrorKind::Conflict => Ok(IdentityOutcome::Conflict(conflict)),
            _ => Err(error),
        }
    })
}

fn version(number: u64) -> Param {
    Param::int8(i64::try_from(number).unwrap_or(i64::MAX))
}

fn first_column<T: serde::de::DeserializeOwned>(row: &PgRow) -> Result<T, Fault> {
    decode(Columns::new(row).jsonb()?, "record")
}

fn user_of(row: &PgRow) -> Result<UserRecord, Fault> {
    user_from(&mut Columns::new(row))
}

/// Returns the smallest UUIDv7 of a millisecond.
fn first_audit_id(at: Timestamp) -> u128 {
    u128::try_from(at.as_micros() / 1_000).unwrap_or(0) << 80
}

/// Reads a user from `record, last_login_at, last_active_at, login_count`.
fn user_from(columns: &mut Columns<'_>) -> Result<UserRecord, Fault> {
    let mut user: UserRecord = decode(columns.jsonb()?, "user")?;
    user.activity = UserActivity {
        last_login_at: columns.optional_timestamp()?,
        last_active_at: columns.optional_timestamp()?,
        login_count: columns.int8()?.cast_unsigned(),
    };
    Ok(user)
}

/// Reads an API key from `record, last_used_at`.
fn api_key_from(columns: &mut Columns<'_>) -> Result<ApiKeyRecord, Fault> {
    let mut key: ApiKeyRecord = decode(columns.jsonb()?, "API key")?;
    key.last_used_at = columns.optional_timestamp()?;
    Ok(key)
}
