//! The commit of a processor: effects of events and its place in the log, together.

use std::collections::HashSet;
use std::sync::Arc;

use pulsestream_core::alerting::Alert;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::{AlertId, TenantId};
use pulsestream_core::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, CheckpointUpdate, TenantAlertChanges,
};
use sqlx::PgConnection;

use super::{alerts, partition_number, read_checkpoint, timeline};
use crate::database::{Database, Scope, bound};
use crate::error::Fault;
use crate::outbox;
use crate::wire::{Columns, Param};

const OPERATION: &str = "alert_store.commit";

pub(super) async fn commit(database: &Arc<Database>, commit: AlertCommit) -> Result<AlertCommitOutcome> {
    let (schema, commit) = (database.schema().to_owned(), Arc::new(commit));
    database
        .write(OPERATION, Scope::Processor, move |connection| {
            let (schema, commit) = (schema.clone(), commit.clone());
            Box::pin(async move {
                if !advance(connection, &schema, &commit.checkpoint).await? {
                    return Ok(AlertCommitOutcome::Replayed);
                }
                let configured = configured(connection, &schema, &commit.changes).await?;
                for changes in commit.changes.iter().filter(|changes| configured.contains(&changes.tenant)) {
                    apply(connection, &schema, changes).await?;
                }
                Ok(AlertCommitOutcome::Committed)
            })
        })
        .await
}

/// Moves the checkpoint on; `false` when this very update was made before.
async fn advance(
    connection: &mut PgConnection,
    schema: &str,
    update: &CheckpointUpdate,
) -> Result<bool, Fault> {
    let key = [Param::text(&update.processor), partition_number(update.partition)];
    let present = read_checkpoint(connection, schema, &key, "for update").await?;
    let sequence = present.as_ref().map_or(0, |checkpoint| checkpoint.sequence);
    let highest = present.as_ref().map_or(0, |checkpoint| checkpoint.fencing_token);
    let is_replay = present.as_ref().is_some_and(|checkpoint| {
        checkpoint.sequence == update.after_sequence + 1
            && checkpoint.position == update.position
            && checkpoint.fencing_token == update.fencing_token
    });
    if is_replay {
        return Ok(false);
    }
    if update.fencing_token < highest {
        return Err(Fault::Typed(
            Error::new(ErrorKind::Fenced, OPERATION, "another process has taken over this partition")
                .with_context("partition", update.partition.number())
                .with_context("fencing_token", update.fencing_token)
                .with_context("highest", highest),
        ));
    }
    if update.after_sequence != sequence {
        return Err(Fault::Typed(
            Error::new(ErrorKind::Conflict, OPERATION, "the checkpoint moved on: read it again")
                .with_context("after_sequence", update.after_sequence)
                .with_context("sequence", sequence),
        ));
    }
    // Two that make the first one: the second violates the primary key, which is a conflict as well.
    let sql = match present {
        None => {
            "insert into {schema}.checkpoints (processor, partition, sequence, position, fencing_token, state) \
             values ($1, $2, $3, $4, $5, $6)"
        }
        Some(_) => {
            "update {schema}.checkpoints set sequence = $3, position = $4, fencing_token = $5, state = $6 \
             where processor = $1 and partition = $2"
        }
    };
    let mut params = key.to_vec();
    params.extend([
        Param::int8((update.after_sequence + 1).cast_signed()),
        Param::text(&update.position.to_string()),
        Param::int8(update.fencing_token.cast_signed()),
        Param::bytes(&update.state),
    ]);
    bound(Arc::from(sql.replace("{schema}", schema)), &params).execute(connection).await?;
    Ok(true)
}

/// Returns the tenants with configuration among those of the changes; the others were erased meanwhile. The checkpoint is locked, and who
/// erases waits for it.
async fn configured(
    connection: &mut PgConnection,
    schema: &str,
    changes: &[TenantAlertChanges],
) -> Result<HashSet<TenantId>, Fault> {
    if changes.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = format!("select tenant_id from {schema}.revisions where tenant_id = any($1)");
    let params = [Param::uuids(changes.iter().map(|changes| changes.tenant.as_u128()))];
    let mut tenants = HashSet::new();
    for row in bound(Arc::from(sql), &params).fetch_all(connection).await? {
        tenants.insert(TenantId::from_u128(Columns::new(&row).uuid()?));
    }
    Ok(tenants)
}

async fn apply(
    connection: &mut PgConnection,
    schema: &str,
    changes: &TenantAlertChanges,
) -> Result<(), Fault> {
    let tenant = changes.tenant;
    if !changes.alerts.is_empty() {
        let ids: Vec<AlertId> = changes.alerts.iter().map(|change| change.transition.alert).collect();
        let mut alerts = alerts::lock(connection, schema, tenant, &ids).await?;
        let mut entries = Vec::with_capacity(changes.alerts.len());
        for change in &changes.alerts {
            let id = change.transition.alert;
            let (alert, entry) = Alert::after(alerts.remove(&id), change);
            alerts.insert(id, alert);
            entries.extend(entry);
        }
        alerts::store(connection, schema, tenant, alerts.values()).await?;
        timeline::insert(connection, schema, tenant, &entries).await?;
    }
    timeline::record(connection, schema, tenant, &changes.timeline).await?;
    outbox::insert(connection, schema, tenant, &changes.deliveries).await?;
    Ok(())
}
