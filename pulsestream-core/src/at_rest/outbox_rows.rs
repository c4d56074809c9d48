//! Rows of the outbox: a delivery with its lease, its places in the indexes, and the counts.

use serde::{Deserialize, Serialize};

use super::keys::outbox as keys;
use super::transaction::Transaction;
use crate::alerting::{Delivery, DeliveryStatus};
use crate::error::Result;
use crate::id::{DeliveryId, TenantId};
use crate::ports::outbox::DeliveryCounts;
use crate::text::Text;
use crate::time::Timestamp;

/// Who holds a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowLease {
    /// The dispatcher.
    pub(super) holder: Text,
    /// When it ends.
    pub(super) expires_at: Timestamp,
}

/// A delivery as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The delivery.
    pub(super) delivery: Delivery,
    /// The token of the last lease, 0 before the first.
    pub(super) lease_token: u64,
    /// The lease, while there is one.
    pub(super) lease: Option<RowLease>,
}

impl Row {
    /// Returns when the delivery comes up in the queue: when it is due, or when its lease ends.
    fn queued_for(&self) -> Option<Timestamp> {
        (self.delivery.status == DeliveryStatus::Queued)
            .then(|| self.lease.as_ref().map_or(self.delivery.due_at, |lease| lease.expires_at))
    }
}

/// The leases of one channel.
pub(super) type ChannelLeases = Vec<(DeliveryId, Timestamp)>;

/// Adds deliveries that are not there yet and returns how many.
pub(super) async fn insert(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    deliveries: &[Delivery],
) -> Result<usize> {
    let mut added = 0;
    transaction.load(deliveries.iter().map(|delivery| keys::delivery(tenant, delivery.id)).collect()).await?;
    for delivery in deliveries {
        if transaction.bytes(&keys::delivery(tenant, delivery.id)).await?.is_some() {
            continue;
        }
        let row = Row { delivery: delivery.clone(), lease_token: 0, lease: None };
        replace(transaction, tenant, None, &row).await?;
        added += 1;
    }
    Ok(added)
}

/// Reads a row.
pub(super) async fn read(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<Option<Row>> {
    transaction.get(&keys::delivery(tenant, id), "delivery").await
}

/// Puts a row with its places in the indexes, the leases of its channel and the counts.
pub(super) async fn replace(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    before: Option<&Row>,
    after: &Row,
) -> Result<()> {
    let delivery = &after.delivery;
    let id = delivery.id;
    if before.is_none() {
        transaction.put_bytes(keys::created_at(tenant, delivery.created_at, id), Vec::new());
    }
    let (queued_before, queued_after) = (before.and_then(Row::queued_for), after.queued_for());
    if queued_before != queued_after {
        if let Some(at) = queued_before {
            transaction.delete(keys::queued(at, tenant, id));
        }
        if let Some(at) = queued_after {
            transaction.put_bytes(keys::queued(at, tenant, id), delivery.channel.to_bytes().to_vec());
        }
    }
    let (finished_before, finished_after) =
        (before.and_then(|row| row.delivery.finished_at), delivery.finished_at);
    if finished_before != finished_after {
        if let Some(at) = finished_before {
            transaction.delete(keys::finished_at(tenant, at, id));
        }
        if let Some(at) = finished_after {
            transaction.put_bytes(keys::finished_at(tenant, at, id), Vec::new());
        }
    }
    let leased = |row: &Row| row.lease.as_ref().map(|lease| lease.expires_at);
    if before.and_then(leased) != leased(after) {
        let key = keys::leases(tenant, delivery.channel);
        let mut leases: ChannelLeases = transaction.get(&key, "channel leases").await?.unwrap_or_default();
        leases.retain(|(leased, _)| *leased != id);
        leases.extend(leased(after).map(|expires_at| (id, expires_at)));
        if leases.is_empty() {
            transaction.delete(key);
        } else {
            transaction.put(key, &leases)?;
        }
    }
    count(transaction, tenant, before.map(|row| row.delivery.status), Some(delivery.status)).await?;
    transaction.put(keys::delivery(tenant, id), after)
}

/// Removes a delivery with its log.
pub(super) async fn remove(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<()> {
    let Some(row) = read(transaction, tenant, id).await? else { return Ok(()) };
    transaction.delete(keys::created_at(tenant, row.delivery.created_at, id));
    if let Some(at) = row.queued_for() {
        transaction.delete(keys::queued(at, tenant, id));
    }
    if let Some(at) = row.delivery.finished_at {
        transaction.delete(keys::finished_at(tenant, at, id));
    }
    count(transaction, tenant, Some(row.delivery.status), None).await?;
    transaction.delete(keys::log(tenant, id));
    transaction.delete(keys::delivery(tenant, id));
    Ok(())
}

async fn count(
    transaction: &mut Transaction<'_>,
    tenant: TenantId,
    before: Option<DeliveryStatus>,
    after: Option<DeliveryStatus>,
) -> Result<()> {
    fn of(counts: &mut DeliveryCounts, status: DeliveryStatus) -> &mut u64 {
        match status {
            DeliveryStatus::Queued => &mut counts.queued,
            DeliveryStatus::Delivered => &mut counts.delivered,
            DeliveryStatus::Dead => &mut counts.dead,
            DeliveryStatus::Cancelled => &mut counts.cancelled,
        }
    }
    if before == after {
        return Ok(());
    }
    let key = keys::counts(tenant);
    let mut counts: DeliveryCounts = transaction.get(&key, "delivery counts").await?.unwrap_or_default();
    if let Some(status) = before {
        let count = of(&mut counts, status);
        *count = count.saturating_sub(1);
    }
    if let Some(status) = after {
        *of(&mut counts, status) += 1;
    }
    transaction.put(key, &counts)
}
