//! What a group that is due sends.

use std::collections::BTreeMap;

use super::group::Group;
use super::quiet::{Quiet, suppression_entry};
use super::{Tracked, matching_labels};
use crate::alerting::{
    Alert, AlertChange, AlertState, AlertSummary, Channel, Delivery, NotificationContent, NotificationKind,
    Plan, TimelineEntry, TimelineKind, content, find_channel,
};
use crate::id::AlertId;
use crate::ports::alert_store::AlertingConfig;
use crate::text::Text;
use crate::time::Timestamp;

/// Most alerts that one notification lists; it counts the others.
pub const MAX_GROUP_ALERTS: usize = 50;
/// Most names that the text of a notification about several alerts lists.
const MAX_LINES: usize = 10;

/// What a flush looks at.
#[derive(Debug)]
pub(super) struct Flush<'a> {
    pub(super) alerts: &'a BTreeMap<AlertId, Tracked>,
    pub(super) quiet: &'a Quiet<'a>,
    pub(super) config: &'a AlertingConfig,
    pub(super) server_channels: &'a [Channel],
    pub(super) now: Timestamp,
}

/// The members of a group that are not kept back.
#[derive(Debug, Default)]
struct Heard<'a> {
    firing: Vec<&'a AlertChange>,
    ended: Vec<&'a AlertChange>,
    /// What the channels do not know yet.
    new_kinds: Vec<NotificationKind>,
    can_repeat: bool,
}

impl Flush<'_> {
    /// Sends what a group has to tell, and decides when it is due again.
    pub(super) fn group(&self, key: &Text, group: &mut Group, plan: &mut Plan) {
        if let Some(schedule) = group.active_schedule(self.config, self.now) {
            for (id, member) in &mut group.members {
                let Some(tracked) = self.alerts.get(id) else { continue };
                if !member.told && member.suppression_told.as_ref() != Some(&schedule) {
                    plan.timeline.push(suppression_entry(&tracked.change, &schedule, self.now));
                    member.suppression_told = Some(schedule.clone());
                }
            }
            group.due = group.unmuted_from(self.config, self.now);
            return;
        }
        let mut members = std::mem::take(&mut group.members);
        let mut heard = Heard::default();
        let mut told = Vec::new();
        for (id, member) in &mut members {
            let (change, labels) = match (&member.over, self.alerts.get(id)) {
                (Some(over), _) => (&**over, matching_labels(over)),
                (None, Some(tracked)) => (&tracked.change, tracked.labels.clone()),
                (None, None) => continue,
            };
            if let Some(by) = self.quiet.of(*id, &labels) {
                if member.over.is_none() && member.suppression_told.as_ref() != Some(&by) {
                    plan.timeline.push(suppression_entry(change, &by, self.now));
                    member.suppression_told = Some(by);
                }
                continue;
            }
            member.suppression_told = None;
            told.push(*id);
            if member.over.is_some() {
                let kind = if member.told { NotificationKind::Resolved } else { NotificationKind::Firing };
                heard.new_kinds.push(kind);
            } else if !member.told {
                let is_no_data = change.transition.to == AlertState::NoData;
                heard.new_kinds.push(if is_no_data {
                    NotificationKind::NoData
                } else {
                    NotificationKind::Firing
                });
            } else {
                heard.can_repeat |=
                    self.alerts.get(id).is_some_and(|tracked| !tracked.is_acknowledged(self.now));
            }
        }
        for id in &told {
            match members.get(id).and_then(|member| member.over.as_deref()) {
                Some(over) => heard.ended.push(over),
                None => heard.firing.extend(self.alerts.get(id).map(|tracked| &tracked.change)),
            }
        }
        if let Some(kind) = kind(&heard, group, self.now) {
            self.send(key, group, &heard, kind, plan);
            group.last_sent = Some(self.now);
            group.notifications += 1;
        }
        for id in told {
            if let Some(member) = members.get_mut(&id) {
                member.told = true;
            }
        }
        members.retain(|id, member| member.over.is_none() && self.alerts.contains_key(id));
        group.members = members;
        group.due = self.next_due(group);
    }

    fn send(&self, key: &Text, group: &Group, heard: &Heard<'_>, kind: NotificationKind, plan: &mut Plan) {
        let mut channels: Vec<&Channel> = Vec::new();
        for reference in &group.channels {
            match find_channel(reference, self.config, self.server_channels) {
                Some(channel) if channel.disabled.is_none() => {
                    channels.extend(
                        Some(channel).filter(|it| kind != NotificationKind::Resolved || it.send_resolved),
                    );
                }
                Some(channel) => {
                    self.note_unsent(group, heard, kind, &channel.name, "the channel is disabled", plan);
                }
                None => {
                    let why = "there is no channel of this name";
                    self.note_unsent(group, heard, kind, reference.as_str(), why, plan);
                }
            }
        }
        channels.sort_by_key(|channel| channel.id);
        channels.dedup_by_key(|channel| channel.id);
        let content = group_content(group, heard, kind);
        let (alert, sequence) = group.opened_by;
        for channel in channels {
            let id = Delivery::id_for(&[
                b"group",
                key.as_bytes(),
                &alert.to_bytes(),
                &sequence.to_be_bytes(),
                &group.notifications.to_be_bytes(),
                &channel.id.to_bytes(),
            ]);
            let name = channel.name.clone();
            plan.deliveries.push(Delivery::new(id, channel.id, name, content.clone(), self.now, self.now));
        }
    }

    /// Notes in the timelines that somebody who should be told is not, because the channel cannot be used.
    fn note_unsent(
        &self,
        group: &Group,
        heard: &Heard<'_>,
        kind: NotificationKind,
        channel: &str,
        why: &str,
        plan: &mut Plan,
    ) {
        for change in changes_of(heard, kind) {
            let alert = change.transition.alert;
            let id = Delivery::id_for(&[
                b"unsent",
                &alert.to_bytes(),
                &group.notifications.to_be_bytes(),
                channel.as_bytes(),
            ]);
            let failed =
                TimelineKind::NotificationFailed { delivery: id, channel: channel.into(), error: why.into() };
            plan.timeline.push(TimelineEntry::of_delivery(alert, self.now, id, failed));
        }
    }

    fn next_due(&self, group: &Group) -> Timestamp {
        let recheck = self.now.plus(group.recheck_interval());
        if group.members.values().any(|member| member.suppression_told.is_some()) {
            return recheck;
        }
        let Some(last_sent) = group.last_sent else { return recheck };
        let repeat = last_sent.plus(group.timing.repeat_interval);
        let due_of = |id: &AlertId| match self.alerts.get(id).and_then(|tracked| tracked.acknowledged) {
            None => Some(repeat),
            Some(expiry) => expiry.map(|expiry| repeat.max(expiry)),
        };
        let idle = self.now.plus(group.timing.repeat_interval);
        group.members.keys().filter_map(due_of).min().unwrap_or(idle).max(self.now.plus(super::flush::TICK))
    }
}

/// The shortest time between two looks at a group.
pub(super) const TICK: std::time::Duration = std::time::Duration::from_secs(1);

/// Returns what a group has to tell; `None` when it is nothing.
fn kind(heard: &Heard<'_>, group: &Group, now: Timestamp) -> Option<NotificationKind> {
    let has = |kind| heard.new_kinds.contains(&kind);
    if has(NotificationKind::Firing) {
        return Some(NotificationKind::Firing);
    }
    if has(NotificationKind::NoData) {
        return Some(NotificationKind::NoData);
    }
    if has(NotificationKind::Resolved) {
        return Some(NotificationKind::Resolved);
    }
    let repeat_due = group.last_sent?.plus(group.timing.repeat_interval) <= now;
    (repeat_due && heard.can_repeat).then_some(NotificationKind::Repeat)
}

/// Returns the alerts that a notification is about.
fn changes_of<'a>(heard: &Heard<'a>, kind: NotificationKind) -> Vec<&'a AlertChange> {
    match kind {
        NotificationKind::Resolved => heard.ended.clone(),
        NotificationKind::Repeat => heard.firing.clone(),
        _ => heard.firing.iter().chain(&heard.ended).copied().collect(),
    }
}

/// Says what a notification about a group says; one about a single alert says what that alert says.
fn group_content(group: &Group, heard: &Heard<'_>, kind: NotificationKind) -> NotificationContent {
    let changes = changes_of(heard, kind);
    let omitted = changes.len().saturating_sub(MAX_GROUP_ALERTS);
    let alerts: Vec<AlertSummary> =
        changes.iter().take(MAX_GROUP_ALERTS).map(|change| summary(change)).collect();
    if let [change] = changes[..] {
        return NotificationContent { alerts, group: group.labels.clone(), ..content(change, kind) };
    }
    let place: Vec<String> = group.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    let count = changes.len();
    let title = match kind {
        NotificationKind::Resolved => format!("{count} alerts are resolved{place}"),
        NotificationKind::NoData => format!("{count} alerts have no data{place}"),
        NotificationKind::Repeat => format!("{count} alerts are still firing{place}"),
        _ => format!("{count} alerts are firing{place}"),
    };
    let mut lines: Vec<Text> =
        changes.iter().take(MAX_LINES).map(|change| content(change, kind_of(change)).title).collect();
    if count > MAX_LINES {
        lines.push(Text::from(format!("and {} more", count - MAX_LINES)));
    }
    let message = lines.join("\n");
    let omitted = u32::try_from(omitted).unwrap_or(u32::MAX);
    NotificationContent {
        kind,
        title: title.into(),
        message: message.into(),
        group: group.labels.clone(),
        alerts,
        omitted,
    }
}

fn summary(change: &AlertChange) -> AlertSummary {
    (&Alert::open(change)).into()
}

fn kind_of(change: &AlertChange) -> NotificationKind {
    match change.transition.to {
        AlertState::Resolved => NotificationKind::Resolved,
        AlertState::NoData => NotificationKind::NoData,
        _ => NotificationKind::Firing,
    }
}
