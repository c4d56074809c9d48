//! Transactions: opened for one tenant or for a processor, done again when two got in each other's way.

use std::fmt::{Display, Write};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::{CONFLICT_ATTEMPTS, CONFLICT_PAUSE, Database, in_task};
use crate::connection::Lease;
use crate::error::{Fault, Phase};

/// Work inside a transaction.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'c>>;

/// What does work inside a transaction, and does it again when the transaction starts again.
pub(crate) trait Worker<T>:
    for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static
{
}

impl<T, F> Worker<T> for F where F: for<'c> Fn(&'c mut PgConnection) -> Work<'c, T> + Send + Sync + 'static {}

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

impl Database {
    /// Reads from one snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        work: impl Worker<T>,
    ) -> Result<T> {
        self.transact(operation, scope, Mode::Read, |_| true, work).await
    }

    /// Changes rows, all or none.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        work: impl Worker<T>,
    ) -> Result<T> {
        self.transact(operation, scope, Mode::Write, |_| true, work).await
    }

    /// As [`write`](Self::write), but rolls back when `keep` says no to what the work returned.
    pub(crate) async fn write_if<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        keep: fn(&T) -> bool,
        work: impl Worker<T>,
    ) -> Result<T> {
        self.transact(operation, scope, Mode::Write, keep, work).await
    }

    /// Runs the transaction in a task of its own: whoever drops the returned future does not stop it halfway, because
    /// sqlx 0.9.0 can put a connection back into its pool with an open transaction when `begin` is cancelled.
    async fn transact<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        scope: Scope,
        mode: Mode,
        keep: fn(&T) -> bool,
        work: impl Worker<T>,
    ) -> Result<T> {
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

    async fn attempt<T>(
        &self,
        scope: Scope,
        mode: Mode,
        keep: fn(&T) -> bool,
        work: &impl Worker<T>,
    ) -> Result<T, (Fault, Phase)> {
        let before = |error: sqlx::Error| (Fault::Sql(error), Phase::BeforeCommit);
        let mut lease = self.begin(scope, mode).await.map_err(before)?;
        let result = work(lease.connection().map_err(before)?).await;
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
    async fn begin(&self, scope: Scope, mode: Mode) -> Result<Lease, sqlx::Error> {
        let opening = self.opening(scope, mode);
        let mut dead = 0;
        loop {
            let mut lease = Lease::new(self.pool.acquire().await?);
            match lease.connection()?.execute(AssertSqlSafe(opening.as_str())).await {
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

    /// Returns what opens a transaction and sets what holds until it ends, in one message to the server: a transaction costs three
    /// round trips and not four. Never `SET` without `LOCAL`: it would pass to whoever gets the connection next. No text of a user
    /// is part of it: a tenant is a UUID.
    fn opening(&self, scope: Scope, mode: Mode) -> String {
        let mut sql = String::from(match mode {
            Mode::Read => "begin isolation level repeatable read, read only",
            Mode::Write => "begin isolation level read committed, read write",
        });
        if self.is_pooled() {
            // The client library names its prepared statements, and others that had the session before used the same names.
            sql.push_str("; deallocate all");
        }
        let mut set = |name: &str, value: &dyn Display| {
            // Writing to a string cannot fail.
            let _ = write!(sql, "; set local {name} = '{value}'");
        };
        match scope {
            Scope::Tenant(tenant) => {
                set("pulsestream.tenant", &tenant);
                set("pulsestream.processor", &"");
            }
            // It sees every tenant, so whose it would be otherwise does not matter.
            Scope::Processor => set("pulsestream.processor", &"on"),
        }
        if !self.has_own_sessions() {
            set("statement_timeout", &self.config.statement_timeout.as_millis());
            set("lock_timeout", &self.config.lock_timeout.as_millis());
            set("idle_in_transaction_session_timeout", &self.config.statement_timeout.as_millis());
        }
        sql
    }
}

fn into_sqlx(fault: Fault) -> sqlx::Error {
    match fault {
        Fault::Sql(error) => error,
        Fault::Typed(error) => sqlx::Error::Decode(Box::new(error)),
    }
}
