//! The record of an alert episode and its timeline.

use serde::{Deserialize, Serialize};

use super::{AlertChange, AlertSeverity, AlertState, Fingerprint, Labels, Muted, TransitionReason};
use crate::id::{AlertId, DeliveryId, RuleId, SilenceId, derive_uuid};
use crate::text::Text;
use crate::time::Timestamp;

/// What keeps the notifications of an open alert back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// A silence.
    Silence(SilenceId),
    /// Another alert that inhibits it.
    Inhibition(AlertId),
    /// The mute schedule with this name.
    MuteSchedule(Text),
    /// The rule's cooldown.
    Cooldown,
    /// The rule's hourly cap.
    HourlyCap,
}

impl From<Muted> for Suppression {
    fn from(muted: Muted) -> Self {
        match muted {
            Muted::Cooldown => Self::Cooldown,
            Muted::HourlyCap => Self::HourlyCap,
        }
    }
}

/// Somebody takes care: repeated notifications stop until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// Who.
    pub actor: Text,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Text>,
    /// When.
    pub at: Timestamp,
    /// When it ends by itself; `None`: with the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Who ended the episode by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManualResolution {
    /// Who.
    pub actor: Text,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Text>,
}

/// One episode of one instance of a rule, from pending to resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Identity of the episode.
    pub id: AlertId,
    /// The rule.
    pub rule: RuleId,
    /// The version of the rule that judged last.
    pub rule_version: u64,
    /// Name of the rule.
    pub rule_name: Text,
    /// Severity of the rule.
    pub severity: AlertSeverity,
    /// The instance.
    pub fingerprint: Fingerprint,
    /// Labels of the rule and of the group.
    pub labels: Labels,
    /// Texts for people.
    pub annotations: Labels,
    /// What is measured and the threshold, in words.
    pub summary: Text,
    /// The state.
    pub state: AlertState,
    /// The value that decided last.
    pub value: Option<f64>,
    /// Why the state is what it is.
    pub reason: TransitionReason,
    /// When the episode started, in the time of the events.
    pub started_at: Timestamp,
    /// When it fired first.
    pub fired_at: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// When the state changed last.
    pub updated_at: Timestamp,
    /// Number of the last transition that was applied.
    pub sequence: u32,
    /// Who ended it by hand.
    pub resolved_by: Option<ManualResolution>,
    /// Who takes care.
    pub acknowledgement: Option<Acknowledgement>,
    /// What keeps its notifications back.
    pub suppressed_by: Option<Suppression>,
    /// How many notifications were delivered.
    pub notifications_sent: u32,
    /// How many were given up.
    pub notification_failures: u32,
}

impl Alert {
    /// Returns the record after a change, and the entry that its timeline gets: none when the change did nothing, see
    /// [`Self::apply`].
    pub fn after(before: Option<Self>, change: &AlertChange) -> (Self, Option<TimelineEntry>) {
        let (alert, is_news) = match before {
            Some(mut alert) => {
                let is_news = alert.apply(change);
                (alert, is_news)
            }
            None => (Self::open(change), true),
        };
        (alert, is_news.then(|| TimelineEntry::of(change)))
    }

    /// Opens the record with the first change of an episode.
    pub fn open(change: &AlertChange) -> Self {
        let transition = &change.transition;
        let mut alert = Self {
            id: transition.alert,
            rule: transition.rule,
            rule_version: transition.rule_version,
            rule_name: change.rule_name.clone(),
            severity: change.severity,
            fingerprint: transition.fingerprint,
            labels: change.labels.clone(),
            annotations: change.annotations.clone(),
            summary: change.summary.clone(),
            state: transition.to,
            value: transition.value,
            reason: transition.reason,
            started_at: transition.started_at,
            fired_at: transition.fired_at,
            resolved_at: None,
            updated_at: transition.at,
            sequence: 0,
            resolved_by: None,
            acknowledgement: None,
            suppressed_by: None,
            notifications_sent: 0,
            notification_failures: 0,
        };
        alert.apply(change);
        alert
    }

    /// Applies a change and returns whether it did anything: one that was applied before, or that comes after the episode was
    /// resolved by hand, does not.
    pub fn apply(&mut self, change: &AlertChange) -> bool {
        let transition = &change.transition;
        if transition.sequence <= self.sequence {
            return false;
        }
        self.sequence = transition.sequence;
        if self.resolved_by.is_some() {
            return false;
        }
        self.rule_version = transition.rule_version;
        self.rule_name.clone_from(&change.rule_name);
        self.severity = change.severity;
        self.labels.clone_from(&change.labels);
        self.annotations.clone_from(&change.annotations);
        self.summary.clone_from(&change.summary);
        self.state = transition.to;
        self.value = transition.value;
        self.reason = transition.reason;
        self.fired_at = self.fired_at.or(transition.fired_at);
        self.resolved_at = (transition.to == AlertState::Resolved).then_some(transition.at);
        self.updated_at = transition.at;
        self.suppressed_by.clone_from(&change.suppressed_by);
        true
    }

    /// Applies what a person did and returns the entry for the timeline; `None` when it changes nothing, because the episode is
    /// over or has no acknowledgement to take back.
    pub fn act(&mut self, action: &AlertAction, now: Timestamp) -> Option<TimelineEntry> {
        if !self.state.is_open() {
            return None;
        }
        let (actor, note, kind) = match action {
            AlertAction::Acknowledge { actor, note, expires_at } => {
                self.acknowledgement = Some(Acknowledgement {
                    actor: actor.clone(),
                    note: note.clone(),
                    at: now,
                    expires_at: *expires_at,
                });
                (actor, note, TimelineKind::Acknowledged { expires_at: *expires_at })
            }
            AlertAction::Unacknowledge { actor } => {
                self.acknowledgement.take()?;
                (actor, &None, TimelineKind::Unacknowledged)
            }
            AlertAction::Resolve { actor, note } => {
                let from = self.state;
                self.state = AlertState::Resolved;
                self.reason = TransitionReason::ResolvedByHand;
                self.resolved_at = Some(now.max(self.started_at));
                self.resolved_by = Some(ManualResolution { actor: actor.clone(), note: note.clone() });
                let kind = TimelineKind::Transition {
                    from: Some(from),
                    to: AlertState::Resolved,
                    value: self.value,
                    reason: TransitionReason::ResolvedByHand,
                };
                (actor, note, kind)
            }
            AlertAction::Comment { actor, note } => {
                return Some(TimelineEntry::by(self.id, now, actor, Some(note), TimelineKind::Commented));
            }
        };
        self.updated_at = now;
        Some(TimelineEntry::by(self.id, now, actor, note.as_ref(), kind))
    }

    /// Returns how long it lasted, until `now` when it goes on.
    pub fn duration(&self, now: Timestamp) -> std::time::Duration {
        self.resolved_at.unwrap_or(now).since(self.fired_at.unwrap_or(self.started_at))
    }

    /// Returns whether somebody takes care at `now`.
    pub fn is_acknowledged(&self, now: Timestamp) -> bool {
        self.acknowledgement.as_ref().is_some_and(|ack| ack.expires_at.is_none_or(|expiry| now < expiry))
    }

    /// Returns the name of its state in `/api/v1`.
    pub fn v1_status(&self) -> &'static str {
        self.state.v1_name(self.suppressed_by.is_some())
    }
}

/// What a person can do to an open alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum AlertAction {
    /// Take care of it.
    Acknowledge {
        /// Who.
        actor: Text,
        /// Why.
        #[serde(default)]
        note: Option<Text>,
        /// When the acknowledgement ends by itself.
        #[serde(default)]
        expires_at: Option<Timestamp>,
    },
    /// Take the acknowledgement back.
    Unacknowledge {
        /// Who.
        actor: Text,
    },
    /// End the episode; a breach that goes on does not open a new one until it was over once.
    Resolve {
        /// Who.
        actor: Text,
        /// Why.
        #[serde(default)]
        note: Option<Text>,
    },
    /// Say something.
    Comment {
        /// Who.
        actor: Text,
        /// What.
        note: Text,
    },
}

/// What happened to an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum TimelineKind {
    /// Its state changed.
    Transition {
        /// The state before, `None` for the first.
        from: Option<AlertState>,
        /// The state after.
        to: AlertState,
        /// The value that decided.
        value: Option<f64>,
        /// Why.
        reason: TransitionReason,
    },
    /// Somebody acknowledged it.
    Acknowledged {
        /// Until when.
        expires_at: Option<Timestamp>,
    },
    /// The acknowledgement was taken back.
    Unacknowledged,
    /// Somebody said something.
    Commented,
    /// Its notifications are kept back.
    Suppressed {
        /// By what.
        by: Suppression,
    },
    /// A notification was delivered.
    Notified {
        /// The delivery.
        delivery: DeliveryId,
        /// Name of the channel.
        channel: Text,
    },
    /// A notification was given up.
    NotificationFailed {
        /// The delivery.
        delivery: DeliveryId,
        /// Name of the channel.
        channel: Text,
        /// Why, without secrets.
        error: Text,
    },
}

/// One entry in the timeline of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineEntry {
    /// Identity within the alert: an entry that is recorded again is the same entry.
    #[serde(with = "hex_id")]
    pub id: u128,
    /// The alert.
    pub alert: AlertId,
    /// When.
    pub at: Timestamp,
    /// Who; `None` for the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Text>,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Text>,
    /// What happened.
    pub kind: TimelineKind,
}

impl TimelineEntry {
    /// Records a transition of the engine.
    pub fn of(change: &AlertChange) -> Self {
        let transition = &change.transition;
        Self {
            id: derive_uuid(b"pulsestream.timeline.transition", &transition.sequence.to_be_bytes()),
            alert: transition.alert,
            at: transition.at,
            actor: None,
            note: None,
            kind: TimelineKind::Transition {
                from: transition.from,
                to: transition.to,
                value: transition.value,
                reason: transition.reason,
            },
        }
    }

    /// Records what a person did.
    pub fn by(alert: AlertId, at: Timestamp, actor: &Text, note: Option<&Text>, kind: TimelineKind) -> Self {
        let name = format!("{}/{actor}/{kind:?}/{note:?}", at.as_micros());
        let id = derive_uuid(b"pulsestream.timeline.action", name.as_bytes());
        Self { id, alert, at, actor: Some(actor.clone()), note: note.cloned(), kind }
    }

    /// Records what became of a delivery; there is one such entry per delivery and outcome.
    pub fn of_delivery(alert: AlertId, at: Timestamp, delivery: DeliveryId, kind: TimelineKind) -> Self {
        let namespace: &[u8] = match kind {
            TimelineKind::Notified { .. } => b"pulsestream.timeline.notified",
            _ => b"pulsestream.timeline.notification_failed",
        };
        let id = derive_uuid(namespace, &delivery.to_bytes());
        Self { id, alert, at, actor: None, note: None, kind }
    }
}

/// Serde form of 128 bits as 32 hexadecimal digits.
mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::text::Text;

    pub(super) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = Text::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}
