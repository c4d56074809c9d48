//! One instance of a rule: its windows, its state machine, and when it must be looked at again.

use super::history::{self, History};
use super::machine::{Change, FOREVER, Machine, NEVER, Verdict};
use super::program::{CompiledRule, Judgement, Measured, Program};
use super::waits::Waits;
use super::window::{Window, stable_hash};
use crate::alerting::{Condition, Fingerprint, NoDataPolicy, TransitionReason};
use crate::event::Event;
use crate::filter::Filter;

/// After how long without events a group is forgotten whose rule gives missing values a meaning: a day.
const FORGET_AFTER: i64 = 86_400 * 1_000_000;
/// Mark of an instance that only waits for the end of its cooldown.
const FORGETTING: u8 = u8::MAX;

/// Whether an instance is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Alive,
    Gone,
}

#[derive(Debug)]
pub(super) enum Data {
    Nothing,
    One(Window),
    Two(Box<[Window; 2]>),
    Recorded(Box<(Vec<Window>, History)>),
    Waits(Box<Waits>),
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) key: Box<[u8]>,
    pub(super) fingerprint: Fingerprint,
    /// When the instance came to be.
    pub(super) first_at: i64,
    /// Up to when it has been evaluated.
    pub(super) evaluated_at: i64,
    /// When it must be looked at again; [`FOREVER`]: with its next event.
    pub(super) due: i64,
    /// When the timer that is set for it goes off: not after `due`. A deadline that moves on sets no further one.
    pub(super) queued: i64,
    /// The latest event.
    pub(super) last_event: i64,
    /// The last value that was judged, NaN for none.
    pub(super) value: f64,
    pub(super) machine: Machine,
    /// How many evaluations in a row found the window empty.
    pub(super) empty_ticks: u8,
    pub(super) data: Data,
}

impl Series {
    pub(super) fn new(rule: &CompiledRule, key: &[u8], fingerprint: Fingerprint, at: i64) -> Self {
        Self {
            key: key.into(),
            fingerprint,
            first_at: at,
            evaluated_at: at,
            due: FOREVER,
            queued: FOREVER,
            last_event: NEVER,
            value: f64::NAN,
            machine: Machine::default(),
            empty_ticks: 0,
            data: Data::new(rule, at),
        }
    }

    /// Returns when something happens next if no event comes.
    pub(super) fn next_due(&self, rule: &CompiledRule) -> i64 {
        let own = match &rule.program {
            Program::Measured(measured) => self.next_tick(measured, rule),
            Program::Absence { window } => match self.machine.breached {
                false => self.last_event.max(self.first_at).saturating_add(*window),
                true if rule.is_grouped => self.absence_forgotten_at(*window, rule),
                true => FOREVER,
            },
            Program::Sequence { .. } => match &self.data {
                Data::Waits(waits) if !waits.is_empty() => waits.next(),
                _ if rule.is_grouped && self.machine.is_idle() => self.cooled_at(rule),
                _ => FOREVER,
            },
            Program::Composite(_) => FOREVER,
        };
        own.min(self.machine.deadline(rule.holds))
    }

    /// Lets time pass up to and including `limit`, or up to the first moment that changes something: what follows from a change, such as
    /// a cooldown, is to be known before time goes on.
    pub(super) fn run_to(&mut self, rule: &CompiledRule, limit: i64, out: &mut Vec<Change>) -> Fate {
        loop {
            let due = self.next_due(rule);
            if due > limit {
                return Fate::Alive;
            }
            let at = due.max(self.evaluated_at);
            let first = out.len();
            self.evaluated_at = at;
            let fate = self.evaluate(rule, due, at, out);
            if fate == Fate::Alive {
                self.machine.pass(at, rule.holds, out);
            }
            self.fill_values(&mut out[first..]);
            if fate == Fate::Gone || out.len() > first {
                return fate;
            }
        }
    }

    fn evaluate(&mut self, rule: &CompiledRule, due: i64, at: i64, out: &mut Vec<Change>) -> Fate {
        match &rule.program {
            Program::Measured(measured) => {
                if self.empty_ticks == FORGETTING {
                    return Fate::Gone;
                }
                // A deadline of the machine is no tick.
                let is_tick = due == at && due.rem_euclid(measured.tick) == 0;
                if is_tick { self.tick(rule, measured, at, out) } else { Fate::Alive }
            }
            Program::Absence { window } => {
                let silent_since = self.last_event.max(self.first_at);
                if !self.machine.breached && at >= silent_since.saturating_add(*window) {
                    self.judge(Verdict::Breach, at, rule, TransitionReason::Condition, out);
                } else if rule.is_grouped
                    && self.machine.breached
                    && at >= self.absence_forgotten_at(*window, rule)
                {
                    self.machine.end(at, TransitionReason::Stale, out);
                    return Fate::Gone;
                }
                Fate::Alive
            }
            Program::Sequence { within, condition, .. } => {
                let Data::Waits(waits) = &mut self.data else { return Fate::Alive };
                waits.pass(at, *within);
                let (value, is_over) = (waits.value(), waits.is_empty());
                self.judge_value(value, condition, at, rule, TransitionReason::Condition, out);
                let is_forgotten = rule.is_grouped && is_over && self.machine.is_idle();
                if is_forgotten && at >= self.cooled_at(rule) { Fate::Gone } else { Fate::Alive }
            }
            Program::Composite(_) => Fate::Alive,
        }
    }

    /// Each change says the value that was judged, not a later one.
    fn fill_values(&self, changes: &mut [Change]) {
        changes.iter_mut().for_each(|change| change.value = self.value);
    }

    /// Takes an event that matches the filter of the rule; time has passed up to `at` already. Returns whether it was late.
    pub(super) fn observe(
        &mut self,
        rule: &CompiledRule,
        event: &Event,
        at: i64,
        out: &mut Vec<Change>,
    ) -> bool {
        let first = out.len();
        let is_late = self.take(rule, event, at, out);
        self.fill_values(&mut out[first..]);
        is_late
    }

    fn take(&mut self, rule: &CompiledRule, event: &Event, at: i64, out: &mut Vec<Change>) -> bool {
        let is_late = at < self.evaluated_at;
        let reason = if is_late { TransitionReason::Correction } else { TransitionReason::Condition };
        self.evaluated_at = self.evaluated_at.max(at);
        let now = self.evaluated_at;
        match &rule.program {
            Program::Measured(measured) => {
                self.last_event = self.last_event.max(at);
                self.empty_ticks = 0;
                self.count(measured, event, at);
                self.judge_event(rule, measured, event, is_late, reason, out);
            }
            Program::Absence { window } => {
                self.last_event = self.last_event.max(at);
                if self.machine.breached && self.last_event.saturating_add(*window) > now {
                    self.judge(Verdict::Quiet, now, rule, reason, out);
                }
            }
            Program::Sequence { first, then, within, by, condition } => {
                self.last_event = self.last_event.max(at);
                let (Data::Waits(waits), Some(key)) = (&mut self.data, stable_hash(&by.value(event))) else {
                    return is_late;
                };
                let matches = |filter: &Filter| filter.matches(event);
                if matches(then) {
                    waits.finish(key);
                }
                if matches(first) {
                    waits.start(key, at.saturating_add(*within));
                }
                let value = waits.value();
                self.judge_value(value, condition, now, rule, reason, out);
            }
            Program::Composite(_) => {}
        }
        is_late
    }

    /// Counts an event of the past without judging.
    pub(super) fn remember(&mut self, rule: &CompiledRule, event: &Event, at: i64) {
        self.last_event = self.last_event.max(at);
        if let Program::Measured(measured) = &rule.program {
            self.empty_ticks = 0;
            self.count(measured, event, at);
        }
    }

    /// Judges the past that was counted, as of `at`.
    pub(super) fn judge_history(&mut self, rule: &CompiledRule, at: i64, out: &mut Vec<Change>) {
        self.evaluated_at = self.evaluated_at.max(at);
        let Program::Measured(measured) = &rule.program else { return };
        let Judgement::Threshold(condition) = &measured.judgement else { return };
        let (shape, first) = (measured.shape, out.len());
        let bucket = shape.bucket(self.evaluated_at);
        self.data.windows().iter_mut().for_each(|window| window.advance(bucket, shape));
        if measured.wakes_on_event
            && let Some(value) = self.measure(measured).filter(|value| condition.is_breached(*value, false))
        {
            self.value = value;
            self.judge(Verdict::Breach, self.evaluated_at, rule, TransitionReason::Condition, out);
            self.fill_values(&mut out[first..]);
        }
    }

    fn count(&mut self, measured: &Measured, event: &Event, at: i64) {
        let bucket = measured.shape.bucket(at);
        for (term, window) in measured.terms.iter().zip(self.data.windows()) {
            if term.filter.as_ref().is_none_or(|filter| filter.matches(event)) {
                window.add(event, bucket, &term.measure, measured.shape);
            }
        }
    }

    /// Takes the truth of a composite expression.
    pub(super) fn set_truth(&mut self, rule: &CompiledRule, truth: bool, at: i64, out: &mut Vec<Change>) {
        if truth != self.machine.breached {
            self.evaluated_at = self.evaluated_at.max(at);
            let verdict = if truth { Verdict::Breach } else { Verdict::Quiet };
            self.value = f64::from(u8::from(truth));
            let first = out.len();
            self.machine.judge(verdict, self.evaluated_at, rule.holds, TransitionReason::Condition, out);
            self.fill_values(&mut out[first..]);
        }
    }

    /// Judges right after an event: only what an event can change, and what a window that is not over yet can show.
    fn judge_event(
        &mut self,
        rule: &CompiledRule,
        measured: &Measured,
        event: &Event,
        is_late: bool,
        reason: TransitionReason,
        out: &mut Vec<Change>,
    ) {
        let Judgement::Threshold(condition) = &measured.judgement else { return };
        let now = self.evaluated_at;
        if !self.machine.breached {
            let number = || measured.terms[0].measure.path().and_then(|path| path.value(event).as_number());
            if !measured.wakes_on_event || self.machine.held || measured.is_harmless(number()) {
                return;
            }
            if let Some(value) = self.measure(measured).filter(|value| condition.is_breached(*value, false)) {
                self.value = value;
                self.judge(Verdict::Breach, now, rule, reason, out);
            }
        } else if is_late
            && measured.needs_whole_window
            && let Some(value) = self.measure(measured).filter(|value| !condition.is_breached(*value, true))
        {
            self.value = value;
            self.judge(Verdict::Quiet, now, rule, reason, out);
        }
    }

    /// Evaluates the whole window that ends at `at`, a multiple of the step.
    fn tick(&mut self, rule: &CompiledRule, measured: &Measured, at: i64, out: &mut Vec<Change>) -> Fate {
        let shape = measured.shape;
        let bucket = shape.bucket(at) - 1;
        self.data.windows().iter_mut().for_each(|window| window.advance(bucket, shape));
        let oldest = (bucket + 1).saturating_mul(shape.step).saturating_sub(shape.span());
        let is_empty = self.last_event < oldest;
        self.empty_ticks = if is_empty { self.empty_ticks.saturating_add(1).min(FORGETTING - 1) } else { 0 };
        if is_empty && rule.is_grouped && self.is_stale(rule, measured, at) {
            self.machine.end(at, TransitionReason::Stale, out);
            (self.machine.breached, self.machine.held) = (false, false);
            if measured.history_length().is_none() || self.is_forgotten(measured, at) {
                return self.forget(rule, at);
            }
        }
        let value = self.measure(measured);
        let tick = at.div_euclid(measured.tick);
        let (judged, condition) = match &measured.judgement {
            Judgement::Threshold(condition) => (value, Some(condition)),
            Judgement::Change { mode, condition, lag } => {
                let previous = self.data.history().and_then(|history| history.earlier(tick, *lag));
                let pair = value.zip(previous);
                let change = pair.and_then(|(value, previous)| history::change(*mode, value, previous));
                (change, Some(condition))
            }
            Judgement::Anomaly { lag, periods, .. } => {
                let earlier = |history: &History| {
                    (1..=*periods).filter_map(|period| history.earlier(tick, lag * period)).collect()
                };
                let baseline: Vec<f64> = self.data.history().map(earlier).unwrap_or_default();
                let score = value.map(|value| history::robust_score(value, baseline));
                if score == Some(None) {
                    // There is a value, and not yet anything to compare it with.
                    self.data.record(tick, value);
                    return Fate::Alive;
                }
                (score.flatten(), None)
            }
        };
        self.data.record(tick, value);
        let is_warm = at.saturating_sub(self.first_at) >= measured.warm_after();
        if !is_warm && (judged.is_none() || measured.needs_whole_window) {
            return Fate::Alive;
        }
        // An empty window of a group says that the group stopped, not that it is low: staleness decides.
        if is_empty && rule.is_grouped && measured.needs_whole_window && rule.no_data() == NoDataPolicy::Ok {
            return Fate::Alive;
        }
        self.value = judged.unwrap_or(f64::NAN);
        let verdict = match (judged, &measured.judgement, condition) {
            (Some(judged), _, Some(condition)) => {
                Some(verdict(condition.is_breached(judged, self.machine.breached)))
            }
            (Some(judged), Judgement::Anomaly { score, direction, .. }, _) => {
                Some(verdict(history::is_anomaly(judged, *score, *direction)))
            }
            _ => missing(rule.no_data()),
        };
        if let Some(verdict) = verdict {
            self.machine.judge(verdict, at, rule.holds, TransitionReason::Condition, out);
        }
        Fate::Alive
    }

    fn judge_value(
        &mut self,
        value: f64,
        condition: &Condition,
        at: i64,
        rule: &CompiledRule,
        reason: TransitionReason,
        out: &mut Vec<Change>,
    ) {
        self.value = value;
        let verdict = verdict(condition.is_breached(value, self.machine.breached));
        self.judge(verdict, at, rule, reason, out);
    }

    fn judge(
        &mut self,
        verdict: Verdict,
        at: i64,
        rule: &CompiledRule,
        reason: TransitionReason,
        out: &mut Vec<Change>,
    ) {
        self.machine.judge(verdict, at, rule.holds, reason, out);
    }

    /// Returns the value of the window as it stands.
    pub(super) fn measure(&mut self, measured: &Measured) -> Option<f64> {
        let windows = measured.terms.iter().zip(self.data.windows());
        quotient(windows.map(|(term, window)| window.value(&term.measure, measured.shape)))
    }

    /// Returns what is measured at `at`, whether or not there was a need to judge it then.
    pub(super) fn measured_at(&self, measured: &Measured, at: i64) -> Option<f64> {
        let windows = match &self.data {
            Data::One(window) => std::slice::from_ref(window),
            Data::Two(windows) => windows.as_slice(),
            Data::Recorded(recorded) => &recorded.0,
            Data::Nothing | Data::Waits(_) => &[],
        };
        quotient(measured.terms.iter().zip(windows).map(|(term, window)| {
            let mut window = window.clone();
            window.advance(measured.shape.bucket(at), measured.shape);
            window.value(&term.measure, measured.shape)
        }))
    }

    fn next_tick(&self, measured: &Measured, rule: &CompiledRule) -> i64 {
        if self.empty_ticks == FORGETTING {
            return self.cooled_at(rule);
        }
        let tick = measured.tick;
        let following = self.evaluated_at.div_euclid(tick).saturating_add(1).saturating_mul(tick);
        if measured.history_length().is_some() {
            return following;
        }
        let is_warm = self.evaluated_at.saturating_sub(self.first_at) >= measured.shape.span();
        if self.empty_ticks > 0 && is_warm && !rule.is_grouped {
            // Every further evaluation would say the same.
            return FOREVER;
        }
        if !measured.is_monotone || !self.machine.is_idle() {
            return following;
        }
        if self.last_event == NEVER {
            return FOREVER;
        }
        let shape = measured.shape;
        let empty_at =
            (shape.bucket(self.last_event).saturating_mul(shape.step)).saturating_add(shape.span());
        let whole_ticks = empty_at.saturating_add(tick - 1).div_euclid(tick).saturating_mul(tick);
        whole_ticks.max(following)
    }

    /// Returns whether a group without events in its window is over.
    fn is_stale(&self, rule: &CompiledRule, measured: &Measured, at: i64) -> bool {
        match rule.no_data() {
            NoDataPolicy::Ok => self.machine.is_idle() || self.empty_ticks >= 2,
            _ => self.is_forgotten(measured, at),
        }
    }

    fn is_forgotten(&self, measured: &Measured, at: i64) -> bool {
        let history = i64::try_from(measured.history_length().unwrap_or(0)).unwrap_or(i64::MAX);
        let after = FORGET_AFTER.max(history.saturating_mul(measured.tick)) + measured.shape.span();
        at.saturating_sub(self.last_event.max(self.first_at)) > after
    }

    fn forget(&mut self, rule: &CompiledRule, at: i64) -> Fate {
        if at >= self.cooled_at(rule) {
            return Fate::Gone;
        }
        self.empty_ticks = FORGETTING;
        Fate::Alive
    }

    fn absence_forgotten_at(&self, window: i64, rule: &CompiledRule) -> i64 {
        let silent_since = self.last_event.max(self.first_at);
        silent_since.saturating_add(window).saturating_add(FORGET_AFTER.max(rule.cooldown))
    }

    /// Returns when the cooldown of the last notification is over.
    fn cooled_at(&self, rule: &CompiledRule) -> i64 {
        match self.machine.last_notified {
            NEVER => self.evaluated_at,
            notified => notified.saturating_add(rule.cooldown).max(self.evaluated_at),
        }
    }
}

/// Divides the first value by the second, when there is one.
fn quotient(mut values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let first = values.next()??;
    match values.next() {
        None => Some(first),
        Some(divisor) => divisor.filter(|divisor| *divisor != 0.0).map(|divisor| first / divisor),
    }
}

impl Data {
    fn new(rule: &CompiledRule, at: i64) -> Self {
        match &rule.program {
            Program::Measured(measured) => {
                let shape = measured.shape;
                let windows: Vec<Window> = measured
                    .terms
                    .iter()
                    .map(|term| Window::new(&term.measure, shape, shape.bucket(at)))
                    .collect();
                match measured.history_length() {
                    Some(length) => Self::Recorded(Box::new((windows, History::new(length)))),
                    None => Self::of_windows(windows),
                }
            }
            Program::Sequence { .. } => Self::Waits(Box::default()),
            Program::Absence { .. } | Program::Composite(_) => Self::Nothing,
        }
    }

    /// Holds the windows of a threshold rule: one, or two for a ratio.
    pub(super) fn of_windows(mut windows: Vec<Window>) -> Self {
        match windows.len() {
            1 => windows.pop().map_or(Self::Nothing, Self::One),
            _ => windows.try_into().map_or(Self::Nothing, |pair| Self::Two(Box::new(pair))),
        }
    }

    pub(super) fn windows(&mut self) -> &mut [Window] {
        match self {
            Self::One(window) => std::slice::from_mut(window),
            Self::Two(windows) => windows.as_mut_slice(),
            Self::Recorded(recorded) => &mut recorded.0,
            Self::Nothing | Self::Waits(_) => &mut [],
        }
    }

    fn history(&self) -> Option<&History> {
        match self {
            Self::Recorded(recorded) => Some(&recorded.1),
            _ => None,
        }
    }

    fn record(&mut self, tick: i64, value: Option<f64>) {
        if let Self::Recorded(recorded) = self {
            recorded.1.record(tick, value);
        }
    }
}

fn verdict(is_breach: bool) -> Verdict {
    if is_breach { Verdict::Breach } else { Verdict::Quiet }
}

/// Applies the policy for windows without a value; `None`: the verdict stays.
fn missing(policy: NoDataPolicy) -> Option<Verdict> {
    match policy {
        NoDataPolicy::NoData => Some(Verdict::NoData),
        NoDataPolicy::Ok => Some(Verdict::Quiet),
        NoDataPolicy::Firing => Some(Verdict::Breach),
        NoDataPolicy::KeepLast => None,
    }
}
