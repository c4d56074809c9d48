//! The alert store port: rules, alerts, silences, channels and routes at rest.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::event_store::{Partition, Position};
use crate::alerting::{
    Alert, AlertAction, AlertChange, AlertSeverity, AlertState, Author, Channel, ConfigChange, ConfigObject,
    Delivery, Fingerprint, Matcher, Routing, Rule, Silence, TimelineEntry,
};
use crate::error::Result;
use crate::id::{AlertId, ChannelId, RuleId, SilenceId, TenantId};
use crate::text::Text;
use crate::time::{TimeRange, Timestamp};

/// What must be true of the stored version when something is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Nothing is there yet.
    Create,
    /// The version is this one.
    Replace {
        /// The version that was read.
        version: u64,
    },
    /// Whatever is there.
    Always,
}

/// Which rules to list; conditions that are `None` do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleQuery {
    /// Only those that are switched on, or off.
    pub is_active: Option<bool>,
    /// How many at most; 0 takes 100.
    pub limit: usize,
    /// How many to pass over first, for clients that count pages; prefer `after`.
    pub skip: usize,
    /// Where the last page ended.
    pub after: Option<RuleCursor>,
}

/// A place in the list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCursor {
    /// When the last one was created.
    pub created_at: Timestamp,
    /// The last one.
    pub id: RuleId,
}

/// One page of rules, in the order of their creation; ties ascend by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RulePage {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Where the next page continues; `None` when there is nothing after this one.
    pub next: Option<RuleCursor>,
    /// How many rules match on all pages.
    pub total: u64,
}

/// What a rule has done so far: from the alerts that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleActivity {
    /// How many episodes fired.
    pub total_fired: u64,
    /// When one fired last.
    pub last_fired_at: Option<Timestamp>,
}

/// Which alerts to list; conditions that are `None` or empty do not count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertQuery {
    /// Their states.
    pub states: Vec<AlertState>,
    /// Their severities.
    pub severities: Vec<AlertSeverity>,
    /// Only those that are suppressed, or not.
    pub suppressed: Option<bool>,
    /// Their rule.
    pub rule: Option<RuleId>,
    /// Their instance.
    pub fingerprint: Option<Fingerprint>,
    /// Matchers over their labels; all must match.
    pub labels: Vec<Matcher>,
    /// When they started.
    pub range: Option<TimeRange>,
    /// Whether resolved episodes that never fired appear too.
    pub include_unfired: bool,
    /// How many at most; 0 takes 100.
    pub limit: usize,
    /// How many to pass over first, for clients that count pages; prefer `after`.
    pub skip: usize,
    /// Where the last page ended.
    pub after: Option<AlertCursor>,
    /// Whether to count all matches.
    pub count_total: bool,
}

impl AlertQuery {
    /// Returns whether an alert is selected; limit, skip and cursor aside.
    pub fn selects(&self, alert: &Alert) -> bool {
        (self.states.is_empty() || self.states.contains(&alert.state))
            && (self.severities.is_empty() || self.severities.contains(&alert.severity))
            && self.suppressed.is_none_or(|wanted| wanted == alert.suppressed_by.is_some())
            && self.rule.is_none_or(|rule| rule == alert.rule)
            && self.fingerprint.is_none_or(|fingerprint| fingerprint == alert.fingerprint)
            && self.labels.iter().all(|matcher| matcher.matches(&alert.labels))
            && self.range.is_none_or(|range| range.contains(alert.started_at))
            && (self.include_unfired || alert.state.is_open() || alert.fired_at.is_some())
    }
}

/// A place in the list of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCursor {
    /// When the last one started.
    pub started_at: Timestamp,
    /// The last one.
    pub id: AlertId,
}

/// One page of alerts, those that started last first; ties descend by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<Alert>,
    /// Where the next page continues; `None` when there is nothing after this one.
    pub next: Option<AlertCursor>,
    /// How many match on all pages, when that was asked.
    pub total: Option<u64>,
}

/// How many alerts of one kind there are; resolved episodes that never fired do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertCount {
    /// Their state.
    pub state: AlertState,
    /// Their severity.
    pub severity: AlertSeverity,
    /// Whether they are suppressed.
    pub suppressed: bool,
    /// How many.
    pub count: u64,
}

/// Which changes of the configuration to list; conditions that are `None` do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConfigChangeQuery {
    /// Only those of one object.
    pub object: Option<ConfigObject>,
    /// Only those before this revision: where the last page ended.
    pub before: Option<u64>,
    /// How many at most; 0 takes 100.
    pub limit: usize,
}

/// One page of changes, the latest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigChangePage {
    /// The changes.
    pub changes: Vec<ConfigChange>,
    /// The `before` of the next page; `None` when there is nothing after this one.
    pub next: Option<u64>,
}

/// Everything that decides what is evaluated and who is told, read at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlertingConfig {
    /// Ascends with every change of anything below, and when a person acts on an alert.
    pub revision: u64,
    /// All rules, by id.
    pub rules: Vec<Rule>,
    /// All channels, by id.
    pub channels: Vec<Channel>,
    /// The silences that have not ended, by id.
    pub silences: Vec<Silence>,
    /// Routes, inhibitions and mute schedules.
    pub routing: Routing,
}

/// A processor's place in the log, with its state at that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Ascends by one with every commit of the processor on the partition, from 1.
    pub sequence: u64,
    /// Up to where events have taken effect.
    pub position: Position,
    /// The state to continue from.
    pub state: Vec<u8>,
    /// The highest fencing token that committed.
    pub fencing_token: u64,
}

/// Moves a processor on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointUpdate {
    /// Name of the processor, for example `alerting`; 1 to 64 bytes.
    pub processor: Text,
    /// Its partition.
    pub partition: Partition,
    /// The fencing token of its lease.
    pub fencing_token: u64,
    /// The checkpoint that this one follows; 0 for the first.
    pub after_sequence: u64,
    /// Up to where events have taken effect.
    pub position: Position,
    /// The state to continue from.
    pub state: Vec<u8>,
}

/// What a commit changes for one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantAlertChanges {
    /// The tenant.
    pub tenant: TenantId,
    /// Changes of alerts; those of one alert in the order of their sequence. Each that changes its alert also makes the timeline
    /// entry [`TimelineEntry::of`].
    pub alerts: Vec<AlertChange>,
    /// Further timeline entries.
    pub timeline: Vec<TimelineEntry>,
    /// Deliveries to put into the outbox; ids that are there already are passed over.
    pub deliveries: Vec<Delivery>,
}

/// The effects of some events, and the place in the log after them.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertCommit {
    /// Moves the processor on; what guards the commit.
    pub checkpoint: CheckpointUpdate,
    /// What changes, by tenant.
    pub changes: Vec<TenantAlertChanges>,
}

/// Whether a commit changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertCommitOutcome {
    /// It did.
    Committed,
    /// The very same commit was made before, and its answer was lost.
    Replayed,
}

/// Keeps rules, alerts, silences, channels and routes of all tenants.
///
/// Everything with a version is put by compare-and-set: the store sets `version` to one more than before and returns what it
/// keeps.
#[async_trait]
pub trait AlertStore: fmt::Debug + Send + Sync + 'static {
    /// Returns one rule.
    async fn rule(&self, tenant: TenantId, id: RuleId) -> Result<Option<Rule>>;

    /// Lists rules.
    async fn rules(&self, tenant: TenantId, query: &RuleQuery) -> Result<RulePage>;

    /// Puts a rule.
    ///
    /// # Contract
    /// - A version other than the one expected, or a name that another rule of the tenant has, fails with `Conflict`
    ///   (`rules_conflict_on_version`, `rules_conflict_on_name`).
    /// - Replacing what is not there fails with `NotFound` (`rules_replace_needs_one`).
    /// - Another tenant's rules neither appear nor clash (`rules_are_isolated`).
    async fn put_rule(&self, tenant: TenantId, rule: Rule, mode: PutMode, author: &Author) -> Result<Rule>;

    /// Deletes a rule and returns whether it was there; its alerts stay. With `expected` only that version is deleted.
    ///
    /// # Contract
    /// - A version other than `expected` fails with `Conflict` and stays, also when it was put at the same moment
    ///   (`deletes_conflict_on_version`).
    async fn delete_rule(
        &self,
        tenant: TenantId,
        id: RuleId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool>;

    /// Returns what rules have done so far, in the order of `rules`.
    async fn rule_activity(&self, tenant: TenantId, rules: &[RuleId]) -> Result<Vec<RuleActivity>>;

    /// Returns one alert.
    async fn alert(&self, tenant: TenantId, id: AlertId) -> Result<Option<Alert>>;

    /// Lists alerts.
    ///
    /// # Contract
    /// - Selects what [`AlertQuery::selects`] selects (`alerts_query_*`).
    /// - Following `next` visits each alert once, also while others start (`alerts_pages_are_complete`).
    async fn alerts(&self, tenant: TenantId, query: &AlertQuery) -> Result<AlertPage>;

    /// Counts alerts by state, severity and suppression.
    async fn alert_counts(&self, tenant: TenantId) -> Result<Vec<AlertCount>>;

    /// Applies what a person did, see [`Alert::act`], and returns the alert.
    ///
    /// # Contract
    /// - A concurrent transition of the engine is not lost, and does not undo the action (`alerts_actions_survive_the_engine`).
    /// - What the engine says of an episode that a person has resolved is in no timeline (`alerts_actions_survive_the_engine`).
    ///
    /// # Errors
    /// `NotFound` for an unknown alert; `Conflict` when the action does not apply to its state.
    async fn act_on_alert(
        &self,
        tenant: TenantId,
        id: AlertId,
        action: &AlertAction,
        now: Timestamp,
    ) -> Result<Alert>;

    /// Returns the timeline of an alert, oldest first, ties in the order of their recording; at most 1,000 entries, the latest.
    async fn timeline(&self, tenant: TenantId, id: AlertId) -> Result<Vec<TimelineEntry>>;

    /// Adds entries to timelines; those that are there already, and those of unknown alerts, are passed over. A `Notified` or
    /// `NotificationFailed` entry counts in its alert.
    ///
    /// # Contract
    /// - Adding an entry twice counts once (`timeline_counts_once`).
    async fn record_timeline(&self, tenant: TenantId, entries: Vec<TimelineEntry>) -> Result<()>;

    /// Deletes alerts that were resolved before `before`, with their timelines, at most `limit` of them, and returns how many.
    ///
    /// # Contract
    /// - Nothing else goes, and fewer than `limit` only when nothing is left (`alerts_are_pruned`).
    async fn prune_alerts(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64>;

    /// Returns the channels, by name.
    async fn channels(&self, tenant: TenantId) -> Result<Vec<Channel>>;

    /// Returns one channel.
    async fn channel(&self, tenant: TenantId, id: ChannelId) -> Result<Option<Channel>>;

    /// Puts a channel; fails as [`Self::put_rule`] does.
    async fn put_channel(
        &self,
        tenant: TenantId,
        channel: Channel,
        mode: PutMode,
        author: &Author,
    ) -> Result<Channel>;

    /// Deletes a channel and returns whether it was there; fails as [`Self::delete_rule`] does.
    async fn delete_channel(
        &self,
        tenant: TenantId,
        id: ChannelId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool>;

    /// Returns the silences that have not ended at `active_at`, or all, by their start, ties by id.
    async fn silences(&self, tenant: TenantId, active_at: Option<Timestamp>) -> Result<Vec<Silence>>;

    /// Returns one silence.
    async fn silence(&self, tenant: TenantId, id: SilenceId) -> Result<Option<Silence>>;

    /// Puts a silence; fails as [`Self::put_rule`] does.
    async fn put_silence(
        &self,
        tenant: TenantId,
        silence: Silence,
        mode: PutMode,
        author: &Author,
    ) -> Result<Silence>;

    /// Deletes a silence and returns whether it was there; fails as [`Self::delete_rule`] does.
    async fn delete_silence(
        &self,
        tenant: TenantId,
        id: SilenceId,
        expected: Option<u64>,
        author: &Author,
    ) -> Result<bool>;

    /// Returns routes, inhibitions and mute schedules; the default, version 0, when none were put.
    async fn routing(&self, tenant: TenantId) -> Result<Routing>;

    /// Puts routes, inhibitions and mute schedules; `Create` expects version 0.
    async fn put_routing(
        &self,
        tenant: TenantId,
        routing: Routing,
        mode: PutMode,
        author: &Author,
    ) -> Result<Routing>;

    /// Returns the log of changes to rules, channels, silences and routing, the latest first.
    ///
    /// # Contract
    /// - Every put and delete that changed something has its entry, in the same commit, with who, when, and the fields that are not
    ///   what they were; what was refused has none (`changes_tell_who_and_what`).
    /// - Following `next` visits each entry once (`changes_have_pages`).
    /// - Another tenant's changes do not appear (`changes_are_isolated`).
    async fn changes(&self, tenant: TenantId, query: &ConfigChangeQuery) -> Result<ConfigChangePage>;

    /// Deletes entries of the log from before `before`, the oldest first, at most `limit` of them, and returns how many.
    ///
    /// # Contract
    /// - Nothing else goes, and fewer than `limit` only when nothing is left (`changes_are_pruned`).
    async fn prune_changes(&self, tenant: TenantId, before: Timestamp, limit: usize) -> Result<u64>;

    /// Reads the whole configuration of a tenant at one moment; silences that ended before `now` are left out.
    async fn config(&self, tenant: TenantId, now: Timestamp) -> Result<AlertingConfig>;

    /// Returns the tenants of a partition that have configuration, with their revisions: the cheap question whether
    /// [`Self::config`] must be read again. It spans tenants and is for processors only.
    ///
    /// # Contract
    /// - The revision ascends with every put and delete, and with every action on an alert (`revision_ascends`).
    async fn revisions(&self, partition: Partition) -> Result<Vec<(TenantId, u64)>>;

    /// Returns the checkpoint of a processor on a partition.
    async fn checkpoint(&self, processor: &str, partition: Partition) -> Result<Option<Checkpoint>>;

    /// Applies the effects of events and moves the checkpoint on, together or not at all.
    ///
    /// Alerts are opened and changed with [`Alert::after`], so that what a person did meanwhile stays.
    ///
    /// # Contract
    /// - A fencing token below the highest seen fails with `Fenced` (`commit_refuses_old_tokens`).
    /// - `after_sequence` other than the stored sequence fails with `Conflict` (`commit_is_compare_and_set`).
    /// - The same commit again answers `Replayed` and changes nothing (`commit_twice_is_once`): the stored sequence is one more than
    ///   `after_sequence`, and token and position are those of the commit.
    /// - After a crash either everything is there or nothing (`commit_is_atomic`).
    /// - Changes of a tenant without any configuration are passed over: it was erased meanwhile (`erase_outlasts_commits`).
    async fn commit(&self, commit: AlertCommit) -> Result<AlertCommitOutcome>;

    /// Deletes everything of a tenant that is gone for good: rules, channels, silences, routing, the log of changes, the revision, and alerts
    /// with their timelines. Its deliveries go with [`Outbox::erase`](super::outbox::Outbox::erase), after this.
    ///
    /// # Contract
    /// - Afterwards no method finds anything of it, and other tenants have what they had (`erase_leaves_nothing`).
    /// - A commit that was prepared before brings nothing back (`erase_outlasts_commits`).
    /// - It can be called again after a failure or a crash, and then finishes (`erase_leaves_nothing`).
    async fn erase(&self, tenant: TenantId) -> Result<()>;
}
