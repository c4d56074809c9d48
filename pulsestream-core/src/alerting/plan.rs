//! The seam between transitions and deliveries: who is told what, and when.

use std::collections::BTreeMap;
use std::fmt;

use super::{
    Acknowledgement, Alert, AlertChange, AlertState, Channel, ChannelRef, Delivery, NotificationContent,
    NotificationKind, TimelineEntry,
};
use crate::error::Result;
use crate::id::{AlertId, TenantId};
use crate::ports::alert_store::AlertingConfig;
use crate::text::Text;
use crate::time::Timestamp;

/// What planning decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What is to be delivered.
    pub deliveries: Vec<Delivery>,
    /// What people should read in the timelines, besides the transitions.
    pub timeline: Vec<TimelineEntry>,
}

impl Plan {
    /// Adds another plan to this one.
    pub fn extend(&mut self, other: Self) {
        self.deliveries.extend(other.deliveries);
        self.timeline.extend(other.timeline);
    }

    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.timeline.is_empty()
    }
}

/// Makes the planners of tenants.
pub trait PlannerFactory: fmt::Debug + Send + Sync + 'static {
    /// Starts or continues the planning for one tenant.
    ///
    /// # Errors
    /// `Corrupt` when the snapshot cannot be read; `Unsupported` when a newer release wrote it.
    fn start(&self, tenant: TenantId, snapshot: Option<&[u8]>) -> Result<Box<dyn Planner>>;
}

/// Turns the changes of one tenant's alerts into deliveries. Pure: its output depends on what it was given only, its state is
/// committed together with that output, and the ids of deliveries are derived from what caused them.
pub trait Planner: fmt::Debug + Send + Sync {
    /// Takes changes, in order. It may set [`AlertChange::suppressed_by`].
    fn plan(&mut self, changes: &mut [AlertChange], config: &AlertingConfig, now: Timestamp) -> Plan;

    /// Lets time pass up to `now`, and takes a changed configuration into account.
    fn advance(&mut self, config: &AlertingConfig, now: Timestamp) -> Plan;

    /// Learns which open alerts somebody takes care of: all of them, each time one is acknowledged or not any more.
    fn follow(&mut self, acknowledged: &BTreeMap<AlertId, Acknowledgement>, now: Timestamp);

    /// Returns when `advance` has something to do; `None` when only a change can cause it.
    fn next_due(&self) -> Option<Timestamp>;

    /// Returns the state to continue from.
    fn snapshot(&self) -> Vec<u8>;
}

/// Plans one delivery for each channel and each transition that people should hear of, due at once.
#[derive(Debug, Clone, Default)]
pub struct DirectPlanner {
    server_channels: Vec<Channel>,
}

impl DirectPlanner {
    /// Creates a planner; `server_channels` are used under names that a tenant has not configured.
    pub fn new(server_channels: Vec<Channel>) -> Self {
        Self { server_channels }
    }
}

impl PlannerFactory for DirectPlanner {
    fn start(&self, _tenant: TenantId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Planner>> {
        Ok(Box::new(self.clone()))
    }
}

impl Planner for DirectPlanner {
    fn plan(&mut self, changes: &mut [AlertChange], config: &AlertingConfig, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        for change in &*changes {
            plan.deliveries.extend(plan_notifications(change, config, &self.server_channels, now));
        }
        plan
    }

    fn advance(&mut self, _config: &AlertingConfig, _now: Timestamp) -> Plan {
        Plan::default()
    }

    fn follow(&mut self, _acknowledged: &BTreeMap<AlertId, Acknowledgement>, _now: Timestamp) {}

    fn next_due(&self) -> Option<Timestamp> {
        None
    }

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Returns one delivery for each channel that should hear of a change, due at `now`; none when the change is no news, or muted.
pub fn plan_notifications(
    change: &AlertChange,
    config: &AlertingConfig,
    server_channels: &[Channel],
    now: Timestamp,
) -> Vec<Delivery> {
    let Some(kind) = news(change) else { return Vec::new() };
    let rule = config.rules.iter().find(|rule| rule.id == change.transition.rule);
    let own = rule.map(|rule| rule.channels.as_slice()).filter(|channels| !channels.is_empty());
    let references = own.or(config.routing.root.channels.as_deref()).unwrap_or_default();
    let mut channels: Vec<&Channel> = references
        .iter()
        .filter_map(|reference| find_channel(reference, config, server_channels))
        .filter(|channel| channel.disabled.is_none())
        .filter(|channel| kind != NotificationKind::Resolved || channel.send_resolved)
        .collect();
    channels.sort_by_key(|channel| channel.id);
    channels.dedup_by_key(|channel| channel.id);
    let content = content(change, kind);
    let transition = &change.transition;
    channels
        .into_iter()
        .map(|channel| {
            let id = Delivery::id_for_transition(transition.alert, transition.sequence, channel.id);
            Delivery::new(id, channel.id, channel.name.clone(), content.clone(), now, now)
        })
        .collect()
}

/// Returns the channel that a reference means: the tenant's own, or the server's.
pub fn find_channel<'a>(
    reference: &ChannelRef,
    config: &'a AlertingConfig,
    server_channels: &'a [Channel],
) -> Option<&'a Channel> {
    config.channels.iter().chain(server_channels).find(|channel| channel.is_called(reference))
}

/// Returns what people should hear of a change; `None` when it is no news for them, or muted.
pub fn news(change: &AlertChange) -> Option<NotificationKind> {
    let transition = &change.transition;
    if change.suppressed_by.is_some() || transition.muted.is_some() {
        return None;
    }
    let was_told = transition.fired_at.is_some() || transition.from == Some(AlertState::NoData);
    match transition.to {
        AlertState::Firing if transition.from != Some(AlertState::Recovering) => {
            Some(NotificationKind::Firing)
        }
        AlertState::NoData => Some(NotificationKind::NoData),
        AlertState::Resolved if was_told => Some(NotificationKind::Resolved),
        _ => None,
    }
}

/// Returns what a notification about one change says.
pub fn content(change: &AlertChange, kind: NotificationKind) -> NotificationContent {
    let alert = Alert::open(change);
    let what = match kind {
        NotificationKind::Resolved => "is resolved",
        NotificationKind::NoData => "has no data",
        _ => "is firing",
    };
    let group: Vec<String> =
        change.transition.group.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let place = if group.is_empty() { String::new() } else { format!(" ({})", group.join(", ")) };
    let annotation = |name: &str| change.annotations.get(name).filter(|text| !text.is_empty()).cloned();
    let title =
        annotation("title").unwrap_or_else(|| Text::from(format!("{}{place} {what}", change.rule_name)));
    let message = annotation("message").unwrap_or_else(|| {
        let value = change.transition.value.map(|value| format!(", value {value}")).unwrap_or_default();
        Text::from(format!("{}{value}", change.summary))
    });
    NotificationContent {
        kind,
        title,
        message,
        group: change.transition.group.clone(),
        alerts: vec![(&alert).into()],
        omitted: 0,
    }
}
