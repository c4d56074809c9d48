//! Connecting: the schema, the role and the durability in force.

use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::ports::event_store::{Durability, PARTITIONS};
use sqlx::{Executor, PgConnection};

use crate::alert_store::PostgresAlertStore;
use crate::config::{Identifier, PostgresConfig};
use crate::connection::Lease;
use crate::coordinator::PostgresCoordinator;
use crate::database::{Database, Scope, bound_once, query};
use crate::document_store::PostgresDocumentStore;
use crate::error::{Phase, from_sqlx};
use crate::event_store::PostgresEventStore;
use crate::identity_store::PostgresIdentityStore;
use crate::listen::Arrivals;
use crate::live_bus::PostgresLiveBus;
use crate::migrate::{ensure_text_index, migrate};
use crate::outbox::PostgresOutbox;
use crate::wire::{Columns, Param};

const OPERATION: &str = "postgres.connect";

/// Oldest server version, as `server_version_num` counts.
const MIN_SERVER_VERSION: i32 = 150_000;

/// A connected PostgreSQL with an up-to-date schema, from which the stores are made. A clone is a reference count.
#[derive(Debug, Clone)]
pub struct Postgres {
    database: Arc<Database>,
    /// The same database over connections that are kept for accounts and leases.
    reserved: Arc<Database>,
    arrivals: Arc<Arrivals>,
    durability: Durability,
    has_text_index: bool,
}

impl Postgres {
    /// Connects to the server at `url` (`postgres://user:password@host:port/database?sslmode=require`).
    ///
    /// # Errors
    /// `Invalid` for a wrong URL or setting, `Unavailable` when the server does not answer, `Unsupported` for a server before
    /// version 15, for a schema that is newer than this program, and for a pooler of transactions without `direct_url`, `Forbidden` when `require_rls` is set and the role
    /// is not subject to row-level security.
    pub async fn connect(url: &str, config: PostgresConfig, env: Env) -> Result<Self> {
        let few = PostgresConfig { max_connections: config.reserved_connections, ..config.clone() };
        let reserved = Arc::new(Database::with_url(url, few, env.clone())?);
        Self::open(Arc::new(Database::with_url(url, config, env)?), reserved).await
    }

    /// Uses the connections of a pool that the host has already; `close` leaves it open. One connection is held to listen.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn with_pool(pool: sqlx::PgPool, config: PostgresConfig, env: Env) -> Result<Self> {
        let database = Arc::new(Database::with_pool(pool, config, env)?);
        Self::open(database.clone(), database).await
    }

    async fn open(database: Arc<Database>, reserved: Arc<Database>) -> Result<Self> {
        check_sessions(&database).await?;
        check_version(&database).await?;
        migrate(&database).await?;
        let has_text_index = ensure_text_index(&database).await?;
        check_role(&database).await?;
        check_log(&database).await?;
        let durability = durability(&database).await?;
        if durability < Durability::Durable {
            tracing::warn!(
                schema = database.schema(),
                "the server acknowledges before it has written to disk"
            );
        }
        let arrivals = Arrivals::start(&database);
        Ok(Self { database, reserved, arrivals, durability, has_text_index })
    }

    /// Returns the event store.
    pub async fn event_store(&self) -> Result<Arc<PostgresEventStore>> {
        let (database, arrivals) = (self.database.clone(), self.arrivals.clone());
        PostgresEventStore::open(database, arrivals, self.durability, self.has_text_index).await
    }

    /// Returns the identity store.
    pub fn identity_store(&self) -> Arc<PostgresIdentityStore> {
        Arc::new(PostgresIdentityStore::new(self.reserved.clone()))
    }

    /// Returns the alert store.
    pub fn alert_store(&self) -> Arc<PostgresAlertStore> {
        Arc::new(PostgresAlertStore::new(self.database.clone()))
    }

    /// Returns the outbox.
    pub fn outbox(&self) -> Arc<PostgresOutbox> {
        Arc::new(PostgresOutbox::new(self.database.clone()))
    }

    /// Returns a live bus whose subscribers may fall behind by `ring_messages` messages. It holds one connection to listen.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness for its name.
    pub async fn live_bus(&self, ring_messages: usize) -> Result<Arc<PostgresLiveBus>> {
        PostgresLiveBus::open(self.database.clone(), ring_messages).await
    }

    /// Returns the document store.
    pub fn document_store(&self) -> Arc<PostgresDocumentStore> {
        Arc::new(PostgresDocumentStore::new(self.database.clone()))
    }

    /// Returns the coordinator.
    pub fn coordinator(&self) -> Arc<PostgresCoordinator> {
        Arc::new(PostgresCoordinator::new(self.reserved.clone()))
    }

    /// Returns the schema that holds the tables.
    pub fn schema(&self) -> &Identifier {
        &self.database.config().schema
    }

    /// Returns what an acknowledgement survives: read from `synchronous_commit`, `fsync` and `synchronous_standby_names`.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Closes every store that was made from it. Closing twice is fine.
    pub async fn close(&self) {
        self.arrivals.close();
        self.database.close().await;
        self.reserved.close().await;
    }
}

/// Refuses a pooler that gives each transaction another session, when nobody said that there is one: prepared statements and
/// settings would be lost, and found by others. While one connection is idle and another is within a transaction, both have the
/// same session then.
async fn check_sessions(database: &Arc<Database>) -> Result<()> {
    if !database.has_own_sessions() || database.config().max_connections < 2 {
        return Ok(());
    }
    let (idle, busy) =
        sessions_of_two(database).await.map_err(|error| from_sqlx(OPERATION, Phase::BeforeCommit, error))?;
    if idle == busy {
        return Err(Error::new(
            ErrorKind::Unsupported,
            OPERATION,
            "the URL leads to a pooler that gives each transaction another session; set `direct_url` to the server itself, \
             in a URL `direct=postgres://...`",
        ));
    }
    Ok(())
}

async fn sessions_of_two(database: &Arc<Database>) -> Result<(String, String), sqlx::Error> {
    async fn session(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
        let row = connection.fetch_one("select pg_backend_pid()::text").await?;
        Ok(Columns::new(&row).str()?.to_owned())
    }
    let mut idle = Lease::new(database.pool().acquire().await?);
    let first = session(idle.connection()?).await?;
    let mut busy = Lease::new(database.pool().acquire().await?);
    busy.connection()?.execute("begin").await?;
    let second = session(busy.connection()?).await?;
    busy.connection()?.execute("rollback").await?;
    idle.give_back();
    busy.give_back();
    Ok((first, second))
}

async fn check_version(database: &Arc<Database>) -> Result<()> {
    let version = database
        .read(OPERATION, Scope::Processor, |connection| {
            Box::pin(async move {
                let row = query("select current_setting('server_version_num')::integer")
                    .fetch_one(connection)
                    .await?;
                Ok(Columns::new(&row).int4()?)
            })
        })
        .await?;
    if version < MIN_SERVER_VERSION {
        return Err(Error::new(ErrorKind::Unsupported, OPERATION, "PostgreSQL 15 or newer is needed")
            .with_context("server_version_num", version));
    }
    Ok(())
}

/// Finds out whether row-level security holds for the role, and says so when it does not.
async fn check_role(database: &Arc<Database>) -> Result<()> {
    let table = format!("{}.events", database.schema());
    let (role, reason) = database
        .read(OPERATION, Scope::Processor, move |connection| {
            let table = table.clone();
            Box::pin(async move {
                let sql = "select current_user::text, rolsuper, rolbypassrls, row_security_active($1) \
                           from pg_roles where rolname = current_user";
                let row = query(sql).bind(Param::text(&table)).fetch_one(connection).await?;
                let mut columns = Columns::new(&row);
                let role = columns.str()?.to_owned();
                let (superuser, bypass, active) = (columns.bool()?, columns.bool()?, columns.bool()?);
                let reason = match (superuser, bypass, active) {
                    (true, ..) => Some("it is a superuser"),
                    (_, true, _) => Some("it has BYPASSRLS"),
                    (.., false) => Some("it owns the tables"),
                    _ => None,
                };
                Ok((role, reason))
            })
        })
        .await?;
    let Some(reason) = reason else { return Ok(()) };
    if database.config().require_rls {
        return Err(Error::new(
            ErrorKind::Forbidden,
            OPERATION,
            "row-level security has no effect for this role; migrate with `app_role` and connect as that role",
        )
        .with_context("role", role)
        .with_context("reason", reason));
    }
    tracing::warn!(
        role,
        reason,
        "row-level security has no effect for this role; tenants are kept apart by queries alone"
    );
    Ok(())
}

/// Refuses a log that was restored into another cluster, where the numbers of transactions start anew: its events would wait for
/// transactions that are far ahead, and new ones would lie behind the checkpoints.
async fn check_log(database: &Arc<Database>) -> Result<()> {
    let schema = database.schema().to_owned();
    let is_foreign = database
        .read(OPERATION, Scope::Processor, {
            let schema = schema.clone();
            move |connection| {
                // One look into the index for each partition.
                let sql = format!(
                    "select coalesce(max(newest.xid), 0) >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
                     from generate_series(0, {last}) as number cross join lateral (select max(xid) as xid \
                     from {schema}.event_keys where partition = number) as newest",
                    last = PARTITIONS - 1,
                );
                Box::pin(async move {
                    let row = bound_once(sql, &[]).fetch_one(connection).await?;
                    Ok(Columns::new(&row).bool()?)
                })
            }
        })
        .await?;
    if is_foreign {
        return Err(Error::new(
            ErrorKind::Unsupported,
            OPERATION,
            "the log comes from another cluster; as the owner, set xid to 2 in event_keys and empty checkpoints, and \
             processors read it again from the start",
        )
        .with_context("schema", schema));
    }
    Ok(())
}

async fn durability(database: &Arc<Database>) -> Result<Durability> {
    database
        .read(OPERATION, Scope::Processor, |connection| {
            Box::pin(async move {
                let sql = "select current_setting('synchronous_commit'), current_setting('fsync'), \
                           current_setting('synchronous_standby_names')";
                let row = bound_once(sql.to_owned(), &[]).fetch_one(connection).await?;
                let mut columns = Columns::new(&row);
                Ok(durability_of(columns.str()?, columns.str()?, columns.str()?))
            })
        })
        .await
}

/// PostgreSQL manual, section 20.5.1: `local` and `remote_write` flush here, `on` and `remote_apply` also on the standbys.
pub(crate) fn durability_of(synchronous_commit: &str, fsync: &str, standbys: &str) -> Durability {
    match synchronous_commit {
        "off" => Durability::Written,
        _ if fsync != "on" => Durability::Written,
        "on" | "remote_apply" if !standbys.trim().is_empty() => Durability::Replicated,
        _ => Durability::Durable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_what_the_server_gives() {
        assert_eq!(durability_of("on", "on", ""), Durability::Durable);
        assert_eq!(durability_of("off", "on", "a"), Durability::Written);
        assert_eq!(durability_of("on", "off", ""), Durability::Written);
        assert_eq!(durability_of("on", "on", "a"), Durability::Replicated);
        assert_eq!(durability_of("local", "on", "a"), Durability::Durable);
    }
}
