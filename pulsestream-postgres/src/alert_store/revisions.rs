//! Whether configuration changed: asked by each partition of a node again and again, so all that ask at the same time get one
//! statement.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::Partition;
use sqlx::postgres::PgRow;

use crate::database::{Database, FOR_ALL_TENANTS, first_param};
use crate::error::{Phase, from_sqlx};
use crate::together::Together;
use crate::wire::{Columns, Param};

pub(super) const OPERATION: &str = "alert_store.revisions";

type Revisions = Vec<(TenantId, u64)>;

pub(super) fn together(database: &Arc<Database>) -> Arc<Together<Partition, Revisions>> {
    let database = database.clone();
    let sql: Arc<str> = Arc::from(format!(
        "{FOR_ALL_TENANTS} select asked.number, found.tenant_id, found.revision \
         from scope cross join lateral unnest({numbers}) as asked (number) \
         cross join lateral (select tenant_id, revision from {schema}.revisions where partition = asked.number offset 0) found \
         order by found.tenant_id",
        numbers = first_param("smallint"),
        schema = database.schema(),
    ));
    Together::new(move |partitions| read(database.clone(), sql.clone(), partitions))
}

async fn read(database: Arc<Database>, sql: Arc<str>, partitions: Vec<Partition>) -> Result<Vec<Revisions>> {
    let numbers: Vec<i16> =
        partitions.iter().map(|partition| i16::try_from(partition.number()).unwrap_or_default()).collect();
    // The same partition may be asked about twice.
    let asked: BTreeSet<i16> = numbers.iter().copied().collect();
    let params = vec![Param::int2s(asked)];
    let rows = database.statement_for_all(OPERATION, sql, params, Phase::BeforeCommit).await?;
    let found = by_partition(&rows).map_err(|error| from_sqlx(OPERATION, Phase::BeforeCommit, error))?;
    Ok(numbers.iter().map(|number| found.get(number).cloned().unwrap_or_default()).collect())
}

fn by_partition(rows: &[PgRow]) -> Result<HashMap<i16, Revisions>, sqlx::Error> {
    let mut found: HashMap<i16, Revisions> = HashMap::new();
    for row in rows {
        let mut columns = Columns::new(row);
        let partition = columns.int2()?;
        let tenant = TenantId::from_u128(columns.uuid()?);
        found.entry(partition).or_default().push((tenant, columns.int8()?.cast_unsigned()));
    }
    Ok(found)
}
