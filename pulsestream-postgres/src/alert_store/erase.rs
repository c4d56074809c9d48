//! The end of everything about a tenant.

use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::Partition;

use super::partition_number;
use crate::database::{Database, Scope, bound};
use crate::wire::Param;

const OPERATION: &str = "alert_store.erase";
/// Tables with a row for each thing a person made, and the revision that says so.
const CONFIGURATION: [&str; 6] = ["rules", "channels", "silences", "routing", "config_changes", "revisions"];
/// How many alerts one statement deletes.
const CHUNK: usize = 1_000;

pub(super) async fn erase(database: &Arc<Database>, tenant: TenantId) -> Result<()> {
    let schema = database.schema();
    let id = vec![Param::uuid(tenant.as_u128())];
    let configuration: Vec<Arc<str>> = CONFIGURATION
        .iter()
        .map(|table| Arc::from(format!("delete from {schema}.{table} where tenant_id = $1")))
        .collect();
    let params = id.clone();
    database
        .write(OPERATION, Scope::Tenant(tenant), move |connection| {
            let (configuration, params) = (configuration.clone(), params.clone());
            Box::pin(async move {
                for sql in configuration {
                    bound(sql, &params).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .await?;
    wait_for_commits(database, Partition::of(tenant)).await?;
    // Timelines go with their alerts, through the foreign key.
    let sql: Arc<str> = Arc::from(format!(
        "delete from {schema}.alerts where tenant_id = $1 and alert_id in \
         (select alert_id from {schema}.alerts where tenant_id = $1 limit {CHUNK})"
    ));
    loop {
        let (sql, params) = (sql.clone(), id.clone());
        let gone = database
            .write(OPERATION, Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
            })
            .await?;
        if gone == 0 {
            return Ok(());
        }
    }
}

/// Waits until the commits of the partition that may have seen the tenant's configuration are done: each holds its checkpoint.
async fn wait_for_commits(database: &Arc<Database>, partition: Partition) -> Result<()> {
    let sql: Arc<str> =
        Arc::from(format!("select 1 from {}.checkpoints where partition = $1 for update", database.schema()));
    let params = [partition_number(partition)];
    database
        .write(OPERATION, Scope::Processor, move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move {
                statement.fetch_all(connection).await?;
                Ok(())
            })
        })
        .await
}
