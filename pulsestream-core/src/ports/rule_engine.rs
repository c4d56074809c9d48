//! The rule engine port: events and time in, transitions out.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::alerting::{AlertState, Fingerprint, Labels, Rule, Transition};
use crate::error::Result;
use crate::event::Event;
use crate::id::{AlertId, RuleId, TenantId};
use crate::time::{TimeRange, Timestamp};

/// Makes evaluations of rules. Pure: no input or output, no clock, no randomness.
pub trait RuleEngine: fmt::Debug + Send + Sync + 'static {
    /// Checks whether the engine can evaluate a rule.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    fn validate(&self, rule: &Rule) -> Result<()>;

    /// Returns how long after `advance` to a time its evaluations lag behind that time, for stragglers.
    fn settle(&self) -> Duration;

    /// Starts or continues the evaluation of the rules of one tenant.
    ///
    /// # Contract
    /// - Continuing from a snapshot gives the same transitions as never having stopped (`engine_restart_is_invisible`).
    ///
    /// # Errors
    /// `Corrupt` when the snapshot cannot be read; `Unsupported` when a newer release wrote it.
    fn start(
        &self,
        tenant: TenantId,
        rules: &[Rule],
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn RuleEvaluation>>;
}

/// An open episode, as the engine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenEpisode {
    /// The episode.
    pub alert: AlertId,
    /// The rule.
    pub rule: RuleId,
    /// The instance.
    pub fingerprint: Fingerprint,
}

/// The part of the past that a new rule starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedHistory {
    /// The rule.
    pub rule: RuleId,
    /// From when on its events happened.
    pub since: Timestamp,
    /// Up to when they were received: when the rule was made. What came later comes through the log, and is judged as it comes.
    pub until: Timestamp,
}

/// How many events an evaluation took and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EvaluationCounters {
    /// Events observed.
    pub events: u64,
    /// Events that matched a rule, counted once for each rule.
    pub matches: u64,
    /// Events that were older than the allowed lateness on arrival: they alert nobody.
    pub too_old: u64,
    /// Events that were late and counted in their windows still.
    pub late: u64,
    /// Events that went to an overflow instance, counted once for each rule.
    pub overflowed: u64,
    /// Instances held now.
    pub instances: u64,
}

/// Why an instance of a rule is in its state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The rule.
    pub rule: RuleId,
    /// The instance.
    pub fingerprint: Fingerprint,
    /// The labels of its group.
    pub group: Labels,
    /// Its state; `None` when inactive.
    pub state: Option<AlertState>,
    /// The open episode.
    pub alert: Option<AlertId>,
    /// Up to which time the instance was evaluated.
    pub evaluated_at: Option<Timestamp>,
    /// The window of the value.
    pub window: Option<TimeRange>,
    /// The value of that window.
    pub value: Option<f64>,
    /// What is measured and the threshold, in words.
    pub summary: String,
    /// Whether the value is a breach.
    pub breached: bool,
    /// When the state changes if nothing else happens: the end of `for` or of `keep_firing_for`.
    pub changes_at: Option<Timestamp>,
    /// The verdict in words.
    pub text: String,
}

/// The evaluation of the rules of one tenant.
///
/// # Contract
/// - Its output depends on the rules, the events and the times given only, and not on how events are cut into batches
///   (`engine_ignores_batches`).
/// - The same events in the same order give the same transitions with the same ids (`engine_is_deterministic`).
pub trait RuleEvaluation: fmt::Debug + Send + Sync {
    /// Replaces the rules and returns the transitions that follow: episodes of rules that are gone, switched off or judged in
    /// another way now are resolved. `now` is when the rules changed.
    fn set_rules(&mut self, rules: &[Rule], now: Timestamp) -> Vec<Transition>;

    /// Takes events in the order of the log and returns the transitions that they cause, in order.
    fn observe(&mut self, events: &[Event]) -> Vec<Transition>;

    /// Lets time pass up to `now`, when no event that was received earlier is still to come, and returns the transitions.
    fn advance(&mut self, now: Timestamp) -> Vec<Transition>;

    /// Ends the open episode of an instance because a person resolved it; a breach that goes on opens no new one until it was
    /// over once.
    fn resolve(&mut self, alert: AlertId, now: Timestamp) -> Vec<Transition>;

    /// Returns what new rules want to know of the past at `now`: the events of their first window. It ends when the rule was made,
    /// however late that is noticed, so that a breach in between is not missed; but not before what was observed already.
    fn wanted_history(&self, now: Timestamp) -> Vec<WantedHistory>;

    /// Gives a new rule the past that it wanted up to `until`, oldest event first, and returns the transitions that its first window
    /// causes. An event that [`Self::observe`] brings again, because the log had not delivered it yet, counts once.
    fn prime(&mut self, rule: RuleId, events: &[Event], until: Timestamp) -> Vec<Transition>;

    /// Returns the state to continue from, compact and complete.
    fn snapshot(&self) -> Vec<u8>;

    /// Returns the time by which `advance` should be called next; `None` when only an event can change something.
    fn next_due(&self) -> Option<Timestamp>;

    /// Returns the open episodes, by alert id.
    fn open_episodes(&self) -> Vec<OpenEpisode>;

    /// Returns what was counted since the start; counters are not part of a snapshot.
    fn counters(&self) -> EvaluationCounters;

    /// Returns the rules that had more groups than they may have, so that some share an instance, since the start.
    fn overflowing(&self) -> Vec<RuleId>;

    /// Explains one instance of a rule, or all of them, by fingerprint and at most `limit`.
    fn explain(&self, rule: RuleId, instance: Option<Fingerprint>, limit: usize) -> Vec<Explanation>;
}
