//! The state machine of one instance of a rule.

use std::time::Duration;

use crate::alerting::codec::{Reader, Writer};
use crate::alerting::{AlertState, Muted, TransitionReason};
use crate::error::Result;
use crate::time::micros;

/// No time at all: earlier than every time.
pub(super) const NEVER: i64 = i64::MIN;
/// A time that does not come.
pub(super) const FOREVER: i64 = i64::MAX;

/// What an evaluation says, the policy for missing values applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Breach,
    Quiet,
    NoData,
}

/// How long states last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holds {
    pub(super) hold_for: i64,
    pub(super) keep_firing_for: i64,
}

impl Holds {
    pub(super) fn new(hold_for: Duration, keep_firing_for: Duration) -> Self {
        Self { hold_for: micros(hold_for), keep_firing_for: micros(keep_firing_for) }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Episode {
    pub(super) state: AlertState,
    pub(super) started_at: i64,
    /// When the state began.
    pub(super) since: i64,
    pub(super) fired_at: i64,
    pub(super) sequence: u32,
    pub(super) muted: Option<Muted>,
}

/// One change of state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub(super) from: Option<AlertState>,
    pub(super) to: AlertState,
    pub(super) at: i64,
    pub(super) started_at: i64,
    pub(super) fired_at: i64,
    pub(super) sequence: u32,
    pub(super) reason: TransitionReason,
    pub(super) muted: Option<Muted>,
    /// The value that was judged, NaN for none; the instance fills it in.
    pub(super) value: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    /// The last verdict was a breach.
    pub(super) breached: bool,
    /// A person ended the episode; none starts before a quiet verdict.
    pub(super) held: bool,
    last_started: i64,
    /// When an episode last told people that it fires.
    pub(super) last_notified: i64,
    pub(super) episode: Option<Box<Episode>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { breached: false, held: false, last_started: NEVER, last_notified: NEVER, episode: None }
    }
}

impl Machine {
    pub(super) fn state(&self) -> Option<AlertState> {
        self.episode.as_ref().map(|episode| episode.state)
    }

    /// Returns whether nothing is remembered that a fresh machine would not know.
    pub(super) fn is_idle(&self) -> bool {
        self.episode.is_none() && !self.held && !self.breached
    }

    /// Returns when the state changes if the verdict stays.
    pub(super) fn deadline(&self, holds: Holds) -> i64 {
        match &self.episode {
            Some(episode) if episode.state == AlertState::Pending => {
                episode.since.saturating_add(holds.hold_for)
            }
            Some(episode) if episode.state == AlertState::Recovering => {
                episode.since.saturating_add(holds.keep_firing_for)
            }
            _ => FOREVER,
        }
    }

    /// Takes a verdict at `at`.
    pub(super) fn judge(
        &mut self,
        verdict: Verdict,
        at: i64,
        holds: Holds,
        reason: TransitionReason,
        out: &mut Vec<Change>,
    ) {
        self.breached = verdict == Verdict::Breach;
        self.held &= verdict != Verdict::Quiet;
        let breach_state = if holds.hold_for == 0 { AlertState::Firing } else { AlertState::Pending };
        match (self.state(), verdict) {
            (None, _) if self.held => {}
            (None, Verdict::Quiet) => {}
            (None, Verdict::Breach) => self.begin(breach_state, at, reason, out),
            (None, Verdict::NoData) => self.begin(AlertState::NoData, at, TransitionReason::NoData, out),
            (Some(AlertState::NoData), Verdict::Breach) => self.enter(breach_state, at, reason, out),
            (Some(AlertState::Recovering), Verdict::Breach) => {
                self.enter(AlertState::Firing, at, reason, out);
            }
            (Some(AlertState::Firing), Verdict::Quiet) if holds.keep_firing_for > 0 => {
                self.enter(AlertState::Recovering, at, reason, out);
            }
            (Some(AlertState::Pending | AlertState::Firing | AlertState::NoData), Verdict::Quiet) => {
                self.end(at, reason, out);
            }
            (Some(AlertState::Pending | AlertState::Firing | AlertState::Recovering), Verdict::NoData) => {
                self.enter(AlertState::NoData, at, TransitionReason::NoData, out)
            }
            (Some(_), _) => {}
        }
    }

    /// Makes the change that was due at `at`, if it was.
    pub(super) fn pass(&mut self, at: i64, holds: Holds, out: &mut Vec<Change>) {
        if at < self.deadline(holds) {
            return;
        }
        match self.state() {
            Some(AlertState::Pending) => {
                self.enter(AlertState::Firing, at, TransitionReason::Condition, out);
            }
            Some(AlertState::Recovering) => self.end(at, TransitionReason::Condition, out),
            _ => {}
        }
    }

    /// Ends the episode, if there is one.
    pub(super) fn end(&mut self, at: i64, reason: TransitionReason, out: &mut Vec<Change>) {
        self.enter(AlertState::Resolved, at, reason, out);
        self.episode = None;
    }

    fn begin(&mut self, state: AlertState, at: i64, reason: TransitionReason, out: &mut Vec<Change>) {
        // The start is part of the episode's identity, so two episodes never share one.
        let started_at = at.max(self.last_started.saturating_add(1));
        self.last_started = started_at;
        let fired_at = NEVER;
        let episode = Episode { state, started_at, since: at, fired_at, sequence: 0, muted: None };
        self.episode = Some(Box::new(episode));
        self.record(None, at, reason, out);
    }

    fn enter(&mut self, state: AlertState, at: i64, reason: TransitionReason, out: &mut Vec<Change>) {
        let Some(episode) = &mut self.episode else { return };
        let from = Some(episode.state);
        episode.state = state;
        episode.since = at;
        self.record(from, at, reason, out);
    }

    fn record(&mut self, from: Option<AlertState>, at: i64, reason: TransitionReason, out: &mut Vec<Change>) {
        let Some(episode) = &mut self.episode else { return };
        episode.sequence += 1;
        if episode.state == AlertState::Firing && episode.fired_at == NEVER {
            episode.fired_at = at;
        }
        out.push(Change {
            from,
            to: episode.state,
            at,
            started_at: episode.started_at,
            fired_at: episode.fired_at,
            sequence: episode.sequence,
            reason,
            muted: episode.muted,
            value: f64::NAN,
        });
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.flag(self.breached);
        out.flag(self.held);
        out.signed(self.last_started);
        out.signed(self.last_notified);
        out.flag(self.episode.is_some());
        let Some(episode) = &self.episode else { return };
        let state = AlertState::ALL.iter().position(|state| *state == episode.state).unwrap_or(0);
        out.unsigned(state as u64);
        out.signed(episode.started_at);
        out.signed(episode.since);
        out.signed(episode.fired_at);
        out.unsigned(u64::from(episode.sequence));
        out.unsigned(match episode.muted {
            None => 0,
            Some(Muted::Cooldown) => 1,
            Some(Muted::HourlyCap) => 2,
        });
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let mut machine = Self {
            breached: input.flag()?,
            held: input.flag()?,
            last_started: input.signed()?,
            last_notified: input.signed()?,
            episode: None,
        };
        if input.flag()? {
            let state = AlertState::ALL.get(input.small()? as usize).copied();
            machine.episode = Some(Box::new(Episode {
                state: state.ok_or_else(|| input.corrupt())?,
                started_at: input.signed()?,
                since: input.signed()?,
                fired_at: input.signed()?,
                sequence: input.small()?,
                muted: match input.unsigned()? {
                    0 => None,
                    1 => Some(Muted::Cooldown),
                    2 => Some(Muted::HourlyCap),
                    _ => return Err(input.corrupt()),
                },
            }));
        }
        Ok(machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs verdicts (`b`reach, `q`uiet, `n`o data, `.` nothing) at seconds 1, 2, 3... and writes the states entered.
    fn run(hold_for: i64, keep_firing_for: i64, verdicts: &str) -> String {
        let holds = Holds { hold_for: hold_for * 10, keep_firing_for: keep_firing_for * 10 };
        let mut machine = Machine::default();
        let mut text = Vec::new();
        for (at, verdict) in (1..).map(|second| second * 10).zip(verdicts.chars()) {
            let mut out = Vec::new();
            let reason = TransitionReason::Condition;
            match verdict {
                'b' => machine.judge(Verdict::Breach, at, holds, reason, &mut out),
                'q' => machine.judge(Verdict::Quiet, at, holds, reason, &mut out),
                'n' => machine.judge(Verdict::NoData, at, holds, reason, &mut out),
                'h' => {
                    machine.end(at, TransitionReason::ResolvedByHand, &mut out);
                    machine.held = true;
                }
                _ => {}
            }
            machine.pass(at, holds, &mut out);
            text.extend(out.iter().map(|change| format!("{}{}", change.at / 10, change.to)));
        }
        text.join(" ")
    }

    #[test]
    fn every_path_of_the_machine() {
        for (hold_for, keep, verdicts, expected) in [
            (0, 0, "qqbbq", "3firing 5resolved"),
            (0, 0, "bqbq", "1firing 2resolved 3firing 4resolved"),
            (2, 0, "bbbq", "1pending 3firing 4resolved"),
            (2, 0, "bqbbb", "1pending 2resolved 3pending 5firing"),
            (2, 0, "b..q", "1pending 3firing 4resolved"),
            (0, 2, "bqbqqq", "1firing 2recovering 3firing 4recovering 6resolved"),
            (0, 2, "bq..b", "1firing 2recovering 4resolved 5firing"),
            (0, 0, "nnq", "1no_data 3resolved"),
            (0, 0, "bnb", "1firing 2no_data 3firing"),
            (2, 0, "bnbbbq", "1pending 2no_data 3pending 5firing 6resolved"),
            (0, 3, "bqnq", "1firing 2recovering 3no_data 4resolved"),
            (0, 0, "bbhbbqb", "1firing 3resolved 7firing"),
            (0, 0, "nhnnqn", "1no_data 2resolved 6no_data"),
        ] {
            assert_eq!(run(hold_for, keep, verdicts), expected, "for {hold_for} keep {keep}: {verdicts}");
        }
    }

    #[test]
    fn episodes_of_one_instant_differ() {
        let holds = Holds { hold_for: 0, keep_firing_for: 0 };
        let mut machine = Machine::default();
        let mut out = Vec::new();
        for verdict in [Verdict::Breach, Verdict::Quiet, Verdict::Breach] {
            machine.judge(verdict, 5, holds, TransitionReason::Condition, &mut out);
        }
        assert_eq!((out[0].started_at, out[2].started_at), (5, 6));
    }
}
