//! The planner of the product: routes, groups, waits, repeats, silences, inhibition and mute schedules.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::flush::Flush;
use self::group::{Group, Member};
use self::quiet::{Quiet, suppression_entry};
use self::target::targets;
use super::template::{self, MAX_OUTPUT_BYTES};
use crate::alerting::{
    Acknowledgement, AlertChange, AlertState, Channel, Labels, Muted, Plan, Planner, PlannerFactory,
    Suppression,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{AlertId, TenantId};
use crate::ports::alert_store::AlertingConfig;
use crate::text::Text;
use crate::time::Timestamp;

mod flush;
mod group;
mod quiet;
mod target;
#[cfg(test)]
mod tests;

pub use flush::MAX_GROUP_ALERTS;

/// Version of the snapshots.
const FORMAT: u32 = 1;

/// Plans notifications by the routes of the tenant: alerts are gathered into groups, wait for company, are repeated while they
/// last, and are kept back by silences, inhibitions and mute schedules.
///
/// A rule with channels of its own is told there; the first route that matches still says how. Changed routes apply to alerts that
/// fire afterwards; silences, schedules, inhibitions and channels apply at once. Where no route says by which labels alerts are
/// grouped, those of one rule share a notification.
#[derive(Debug, Clone)]
pub struct GroupingPlanner {
    server_channels: Arc<[Channel]>,
    max_template_output_bytes: usize,
}

impl GroupingPlanner {
    /// Creates a planner; `server_channels` are used under names that a tenant has not configured.
    pub fn new(server_channels: Vec<Channel>) -> Self {
        Self { server_channels: server_channels.into(), max_template_output_bytes: MAX_OUTPUT_BYTES }
    }

    /// Sets how much one template may write.
    #[must_use]
    pub fn with_max_template_output_bytes(mut self, bytes: usize) -> Self {
        self.max_template_output_bytes = bytes;
        self
    }
}

impl PlannerFactory for GroupingPlanner {
    fn start(&self, _tenant: TenantId, snapshot: Option<&[u8]>) -> Result<Box<dyn Planner>> {
        let state = match snapshot.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => read_state(bytes)?,
            None => State::default(),
        };
        let (server_channels, max_template_output_bytes) =
            (self.server_channels.clone(), self.max_template_output_bytes);
        Ok(Box::new(TenantPlanner { server_channels, max_template_output_bytes, state }))
    }
}

fn read_state(bytes: &[u8]) -> Result<State> {
    let damaged = |error: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, "planner.start", "a snapshot of the planner is damaged")
            .with_context("cause", error)
    };
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format != FORMAT {
        let message = "another release wrote the snapshot of the planner";
        return Err(
            Error::new(ErrorKind::Unsupported, "planner.start", message).with_context("format", format)
        );
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// An alert that fires, with or without notifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tracked {
    /// The last change.
    change: AlertChange,
    /// What matchers see: its labels, and `rule`, `rule_id` and `severity`.
    labels: Labels,
    /// Somebody takes care until then; the inner `None` is for as long as it lasts.
    acknowledged: Option<Option<Timestamp>>,
}

impl Tracked {
    fn is_acknowledged(&self, now: Timestamp) -> bool {
        self.acknowledged.is_some_and(|expiry| expiry.is_none_or(|expiry| now < expiry))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    format: u32,
    /// The configuration that was seen last.
    revision: u64,
    /// Alerts that fire.
    alerts: BTreeMap<AlertId, Tracked>,
    /// Groups with something to tell, now or later, by their keys.
    groups: BTreeMap<Text, Group>,
}

impl Default for State {
    fn default() -> Self {
        Self { format: FORMAT, revision: 0, alerts: BTreeMap::new(), groups: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct TenantPlanner {
    server_channels: Arc<[Channel]>,
    max_template_output_bytes: usize,
    state: State,
}

/// Returns what matchers see of an alert.
fn matching_labels(change: &AlertChange) -> Labels {
    let mut labels = change.labels.clone();
    labels.insert("rule".into(), change.rule_name.clone());
    labels.insert("rule_id".into(), change.transition.rule.to_string().into());
    labels.insert("severity".into(), change.severity.as_str().into());
    labels
}

impl TenantPlanner {
    /// Takes one change; returns what is to be read in the timeline.
    fn take(&mut self, change: &mut AlertChange, config: &AlertingConfig, now: Timestamp, plan: &mut Plan) {
        template::render_annotations(change, self.max_template_output_bytes);
        let transition = &change.transition;
        let (id, to) = (transition.alert, transition.to);
        let was_told = transition.fired_at.is_some() || transition.from == Some(AlertState::NoData);
        match to {
            AlertState::Pending => {}
            AlertState::Firing | AlertState::NoData | AlertState::Recovering => {
                let labels = matching_labels(change);
                let is_news = to == AlertState::NoData
                    || (to == AlertState::Firing && transition.from != Some(AlertState::Recovering));
                let acknowledged = self.state.alerts.get(&id).and_then(|tracked| tracked.acknowledged);
                let tracked = Tracked { change: change.clone(), labels, acknowledged };
                self.state.alerts.insert(id, tracked);
                if let Some(muted) = transition.muted {
                    if is_news {
                        plan.timeline.push(suppression_entry(change, &muted.into(), now));
                    }
                } else {
                    if is_news {
                        self.join(id, config, now, false);
                    }
                    change.suppressed_by = self.suppressed_by(id, config, now);
                    if let Some(by) = &change.suppressed_by
                        && is_news
                    {
                        plan.timeline.push(suppression_entry(change, by, now));
                        self.mark_suppression_told(id, by);
                    }
                }
                if let Some(tracked) = self.state.alerts.get_mut(&id) {
                    tracked.change = change.clone();
                }
            }
            AlertState::Resolved => {
                let known = self.state.alerts.remove(&id).is_some();
                if !was_told || transition.muted.is_some() {
                    self.forget(id);
                } else if known {
                    self.end(id, change, now);
                } else {
                    let labels = matching_labels(change);
                    let tracked = Tracked { change: change.clone(), labels, acknowledged: None };
                    self.state.alerts.insert(id, tracked);
                    self.join(id, config, now, true);
                    self.state.alerts.remove(&id);
                    self.end(id, change, now);
                }
            }
        }
    }

    /// Puts an alert into the groups of its routes; `told`: its channels know of it already.
    fn join(&mut self, id: AlertId, config: &AlertingConfig, now: Timestamp, told: bool) {
        let Some(tracked) = self.state.alerts.get(&id) else { return };
        for target in targets(&tracked.change, &tracked.labels, config) {
            let group = self
                .state
                .groups
                .entry(target.key.clone())
                .or_insert_with(|| Group::new(&target, &tracked.change, now));
            group.follow(target);
            group.members.insert(id, Member { told, ..Member::default() });
            group.has_news(now);
        }
    }

    fn end(&mut self, id: AlertId, change: &AlertChange, now: Timestamp) {
        for group in self.state.groups.values_mut() {
            if let Some(member) = group.members.get_mut(&id) {
                member.over = Some(Box::new(change.clone()));
                group.has_news(now);
            }
        }
    }

    fn forget(&mut self, id: AlertId) {
        for group in self.state.groups.values_mut() {
            group.members.remove(&id);
        }
        self.state.groups.retain(|_, group| !group.members.is_empty());
    }

    fn suppressed_by(&self, id: AlertId, config: &AlertingConfig, now: Timestamp) -> Option<Suppression> {
        let tracked = self.state.alerts.get(&id)?;
        if let Some(Muted::Cooldown | Muted::HourlyCap) = tracked.change.transition.muted {
            return tracked.change.transition.muted.map(Suppression::from);
        }
        let quiet = Quiet::new(config, &self.state.alerts, now);
        quiet.of(id, &tracked.labels).or_else(|| {
            let mut groups = self.state.groups.values().filter(|group| group.members.contains_key(&id));
            let first = groups.next()?.active_schedule(config, now)?;
            groups.all(|group| group.active_schedule(config, now).is_some()).then_some(first)
        })
    }

    fn mark_suppression_told(&mut self, id: AlertId, by: &Suppression) {
        for group in self.state.groups.values_mut() {
            if let Some(member) = group.members.get_mut(&id) {
                member.suppression_told = Some(by.clone());
            }
        }
    }

    /// Takes a changed configuration into account.
    fn reconsider(&mut self, config: &AlertingConfig, now: Timestamp) {
        if self.state.revision == config.revision {
            return;
        }
        self.state.revision = config.revision;
        let is_watched = |tracked: &Tracked| {
            let rule = tracked.change.transition.rule;
            config.rules.iter().any(|known| known.id == rule && known.is_active)
        };
        let gone: Vec<_> =
            self.state.alerts.iter().filter(|(_, tracked)| !is_watched(tracked)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(mut tracked) = self.state.alerts.remove(&id) {
                tracked.change.transition.to = AlertState::Resolved;
                tracked.change.transition.at = now;
                self.end(id, &tracked.change, now);
            }
        }
        for group in self.state.groups.values_mut() {
            if group.members.values().any(|member| !member.told || member.over.is_some()) {
                group.has_news(now);
            }
        }
    }

    /// Sends what is due.
    fn flush(&mut self, config: &AlertingConfig, now: Timestamp, plan: &mut Plan) {
        let due: Vec<Text> = self
            .state
            .groups
            .iter()
            .filter(|(_, group)| group.due <= now)
            .map(|(key, _)| key.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        let quiet = Quiet::new(config, &self.state.alerts, now);
        let flush = Flush {
            alerts: &self.state.alerts,
            quiet: &quiet,
            config,
            server_channels: &self.server_channels,
            now,
        };
        for key in due {
            if let Some(group) = self.state.groups.get_mut(&key) {
                flush.group(&key, group, plan);
                if group.members.is_empty() {
                    self.state.groups.remove(&key);
                }
            }
        }
    }
}

impl Planner for TenantPlanner {
    fn plan(&mut self, changes: &mut [AlertChange], config: &AlertingConfig, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        for change in changes {
            self.take(change, config, now, &mut plan);
        }
        self.flush(config, now, &mut plan);
        plan
    }

    fn advance(&mut self, config: &AlertingConfig, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        self.reconsider(config, now);
        self.flush(config, now, &mut plan);
        plan
    }

    fn follow(&mut self, acknowledged: &BTreeMap<AlertId, Acknowledgement>, now: Timestamp) {
        for (id, tracked) in &mut self.state.alerts {
            let acknowledgement = acknowledged.get(id).map(|acknowledgement| acknowledgement.expires_at);
            if tracked.acknowledged != acknowledgement {
                tracked.acknowledged = acknowledgement;
                for group in self.state.groups.values_mut() {
                    if group.members.contains_key(id) {
                        group.may_repeat(now);
                    }
                }
            }
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.state.groups.values().map(|group| group.due).min()
    }

    fn snapshot(&self) -> Vec<u8> {
        // Maps with text keys and plain data: there is nothing in them that JSON cannot say.
        serde_json::to_vec(&self.state).unwrap_or_default()
    }
}
