//! Work that needs no transaction of ours.

use std::sync::Arc;

use pulsestream_core::error::Result;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{CONFLICT_ATTEMPTS, CONFLICT_PAUSE, Database, Scope, Work, Worker, bound, in_task};
use crate::connection::Lease;
use crate::error::{Fault, Phase, from_sqlx};
use crate::wire::Param;

impl Database {
    /// Runs one statement that commits by itself: one round trip instead of four. `sql` must set what row-level security
    /// needs, and everything it does must be in the statement.
    pub(crate) async fn statement(
        self: &Arc<Self>,
        operation: &'static str,
        sql: Arc<str>,
        params: Vec<Param>,
    ) -> Result<Vec<PgRow>> {
        self.alone(operation, sql, params, Phase::Commit).await
    }

    /// Runs one statement on tables that belong to no tenant, or that starts [`FOR_ALL_TENANTS`](super::FOR_ALL_TENANTS): by itself where
    /// sessions are ours, otherwise in a transaction. `phase` says whether it changes anything: what only reads is asked again when a
    /// connection died in the pool.
    pub(crate) async fn statement_for_all(
        self: &Arc<Self>,
        operation: &'static str,
        sql: Arc<str>,
        params: Vec<Param>,
        phase: Phase,
    ) -> Result<Vec<PgRow>> {
        if self.has_own_sessions() {
            return self.alone(operation, sql, params, phase).await;
        }
        let work = all_rows(sql, params);
        match phase {
            Phase::BeforeCommit => self.read(operation, Scope::Processor, work).await,
            Phase::Commit => self.write(operation, Scope::Processor, work).await,
        }
    }

    async fn alone(
        self: &Arc<Self>,
        operation: &'static str,
        sql: Arc<str>,
        params: Vec<Param>,
        phase: Phase,
    ) -> Result<Vec<PgRow>> {
        self.ensure_open(operation)?;
        let this = self.clone();
        in_task(operation, async move {
            let (mut attempt, mut dead) = (1, 0);
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
                        } else if phase == Phase::BeforeCommit && dead < this.config.max_connections {
                            this.suspicion.broke(this.env.monotonic());
                            dead += 1;
                            continue;
                        }
                        if fault.is_conflict() && attempt < CONFLICT_ATTEMPTS {
                            tokio::time::sleep(CONFLICT_PAUSE * attempt).await;
                            attempt += 1;
                            continue;
                        }
                        let (fault, phase) = this.failed(fault, phase);
                        return Err(fault.into_error(operation, phase));
                    }
                }
            }
        })
        .await
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

fn all_rows(sql: Arc<str>, params: Vec<Param>) -> impl Worker<Vec<PgRow>> {
    move |connection: &mut PgConnection| {
        let statement = bound(sql.clone(), &params);
        Box::pin(async move { Ok(statement.fetch_all(connection).await?) }) as Work<'_, _>
    }
}
