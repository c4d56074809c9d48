//! The evaluation of the rules of one tenant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use super::EngineSettings;
use super::explain::explain_series;
use super::group::decode_labels;
use super::index::RuleIndex;
use super::machine::{Change, FOREVER, NEVER};
use super::named::NamedRules;
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

/// Version of the snapshot format. The first one said nothing of the rules that composites name.
const FORMAT: u64 = 2;

/// When an instance must be looked at: due, whether its rule is composite, rule, fingerprint, slot. Composites come after the rules that
/// they name. The fingerprint makes the order of one instant the same after a restart, when slots are others.
type Timer = Reverse<(i64, bool, u32, Fingerprint, u32)>;

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
    named: NamedRules,
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
            named: NamedRules::default(),
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
        if !(1..=FORMAT).contains(&format) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "rule_engine.start",
                "another release wrote the snapshot of the rule engine",
            )
            .with_context("format", format));
        }
        self.arrival = input.signed()?;
        let (mut orphans, mut gone) = (Vec::new(), Vec::new());
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
                    gone.push(id);
                    let ended = read_orphans(&mut state)?;
                    orphans
                        .extend(ended.into_iter().map(|orphan| (id, version, paths.clone(), orphan, reason)));
                }
            }
        }
        self.named = if format > 1 { NamedRules::read(&mut input)? } else { NamedRules::default() };
        if !input.is_empty() {
            return Err(input.corrupt());
        }
        gone.into_iter().for_each(|rule| self.named.forget(rule));
        for (rule, version, paths, orphan, reason) in orphans {
            let transition = end_orphan(self.tenant, rule, version, &paths, orphan, self.arrival, reason);
            self.backlog.extend(transition);
        }
        self.rebuild();
        let mut backlog = std::mem::take(&mut self.backlog);
        if self.arrival != NEVER {
            self.evaluate_composites(self.arrival, &mut backlog);
        }
        self.backlog = backlog;
        Ok(())
    }

    /// Makes everything that is derived from the rules again.
    fn rebuild(&mut self) {
        let rules = (0..).zip(self.rules.iter().map(|tracker| &tracker.compiled));
        let followers = rules.filter(|(_, compiled)| !compiled.is_composite());
        self.index = RuleIndex::new(followers.map(|(number, compiled)| (number, &compiled.rule)));
        self.watch_named_rules();
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

    fn watch_named_rules(&mut self) {
        let mut composites: BTreeMap<RuleId, Vec<u32>> = BTreeMap::new();
        for (at, tracker) in (0..).zip(&self.rules) {
            if let Program::Composite(expression) = &tracker.compiled.program {
                expression.for_each_rule(&mut |id| composites.entry(id).or_default().push(at));
            }
        }
        for tracker in &mut self.rules {
            tracker.is_named =
                !tracker.compiled.is_composite() && composites.contains_key(&tracker.compiled.rule.id);
        }
        let rules = &self.rules;
        let firing =
            |id| rules.iter().find(|tracker| tracker.compiled.rule.id == id).map_or(0, Tracker::firing);
        self.named.watch(composites, firing);
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
            let is_composite = tracker.compiled.is_composite();
            self.timers.push(Reverse((due, is_composite, rule, series.fingerprint, slot)));
        }
    }

    /// Moves the arrival on.
    fn arrive(&mut self, at: i64, out: &mut Vec<Transition>) {
        out.append(&mut self.backlog);
        if self.arrival == NEVER {
            self.arrival = at;
            self.begin();
            self.evaluate_composites(at.saturating_sub(self.settle), out);
        }
        self.arrival = self.arrival.max(at);
        self.run_timers(self.arrival.saturating_sub(self.settle), out);
    }

    /// Lets everything happen up to `limit`, in the order of time.
    fn run_timers(&mut self, limit: i64, out: &mut Vec<Transition>) {
        loop {
            let timer = self
                .timers
                .peek()
                .map_or((FOREVER, true), |Reverse((due, is_composite, ..))| (*due, *is_composite));
            let change = (self.named.next(), true);
            if timer.0.min(change.0) > limit {
                return;
            }
            if timer < change {
                self.run_timer(out);
            } else {
                for composite in self.named.settle(change.0) {
                    self.evaluate_composite(composite, change.0, out);
                }
            }
        }
    }

    fn run_timer(&mut self, out: &mut Vec<Transition>) {
        let Some(Reverse((due, _, rule, fingerprint, slot))) = self.timers.pop() else { return };
        let tracker = &mut self.rules[rule as usize];
        let series = tracker.series.get_mut(slot as usize).and_then(Option::as_mut);
        let current = series.filter(|series| series.queued == due && series.fingerprint == fingerprint);
        let Some(series) = current else { return };
        series.queued = FOREVER;
        // A series whose deadline moved on since the timer was set only gets another timer.
        if series.due <= due {
            tracker.run(slot, due, self.tenant, out);
            self.follow(rule);
        }
        self.schedule(rule, slot);
    }

    fn apply(&mut self, rule: u32, event: &Event, at: i64, out: &mut Vec<Transition>) {
        let tracker = &mut self.rules[rule as usize];
        if !tracker.compiled.rule.filter.matches(event) || !tracker.follows(event, at, self.arrival) {
            return;
        }
        let observed = tracker.observe(event, at, self.tenant, out);
        self.counters.matches += 1;
        self.counters.late += u64::from(observed.is_late);
        self.counters.overflowed += u64::from(observed.overflowed);
        self.schedule(rule, observed.slot);
        self.follow(rule);
    }

    /// Tells composites what changed at a rule that they name.
    fn follow(&mut self, rule: u32) {
        let tracker = &mut self.rules[rule as usize];
        self.named.take(tracker.compiled.rule.id, tracker.firing_changes.drain(..));
    }

    fn evaluate_composites(&mut self, at: i64, out: &mut Vec<Transition>) {
        for rule in 0..u32::try_from(self.rules.len()).unwrap_or(0) {
            self.evaluate_composite(rule, at, out);
        }
    }

    fn evaluate_composite(&mut self, rule: u32, at: i64, out: &mut Vec<Transition>) {
        let Program::Composite(expression) = &self.rules[rule as usize].compiled.program else { return };
        let truth = expression.holds(&|id| self.named.fires(id));
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
            self.named.forget(old.compiled.rule.id);
            for slot in old.open_slots() {
                old.end(slot, now.as_micros(), reason, self.tenant, &mut out);
            }
        }
        self.rules = after;
        self.rebuild();
        if self.arrival != NEVER {
            self.evaluate_composites(now.as_micros(), &mut out);
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
        tracker.end(slot, now.as_micros(), TransitionReason::ResolvedByHand, self.tenant, &mut out);
        self.schedule(rule, slot);
        self.follow(rule);
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
        let past = events.iter().filter_map(|event| {
            let received_at = event.received_at.as_micros();
            let at = event.timestamp.as_micros().min(received_at);
            (received_at.saturating_sub(at) <= lateness).then_some((event, at))
        });
        tracker.prime(past, until.as_micros(), self.tenant, &mut out);
        let slots = u32::try_from(tracker.series.len()).unwrap_or(0);
        let rule = u32::try_from(position).unwrap_or(0);
        (0..slots).for_each(|slot| self.schedule(rule, slot));
        self.follow(rule);
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
        self.named.write(&mut out);
        out.into_bytes()
    }

    fn next_due(&self) -> Option<Timestamp> {
        let timer = self.timers.peek().map_or(FOREVER, |Reverse((due, ..))| *due);
        let due = timer.min(self.named.next());
        (due != FOREVER).then(|| Timestamp::from_micros(due.saturating_add(self.settle)))
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
