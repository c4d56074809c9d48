//! The outbox port: deliveries at rest, with lease, schedule, attempts and log.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::notifier::DeliveryReport;
use crate::alerting::{Delivery, DeliveryStatus};
use crate::error::Result;
use crate::id::{AlertId, ChannelId, DeliveryId, TenantId};
use crate::text::Text;
use crate::time::{TimeRange, Timestamp};

/// Which due deliveries to lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Who takes them: unique for each dispatcher.
    pub holder: Text,
    /// What is due: deliveries with `due_at` up to this time; leases that ended before it are free.
    pub now: Timestamp,
    /// How many at most, at least 1.
    pub limit: usize,
    /// How long nobody else gets them.
    pub ttl: Duration,
    /// How many deliveries of one channel may be leased at once, by all holders together, at least 1.
    pub max_per_channel: usize,
    /// Tenants of whom the caller has enough under way: theirs are passed over.
    pub full: BTreeSet<TenantId>,
}

/// A delivery that the caller holds.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasedDelivery {
    /// Whose it is.
    pub tenant: TenantId,
    /// The delivery.
    pub delivery: Delivery,
    /// Proves the lease; it ascends with every lease of the delivery.
    pub lease_token: u64,
    /// When the lease ends.
    pub expires_at: Timestamp,
}

/// What the dispatcher decided after an attempt, or instead of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// The receiver has it.
    Delivered,
    /// The next attempt is due at this time.
    RetryAt(Timestamp),
    /// Given up.
    Dead,
    /// Not wanted any more.
    Cancelled,
    /// Not tried: it is due again at this time, its schedule has not moved on.
    Postponed(Timestamp),
}

/// The result for one leased delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRecord {
    /// Whose it is.
    pub tenant: TenantId,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The lease under which the attempt was made.
    pub lease_token: u64,
    /// When the attempt started.
    pub at: Timestamp,
    /// What is to happen now.
    pub disposition: Disposition,
    /// What the notifier reported; `None` when nothing was tried.
    pub report: Option<DeliveryReport>,
}

/// Whether a result was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It was.
    Recorded,
    /// Somebody else leased the delivery meanwhile, or it is gone: nothing changed.
    LeaseLost,
}

/// One line of the delivery log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// When it started.
    pub at: Timestamp,
    /// What the notifier reported.
    pub report: DeliveryReport,
}

/// Which deliveries to list; conditions that are `None` or empty do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryQuery {
    /// Where they stand.
    pub status: Option<DeliveryStatus>,
    /// To which channel.
    pub channel: Option<ChannelId>,
    /// About which alert.
    pub alert: Option<AlertId>,
    /// When they were planned.
    pub range: Option<TimeRange>,
    /// How many at most, at least 1; 0 takes 100.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<DeliveryCursor>,
}

/// A place in the list of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCursor {
    /// When the last one was planned.
    pub created_at: Timestamp,
    /// The last one.
    pub id: DeliveryId,
}

/// One page of deliveries, the newest first; ties descend by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Where the next page continues; `None` when there is nothing after this one.
    pub next: Option<DeliveryCursor>,
}

/// Which deliveries to send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplaySelection {
    /// These, delivered ones too.
    Ids(Vec<DeliveryId>),
    /// All that were planned in the range, delivered ones too, of one channel or of all.
    Range {
        /// When they were planned.
        range: TimeRange,
        /// Which channel.
        channel: Option<ChannelId>,
    },
    /// All dead ones, of one channel or of all.
    Dead {
        /// Which channel.
        channel: Option<ChannelId>,
    },
}

/// How many deliveries of a tenant there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCounts {
    /// Waiting.
    pub queued: u64,
    /// Delivered.
    pub delivered: u64,
    /// Given up.
    pub dead: u64,
    /// Cancelled.
    pub cancelled: u64,
}

/// Keeps deliveries until they are delivered or given up. Rows come in through
/// [`AlertStore::commit`](super::alert_store::AlertStore::commit), together with the transitions that caused them.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync + 'static {
    /// Adds deliveries that no transition caused, for example test sends; ids that are there already are passed over. Returns
    /// how many were added.
    ///
    /// # Contract
    /// - Adding the same delivery again changes nothing (`outbox_enqueue_twice`).
    async fn enqueue(&self, tenant: TenantId, deliveries: Vec<Delivery>) -> Result<usize>;

    /// Leases due deliveries of all tenants, those due first coming first.
    ///
    /// # Contract
    /// - A leased delivery is given to nobody else before its lease ends (`outbox_lease_is_exclusive`).
    /// - After the end of a lease it is given again, with a higher token (`outbox_lease_expires`).
    /// - No more than `max_per_channel` of one channel are leased at once, and a full channel does not hold back the others
    ///   (`outbox_caps_channels`).
    /// - Nothing of a tenant in `full` is leased, and it does not hold back the others (`outbox_passes_over_full_tenants`).
    async fn lease(&self, options: &LeaseOptions) -> Result<Vec<LeasedDelivery>>;

    /// Records attempts and what is to happen now, one outcome for each in the same order.
    ///
    /// # Contract
    /// - A result under a token that is not the current one changes nothing (`outbox_refuses_lost_leases`).
    /// - Every attempt with a report appears in the log (`outbox_logs_attempts`).
    async fn record(&self, records: Vec<AttemptRecord>) -> Result<Vec<RecordOutcome>>;

    /// Returns when the next delivery becomes due or its lease ends, `None` when nothing waits.
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    /// Lists deliveries of a tenant.
    ///
    /// # Contract
    /// - Another tenant's deliveries do not appear (`outbox_is_isolated`).
    async fn deliveries(&self, tenant: TenantId, query: &DeliveryQuery) -> Result<DeliveryPage>;

    /// Returns one delivery with its log, oldest attempt first.
    async fn delivery(
        &self,
        tenant: TenantId,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Vec<DeliveryAttempt>)>>;

    /// Makes deliveries due at `now` with a new schedule, and returns how many; those that wait are left alone.
    ///
    /// # Contract
    /// - A replayed delivery keeps its id and its log (`outbox_replay_keeps_identity`).
    async fn replay(&self, tenant: TenantId, selection: &ReplaySelection, now: Timestamp) -> Result<u64>;

    /// Counts the deliveries of a tenant.
    async fn counts(&self, tenant: TenantId) -> Result<DeliveryCounts>;

    /// Deletes deliveries of a tenant that were finished before `before`, with their logs, at most `limit` of them, and returns how many.
    ///
    /// # Contract
    /// - Nothing else goes, and fewer than `limit` only when nothing is left (`outbox_prunes`).
    async fn prune(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64>;

    /// Deletes every delivery of a tenant that is gone for good, waiting ones too, with their logs.
    ///
    /// # Contract
    /// - Afterwards no method finds anything of it, the leases that were held are lost, and other tenants have what they had
    ///   (`outbox_erase_leaves_nothing`).
    /// - It can be called again after a failure or a crash, and then finishes (`outbox_erase_leaves_nothing`).
    async fn erase(&self, tenant: TenantId) -> Result<()>;
}
