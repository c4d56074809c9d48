//! Whether configuration changed: asked by each partition of a node again and again, so all that ask at the same time get one
//! statement.

use std::collections::HashMap;
use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::Partition;

use crate::database::{Database, Scope, bound};
use crate::together::Together;
use crate::wire::{Columns, Param};

pub(super) const OPERATION: &str = "alert_store.revisions";

type Revisions = Vec<(TenantId, u64)>;

pub(super) fn together(database: &Arc<Database>) -> Arc<Together<Partition, Revisions>> {
    let database = database.clone();
    let sql: Arc<str> = Arc::from(format!(
        "select partition, tenant_id, revision from {}.revisions where partition = any($1) order by tenant_id",
        database.schema()
    ));
    Together::new(move |partitions| read(database.clone(), sql.clone(), partitions))
}

async fn read(database: Arc<Database>, sql: Arc<str>, partitions: Vec<Partition>) -> Result<Vec<Revisions>> {
    let numbers: Vec<i16> =
        partitions.iter().map(|partition| i16::try_from(partition.number()).unwrap_or_default()).collect();
    let params = [Param::int2s(numbers.iter().copied())];
    let found = database
        .read(OPERATION, Scope::Processor, move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move {
                let mut found: HashMap<i16, Revisions> = HashMap::new();
                for row in statement.fetch_all(connection).await? {
                    let mut columns = Columns::new(&row);
                    let partition = columns.int2()?;
                    let tenant = TenantId::from_u128(columns.uuid()?);
                    found.entry(partition).or_default().push((tenant, columns.int8()?.cast_unsigned()));
                }
                Ok(found)
            })
        })
        .await?;
    // The same partition may be asked about twice.
    Ok(numbers.iter().map(|number| found.get(number).cloned().unwrap_or_default()).collect())
}
