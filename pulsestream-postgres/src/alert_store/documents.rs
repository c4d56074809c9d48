//! Documents with a version: rules, channels, silences and routing.

use std::sync::Arc;

use pulsestream_core::alerting::{Author, Channel, Configured, Routing, Rule, Silence};
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::alert_store::{AlertingConfig, PutMode};
use pulsestream_core::ports::event_store::Partition;
use pulsestream_core::time::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use super::{changes, partition_number};
use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::record::{decode, encode};
use crate::wire::{Columns, Param};

/// What `put` needs to know of a document.
pub(super) trait Document: Configured + DeserializeOwned + Clone + Send + Sync + 'static {
    const WHAT: &'static str;
    const TABLE: &'static str;
    /// The column of its id; `None` for the one document of a tenant.
    const ID: Option<&'static str>;
    const PUT: &'static str;
    const DELETE: &'static str;
    /// Further columns.
    const COLUMNS: &'static [&'static str];

    fn id(&self) -> u128;
    fn set_version(&mut self, version: u64);
    /// The values of the further columns.
    fn columns(&self) -> Vec<Param>;
}

macro_rules! document {
    ($type:ty, $what:literal, $table:literal, $id_column:expr, $id:expr, $columns:expr, $values:expr) => {
        impl Document for $type {
            const WHAT: &'static str = $what;
            const TABLE: &'static str = $table;
            const ID: Option<&'static str> = $id_column;
            const PUT: &'static str = concat!("alert_store.put_", $what);
            const DELETE: &'static str = concat!("alert_store.delete_", $what);
            const COLUMNS: &'static [&'static str] = $columns;

            fn id(&self) -> u128 {
                let id: fn(&Self) -> u128 = $id;
                id(self)
            }

            fn set_version(&mut self, version: u64) {
                self.version = version;
            }

            fn columns(&self) -> Vec<Param> {
                let values: fn(&Self) -> Vec<Param> = $values;
                values(self)
            }
        }
    };
}

document!(
    Rule,
    "rule",
    "rules",
    Some("rule_id"),
    |rule| rule.id.as_u128(),
    &["name", "is_active", "created_at"],
    |rule| vec![Param::text(&rule.name), Param::bool(rule.is_active), Param::timestamp(rule.created_at)]
);
document!(
    Channel,
    "channel",
    "channels",
    Some("channel_id"),
    |channel| channel.id.as_u128(),
    &["name"],
    |channel| vec![Param::text(&channel.name)]
);
document!(
    Silence,
    "silence",
    "silences",
    Some("silence_id"),
    |silence| silence.id.as_u128(),
    &["starts_at", "ends_at"],
    |silence| vec![Param::timestamp(silence.starts_at), Param::timestamp(silence.ends_at)]
);
document!(Routing, "routing", "routing", None, |_| 0, &[], |_| Vec::new());

/// The condition that selects one document: the tenant is `$1`, the id `$2`.
fn is_it<D: Document>() -> String {
    D::ID.map_or_else(|| "tenant_id = $1".to_owned(), |id| format!("tenant_id = $1 and {id} = $2"))
}

fn key<D: Document>(tenant: TenantId, id: u128) -> Vec<Param> {
    let mut key = vec![Param::uuid(tenant.as_u128())];
    key.extend(D::ID.map(|_| Param::uuid(id)));
    key
}

pub(super) async fn get<D: Document>(
    database: &Arc<Database>,
    tenant: TenantId,
    id: u128,
) -> Result<Option<D>> {
    let sql: Arc<str> =
        Arc::from(format!("select record from {}.{} where {}", database.schema(), D::TABLE, is_it::<D>()));
    let params = key::<D>(tenant, id);
    database
        .read("alert_store.get", Scope::Tenant(tenant), move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move {
                let rows = statement.fetch_all(connection).await?;
                rows.first().map(|row| decode(Columns::new(row).jsonb()?, D::WHAT)).transpose()
            })
        })
        .await
}

/// Returns all documents of a tenant, by id.
pub(super) async fn list<D: Document>(database: &Arc<Database>, tenant: TenantId) -> Result<Vec<D>> {
    let schema = database.schema().to_owned();
    database
        .read("alert_store.list", Scope::Tenant(tenant), move |connection| {
            let schema = schema.clone();
            Box::pin(async move { all(connection, &schema, tenant).await })
        })
        .await
}

async fn all<D: Document>(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
) -> Result<Vec<D>, Fault> {
    let order = D::ID.unwrap_or("tenant_id");
    let sql = format!("select record from {schema}.{} where tenant_id = $1 order by {order}", D::TABLE);
    let rows = bound(Arc::from(sql), &[Param::uuid(tenant.as_u128())]).fetch_all(connection).await?;
    rows.iter().map(|row| decode(Columns::new(row).jsonb()?, D::WHAT)).collect()
}

pub(super) async fn put<D: Document>(
    database: &Arc<Database>,
    tenant: TenantId,
    document: D,
    mode: PutMode,
    author: &Author,
) -> Result<D> {
    let (schema, author) = (database.schema().to_owned(), author.clone());
    database
        .write(D::PUT, Scope::Tenant(tenant), move |connection| {
            let (schema, document, author) = (schema.clone(), document.clone(), author.clone());
            Box::pin(async move { put_in(connection, &schema, tenant, document, mode, &author).await })
        })
        .await
}

async fn put_in<D: Document>(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    mut document: D,
    mode: PutMode,
    author: &Author,
) -> Result<D, Fault> {
    // The row of the revision is the lock of the tenant's configuration: until the end nobody else changes any of it.
    let revision = bump_revision(connection, schema, tenant).await?;
    let select = format!("select record from {schema}.{} where {}", D::TABLE, is_it::<D>());
    let key = key::<D>(tenant, document.id());
    let rows = bound(Arc::from(select), &key).fetch_all(&mut *connection).await?;
    let present: Option<D> =
        rows.first().map(|row| decode(Columns::new(row).jsonb()?, D::WHAT)).transpose()?;
    let version = present.as_ref().map_or(0, Configured::version);
    check_mode::<D>(mode, version)?;
    document.set_version(version + 1);
    let mut names = vec!["tenant_id"];
    names.extend(D::ID);
    let key_length = names.len();
    names.extend(["version", "record"]);
    names.extend(D::COLUMNS);
    let mut params = key;
    params.extend([Param::int8((version + 1).cast_signed()), Param::jsonb(&encode(&document, D::WHAT)?)]);
    params.extend(document.columns());
    let placeholders: Vec<String> = (1..=names.len()).map(|number| format!("${number}")).collect();
    let updates: Vec<String> =
        names[key_length..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let upsert = format!(
        "insert into {schema}.{} ({}) values ({}) on conflict ({}) do update set {}",
        D::TABLE,
        names.join(", "),
        placeholders.join(", "),
        names[..key_length].join(", "),
        updates.join(", "),
    );
    bound(Arc::from(upsert), &params).execute(&mut *connection).await?;
    changes::log(connection, schema, tenant, revision, author, present.as_ref(), Some(&document)).await?;
    Ok(document)
}

fn check_mode<D: Document>(mode: PutMode, version: u64) -> Result<()> {
    match mode {
        PutMode::Always => Ok(()),
        PutMode::Create if version == 0 => Ok(()),
        PutMode::Create => Err(Error::new(ErrorKind::Conflict, D::PUT, "it is there already")),
        PutMode::Replace { version: expected } if expected == version => Ok(()),
        PutMode::Replace { .. } if version == 0 => {
            Err(Error::new(ErrorKind::NotFound, D::PUT, "there is nothing to replace"))
        }
        PutMode::Replace { version: expected } => {
            Err(Error::new(ErrorKind::Conflict, D::PUT, "it was changed since it was read: read it again")
                .with_context("expected_version", expected)
                .with_context("version", version))
        }
    }
}

pub(super) async fn delete<D: Document>(
    database: &Arc<Database>,
    tenant: TenantId,
    id: u128,
    expected: Option<u64>,
    author: &Author,
) -> Result<bool> {
    let (schema, author) = (database.schema().to_owned(), author.clone());
    // An id that is not there must not change the revision.
    let was_there = |deleted: &bool| *deleted;
    database
        .write_if(D::DELETE, Scope::Tenant(tenant), was_there, move |connection| {
            let (schema, author) = (schema.clone(), author.clone());
            Box::pin(async move {
                let revision = bump_revision(connection, &schema, tenant).await?;
                let sql =
                    format!("delete from {schema}.{} where {} returning record", D::TABLE, is_it::<D>());
                let rows = bound(Arc::from(sql), &key::<D>(tenant, id)).fetch_all(&mut *connection).await?;
                let Some(row) = rows.first() else { return Ok(false) };
                let gone: D = decode(Columns::new(row).jsonb()?, D::WHAT)?;
                // A refusal rolls the deletion back.
                if let Some(version) = expected {
                    check_mode::<D>(PutMode::Replace { version }, gone.version())?;
                }
                changes::log(connection, &schema, tenant, revision, &author, Some(&gone), None).await?;
                Ok(true)
            })
        })
        .await
}

pub(super) async fn config(
    database: &Arc<Database>,
    tenant: TenantId,
    now: Timestamp,
) -> Result<AlertingConfig> {
    let schema = database.schema().to_owned();
    database
        .read("alert_store.config", Scope::Tenant(tenant), move |connection| {
            let schema = schema.clone();
            Box::pin(async move {
                let sql = format!("select revision from {schema}.revisions where tenant_id = $1");
                let params = [Param::uuid(tenant.as_u128())];
                let rows = bound(Arc::from(sql), &params).fetch_all(&mut *connection).await?;
                let revision = match rows.first() {
                    Some(row) => Columns::new(row).int8()?.cast_unsigned(),
                    None => 0,
                };
                let rules = all(connection, &schema, tenant).await?;
                let channels = all(connection, &schema, tenant).await?;
                let mut silences: Vec<Silence> = all(connection, &schema, tenant).await?;
                silences.retain(|silence| silence.ends_at > now);
                let routing = all::<Routing>(connection, &schema, tenant).await?.into_iter().next();
                Ok(AlertingConfig {
                    revision,
                    rules,
                    channels,
                    silences,
                    routing: routing.unwrap_or_default(),
                })
            })
        })
        .await
}

/// Moves the revision of a tenant's configuration on and returns it.
pub(super) async fn bump_revision(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
) -> Result<u64, Fault> {
    let sql = format!(
        "insert into {schema}.revisions as held (tenant_id, partition, revision) values ($1, $2, 1) \
         on conflict (tenant_id) do update set revision = held.revision + 1 returning revision"
    );
    let params = [Param::uuid(tenant.as_u128()), partition_number(Partition::of(tenant))];
    let row = bound(Arc::from(sql), &params).fetch_one(connection).await?;
    Ok(Columns::new(&row).int8()?.cast_unsigned())
}
