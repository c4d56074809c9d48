//! Leases with fencing tokens. Time is that of the server, so the clocks of the nodes do not matter.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::error::{Error, Result};
use pulsestream_core::ports::coordinator::{Coordinator, Lease};
use pulsestream_core::text::Text;
use pulsestream_core::time::micros;
use sqlx::postgres::PgRow;

use crate::database::Database;
use crate::error::{Phase, from_sqlx};
use crate::together::Together;
use crate::wire::{Columns, Param};

/// A lease that is asked for.
#[derive(Debug, Clone)]
struct Wanted {
    resource: Text,
    holder: Text,
    ttl: Duration,
}

/// Keeps leases in a table. A node has a lease for each partition that it works on and renews them at about the same time, so what is
/// asked for together goes to the server in one statement.
#[derive(Debug)]
pub struct PostgresCoordinator {
    database: Arc<Database>,
    acquire: Arc<Together<Wanted, Option<Lease>>>,
}

impl PostgresCoordinator {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        let sql: Arc<str> = Arc::from(acquire_sql(database.schema()));
        let asked = database.clone();
        let acquire = Together::new(move |wanted| acquire_all(asked.clone(), sql.clone(), wanted));
        Self { database, acquire }
    }

    fn table(&self) -> String {
        format!("{}.leases", self.database.schema())
    }
}

/// The row lock of the conflict makes it one winner. `clock_timestamp`, because a wait for that lock takes time too. Sorted, so that
/// two statements do not wait for each other.
fn acquire_sql(schema: &str) -> String {
    format!(
        "insert into {schema}.leases as held (resource, holder, fencing_token, expires_at) \
         select resource, holder, 1, clock_timestamp() + ttl * interval '1 microsecond' \
         from unnest($1::text[], $2::text[], $3::bigint[]) as wanted (resource, holder, ttl) order by resource collate \"C\" \
         on conflict (resource) do update set holder = excluded.holder, expires_at = excluded.expires_at, \
         fencing_token = held.fencing_token \
           + case when held.holder = excluded.holder and held.expires_at > clock_timestamp() then 0 else 1 end \
         where held.holder = excluded.holder or held.expires_at <= clock_timestamp() \
         returning resource, holder, fencing_token, expires_at"
    )
}

/// Asks for leases; those on one resource one after the other, because a statement changes a row once.
async fn acquire_all(
    database: Arc<Database>,
    sql: Arc<str>,
    wanted: Vec<Wanted>,
) -> Result<Vec<Option<Lease>>> {
    let mut answers: Vec<Option<Lease>> = vec![None; wanted.len()];
    let mut left: Vec<usize> = (0..wanted.len()).collect();
    while !left.is_empty() {
        let mut resources = HashSet::new();
        let (asked, later): (Vec<usize>, Vec<usize>) =
            left.into_iter().partition(|index| resources.insert(wanted[*index].resource.clone()));
        let of = |index: &usize| &wanted[*index];
        let params = vec![
            Param::texts(asked.iter().map(|index| of(index).resource.as_str())),
            Param::texts(asked.iter().map(|index| of(index).holder.as_str())),
            Param::int8s(asked.iter().map(|index| micros(of(index).ttl))),
        ];
        let rows =
            database.statement_for_all("coordinator.acquire", sql.clone(), params, Phase::Commit).await?;
        let mut granted: HashMap<Text, Lease> = HashMap::new();
        for row in &rows {
            let lease =
                lease_of(row).map_err(|error| from_sqlx("coordinator.acquire", Phase::Commit, error))?;
            granted.insert(lease.resource.clone(), lease);
        }
        for index in asked {
            answers[index] = granted.remove(&wanted[index].resource);
        }
        left = later;
    }
    Ok(answers)
}

#[async_trait]
impl Coordinator for PostgresCoordinator {
    async fn acquire(&self, resource: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>> {
        refuse_nul("coordinator.acquire", &[resource, holder])?;
        let wanted = Wanted { resource: resource.into(), holder: holder.into(), ttl };
        self.acquire.ask("coordinator.acquire", wanted).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        refuse_nul("coordinator.release", &[&lease.resource, &lease.holder])?;
        let sql: Arc<str> = Arc::from(format!(
            "update {} set expires_at = '-infinity' where resource = $1 and holder = $2 and fencing_token = $3",
            self.table()
        ));
        let token = i64::try_from(lease.fencing_token).unwrap_or(i64::MAX);
        let params = vec![Param::text(&lease.resource), Param::text(&lease.holder), Param::int8(token)];
        self.database.statement_for_all("coordinator.release", sql, params, Phase::Commit).await.map(drop)
    }

    async fn leases(&self, prefix: &str) -> Result<Vec<Lease>> {
        refuse_nul("coordinator.leases", &[prefix])?;
        let sql: Arc<str> = Arc::from(format!(
            "select resource, holder, fencing_token, expires_at from {} \
             where starts_with(resource, $1) and expires_at > clock_timestamp() order by resource",
            self.table()
        ));
        let (operation, phase) = ("coordinator.leases", Phase::BeforeCommit);
        let rows = self.database.statement_for_all(operation, sql, vec![Param::text(prefix)], phase).await?;
        let leases = rows.iter().map(lease_of).collect::<Result<Vec<_>, sqlx::Error>>();
        leases.map_err(|error| from_sqlx(operation, phase, error))
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
