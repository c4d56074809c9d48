//! The outbox over the key-value port.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::keys::outbox as keys;
use super::outbox_rows::{self, ChannelLeases, Row, RowLease};
use super::record::decode;
use super::transaction::{Attempts, Transaction, delete_prefix};
use super::turns::Turns;
use crate::alerting::{Delivery, DeliveryStatus};
use crate::error::Result;
use crate::id::{ChannelId, DeliveryId, TenantId};
use crate::ports::key_value::{Entry, KeyValue, KeyValueExt, Read, ReadResult, prefix_end};
use crate::ports::outbox::{
    AttemptRecord, DeliveryAttempt, DeliveryCounts, DeliveryCursor, DeliveryPage, DeliveryQuery, Disposition,
    LeaseOptions, LeasedDelivery, Outbox, RecordOutcome, ReplaySelection,
};
use crate::time::{TimeRange, Timestamp};

/// How many entries of an index are read at a time.
const INDEX_PAGE: usize = 256;
/// The page of a query that names no limit.
const DEFAULT_LIMIT: usize = 100;
/// How many attempts the log of a delivery keeps: the latest.
const MAX_LOG: usize = 200;

/// Keeps deliveries in a [`KeyValue`] store, the one of [`KeyValueAlertStore`](super::KeyValueAlertStore).
#[derive(Debug, Clone)]
pub struct KeyValueOutbox {
    store: Arc<dyn KeyValue>,
    /// Those whose transactions were overtaken wait here for each other.
    turns: Turns,
}

impl KeyValueOutbox {
    /// Creates an outbox over `store`.
    pub fn new(store: Arc<dyn KeyValue>) -> Self {
        Self { store, turns: Turns::default() }
    }

    /// Ends the leases of all deliveries, so that they can be leased again at once. Only for a store that nobody else works on: for
    /// example after the exclusive lock of a folder has shown that its last owner is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end_leases(&self) -> Result<()> {
        let mut start = keys::all_leases();
        let end = prefix_end(&start);
        loop {
            let channels = self.range(start.clone(), end.clone(), INDEX_PAGE, false).await?;
            let Some((last, _)) = channels.last() else { return Ok(()) };
            start = [last.as_slice(), &[0]].concat();
            for (key, leases) in channels {
                let Some(tenant) = keys::tenant_of_leases(&key) else { continue };
                let leases: ChannelLeases = decode(&leases, "channel leases")?;
                let ids: Vec<_> = leases.into_iter().map(|(id, _)| id).collect();
                self.end_leases_of(tenant, &ids).await?;
            }
        }
    }

    async fn end_leases_of(&self, tenant: TenantId, ids: &[DeliveryId]) -> Result<()> {
        let mut attempts = Attempts::in_turn("outbox.end_leases", &self.turns);
        loop {
            attempts.next().await?;
            let mut transaction = Transaction::new(&*self.store);
            for id in ids {
                let Some(before) = outbox_rows::read(&mut transaction, tenant, *id).await? else { continue };
                let after = Row { lease: None, ..before.clone() };
                outbox_rows::replace(&mut transaction, tenant, Some(&before), &after).await?;
            }
            if transaction.commit().await? {
                return Ok(());
            }
        }
    }

    async fn range(&self, start: Vec<u8>, end: Vec<u8>, limit: usize, reverse: bool) -> Result<Vec<Entry>> {
        match self.store.read(vec![Read::Range { start, end, limit, reverse }]).await?.pop() {
            Some(ReadResult::Entries(entries)) => Ok(entries),
            _ => Ok(Vec::new()),
        }
    }

    async fn load(&self, tenant: TenantId, ids: &[DeliveryId]) -> Result<Vec<Delivery>> {
        let reads = ids.iter().map(|id| Read::Get(keys::delivery(tenant, *id))).collect();
        let mut deliveries = Vec::with_capacity(ids.len());
        for answer in self.store.read(reads).await? {
            if let ReadResult::Value(Some(bytes)) = answer {
                deliveries.push(decode::<Row>(&bytes, "delivery")?.delivery);
            }
        }
        Ok(deliveries)
    }

    /// Chooses and leases up to `limit` of the places given; `None` when something changed meanwhile.
    async fn lease_among(
        &self,
        places: &[(TenantId, DeliveryId, ChannelId)],
        options: &LeaseOptions,
        limit: usize,
    ) -> Result<Option<Vec<LeasedDelivery>>> {
        let mut transaction = Transaction::new(&*self.store);
        let channels: HashSet<_> = places.iter().map(|(tenant, _, channel)| (*tenant, *channel)).collect();
        let mut needed: Vec<_> =
            channels.iter().map(|(tenant, channel)| keys::leases(*tenant, *channel)).collect();
        needed.extend(places.iter().map(|(tenant, id, _)| keys::delivery(*tenant, *id)));
        transaction.load(needed).await?;
        let mut free = HashMap::new();
        for (tenant, channel) in channels {
            let leases: ChannelLeases =
                transaction.get(&keys::leases(tenant, channel), "channel leases").await?.unwrap_or_default();
            let held = leases.iter().filter(|(_, expires_at)| *expires_at > options.now).count();
            free.insert((tenant, channel), options.max_per_channel.max(1).saturating_sub(held));
        }
        let mut leased = Vec::new();
        for (tenant, id, channel) in places {
            let Some(room) = free.get_mut(&(*tenant, *channel)).filter(|room| **room > 0) else { continue };
            if leased.len() == limit {
                break;
            }
            let Some(before) = outbox_rows::read(&mut transaction, *tenant, *id).await? else { continue };
            if !is_free(&before, options.now) {
                continue;
            }
            let expires_at = options.now.plus(options.ttl);
            let mut after = before.clone();
            after.lease_token += 1;
            after.lease = Some(RowLease { holder: options.holder.clone(), expires_at });
            outbox_rows::replace(&mut transaction, *tenant, Some(&before), &after).await?;
            *room -= 1;
            leased.push(LeasedDelivery {
                tenant: *tenant,
                delivery: after.delivery,
                lease_token: after.lease_token,
                expires_at,
            });
        }
        Ok(transaction.commit().await?.then_some(leased))
    }

    async fn replay_ids(&self, tenant: TenantId, ids: &[DeliveryId], now: Timestamp) -> Result<u64> {
        let mut attempts = Attempts::in_turn("outbox.replay", &self.turns);
        loop {
            attempts.next().await?;
            let mut transaction = Transaction::new(&*self.store);
            transaction.load(ids.iter().map(|id| keys::delivery(tenant, *id)).collect()).await?;
            let mut replayed = 0;
            for id in ids {
                let Some(before) = outbox_rows::read(&mut transaction, tenant, *id).await? else { continue };
                if before.delivery.status == DeliveryStatus::Queued {
                    continue;
                }
                let mut after = before.clone();
                after.delivery.status = DeliveryStatus::Queued;
                after.delivery.due_at = now;
                after.delivery.schedule_started_at = now;
                after.delivery.schedule_position = 0;
                after.delivery.finished_at = None;
                outbox_rows::replace(&mut transaction, tenant, Some(&before), &after).await?;
                replayed += 1;
            }
            if transaction.commit().await? {
                return Ok(replayed);
            }
        }
    }

    async fn replay_matching(
        &self,
        tenant: TenantId,
        range: TimeRange,
        channel: Option<ChannelId>,
        only_dead: bool,
        now: Timestamp,
    ) -> Result<u64> {
        let mut replayed = 0;
        let mut start = keys::created_from(tenant, range.start);
        let end = keys::created_from(tenant, range.end);
        loop {
            let places = self.range(start.clone(), end.clone(), INDEX_PAGE, false).await?;
            let Some((last, _)) = places.last() else { return Ok(replayed) };
            start = [last.as_slice(), &[0]].concat();
            let ids: Vec<_> = places.iter().filter_map(|(key, _)| delivery_of(key)).collect();
            let wanted: Vec<_> = self
                .load(tenant, &ids)
                .await?
                .into_iter()
                .filter(|delivery| channel.is_none_or(|channel| channel == delivery.channel))
                .filter(|delivery| !only_dead || delivery.status == DeliveryStatus::Dead)
                .map(|delivery| delivery.id)
                .collect();
            replayed += self.replay_ids(tenant, &wanted, now).await?;
        }
    }
}

fn is_free(row: &Row, now: Timestamp) -> bool {
    row.delivery.status == DeliveryStatus::Queued
        && match &row.lease {
            Some(lease) => lease.expires_at <= now,
            None => row.delivery.due_at <= now,
        }
}

/// Reads the id at the end of an index key.
fn delivery_of(key: &[u8]) -> Option<DeliveryId> {
    let at = key.len().checked_sub(16)?;
    Some(DeliveryId::from_bytes(key[at..].try_into().ok()?))
}

/// Moves a delivery on after an attempt.
fn apply(delivery: &mut Delivery, record: &AttemptRecord) {
    if record.report.is_some() {
        delivery.attempts += 1;
        delivery.schedule_position += 1;
    }
    if let Some(report) = &record.report {
        delivery.last_error = report.outcome.error().cloned();
    }
    let finish = |delivery: &mut Delivery, status| {
        delivery.status = status;
        delivery.finished_at = Some(record.at);
    };
    match &record.disposition {
        Disposition::Delivered => finish(delivery, DeliveryStatus::Delivered),
        Disposition::Dead => finish(delivery, DeliveryStatus::Dead),
        Disposition::Cancelled => finish(delivery, DeliveryStatus::Cancelled),
        Disposition::RetryAt(at) | Disposition::Postponed(at) => delivery.due_at = *at,
    }
}

#[async_trait]
impl Outbox for KeyValueOutbox {
    async fn enqueue(&self, tenant: TenantId, deliveries: Vec<Delivery>) -> Result<usize> {
        let mut attempts = Attempts::in_turn("outbox.enqueue", &self.turns);
        loop {
            attempts.next().await?;
            let mut transaction = Transaction::new(&*self.store);
            let added = outbox_rows::insert(&mut transaction, tenant, &deliveries).await?;
            if transaction.commit().await? {
                return Ok(added);
            }
        }
    }

    async fn lease(&self, options: &LeaseOptions) -> Result<Vec<LeasedDelivery>> {
        let mut leased = Vec::new();
        let mut attempts = Attempts::in_turn("outbox.lease", &self.turns);
        let mut start = keys::queue();
        let end = keys::queued_after(options.now);
        while leased.len() < options.limit.max(1) {
            let room = options.limit.max(1) - leased.len();
            // What is read guards the commit: more than is needed would make dispatchers overtake each other for nothing.
            let page = (2 * room).clamp(16, INDEX_PAGE);
            let entries = self.range(start.clone(), end.clone(), page, false).await?;
            let Some((last, _)) = entries.last() else { break };
            let places: Vec<_> = entries
                .iter()
                .filter_map(|(key, channel)| {
                    let (_, tenant, id) =
                        keys::parse_queued(key).filter(|(_, tenant, _)| !options.full.contains(tenant))?;
                    Some((tenant, id, ChannelId::from_bytes(channel.as_slice().try_into().ok()?)))
                })
                .collect();
            match self.lease_among(&places, options, room).await? {
                Some(more) => {
                    leased.extend(more);
                    start = [last.as_slice(), &[0]].concat();
                }
                None if leased.is_empty() => attempts.next().await?,
                // What is leased already must reach the caller.
                None => break,
            }
        }
        Ok(leased)
    }

    async fn record(&self, records: Vec<AttemptRecord>) -> Result<Vec<RecordOutcome>> {
        let mut attempts = Attempts::in_turn("outbox.record", &self.turns);
        loop {
            attempts.next().await?;
            let mut transaction = Transaction::new(&*self.store);
            let mut outcomes = Vec::with_capacity(records.len());
            for record in &records {
                let (tenant, id) = (record.tenant, record.delivery);
                let before = outbox_rows::read(&mut transaction, tenant, id).await?;
                let Some(before) =
                    before.filter(|row| row.lease.is_some() && row.lease_token == record.lease_token)
                else {
                    outcomes.push(RecordOutcome::LeaseLost);
                    continue;
                };
                let mut after = before.clone();
                after.lease = None;
                apply(&mut after.delivery, record);
                outbox_rows::replace(&mut transaction, tenant, Some(&before), &after).await?;
                if let Some(report) = &record.report {
                    let key = keys::log(tenant, id);
                    let mut log: Vec<DeliveryAttempt> =
                        transaction.get(&key, "delivery log").await?.unwrap_or_default();
                    let attempt = after.delivery.attempts;
                    log.push(DeliveryAttempt { attempt, at: record.at, report: report.clone() });
                    let excess = log.len().saturating_sub(MAX_LOG);
                    log.drain(..excess);
                    transaction.put(key, &log)?;
                }
                outcomes.push(RecordOutcome::Recorded);
            }
            if transaction.commit().await? {
                return Ok(outcomes);
            }
        }
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let (start, end) = (keys::queue(), prefix_end(&keys::queue()));
        let first = self.range(start, end, 1, false).await?.pop();
        Ok(first.and_then(|(key, _)| keys::parse_queued(&key)).map(|(due_at, _, _)| due_at))
    }

    async fn deliveries(&self, tenant: TenantId, query: &DeliveryQuery) -> Result<DeliveryPage> {
        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
        let prefix = keys::created(tenant);
        let (start, mut end) = match query.range {
            Some(range) if range.is_empty() => return Ok(DeliveryPage::default()),
            Some(range) => (keys::created_from(tenant, range.start), keys::created_from(tenant, range.end)),
            None => (prefix.clone(), prefix_end(&prefix)),
        };
        if let Some(cursor) = query.after {
            end = end.min(keys::created_at(tenant, cursor.created_at, cursor.id));
        }
        let mut page = DeliveryPage::default();
        loop {
            let places = self.range(start.clone(), end.clone(), INDEX_PAGE, true).await?;
            let Some((lowest, _)) = places.last() else { return Ok(page) };
            end.clone_from(lowest);
            let ids: Vec<_> = places.iter().filter_map(|(key, _)| delivery_of(key)).collect();
            let selected = self.load(tenant, &ids).await?.into_iter().filter(|delivery| {
                query.status.is_none_or(|status| status == delivery.status)
                    && query.channel.is_none_or(|channel| channel == delivery.channel)
                    && query
                        .alert
                        .is_none_or(|alert| delivery.content.alerts.iter().any(|told| told.id == alert))
            });
            for delivery in selected {
                if page.deliveries.len() == limit {
                    let last = page.deliveries.last();
                    page.next = last.map(|last| DeliveryCursor { created_at: last.created_at, id: last.id });
                    return Ok(page);
                }
                page.deliveries.push(delivery);
            }
        }
    }

    async fn delivery(
        &self,
        tenant: TenantId,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<DeliveryAttempt>)>> {
        let reads = vec![Read::Get(keys::delivery(tenant, id)), Read::Get(keys::log(tenant, id))];
        let mut answers = self.store.read(reads).await?.into_iter();
        let (Some(ReadResult::Value(Some(row))), Some(ReadResult::Value(log))) =
            (answers.next(), answers.next())
        else {
            return Ok(None);
        };
        let log = log.map(|bytes| decode(&bytes, "delivery log")).transpose()?.unwrap_or_default();
        Ok(Some((decode::<Row>(&row, "delivery")?.delivery, log)))
    }

    async fn replay(&self, tenant: TenantId, selection: &ReplaySelection, now: Timestamp) -> Result<u64> {
        match selection {
            ReplaySelection::Ids(ids) => {
                let mut replayed = 0;
                for ids in ids.chunks(INDEX_PAGE) {
                    replayed += self.replay_ids(tenant, ids, now).await?;
                }
                Ok(replayed)
            }
            ReplaySelection::Range { range, channel } => {
                self.replay_matching(tenant, *range, *channel, false, now).await
            }
            ReplaySelection::Dead { channel } => {
                self.replay_matching(tenant, TimeRange::ALL, *channel, true, now).await
            }
        }
    }

    async fn counts(&self, tenant: TenantId) -> Result<DeliveryCounts> {
        let stored = self.store.get(keys::counts(tenant)).await?;
        stored.map(|bytes| decode(&bytes, "delivery counts")).transpose().map(Option::unwrap_or_default)
    }

    async fn prune(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64> {
        let mut pruned = 0;
        let mut attempts = Attempts::in_turn("outbox.prune", &self.turns);
        while pruned < limit {
            let (start, end) = (keys::finished(tenant), keys::finished_from(tenant, before));
            let places = self.range(start, end, INDEX_PAGE.min(limit - pruned), false).await?;
            let ids: Vec<_> = places.iter().filter_map(|(key, _)| delivery_of(key)).collect();
            if ids.is_empty() {
                break;
            }
            let mut transaction = Transaction::new(&*self.store);
            for id in &ids {
                outbox_rows::remove(&mut transaction, tenant, *id).await?;
            }
            if transaction.commit().await? {
                pruned += ids.len();
            } else {
                attempts.next().await?;
            }
        }
        Ok(pruned as u64)
    }

    async fn erase(&self, tenant: TenantId) -> Result<()> {
        const OPERATION: &str = "outbox.erase";
        let mut attempts = Attempts::in_turn(OPERATION, &self.turns);
        loop {
            let prefix = keys::created(tenant);
            let places = self.range(prefix.clone(), prefix_end(&prefix), INDEX_PAGE, false).await?;
            let ids: Vec<_> = places.iter().filter_map(|(key, _)| delivery_of(key)).collect();
            if ids.is_empty() {
                break;
            }
            let mut transaction = Transaction::new(&*self.store);
            for id in &ids {
                outbox_rows::remove(&mut transaction, tenant, *id).await?;
            }
            // A dispatcher that was faster changed a row, and its place in the queue with it.
            if !transaction.commit().await? {
                attempts.next().await?;
            }
        }
        for prefix in keys::of_tenant(tenant) {
            delete_prefix(&*self.store, OPERATION, prefix).await?;
        }
        Ok(())
    }
}
