//! The evaluation of the rules of one tenant.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::EngineSettings;
use super::explain::explain_series;
use super::group::decode_labels;
use super::index::RuleIndex;
use super::machine::{Change, FOREVER, NEVER};
use super::program::Program;
use super::tracker::{Orphan, Tracker, read_orphans};
use crate::alerting::codec::{Reader, Writer};
use crate::alerting::{Fingerprint, Labels, Rule, Transition, TransitionReason, alert_id};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::{AlertId, RuleId, TenantId};
use crate::ports::rule_engine::{
    EvaluationCounters, Explanation, OpenEpisode, RuleEvaluation, WantedHistory,
};
use crate::time::{Timestamp, micros};

/// Version of the snapshot format.
const FORMAT: u64 = 1;

/// When an instance must be looked at: due, rule, fingerprint, slot. The fingerprint makes the order of one instant the same
/// after a restart, when slots are others.
type Timer = Reverse<(i64, u32, Fingerprint, u32)>;

/// Evaluates rules incrementally, on the time of the events.
#[derive(Debug)]
pub(super) struct StreamingEvaluation {
    tenant: TenantId,
    settle: i64,
    allowed_lateness: i64,
    max_instances: u32,
    /// Active rules by id.
    rules: Vec<Tracker>,
    index: RuleIndex,
    /// For each rule the composite rules that name it.
    dependents: Vec<Vec<u32>>,
    timers: BinaryHeap<Timer>,
    /// The latest arrival: of an event, or of the time itself.
    arrival: i64,
    counters: EvaluationCounters,
    /// Transitions that restoring a snapshot caused; the next call returns them.
    backlog: Vec<Transition>,
    hashes: Vec<u64>,
    candidates: Vec<u32>,
}

impl StreamingEvaluation {
    pub(super) fn new(tenant: TenantId, settings: &EngineSettings, rules: &[Rule]) -> Self {
        let mut evaluation = Self {
            tenant,
            settle: micros(settings.settle),
            allowed_lateness: micros(settings.allowed_lateness),
            max_instances: settings.max_instances.max(1),
            rules: Vec::new(),
            index: RuleIndex::default(),
            dependents: Vec::new(),
            timers: BinaryHeap::new(),
            arrival: NEVER,
            counters: EvaluationCounters::default(),
            backlog: Vec::new(),
            hashes: Vec::new(),
            candidates: Vec::new(),
        };
        evaluation.rules = trackers(rules, evaluation.max_instances);
        evaluation.rebuild();
        evaluation
    }

    /// Continues from a snapshot.
    pub(super) fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let mut input = Reader::new(snapshot);
        let format = input.unsigned()?;
        if format != FORMAT {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "rule_engine.start",
                "another release wrote the snapshot of the rule engine",
            )
            .with_context("format", format));
        }
        self.arrival = input.signed()?;
        let mut orphans = Vec::new();
        for _ in 0..input.length(16)? {
            let id = RuleId::from_bytes(input.array()?);
            let version = input.unsigned()?;
            let definition = u128::from_le_bytes(input.array()?);
            let paths = read_paths(&mut input)?;
            let mut state = Reader::new(input.sized()?);
            match self.rules.iter_mut().find(|tracker| tracker.compiled.rule.id == id) {
                Some(tracker) if tracker.compiled.definition == definition => tracker.read(&mut state)?,
                found => {
                    let reason = match found {
                        Some(_) => TransitionReason::RuleChanged,
                        None => TransitionReason::RuleRemoved,
                    };
                    let ended = read_orphans(&mut state)?;
                    orphans
                        .extend(ended.into_iter().map(|orphan| (id, version, paths.clone(), orphan, reason)));
                }
            }
        }
        if !input.is_empty() {
            return Err(input.corrupt());
        }
        for (rule, version, paths, orphan, reason) in orphans {
            let transition = end_orphan(self.tenant, rule, version, &paths, orphan, self.arrival, reason);
            self.backlog.extend(transition);
        }
        self.rebuild();
        Ok(())
    }

    /// Makes everything that is derived from the rules again.
    fn rebuild(&mut self) {
        self.index = RuleIndex::new((0..).zip(self.rules.iter().map(|tracker| &tracker.compiled.rule)));
        let positions: HashMap<RuleId, usize> =
            self.rules.iter().enumerate().map(|(at, tracker)| (tracker.compiled.rule.id, at)).collect();
        self.dependents = vec![Vec::new(); self.rules.len()];
        for (at, tracker) in (0..).zip(&self.rules) {
            if let Program::Composite(expression) = &tracker.compiled.program {
                expression.for_each_rule(&mut |id| {
                    if let Some(position) = positions.get(&id)
                        && !self.dependents[*position].contains(&at)
                    {
                        self.dependents[*position].push(at);
                    }
                });
            }
        }
        self.timers.clear();
        for rule in 0..u32::try_from(self.rules.len()).unwrap_or(0) {
            for slot in 0..u32::try_from(self.rules[rule as usize].series.len()).unwrap_or(0) {
                if let Some(Some(series)) = self.rules[rule as usize].series.get_mut(slot as usize) {
                    (series.due, series.queued) = (FOREVER, FOREVER);
                }
                self.schedule(rule, slot);
            }
        }
        self.begin();
    }

    /// Makes the instances of rules without groups, once the time is known.
    fn begin(&mut self) {
        if self.arrival == NEVER {
            return;
        }
        let at = self.arrival.saturating_sub(self.settle);
        for rule in 0..u32::try_from(self.rules.len()).unwrap_or(0) {
            if let Some(slot) = self.rules[rule as usize].begin(at) {
                self.schedule(rule, slot);
            }
        }
    }

    fn schedule(&mut self, rule: u32, slot: u32) {
        let tracker = &mut self.rules[rule as usize];
        let Some(Some(series)) = tracker.series.get_mut(slot as usize) else { return };
        let due = series.next_due(&tracker.compiled);
        series.due = due;
        if due < series.queued {
            series.queued = due;
            self.timers.push(Reverse((due, rule, series.fingerprint, slot)));
        }
    }

    /// Moves the arrival on.
    fn arrive(&mut self, at: i64, out: &mut Vec<Transition>) {
        out.append(&mut self.backlog);
        if self.arrival == NEVER {
            self.arrival = at;
            self.begin();
        }
        self.arrival = self.arrival.max(at);
        self.run_timers(self.arrival.saturating_sub(self.settle), out);
    }

    fn run_timers(&mut self, limit: i64, out: &mut Vec<Transition>) {
        while let Some(Reverse((due, rule, fingerprint, slot))) =
            self.timers.peek().copied().filter(|timer| timer.0.0 <= limit)
        {
            self.timers.pop();
            let tracker = &mut self.rules[rule as usize];
            let series = tracker.series.get_mut(slot as usize).and_then(Option::as_mut);
            let current = series.filter(|series| series.queued == due && series.fingerprint == fingerprint);
            let Some(series) = current else { continue };
            series.queued = FOREVER;
            if series.due > due {
                // It moved on since the timer was set.
                self.schedule(rule, slot);
                continue;
            }
            let fired_before = tracker.firing;
            tracker.run(slot, due, self.tenant, out);
            self.schedule(rule, slot);
            self.follow(rule, fired_before, due, out);
        }
    }

    fn apply(&mut self, rule: u32, event: &Event, at: i64, out: &mut Vec<Transition>) {
        let tracker = &mut self.rules[rule as usize];
        if !tracker.compiled.rule.filter.matches(event) || !tracker.follows(event, at, self.arrival) {
            return;
        }
        let fired_before = tracker.firing;
        let observed = tracker.observe(event, at, self.tenant, out);
        self.counters.matches += 1;
        self.counters.late += u64::from(observed.is_late);
        self.counters.overflowed += u64::from(observed.overflowed);
        self.schedule(rule, observed.slot);
        self.follow(rule, fired_before, at, out);
    }

    /// Evaluates the composite rules that name `rule`, when it began or ceased to fire.
    fn follow(&mut self, rule: u32, fired_before: u32, at: i64, out: &mut Vec<Transition>) {
        let fires = self.rules[rule as usize].firing > 0;
        if fires == (fired_before > 0) {
            return;
        }
        for position in 0..self.dependents[rule as usize].len() {
            let composite = self.dependents[rule as usize][position];
            self.evaluate_composite(composite, at, out);
        }
    }

    fn evaluate_composite(&mut self, rule: u32, at: i64, out: &mut Vec<Transition>) {
        let Program::Composite(expression) = &self.rules[rule as usize].compiled.program else { return };
        let fires = |id: RuleId| {
            let found = self.rules.binary_search_by_key(&id, |tracker| tracker.compiled.rule.id);
            found.is_ok_and(|position| self.rules[position].firing > 0)
        };
        let truth = expression.holds(&fires);
        let slot = self.rules[rule as usize].set_truth(truth, at, self.tenant, out);
        self.schedule(rule, slot);
    }
}

impl RuleEvaluation for StreamingEvaluation {
    fn set_rules(&mut self, rules: &[Rule], now: Timestamp) -> Vec<Transition> {
        let mut out = std::mem::take(&mut self.backlog);
        let mut before: HashMap<RuleId, Tracker> = std::mem::take(&mut self.rules)
            .into_iter()
            .map(|tracker| (tracker.compiled.rule.id, tracker))
            .collect();
        let mut after = trackers(rules, self.max_instances);
        let mut ended = Vec::new();
        for tracker in &mut after {
            match before.remove(&tracker.compiled.rule.id) {
                Some(old) if old.compiled.definition == tracker.compiled.definition => tracker.adopt(old),
                Some(old) => ended.push((old, TransitionReason::RuleChanged)),
                None => {}
            }
        }
        ended.extend(before.into_values().map(|old| (old, TransitionReason::RuleRemoved)));
        ended.sort_by_key(|(old, _)| old.compiled.rule.id);
        for (mut old, reason) in ended {
            for slot in old.open_slots() {
                old.end(slot, now.as_micros(), reason, self.tenant, &mut out);
            }
        }
        self.rules = after;
        self.rebuild();
        if self.arrival != NEVER {
            for rule in 0..u32::try_from(self.rules.len()).unwrap_or(0) {
                self.evaluate_composite(rule, now.as_micros(), &mut out);
            }
        }
        out
    }

    fn observe(&mut self, events: &[Event]) -> Vec<Transition> {
        let mut out = Vec::new();
        let mut candidates = std::mem::take(&mut self.candidates);
        let mut hashes = std::mem::take(&mut self.hashes);
        for event in events {
            self.counters.events += 1;
            let received_at = event.received_at.as_micros();
            if received_at > self.arrival || !self.backlog.is_empty() {
                self.arrive(received_at, &mut out);
            }
            // An event from the future happened when it was received.
            let at = event.timestamp.as_micros().min(received_at);
            if received_at.saturating_sub(at) > self.allowed_lateness {
                self.counters.too_old += 1;
                continue;
            }
            candidates.clear();
            self.index.candidates(event, &mut hashes, |rule| candidates.push(rule));
            for rule in &candidates {
                self.apply(*rule, event, at, &mut out);
            }
        }
        self.candidates = candidates;
        self.hashes = hashes;
        out
    }

    fn advance(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut out = Vec::new();
        self.arrive(now.as_micros(), &mut out);
        out
    }

    fn resolve(&mut self, alert: AlertId, now: Timestamp) -> Vec<Transition> {
        let mut out = std::mem::take(&mut self.backlog);
        let Some(episode) = self.open_episodes().into_iter().find(|episode| episode.alert == alert) else {
            return out;
        };
        let found = (0..).zip(&self.rules).find(|(_, tracker)| tracker.compiled.rule.id == episode.rule);
        let Some((rule, tracker)) = found else { return out };
        let matches = |slot: &u32| {
            tracker.series[*slot as usize]
                .as_ref()
                .is_some_and(|series| series.fingerprint == episode.fingerprint)
        };
        let Some(slot) = tracker.open_slots().into_iter().find(matches) else { return out };
        let tracker = &mut self.rules[rule as usize];
        let fired_before = tracker.firing;
        tracker.end(slot, now.as_micros(), TransitionReason::ResolvedByHand, self.tenant, &mut out);
        self.schedule(rule, slot);
        self.follow(rule, fired_before, now.as_micros(), &mut out);
        out
    }

    fn wanted_history(&self, now: Timestamp) -> Vec<WantedHistory> {
        let span = |tracker: &Tracker| {
            let span = tracker.compiled.history_span().unwrap_or(0);
            Duration::from_micros(u64::try_from(span).unwrap_or(0))
        };
        self.rules
            .iter()
            .filter(|tracker| tracker.wants_history)
            .map(|tracker| {
                let until = tracker
                    .made_at
                    .map_or(now, |made_at| Timestamp::from_micros(made_at.max(self.arrival)).min(now));
                let since = until.minus(span(tracker));
                WantedHistory { rule: tracker.compiled.rule.id, since, until }
            })
            .collect()
    }

    fn prime(&mut self, rule: RuleId, events: &[Event], until: Timestamp) -> Vec<Transition> {
        let mut out = std::mem::take(&mut self.backlog);
        let Ok(position) = self.rules.binary_search_by_key(&rule, |tracker| tracker.compiled.rule.id) else {
            return out;
        };
        let lateness = self.allowed_lateness;
        let tracker = &mut self.rules[position];
        let fired_before = tracker.firing;
        let past = events.iter().filter_map(|event| {
            let received_at = event.received_at.as_micros();
            let at = event.timestamp.as_micros().min(received_at);
            (received_at.saturating_sub(at) <= lateness).then_some((event, at))
        });
        tracker.prime(past, until.as_micros(), self.tenant, &mut out);
        let slots = u32::try_from(tracker.series.len()).unwrap_or(0);
        let rule = u32::try_from(position).unwrap_or(0);
        (0..slots).for_each(|slot| self.schedule(rule, slot));
        self.follow(rule, fired_before, until.as_micros(), &mut out);
        out
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.unsigned(FORMAT);
        out.signed(self.arrival);
        out.unsigned(self.rules.len() as u64);
        for tracker in &self.rules {
            let rule = &tracker.compiled.rule;
            out.bytes(&rule.id.to_bytes());
            out.unsigned(rule.version);
            out.bytes(&tracker.compiled.definition.to_le_bytes());
            out.unsigned(rule.group_by.len() as u64);
            rule.group_by.iter().for_each(|path| out.sized(path.to_string().as_bytes()));
            let mut state = Writer::default();
            tracker.write(&mut state);
            out.sized(&state.into_bytes());
        }
        out.into_bytes()
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.timers.peek().map(|Reverse((due, ..))| due.saturating_add(self.settle));
        due.map(Timestamp::from_micros)
    }

    fn open_episodes(&self) -> Vec<OpenEpisode> {
        let mut open: Vec<OpenEpisode> = Vec::new();
        for tracker in &self.rules {
            let rule = tracker.compiled.rule.id;
            for series in tracker.series.iter().flatten() {
                if let Some(episode) = &series.machine.episode {
                    let fingerprint = series.fingerprint;
                    let started_at = Timestamp::from_micros(episode.started_at);
                    let alert = alert_id(self.tenant, rule, fingerprint, started_at);
                    open.push(OpenEpisode { alert, rule, fingerprint });
                }
            }
        }
        open.sort_by_key(|episode| episode.alert);
        open
    }

    fn counters(&self) -> EvaluationCounters {
        let instances = self.rules.iter().map(|tracker| tracker.instances() as u64).sum();
        EvaluationCounters { instances, ..self.counters }
    }

    fn overflowing(&self) -> Vec<RuleId> {
        let rules = self.rules.iter().filter(|tracker| tracker.has_overflowed);
        rules.map(|tracker| tracker.compiled.rule.id).collect()
    }

    fn explain(&self, rule: RuleId, instance: Option<Fingerprint>, limit: usize) -> Vec<Explanation> {
        let Ok(position) = self.rules.binary_search_by_key(&rule, |tracker| tracker.compiled.rule.id) else {
            return Vec::new();
        };
        let tracker = &self.rules[position];
        let mut series: Vec<_> = tracker.series.iter().flatten().collect();
        series.retain(|series| instance.is_none_or(|wanted| wanted == series.fingerprint));
        series.sort_by_key(|series| series.fingerprint);
        series.truncate(limit);
        let now = self.arrival.saturating_sub(self.settle);
        let explained = series.into_iter();
        explained.map(|series| explain_series(self.tenant, &tracker.compiled, series, now)).collect()
    }
}

fn trackers(rules: &[Rule], max_instances: u32) -> Vec<Tracker> {
    let active = rules.iter().filter(|rule| rule.is_active);
    let mut trackers: Vec<Tracker> = active.map(|rule| Tracker::new(rule, max_instances)).collect();
    trackers.sort_by_key(|tracker| tracker.compiled.rule.id);
    trackers.dedup_by_key(|tracker| tracker.compiled.rule.id);
    trackers
}

fn read_paths(input: &mut Reader<'_>) -> Result<Vec<crate::event::FieldPath>> {
    let count = input.length(1)?;
    (0..count)
        .map(|_| {
            let text = std::str::from_utf8(input.sized()?).ok().and_then(|text| text.parse().ok());
            text.ok_or_else(|| input.corrupt())
        })
        .collect()
}

/// Ends the episode of an instance whose rule is gone or judges in another way now.
fn end_orphan(
    tenant: TenantId,
    rule: RuleId,
    rule_version: u64,
    paths: &[crate::event::FieldPath],
    mut orphan: Orphan,
    at: i64,
    reason: TransitionReason,
) -> Option<Transition> {
    let since = orphan.machine.episode.as_ref()?.since;
    let mut changes: Vec<Change> = Vec::new();
    orphan.machine.end(at.max(since), reason, &mut changes);
    let change = changes.pop()?;
    let started_at = Timestamp::from_micros(change.started_at);
    let group: Labels = decode_labels(paths, &orphan.key);
    Some(Transition {
        alert: alert_id(tenant, rule, orphan.fingerprint, started_at),
        sequence: change.sequence,
        rule,
        rule_version,
        fingerprint: orphan.fingerprint,
        group,
        from: change.from,
        to: change.to,
        at: Timestamp::from_micros(change.at),
        started_at,
        fired_at: (change.fired_at != NEVER).then(|| Timestamp::from_micros(change.fired_at)),
        value: None,
        reason,
        muted: change.muted,
    })
}
