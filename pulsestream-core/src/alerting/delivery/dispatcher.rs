//! Takes due deliveries out of the outbox and hands them to notifiers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::gate::{Allowance, Gate, Passage};
use super::health::has_failed_for_days;
use super::operational::{Incident, tell_others};
use super::{guarded, next_attempt};
use crate::alerting::{
    Author, Channel, ChannelDisabled, Delivery, NotificationKind, TimelineEntry, TimelineKind, incident,
};
use crate::env::Env;
use crate::error::{ErrorKind, Result};
use crate::id::TenantId;
use crate::ports::alert_store::{AlertStore, PutMode};
use crate::ports::event_store::EventStore;
use crate::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use crate::ports::outbox::{AttemptRecord, Disposition, LeaseOptions, LeasedDelivery, Outbox, RecordOutcome};
use crate::text::Text;
use crate::time::Timestamp;

/// After how many failed attempts of a schedule, two and a half hours, the past of the channel is looked at.
const LONG_FAILURE: u32 = 5;

/// How the dispatcher works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatcherSettings {
    /// How long nobody else tries a delivery: longer than any notifier's deadline.
    pub lease_ttl: Duration,
    /// How many deliveries of one channel may be under way at once.
    pub max_per_channel: usize,
    /// How many attempts this process makes at one channel in a minute, at least 1; further ones take turns.
    pub attempts_per_minute: u32,
    /// How many of them may be made without a wait, at least 1.
    pub burst: u32,
    /// After how many failures in a row, at least 1, a channel pauses: 30 s, then twice as long each time, at most 5 minutes, until an
    /// attempt succeeds.
    pub failures_before_pause: u32,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(60),
            max_per_channel: 4,
            attempts_per_minute: 600,
            burst: 100,
            failures_before_pause: 5,
        }
    }
}

/// What the dispatcher works with.
#[derive(Debug, Clone)]
pub struct DispatcherParts {
    /// Where the deliveries are.
    pub outbox: Arc<dyn Outbox>,
    /// Where channels and timelines are.
    pub alerts: Arc<dyn AlertStore>,
    /// Where incidents are told as events of their tenant.
    pub events: Arc<dyn EventStore>,
    /// What delivers, one for each kind of channel.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// Channels of the server, for rules whose tenant has none of that name.
    pub server_channels: Vec<Channel>,
    /// Time and randomness.
    pub env: Env,
    /// Unique for each process: holds the leases.
    pub holder: Text,
}

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// How many attempts were made.
    pub attempts: usize,
    /// When the next delivery is due; `None` when nothing waits.
    pub next_due: Option<Timestamp>,
}

/// Delivers what is due. It has no timer and spawns nothing: whoever drives it leases with [`lease_due`](Self::lease_due) and
/// makes the attempts side by side, or calls [`step`](Self::step).
#[derive(Debug)]
pub struct Dispatcher {
    parts: DispatcherParts,
    notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    settings: DispatcherSettings,
    gate: Gate,
}

impl Dispatcher {
    /// Creates a dispatcher; of two notifiers of one kind the later counts.
    pub fn new(parts: DispatcherParts, settings: DispatcherSettings) -> Self {
        let notifiers =
            parts.notifiers.iter().map(|notifier| (notifier.kind().to_owned(), notifier.clone())).collect();
        let DispatcherSettings { attempts_per_minute, burst, failures_before_pause, .. } = settings;
        let gate = Gate::new(Allowance { attempts_per_minute, burst, failures_before_pause });
        Self { parts, notifiers, settings, gate }
    }

    /// Leases up to `limit` due deliveries of tenants that are not among those with enough under way.
    ///
    /// # Errors
    /// Those of the outbox.
    pub async fn lease_due(&self, limit: usize, full: BTreeSet<TenantId>) -> Result<Vec<LeasedDelivery>> {
        let options = LeaseOptions {
            holder: self.parts.holder.clone(),
            now: self.parts.env.now(),
            limit,
            ttl: self.settings.lease_ttl,
            max_per_channel: self.settings.max_per_channel,
            full,
        };
        self.parts.outbox.lease(&options).await
    }

    /// Returns when the next delivery is due.
    ///
    /// # Errors
    /// Those of the outbox.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.parts.outbox.next_due().await
    }

    /// Leases up to `limit` due deliveries and makes one attempt for each, one after the other.
    ///
    /// # Errors
    /// Those of the stores. A delivery whose result was not recorded is tried again, under the same id.
    pub async fn step(&self, limit: usize) -> Result<Dispatched> {
        let leased = self.lease_due(limit, BTreeSet::new()).await?;
        let attempts = leased.len();
        for delivery in leased {
            self.attempt(delivery).await?;
        }
        Ok(Dispatched { attempts, next_due: self.next_due().await? })
    }

    /// Makes one attempt at a leased delivery and records what became of it.
    ///
    /// # Errors
    /// Those of the stores. The receiver may have the notification then; the next attempt has the same id.
    pub async fn attempt(&self, leased: LeasedDelivery) -> Result<()> {
        let LeasedDelivery { tenant, delivery, lease_token, .. } = leased;
        let at = self.parts.env.now();
        let channel = self.channel(tenant, &delivery).await?;
        let (disposition, report) = match channel {
            None => (Disposition::Cancelled, None),
            Some(channel) if channel.disabled.is_some() => (Disposition::Cancelled, None),
            Some(channel) => {
                let pass = match self.gate.enter(tenant, &channel, delivery.id, at) {
                    Ok(pass) => pass,
                    Err(turn) => return self.postpone(tenant, &delivery, lease_token, at, turn).await,
                };
                let report = self.deliver(tenant, &delivery, channel.clone(), at).await;
                let passage = match &report.outcome {
                    DeliveryOutcome::RetryAfter { .. } => Passage::Failed,
                    _ => Passage::Open,
                };
                pass.leave(passage, self.parts.env.now());
                let (disposition, incident) =
                    self.judge(tenant, &delivery, &channel, &report.outcome, at).await?;
                if let (Some(incident), Some(reason)) = (incident, report.outcome.error()) {
                    // Before the result is recorded: after a crash in between it is told again, under the same ids.
                    let others = self.parts.alerts.channels(tenant).await?;
                    let news = tell_others(incident, &delivery, &channel, &others, reason, at);
                    self.parts.outbox.enqueue(tenant, news).await?;
                    self.tell(incident, tenant, &delivery, &channel, reason, at).await;
                }
                (disposition, Some(report))
            }
        };
        let finished =
            matches!(disposition, Disposition::Delivered | Disposition::Dead | Disposition::Cancelled);
        let error = report.as_ref().and_then(|report| report.outcome.error().cloned());
        let delivered = disposition == Disposition::Delivered;
        let record = AttemptRecord { tenant, delivery: delivery.id, lease_token, at, disposition, report };
        let outcome = self.parts.outbox.record(vec![record]).await?;
        if finished && outcome.first() == Some(&RecordOutcome::Recorded) {
            self.tell_timelines(tenant, &delivery, delivered, error, at).await?;
        }
        Ok(())
    }

    /// Tells an incident as an event of the tenant; tests are none.
    async fn tell(
        &self,
        incident: Incident,
        tenant: TenantId,
        delivery: &Delivery,
        channel: &Channel,
        reason: &str,
        at: Timestamp,
    ) {
        let told = match incident {
            _ if delivery.content.kind == NotificationKind::Test => return,
            Incident::Disabled => incident::Incident::ChannelDisabled { channel, reason },
            Incident::GivenUp => incident::Incident::DeliveryGivenUp { channel, delivery, reason },
        };
        incident::tell(&*self.parts.events, tenant, &[told], at).await;
    }

    /// Puts a delivery back until its turn; its schedule does not move on.
    async fn postpone(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        lease_token: u64,
        at: Timestamp,
        turn: Timestamp,
    ) -> Result<()> {
        let disposition = Disposition::Postponed(turn);
        let record =
            AttemptRecord { tenant, delivery: delivery.id, lease_token, at, disposition, report: None };
        self.parts.outbox.record(vec![record]).await.map(drop)
    }

    async fn channel(&self, tenant: TenantId, delivery: &Delivery) -> Result<Option<Channel>> {
        if let Some(channel) = self.parts.alerts.channel(tenant, delivery.channel).await? {
            return Ok(Some(channel));
        }
        Ok(self.parts.server_channels.iter().find(|channel| channel.id == delivery.channel).cloned())
    }

    async fn deliver(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        channel: Channel,
        at: Timestamp,
    ) -> DeliveryReport {
        let kind = channel.config.kind();
        let Some(notifier) = self.notifiers.get(kind) else {
            return guarded::failure(format!("this server has no notifier for channels of type `{kind}`"));
        };
        let attempt = delivery.attempts + 1;
        let notification = Notification { tenant, delivery: delivery.clone(), channel, attempt, at };
        guarded::deliver(&**notifier, &notification).await
    }

    async fn judge(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        channel: &Channel,
        outcome: &DeliveryOutcome,
        at: Timestamp,
    ) -> Result<(Disposition, Option<Incident>)> {
        match outcome {
            DeliveryOutcome::Delivered => Ok((Disposition::Delivered, None)),
            DeliveryOutcome::Permanent { .. } => Ok((Disposition::Dead, Some(Incident::GivenUp))),
            DeliveryOutcome::Disable { error } => {
                self.disable(tenant, channel, error, at).await?;
                Ok((Disposition::Dead, Some(Incident::Disabled)))
            }
            DeliveryOutcome::RetryAfter { after, error } => {
                let failed = delivery.schedule_position + 1;
                if failed >= LONG_FAILURE
                    && has_failed_for_days(&*self.parts.outbox, tenant, channel, at).await?
                {
                    let reason = Text::from(format!("it failed for five days, at last with: {error}"));
                    self.disable(tenant, channel, &reason, at).await?;
                    return Ok((Disposition::Dead, Some(Incident::Disabled)));
                }
                Ok(match next_attempt(failed, *after, &self.parts.env)? {
                    Some(wait) => (Disposition::RetryAt(at.plus(wait)), None),
                    None => (Disposition::Dead, Some(Incident::GivenUp)),
                })
            }
        }
    }

    /// Disables a channel, unless it was changed meanwhile: then the change is to be tried first.
    async fn disable(&self, tenant: TenantId, channel: &Channel, reason: &Text, at: Timestamp) -> Result<()> {
        let mut disabled = channel.clone();
        disabled.disabled = Some(ChannelDisabled { at, reason: reason.clone() });
        disabled.updated_at = at;
        let mode = PutMode::Replace { version: channel.version };
        match self.parts.alerts.put_channel(tenant, disabled, mode, &Author::server(at)).await {
            Ok(_) => {
                tracing::warn!(%tenant, channel = %channel.name, %reason, "a notification channel was disabled");
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn tell_timelines(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        delivered: bool,
        error: Option<Text>,
        at: Timestamp,
    ) -> Result<()> {
        let channel = delivery.channel_name.clone();
        let kind = if delivered {
            TimelineKind::Notified { delivery: delivery.id, channel }
        } else {
            let error = error.unwrap_or_else(|| Text::from("the channel was deleted or disabled"));
            TimelineKind::NotificationFailed { delivery: delivery.id, channel, error }
        };
        let entries: Vec<_> = delivery
            .content
            .alerts
            .iter()
            .map(|alert| TimelineEntry::of_delivery(alert.id, at, delivery.id, kind.clone()))
            .collect();
        if entries.is_empty() { Ok(()) } else { self.parts.alerts.record_timeline(tenant, entries).await }
    }
}
