//! The schema and how it is brought up to date.
//!
//! All migrations that are due run in one transaction under an advisory lock: of processes that start at the same time one
//! migrates and the others wait, and one that is killed leaves nothing behind.

use std::sync::Arc;

use pulsestream_core::error::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::config::PostgresConfig;
use crate::database::{Database, Scope, bound, bound_once, query};
use crate::error::Fault;
use crate::wire::{Columns, Param};

const OPERATION: &str = "postgres.migrate";

/// One step of the schema. A step that was released is never edited: its checksum is stored where it ran.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "events", sql: include_str!("../migrations/0001_events.sql") },
    Migration { version: 2, name: "identity", sql: include_str!("../migrations/0002_identity.sql") },
    Migration { version: 3, name: "leases", sql: include_str!("../migrations/0003_leases.sql") },
    Migration { version: 4, name: "alerting", sql: include_str!("../migrations/0004_alerting.sql") },
    Migration {
        version: 5,
        name: "config_changes",
        sql: include_str!("../migrations/0005_config_changes.sql"),
    },
    Migration { version: 6, name: "documents", sql: include_str!("../migrations/0006_documents.sql") },
    Migration { version: 7, name: "text_search", sql: include_str!("../migrations/0007_text_search.sql") },
];

/// What the application's role may do, in the order it is granted.
const GRANTS: &[&str] = &[
    "grant usage on schema {schema} to {role}",
    "grant select on {schema}.migrations to {role}",
    "grant select, insert, delete on {schema}.event_keys, {schema}.events to {role}",
    "grant usage on sequence {schema}.append_calls to {role}",
    "grant execute on function {schema}.ensure_partition(timestamptz, timestamptz) to {role}",
    "grant execute on function {schema}.drop_empty_partitions(timestamptz) to {role}",
    "grant select, insert, update, delete on {schema}.tenants, {schema}.users, {schema}.sessions, {schema}.api_keys, \
     {schema}.audit_log, {schema}.keyring, {schema}.leases to {role}",
    "grant select, insert, update, delete on {schema}.rules, {schema}.channels, {schema}.silences, {schema}.routing, \
     {schema}.revisions, {schema}.alerts, {schema}.alert_timeline, {schema}.deliveries, {schema}.delivery_attempts, \
     {schema}.checkpoints to {role}",
    "grant select, insert, delete on {schema}.config_changes to {role}",
    "grant select, insert, update, delete on {schema}.documents to {role}",
    "grant execute on function {schema}.text_candidates(text[], timestamptz, timestamptz, integer) to {role}",
];

/// Brings the schema up to date, or refuses when it may not or cannot.
pub(crate) async fn migrate(database: &Arc<Database>) -> Result<()> {
    let config = database.config().clone();
    let found = database
        .read(OPERATION, Scope::Processor, {
            let config = config.clone();
            move |connection| {
                let config = config.clone();
                Box::pin(async move { applied(connection, &config).await })
            }
        })
        .await?;
    let due = compare(&found, &config)?;
    if due.is_empty() && (!config.migrate || is_granted(database).await?) {
        return Ok(());
    }
    if !config.migrate {
        return Err(Error::new(
            ErrorKind::Unsupported,
            OPERATION,
            "the schema is older than this program; connect once as its owner with `migrate` on",
        )
        .with_context("schema", &config.schema)
        .with_context("found", found.len())
        .with_context("needed", MIGRATIONS.len()));
    }
    database
        .write(OPERATION, Scope::Processor, move |connection| {
            let config = config.clone();
            Box::pin(async move { run_due(connection, &config).await })
        })
        .await
}

/// Makes the index for text search when it is missing and may be made, and returns whether there is one.
pub(crate) async fn ensure_text_index(database: &Arc<Database>) -> Result<bool> {
    let schema = database.schema().to_owned();
    let params = [Param::text(&format!("{schema}.events_text"))];
    let is_there = database
        .read(OPERATION, Scope::Processor, move |connection| {
            let params = params.clone();
            Box::pin(async move {
                let sql = Arc::from("select to_regclass($1) is not null");
                let row = bound(sql, &params).fetch_one(connection).await?;
                Ok(Columns::new(&row).bool()?)
            })
        })
        .await?;
    let config = database.config();
    if is_there || !config.text_index || !config.migrate {
        return Ok(is_there);
    }
    let sql: Arc<str> = Arc::from(format!("select {schema}.ensure_text_index()"));
    let made = database
        .write(OPERATION, Scope::Processor, move |connection| {
            let sql = sql.clone();
            Box::pin(async move {
                be_patient(connection).await?;
                let row = bound(sql, &[]).fetch_one(connection).await?;
                Ok(Columns::new(&row).bool()?)
            })
        })
        .await;
    let problem = match made {
        Ok(true) => return Ok(true),
        Ok(false) => "the extension pg_trgm is missing, and this role cannot create it".to_owned(),
        Err(error) if error.kind() == ErrorKind::Forbidden => {
            "only the owner of the tables can make it".to_owned()
        }
        Err(error) => return Err(error),
    };
    tracing::warn!(schema, problem, "no index for text search: it reads the events of its range");
    Ok(false)
}

/// Whether the application's role has its privileges, or there is no such role.
async fn is_granted(database: &Arc<Database>) -> Result<bool> {
    let Some(role) = database.config().app_role.clone() else { return Ok(true) };
    let schema = database.schema().to_owned();
    database
        .read(OPERATION, Scope::Processor, move |connection| {
            let params = [Param::text(role.as_str()), Param::text(&schema)];
            Box::pin(async move {
                let sql = Arc::from("select has_schema_privilege($1, $2, 'usage')");
                let row = bound(sql, &params).fetch_one(connection).await?;
                Ok(Columns::new(&row).bool()?)
            })
        })
        .await
}

struct Applied {
    version: i32,
    checksum: String,
}

/// Reads which migrations ran; none when the schema does not exist.
async fn applied(connection: &mut PgConnection, config: &PostgresConfig) -> Result<Vec<Applied>, Fault> {
    let schema = &config.schema;
    let table = query("select to_regclass($1) is not null")
        .bind(Param::text(&format!("{schema}.migrations")))
        .fetch_one(&mut *connection)
        .await?;
    if !Columns::new(&table).bool()? {
        return Ok(Vec::new());
    }
    let sql = format!("select version, checksum from {schema}.migrations order by version");
    let rows = bound_once(sql, &[]).fetch_all(connection).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::new(row);
        found.push(Applied { version: columns.int4()?, checksum: columns.str()?.to_owned() });
    }
    Ok(found)
}

/// Returns what has to run, and refuses a schema that is newer than this program or that another program made.
fn compare(found: &[Applied], config: &PostgresConfig) -> Result<&'static [Migration]> {
    for (index, applied) in found.iter().enumerate() {
        let Some(known) = MIGRATIONS.get(index).filter(|known| known.version == applied.version) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                OPERATION,
                "the schema is newer than this program; update the program",
            )
            .with_context("schema", &config.schema)
            .with_context("found", applied.version)
            .with_context("known", MIGRATIONS.len()));
        };
        if applied.checksum != checksum(known.sql) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                OPERATION,
                "the schema was made by another build: the checksum of a migration differs",
            )
            .with_context("schema", &config.schema)
            .with_context("migration", known.name));
        }
    }
    Ok(MIGRATIONS.get(found.len()..).unwrap_or_default())
}

async fn run_due(connection: &mut PgConnection, config: &PostgresConfig) -> Result<(), Fault> {
    let schema = &config.schema;
    be_patient(connection).await?;
    query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(Param::text(&format!("{schema}.migrations")))
        .execute(&mut *connection)
        .await?;
    let exists = query("select to_regnamespace($1) is not null, to_regclass($2) is not null")
        .bind(Param::text(schema.as_str()))
        .bind(Param::text(&format!("{schema}.migrations")))
        .fetch_one(&mut *connection)
        .await?;
    let mut exists = Columns::new(&exists);
    // A role that owns a schema need not be allowed to create one.
    if !exists.bool()? {
        connection.execute(AssertSqlSafe(format!("create schema {schema}"))).await?;
    }
    if !exists.bool()? {
        let table = format!(
            "create table {schema}.migrations (
                 version integer primary key,
                 name text not null,
                 checksum text not null,
                 applied_at timestamptz not null default now()
             )"
        );
        connection.execute(AssertSqlSafe(table)).await?;
    }
    // Read again, now that nobody else can be at it.
    let found = applied(connection, config).await?;
    for migration in compare(&found, config)? {
        connection.execute(AssertSqlSafe(migration.sql.replace("{schema}", schema.as_str()))).await?;
        let sql = format!("insert into {schema}.migrations (version, name, checksum) values ($1, $2, $3)");
        let params = [
            Param::int4(migration.version),
            Param::text(migration.name),
            Param::text(&checksum(migration.sql)),
        ];
        bound_once(sql, &params).execute(&mut *connection).await?;
        tracing::info!(schema = schema.as_str(), migration = migration.name, "migrated");
    }
    if let Some(role) = &config.app_role {
        for grant in GRANTS {
            let sql = grant.replace("{schema}", schema.as_str()).replace("{role}", role.as_str());
            connection.execute(AssertSqlSafe(sql)).await?;
        }
    }
    Ok(())
}

/// A migration may take longer than a request, and so may waiting for the process that is at it.
async fn be_patient(connection: &mut PgConnection) -> Result<(), Fault> {
    query("select set_config('statement_timeout', '0', true), set_config('lock_timeout', '60s', true)")
        .execute(connection)
        .await?;
    Ok(())
}

fn checksum(sql: &str) -> String {
    Sha256::digest(sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_and_foreign_schemas_are_refused() {
        let config = PostgresConfig::default();
        let ours =
            |migration: &Migration| Applied { version: migration.version, checksum: checksum(migration.sql) };
        let mut found: Vec<_> = MIGRATIONS.iter().map(ours).collect();
        assert!(compare(&found, &config).unwrap().is_empty());
        found.push(Applied { version: 9_999, checksum: String::new() });
        assert!(compare(&found, &config).err().unwrap().message().contains("newer"));
        found.pop();
        found[0].checksum.clear();
        assert!(compare(&found, &config).err().unwrap().message().contains("another build"));
        assert_eq!(compare(&[], &config).unwrap().len(), MIGRATIONS.len());
    }

    #[test]
    fn versions_count_from_one() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version), Ok(index + 1));
        }
    }
}
