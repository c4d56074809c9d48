//! Connections, transactions and what every statement of this crate goes through.

mod single;
mod statement;
mod transaction;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

pub(crate) use self::statement::{FOR_ALL_TENANTS, bound, bound_once, first_param, query};
pub(crate) use self::transaction::{Scope, Work, Worker};
use crate::config::PostgresConfig;
use crate::connection::Suspicion;
use crate::error::{Fault, Phase, from_sqlx};

/// How often work is done again when two transactions got in each other's way.
const CONFLICT_ATTEMPTS: u32 = 4;

/// Pause before work is done again, multiplied by the number of attempts.
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

/// A connection that was idle for longer is asked whether it still lives before it carries a statement that commits by itself.
const FRESH: Duration = Duration::from_secs(1);

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

    fn failed(&self, fault: Fault, phase: Phase) -> (Fault, Phase) {
        if fault.is_broken_connection() {
            self.suspicion.broke(self.env.monotonic());
        }
        (fault, phase)
    }
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
