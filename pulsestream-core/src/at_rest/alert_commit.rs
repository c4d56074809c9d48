//! Changes of alerts with everything that hangs on them: indexes, counts, activity, timelines, deliveries, checkpoints.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::alert_store::counts;
use super::keys::alerting as keys;
use super::keys::alerting::AlertIndex;
use super::outbox_rows;
use super::record::decode;
use super::transaction::{Attempts, Transaction};
use super::turns::Turns;
use crate::alerting::{Alert, TimelineEntry, TimelineKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AlertId, TenantId};
use crate::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, AlertCount, Checkpoint, CheckpointUpdate, RuleActivity,
    TenantAlertChanges,
};
use crate::ports::event_store::{Partition, Position};
use crate::ports::key_value::{KeyValue, Read, ReadResult};

const OPERATION: &str = "alert_store.commit";
/// How many entries of a timeline are kept: the latest.
const MAX_TIMELINE: usize = 1_000;

/// A checkpoint without its state, which may be large and is not needed to guard a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    sequence: u64,
    position: Position,
    fencing_token: u64,
}

/// Reads a checkpoint with its state.
pub(super) async fn read_checkpoint(
    store: &dyn KeyValue,
    processor: &str,
    partition: Partition,
) -> Result<Option<Checkpoint>> {
    let reads = vec![
        Read::Get(keys::checkpoint(processor, partition)),
        Read::Get(keys::checkpoint_state(processor, partition)),
    ];
    let mut answers = store.read(reads).await?.into_iter();
    let (Some(ReadResult::Value(Some(header))), Some(ReadResult::Value(state))) =
        (answers.next(), answers.next())
    else {
        return Ok(None);
    };
    let Header { sequence, position, fencing_token } = decode(&header, "checkpoint")?;
    Ok(Some(Checkpoint { sequence, position, state: state.unwrap_or_default(), fencing_token }))
}

/// Applies a commit; see the port.
pub(super) async fn commit(
    store: &dyn KeyValue,
    turns: &Turns,
    commit: &AlertCommit,
) -> Result<AlertCommitOutcome> {
    let mut attempts = Attempts::in_turn(OPERATION, turns);
    loop {
        attempts.next().await?;
        let mut transaction = Transaction::new(store);
        if !advance(&mut transaction, &commit.checkpoint).await? {
            return Ok(AlertCommitOutcome::Replayed);
        }
        for changes in &commit.changes {
            apply(&mut transaction, changes).await?;
        }
        if transaction.commit().await? {
            return Ok(AlertCommitOutcome::Committed);
        }
    }
}

/// Moves the checkpoint on; `false` when this very update was made before.
async fn advance(transaction: &mut Transaction<'_>, update: &CheckpointUpdate) -> Result<bool> {
    let key = keys::checkpoint(&update.processor, update.partition);
    let present: Option<Header> = transaction.get(&key, "checkpoint").await?;
    let sequence = present.map_or(0, |header| header.sequence);
    let highest = present.map_or(0, |header| header.fencing_token);
    let next = Header {
        sequence: update.after_sequence + 1,
        position: update.position,
        fencing_token: update.fencing_token,
    };
    if present == Some(next) {
        return Ok(false);
    }
    if update.fencing_token < highest {
        return Err(Error::new(
            ErrorKind::Fenced,
            OPERATION,
            "another process has taken over this partition",
        )
        .with_context("partition", update.partition.number())
        .with_context("fencing_token", update.fencing_token)
        .with_context("highest", highest));
    }
    if update.after_sequence != sequence {
        return Err(Error::new(ErrorKind::Conflict, OPERATION, "the checkpoint moved on: read it again")
            .with_context("after_sequence", update.after_sequence)
            .with_context("sequence", sequence));
    }
    transaction.put(key, &next)?;
    transaction.put_bytes(keys::checkpoint_state(&update.processor, update.partition), update.state.clone());
    Ok(true)
}

async fn apply(transaction: &mut Transaction<'_>, changes: &TenantAlertChanges) -> Result<()> {
    let tenant = changes.tenant;
    if transaction.bytes(&keys::revision(tenant)).await?.is_none() {
        return Ok(());
    }
    let ids: HashSet<AlertId> = changes.alerts.iter().map(|change| change.transition.alert).collect();
    let mut needed = vec![keys::counts(tenant)];
    for id in &ids {
        needed.extend([keys::alert(tenant, *id), keys::timeline(tenant, *id)]);
    }
    transaction.load(needed).await?;
    for change in &changes.alerts {
        let id = change.transition.alert;
        let before: Option<Alert> = transaction.get(&keys::alert(tenant, id), "alert").await?;
        let (after, entry) = Alert::after(before.clone(), change);
        replace(transaction, tenant, before.as_ref(), &after).await?;
        add_to_timeline(transaction, tenant, id, Vec::from_iter(entry)).await?;
    }
    record_timeline(transaction, tenant, &changes.timeline).await?;
    outbox_rows::insert(transaction, tenant, &changes.deliveries).await?;
    Ok(())
}

/// Puts an alert with its places in the indexes, the counts and the activity of its rule.
pub(super) async fn replace(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    before: Option<&Alert>,
    after: &Alert,
) -> Result<()> {
    let (id, started_at) = (after.id, after.started_at);
    if before.is_none() {
        for index in [AlertIndex::All, AlertIndex::Rule(after.rule)] {
            transaction.put_bytes(keys::indexed(tenant, index, started_at, id), Vec::new());
        }
    }
    let was_open = before.is_some_and(|alert| alert.state.is_open());
    let open_key = keys::indexed(tenant, AlertIndex::Open, started_at, id);
    match (was_open, after.state.is_open()) {
        (false, true) => transaction.put_bytes(open_key, Vec::new()),
        (true, false) => transaction.delete(open_key),
        _ => {}
    }
    let resolved =
        |alert: &Alert| alert.resolved_at.map(|at| keys::indexed(tenant, AlertIndex::Resolved, at, id));
    let (resolved_before, resolved_after) = (before.and_then(resolved), resolved(after));
    if resolved_before != resolved_after {
        if let Some(key) = resolved_before {
            transaction.delete(key);
        }
        if let Some(key) = resolved_after {
            transaction.put_bytes(key, Vec::new());
        }
    }
    if let Some(fired_at) = after.fired_at
        && before.is_none_or(|alert| alert.fired_at.is_none())
    {
        let key = keys::activity(tenant, after.rule);
        let mut activity: RuleActivity = transaction.get(&key, "rule activity").await?.unwrap_or_default();
        activity.total_fired += 1;
        activity.last_fired_at = activity.last_fired_at.max(Some(fired_at));
        transaction.put(key, &activity)?;
    }
    count(transaction, tenant, before, Some(after)).await?;
    transaction.put(keys::alert(tenant, id), after)
}

/// Removes an alert with everything that hangs on it.
pub(super) async fn remove(transaction: &mut Transaction<'_>, tenant: TenantId, id: AlertId) -> Result<()> {
    let key = keys::alert(tenant, id);
    let Some(alert) = transaction.get::<Alert>(&key, "alert").await? else { return Ok(()) };
    for index in [AlertIndex::All, AlertIndex::Open, AlertIndex::Rule(alert.rule)] {
        transaction.delete(keys::indexed(tenant, index, alert.started_at, id));
    }
    if let Some(at) = alert.resolved_at {
        transaction.delete(keys::indexed(tenant, AlertIndex::Resolved, at, id));
    }
    if alert.fired_at.is_some() {
        let key = keys::activity(tenant, alert.rule);
        let mut activity: RuleActivity = transaction.get(&key, "rule activity").await?.unwrap_or_default();
        activity.total_fired = activity.total_fired.saturating_sub(1);
        if activity.total_fired == 0 {
            transaction.delete(key);
        } else {
            transaction.put(key, &activity)?;
        }
    }
    count(transaction, tenant, Some(&alert), None).await?;
    transaction.delete(keys::timeline(tenant, id));
    transaction.delete(key);
    Ok(())
}

async fn count(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    before: Option<&Alert>,
    after: Option<&Alert>,
) -> Result<()> {
    let kind = |alert: &&Alert| (alert.state, alert.severity, alert.suppressed_by.is_some());
    let before = before.filter(|alert| counts(alert)).as_ref().map(kind);
    let after = after.filter(|alert| counts(alert)).as_ref().map(kind);
    if before == after {
        return Ok(());
    }
    let key = keys::counts(tenant);
    let mut all: Vec<AlertCount> = transaction.get(&key, "alert counts").await?.unwrap_or_default();
    if let Some(kind) = before
        && let Some(found) =
            all.iter_mut().find(|count| (count.state, count.severity, count.suppressed) == kind)
    {
        found.count = found.count.saturating_sub(1);
    }
    if let Some((state, severity, suppressed)) = after {
        let kind = (state, severity, suppressed);
        match all.iter_mut().find(|count| (count.state, count.severity, count.suppressed) == kind) {
            Some(found) => found.count += 1,
            None => all.push(AlertCount { state, severity, suppressed, count: 1 }),
        }
    }
    all.retain(|count| count.count > 0);
    transaction.put(key, &all)
}

/// Adds entries to the timeline of an alert, those that are there already passed over; returns those that were added.
pub(super) async fn add_to_timeline(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    alert: AlertId,
    entries: Vec<TimelineEntry>,
) -> Result<Vec<TimelineEntry>> {
    let key = keys::timeline(tenant, alert);
    let mut timeline: Vec<TimelineEntry> = transaction.get(&key, "timeline").await?.unwrap_or_default();
    let mut added = Vec::new();
    for entry in entries {
        if timeline.iter().all(|present| present.id != entry.id) {
            timeline.push(entry.clone());
            added.push(entry);
        }
    }
    if !added.is_empty() {
        let excess = timeline.len().saturating_sub(MAX_TIMELINE);
        timeline.drain(..excess);
        transaction.put(key, &timeline)?;
    }
    Ok(added)
}

/// Adds entries of several alerts; those about deliveries count in their alerts.
pub(super) async fn record_timeline(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    entries: &[TimelineEntry],
) -> Result<()> {
    let mut by_alert: BTreeMap<AlertId, Vec<TimelineEntry>> = BTreeMap::new();
    for entry in entries {
        by_alert.entry(entry.alert).or_default().push(entry.clone());
    }
    for (id, entries) in by_alert {
        let key = keys::alert(tenant, id);
        let Some(mut alert) = transaction.get::<Alert>(&key, "alert").await? else { continue };
        let before = (alert.notifications_sent, alert.notification_failures);
        for entry in add_to_timeline(transaction, tenant, id, entries).await? {
            match entry.kind {
                TimelineKind::Notified { .. } => alert.notifications_sent += 1,
                TimelineKind::NotificationFailed { .. } => alert.notification_failures += 1,
                _ => {}
            }
        }
        if before != (alert.notifications_sent, alert.notification_failures) {
            transaction.put(key, &alert)?;
        }
    }
    Ok(())
}
