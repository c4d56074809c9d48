//! Connections, transactions and what every statement of this crate goes through.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Postgres};

use crate::config::PostgresConfig;
use crate::connection::{Lease, Suspicion};
use crate::error::{Fault, Phase, from_sqlx};
use crate::wire::Param;

/// How often work is done again when two transactions got in each other's way.
const CONFLICT_ATTEMPTS: u32 = 4;

/// Pause before work is done again, multiplied by the number of attempts.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// A connection that was idle for longer is asked whether it still lives before it carries a statement that commits by itself.
const FRESH: Duration = Duration::from_secs(1);

/// Work inside a transaction.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'c>>;

/// Whose rows a transaction may touch, as row-level security sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of one tenant.
    Tenant(TenantId),
    /// Those of all tenants: background work that belongs to no request.
    Processor,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One snapshot for all statements.
    Read,
    Write,
}

/// Whose the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Us,
    Host,
}

/// The connections to one server, and the schema in it.
pub(crate) struct Database {
    pool: PgPool,
    owner: Owner,
    /// How to connect beside the pool, to the server itself; `None` when only the host knows.
    direct: Option<PgConnectOptions>,
    config: PostgresConfig,
    env: Env,
    closed: AtomicBool,
    suspicion: Arc<Suspicion>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("schema", &self.config.schema).finish_non_exhaustive()
    }
}

impl Database {
    /// Prepares connections to the server at `url`; the first statement connects.
    pub(crate) fn with_url(url: &str, config: PostgresConfig, env: Env) -> Result<Self> {
        config.validate()?;
        let direct = direct_options(&config)?;
        let is_pooled = direct.is_some();
        let mut options = connect_options(url)?;
        if is_pooled {
            options = options.statement_cache_capacity(0);
        }
        let suspicion = Arc::new(Suspicion::default());
        let timeouts = (!is_pooled).then(|| session_timeouts(&config));
        let (asked, clock) = (suspicion.clone(), env.clone());
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let timeouts = timeouts.clone();
                Box::pin(async move {
                    if let Some(timeouts) = timeouts {
                        connection.execute(AssertSqlSafe(timeouts)).await?;
                    }
                    Ok(())
                })
            })
            .before_acquire(move |connection, meta| {
                let doubtful = meta.idle_for > FRESH || asked.is_older(clock.monotonic(), meta.age);
                Box::pin(async move { Ok(!doubtful || connection.ping().await.is_ok()) })
            })
            .connect_lazy_with(options.clone());
        let (owner, direct) = (Owner::Us, Some(direct.unwrap_or(options)));
        Ok(Self { pool, owner, direct, config, env, closed: AtomicBool::new(false), suspicion })
    }

    /// Uses a pool of the host's own; `close` leaves it open.
    pub(crate) fn with_pool(pool: PgPool, config: PostgresConfig, env: Env) -> Result<Self> {
        config.validate()?;
        let direct = direct_options(&config)?;
        let (closed, suspicion) = (AtomicBool::new(false), Arc::default());
        Ok(Self { pool, owner: Owner::Host, direct, config, env, closed, suspicion })
    }

    pub(crate) fn config(&self) -> &PostgresConfig {
        &self.config
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn schema(&self) -> &str {
        self.config.schema.as_str()
    }

    /// Returns a pool for connections that are held for long, so that they do not take one from the others.
    pub(crate) fn pool_for_listening(&self) -> PgPool {
        match &self.direct {
            None => self.pool.clone(),
            Some(options) => PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(self.config.acquire_timeout)
                .connect_lazy_with(options.clone()),
        }
    }

    /// Whether a session stays ours from one transaction to the next. Behind a pooler it does not, and a connection of the host's
    /// own may come with a transaction that the host left open, so that a statement would not commit by itself.
    pub(crate) fn has_own_sessions(&self) -> bool {
        self.owner == Owner::Us && !self.is_pooled()
    }

    /// Whether each transaction may run in another session.
    pub(crate) fn is_pooled(&self) -> bool {
        self.config.direct_url.is_some()
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn ensure_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, operation, "the store was closed"));
        }
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if self.owner == Owner::Us {
            self.pool.close().await;
        }
    }

    /// Reads from one snapshot.
    pub(crate) async fn read<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.transact(operation, scope, Mode::Read, |_| true, work).await
    }

    /// Changes rows, all or none.
    pub(crate) async fn write<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.transact(operation, scope, Mode::Write, |_| true, work).await
    }

    /// As [`write`](Self::write), but rolls back when `keep` says no to what the work returned.
    pub(crate) async fn write_if<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        keep: fn(&T) -> bool,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.transact(operation, scope, Mode::Write, keep, work).await
    }

    /// Runs the transaction in a task of its own: whoever drops the returned future does not stop it halfway, because
    /// sqlx 0.9.0 can put a connection back into its pool with an open transaction when `begin` is cancelled.
    async fn transact<T, F>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        mode: Mode,
        keep: fn(&T) -> bool,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.ensure_open(operation)?;
        let this = self.clone();
        in_task(operation, async move {
            let mut attempt = 1;
            loop {
                match this.attempt(scope, mode, keep, &work).await {
                    Ok(value) => return Ok(value),
                    Err((fault, _)) if fault.is_conflict() && attempt < CONFLICT_ATTEMPTS => {
                        tokio::time::sleep(CONFLICT_PAUSE * attempt).await;
                        attempt += 1;
                    }
                    Err((fault, phase)) => return Err(fault.into_error(operation, phase)),
                }
            }
        })
        .await
    }

    async fn attempt<T, F>(
        &self,
        scope: Scope,
        mode: Mode,
        keep: fn(&T) -> bool,
        work: &F,
    ) -> Result<T, (Fault, Phase)>
    where
        F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T>,
    {
        let before = |error: sqlx::Error| (Fault::Sql(error), Phase::BeforeCommit);
        let mut lease = self.begin(mode).await.map_err(before)?;
        let result = async {
            let connection = lease.connection()?;
            self.enter(connection, scope).await?;
            work(connection).await
        }
        .await;
        match result {
            Ok(value) => {
                let connection = lease.connection().map_err(before)?;
                let end = if keep(&value) { "commit" } else { "rollback" };
                match connection.execute(end).await {
                    Ok(_) => {
                        lease.give_back();
                        Ok(value)
                    }
                    Err(error) => Err(self.failed(Fault::Sql(error), Phase::Commit)),
                }
            }
            Err(fault) => {
                if !fault.is_broken_connection()
                    && let Ok(connection) = lease.connection()
                    && connection.execute("rollback").await.is_ok()
                {
                    lease.give_back();
                }
                Err(self.failed(fault, Phase::BeforeCommit))
            }
        }
    }

    /// Takes a connection and opens a transaction on it, passing over connections that died in the pool.
    async fn begin(&self, mode: Mode) -> Result<Lease, sqlx::Error> {
        // The client library names its prepared statements, and others that had the session before used the same names.
        let statement = match (mode, self.is_pooled()) {
            (Mode::Read, false) => "begin isolation level repeatable read, read only",
            (Mode::Write, false) => "begin isolation level read committed, read write",
            (Mode::Read, true) => "begin isolation level repeatable read, read only; deallocate all",
            (Mode::Write, true) => "begin isolation level read committed, read write; deallocate all",
        };
        let mut dead = 0;
        loop {
            let mut lease = Lease::new(self.pool.acquire().await?);
            match lease.connection()?.execute(statement).await {
                Ok(_) => return Ok(lease),
                // Nothing was done on it yet, so another connection may do it.
                Err(error) if dead < self.config.max_connections => {
                    let fault = Fault::Sql(error);
                    if !fault.is_broken_connection() {
                        return Err(into_sqlx(fault));
                    }
                    self.suspicion.broke(self.env.monotonic());
                    dead += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets what holds until the transaction ends. Never `SET` without `LOCAL`: it would pass to whoever gets the connection next.
    async fn enter(&self, connection: &mut PgConnection, scope: Scope) -> Result<(), Fault> {
        let (tenant, processor) = match scope {
            Scope::Tenant(tenant) => (tenant.to_string(), ""),
            Scope::Processor => (String::new(), "on"),
        };
        let settings = if self.has_own_sessions() {
            query("select set_config('pulsestream.tenant', $1, true), set_config('pulsestream.processor', $2, true)")
                .bind(Param::text(&tenant))
                .bind(Param::text(processor))
        } else {
            query(
                "select set_config('pulsestream.tenant', $1, true), set_config('pulsestream.processor', $2, true), \
                 set_config('statement_timeout', $3, true), set_config('lock_timeout', $4, true), \
                 set_config('idle_in_transaction_session_timeout', $3, true)",
            )
            .bind(Param::text(&tenant))
            .bind(Param::text(processor))
            .bind(Param::text(&self.config.statement_timeout.as_millis().to_string()))
            .bind(Param::text(&self.config.lock_timeout.as_millis().to_string()))
        };
        settings.execute(connection).await?;
        Ok(())
    }

    /// Runs one statement that commits by itself: one round trip instead of four. `sql` must set what row-level security
    /// needs, and everything it does must be in the statement.
    pub(crate) async fn statement(
        self: &Arc<Self>,
        operation: &'static str,
        sql: Arc<str>,
        params: Vec<Param>,
    ) -> Result<Vec<PgRow>> {
        self.ensure_open(operation)?;
        let this = self.clone();
        in_task(operation, async move {
            let mut attempt = 1;
            loop {
                let before = |error| from_sqlx(operation, Phase::BeforeCommit, error);
                let mut lease = Lease::new(this.pool.acquire().await.map_err(before)?);
                let connection = lease.connection().map_err(before)?;
                // To the end of the answer: the server commits after it sent the rows, so whoever stops reading at the
                // first row has not learned whether they are stored.
                match bound(sql.clone(), &params).fetch_all(connection).await {
                    Ok(rows) => {
                        lease.give_back();
                        return Ok(rows);
                    }
                    Err(error) => {
                        let fault = Fault::Sql(error);
                        if !fault.is_broken_connection() {
                            lease.give_back();
                        }
                        if fault.is_conflict() && attempt < CONFLICT_ATTEMPTS {
                            tokio::time::sleep(CONFLICT_PAUSE * attempt).await;
                            attempt += 1;
                            continue;
                        }
                        let (fault, phase) = this.failed(fault, Phase::Commit);
                        return Err(fault.into_error(operation, phase));
                    }
                }
            }
        })
        .await
    }

    fn failed(&self, fault: Fault, phase: Phase) -> (Fault, Phase) {
        if fault.is_broken_connection() {
            self.suspicion.broke(self.env.monotonic());
        }
        (fault, phase)
    }

    /// Runs `work` on a connection that is not one of the pool, so that an exhausted pool does not look like a dead server.
    pub(crate) async fn beside_the_pool<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, T> + Send + 'static,
    {
        self.ensure_open(operation)?;
        let before = move |error| from_sqlx(operation, Phase::BeforeCommit, error);
        let (options, pool) = (self.direct.clone(), self.pool.clone());
        let limit = self.config.acquire_timeout;
        in_task(operation, async move {
            let Some(options) = options else {
                let mut lease = Lease::new(pool.acquire().await.map_err(before)?);
                let value = work(lease.connection().map_err(before)?)
                    .await
                    .map_err(|fault| fault.into_error(operation, Phase::BeforeCommit))?;
                lease.give_back();
                return Ok(value);
            };
            let connecting = PgConnection::connect_with(&options);
            let mut connection = tokio::time::timeout(limit, connecting)
                .await
                .map_err(|_| before(sqlx::Error::PoolTimedOut))?
                .map_err(before)?;
            let patience = format!("set statement_timeout = {}", limit.as_millis());
            connection.execute(AssertSqlSafe(patience)).await.map_err(before)?;
            let value = work(&mut connection)
                .await
                .map_err(|fault| fault.into_error(operation, Phase::BeforeCommit))?;
            connection.close().await.map_err(before)?;
            Ok(value)
        })
        .await
    }
}

/// A statement with the text of this program.
pub(crate) fn query(sql: &'static str) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(sql)
}

/// A statement whose text was put together by this crate from fixed parts and an [`Identifier`](crate::Identifier).
pub(crate) fn bound(
    sql: Arc<str>,
    params: &[Param],
) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    params.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, param| query.bind(param.clone()))
}

/// As [`bound`], for a text that depends on the question and would push others out of the cache of prepared statements.
pub(crate) fn bound_once(
    sql: String,
    params: &[Param],
) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    bound(Arc::from(sql), params).persistent(false)
}

fn connect_options(url: &str) -> Result<PgConnectOptions> {
    Ok(url
        .parse::<PgConnectOptions>()
        .map_err(|error| from_sqlx("postgres.connect", Phase::BeforeCommit, error))?
        .application_name("pulsestream")
        // Poolers refuse it, and the default of the server is as exact.
        .extra_float_digits(None)
        .disable_statement_logging())
}

fn direct_options(config: &PostgresConfig) -> Result<Option<PgConnectOptions>> {
    config.direct_url.as_ref().map(|url| connect_options(url.expose())).transpose()
}

fn session_timeouts(config: &PostgresConfig) -> String {
    format!(
        "set statement_timeout = {}; set lock_timeout = {}; set idle_in_transaction_session_timeout = {}",
        config.statement_timeout.as_millis(),
        config.lock_timeout.as_millis(),
        config.statement_timeout.as_millis(),
    )
}

fn into_sqlx(fault: Fault) -> sqlx::Error {
    match fault {
        Fault::Sql(error) => error,
        Fault::Typed(error) => sqlx::Error::Decode(Box::new(error)),
    }
}

/// Runs a future to its end, also when the caller goes away.
async fn in_task<T, F>(operation: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::Internal, operation, "the database task ended early")
                .with_source(error))
        }
    }
}
