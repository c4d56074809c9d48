//! Leases with fencing tokens. Time is that of the server, so the clocks of the nodes do not matter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::error::{Error, Result};
use pulsestream_core::ports::coordinator::{Coordinator, Lease};
use pulsestream_core::text::Text;
use pulsestream_core::time::micros;
use sqlx::postgres::PgRow;

use crate::database::{Database, Scope, bound};
use crate::wire::{Columns, Param};

/// Keeps leases in a table.
#[derive(Debug)]
pub struct PostgresCoordinator {
    database: Arc<Database>,
}

impl PostgresCoordinator {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    fn table(&self) -> String {
        format!("{}.leases", self.database.schema())
    }
}

#[async_trait]
impl Coordinator for PostgresCoordinator {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>> {
        refuse_nul("coordinator.acquire", &[resource, holder])?;
        // The row lock of the conflict makes it one winner. `clock_timestamp`, because a wait for that lock takes time too.
        let sql: Arc<str> = Arc::from(format!(
            "insert into {table} as held (resource, holder, fencing_token, expires_at) \
             values ($1, $2, 1, clock_timestamp() + $3) \
             on conflict (resource) do update set holder = excluded.holder, expires_at = clock_timestamp() + $3, \
             fencing_token = held.fencing_token \
               + case when held.holder = excluded.holder and held.expires_at > clock_timestamp() then 0 else 1 end \
             where held.holder = excluded.holder or held.expires_at <= clock_timestamp() \
             returning resource, holder, fencing_token, expires_at",
            table = self.table(),
        ));
        let params = [Param::text(resource), Param::text(holder), Param::interval_micros(micros(ttl))];
        self.database
            .write("coordinator.acquire", Scope::Processor, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let rows = statement.fetch_all(connection).await?;
                    Ok(rows.first().map(lease_of).transpose()?)
                })
            })
            .await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        refuse_nul("coordinator.release", &[&lease.resource, &lease.holder])?;
        let sql: Arc<str> = Arc::from(format!(
            "update {} set expires_at = '-infinity' where resource = $1 and holder = $2 and fencing_token = $3",
            self.table()
        ));
        let token = i64::try_from(lease.fencing_token).unwrap_or(i64::MAX);
        let params = [Param::text(&lease.resource), Param::text(&lease.holder), Param::int8(token)];
        self.database
            .write("coordinator.release", Scope::Processor, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    statement.execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn leases(&self, prefix: &str) -> Result<Vec<Lease>> {
        refuse_nul("coordinator.leases", &[prefix])?;
        let sql: Arc<str> = Arc::from(format!(
            "select resource, holder, fencing_token, expires_at from {} \
             where starts_with(resource, $1) and expires_at > clock_timestamp() order by resource",
            self.table()
        ));
        let params = [Param::text(prefix)];
        self.database
            .read("coordinator.leases", Scope::Processor, move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let rows = statement.fetch_all(connection).await?;
                    Ok(rows.iter().map(lease_of).collect::<Result<Vec<_>, sqlx::Error>>()?)
                })
            })
            .await
    }
}

fn lease_of(row: &PgRow) -> Result<Lease, sqlx::Error> {
    let mut columns = Columns::new(row);
    Ok(Lease {
        resource: Text::from(columns.str()?),
        holder: Text::from(columns.str()?),
        fencing_token: columns.int8()?.cast_unsigned(),
        expires_at: columns.timestamp()?,
    })
}

fn refuse_nul(operation: &'static str, names: &[&str]) -> Result<()> {
    if names.iter().any(|name| name.contains('\0')) {
        return Err(Error::invalid(
            operation,
            "",
            "nul_character",
            "a name must not hold the character U+0000",
        ));
    }
    Ok(())
}
