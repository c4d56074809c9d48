//! A group: alerts that share notifications, and when the next one is due.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::alerting::{AlertChange, ChannelRef, GroupTiming, Labels, Suppression};
use crate::id::AlertId;
use crate::ports::alert_store::AlertingConfig;
use crate::text::Text;
use crate::time::Timestamp;

/// The shortest time after which a group whose news is kept back looks again.
const MIN_RECHECK: Duration = Duration::from_secs(10);
/// How far ahead the end of a mute schedule is looked for.
const MUTE_HORIZON_MINUTES: u32 = 24 * 60;
const MINUTE: Duration = Duration::from_secs(60);

/// An alert of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Whether the channels know that it fires.
    pub(super) told: bool,
    /// The change that ended it.
    pub(super) over: Option<Box<AlertChange>>,
    /// What keeps it back, as its timeline says.
    pub(super) suppression_told: Option<Suppression>,
}

/// Alerts that share notifications.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) labels: Labels,
    pub(super) channels: Vec<ChannelRef>,
    pub(super) timing: GroupTiming,
    pub(super) mute_during: Vec<Text>,
    /// What opened the group: a group that opens again is another one.
    pub(super) opened_by: (AlertId, u32),
    /// How many notifications were sent.
    pub(super) notifications: u32,
    pub(super) last_sent: Option<Timestamp>,
    pub(super) due: Timestamp,
    pub(super) members: BTreeMap<AlertId, Member>,
}

impl Group {
    pub(super) fn new(target: &Target, change: &AlertChange, now: Timestamp) -> Self {
        Self {
            labels: target.labels.clone(),
            channels: Vec::new(),
            timing: target.timing,
            mute_during: Vec::new(),
            opened_by: (change.transition.alert, change.transition.sequence),
            notifications: 0,
            last_sent: None,
            due: now.plus(target.timing.group_wait),
            members: BTreeMap::new(),
        }
    }

    /// Takes over what the route says now.
    pub(super) fn follow(&mut self, target: Target) {
        self.channels = target.channels;
        self.timing = target.timing;
        self.mute_during = target.mute_during;
    }

    /// Makes the next notification due as soon as the group may send one: alerts that change together are told together.
    pub(super) fn has_news(&mut self, now: Timestamp) {
        let gathered = now.plus(self.timing.group_wait);
        let allowed = self.last_sent.map(|last_sent| last_sent.plus(self.timing.group_interval));
        self.due = self.due.min(allowed.map_or(gathered, |allowed| allowed.max(gathered)));
    }

    /// Looks again whether to repeat, because an acknowledgement came or went.
    pub(super) fn may_repeat(&mut self, now: Timestamp) {
        if let Some(last_sent) = self.last_sent {
            self.due = self.due.min(last_sent.plus(self.timing.repeat_interval).max(now));
        }
    }

    pub(super) fn recheck_interval(&self) -> Duration {
        self.timing.group_interval.max(MIN_RECHECK)
    }

    /// Returns the mute schedule that is active now.
    pub(super) fn active_schedule(&self, config: &AlertingConfig, now: Timestamp) -> Option<Suppression> {
        let schedules = &config.routing.mute_schedules;
        let mut named = self.mute_during.iter().filter(|name| {
            schedules.iter().any(|schedule| schedule.name == **name && schedule.is_active(now))
        });
        named.next().map(|name| Suppression::MuteSchedule(name.clone()))
    }

    /// Returns the first full minute at which no mute schedule is active, looking a day ahead.
    pub(super) fn unmuted_from(&self, config: &AlertingConfig, now: Timestamp) -> Timestamp {
        let mut at = now.floor(MINUTE);
        for _ in 0..MUTE_HORIZON_MINUTES {
            at = at.plus(MINUTE);
            if self.active_schedule(config, at).is_none() {
                break;
            }
        }
        at
    }
}
