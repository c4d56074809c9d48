//! The instances of one rule, and what of their changes becomes a notification.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::group::{decode_labels, encode_group, overflow_key};
use super::history::History;
use super::index::HashedMap;
use super::machine::{Change, FOREVER, Machine, NEVER};
use super::program::{CompiledRule, Program};
use super::series::{Data, Fate, Series};
use super::waits::Waits;
use super::window::Window;
use crate::alerting::codec::{Reader, Writer};
use crate::alerting::{AlertState, Fingerprint, Muted, Rule, Transition, TransitionReason, alert_id};
use crate::error::Result;
use crate::event::Event;
use crate::id::{TenantId, derive_uuid};
use crate::time::Timestamp;

const HOUR: i64 = 3_600 * 1_000_000;
/// How long after the past was read the log may deliver events of it.
const REDELIVERY: i64 = 300 * 1_000_000;

/// What an event did to a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Observed {
    pub(super) slot: u32,
    pub(super) is_late: bool,
    pub(super) overflowed: bool,
}

/// One rule with its instances.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) compiled: CompiledRule,
    /// Boxed, so that the free places of a growing list are small.
    pub(super) series: Vec<Option<Box<Series>>>,
    free: Vec<u32>,
    /// Slots by a keyed hash of the group key; a collision moves on by one.
    slots: HashedMap<u32>,
    keys: RandomState,
    /// When the rule began to be followed. Its first window reaches back from here, and nothing before counts.
    pub(super) active_from: i64,
    /// When the rule was made or changed last; `None` when it does not say.
    pub(super) made_at: Option<i64>,
    /// The past was not read yet.
    pub(super) wants_history: bool,
    /// Hashes of the events of the past that was read, as long as the log may still deliver them.
    primed: BTreeSet<u64>,
    /// A composite rule names the rule.
    pub(super) is_named: bool,
    /// By how many more or fewer instances of a named rule fire, each with its time, until composites are told.
    pub(super) firing_changes: Vec<(i64, i64)>,
    /// Whether there were more groups than it may have, since the start.
    pub(super) has_overflowed: bool,
    /// When the rule told people that it fires, within the last hour.
    notified: VecDeque<i64>,
    changes: Vec<Change>,
    key: Vec<u8>,
}

impl Tracker {
    pub(super) fn new(rule: &Rule, max_instances: u32) -> Self {
        let compiled = CompiledRule::new(rule, max_instances);
        let wants_history = compiled.history_span().is_some();
        let made_at = rule.updated_at.max(rule.created_at).as_micros();
        let active_from = if wants_history { NEVER } else { made_at };
        Self {
            compiled,
            active_from,
            made_at: (made_at != Timestamp::EPOCH.as_micros()).then_some(made_at),
            wants_history,
            primed: BTreeSet::new(),
            series: Vec::new(),
            free: Vec::new(),
            slots: HashedMap::default(),
            keys: RandomState::new(),
            is_named: false,
            firing_changes: Vec::new(),
            has_overflowed: false,
            notified: VecDeque::new(),
            changes: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Takes over the instances of a tracker of the same definition.
    pub(super) fn adopt(&mut self, other: Self) {
        self.series = other.series;
        self.free = other.free;
        self.slots = other.slots;
        self.keys = other.keys;
        self.active_from = other.active_from;
        self.wants_history = other.wants_history;
        self.primed = other.primed;
        self.has_overflowed = other.has_overflowed;
        self.notified = other.notified;
    }

    /// Returns how many instances fire or recover.
    pub(super) fn firing(&self) -> usize {
        self.series.iter().flatten().filter(|series| series.machine.state().is_some_and(fires)).count()
    }

    pub(super) fn instances(&self) -> usize {
        self.slots.len()
    }

    fn find(&self, key: &[u8]) -> (u64, Option<u32>) {
        let mut hash = self.keys.hash_one(key);
        loop {
            let Some(slot) = self.slots.get(&hash).copied() else { return (hash, None) };
            let found = self.series.get(slot as usize).and_then(Option::as_ref);
            if found.is_some_and(|series| *series.key == *key) {
                return (hash, Some(slot));
            }
            hash = hash.wrapping_add(1);
        }
    }

    fn insert(&mut self, hash: u64, series: Series) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.series[slot as usize] = Some(Box::new(series));
                slot
            }
            None => {
                self.series.push(Some(Box::new(series)));
                u32::try_from(self.series.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.slots.insert(hash, slot);
        slot
    }

    fn remove(&mut self, slot: u32) {
        let Some(series) = self.series.get_mut(slot as usize).and_then(Option::take) else { return };
        let mut hash = self.keys.hash_one(&*series.key);
        while let Some(there) = self.slots.get(&hash) {
            if *there == slot {
                self.slots.remove(&hash);
                break;
            }
            hash = hash.wrapping_add(1);
        }
        self.free.push(slot);
    }

    /// Makes sure that the one instance of a rule without groups exists.
    pub(super) fn begin(&mut self, at: i64) -> Option<u32> {
        if self.compiled.is_grouped || !self.slots.is_empty() {
            return None;
        }
        Some(self.create(&[], at))
    }

    fn create(&mut self, key: &[u8], at: i64) -> u32 {
        let labels = decode_labels(&self.compiled.rule.group_by, key);
        let series = Series::new(&self.compiled, key, Fingerprint::of(&labels), at);
        let (hash, _) = self.find(key);
        self.insert(hash, series)
    }

    /// Takes an event that matches the filter.
    pub(super) fn observe(
        &mut self,
        event: &Event,
        at: i64,
        tenant: TenantId,
        out: &mut Vec<Transition>,
    ) -> Observed {
        let mut key = std::mem::take(&mut self.key);
        encode_group(&self.compiled.rule.group_by, event, &mut key);
        let mut found = self.find(&key).1;
        let mut overflowed = false;
        if found.is_none() && self.slots.len() >= self.compiled.rule.max_groups as usize {
            overflowed = true;
            self.has_overflowed = true;
            key = overflow_key(&self.compiled.rule.group_by);
            found = self.find(&key).1;
        }
        if let Some(slot) = found
            && self.run(slot, at, tenant, out) == Fate::Gone
        {
            found = None;
        }
        let slot = found.unwrap_or_else(|| self.create(&key, at));
        self.key = key;
        let mut changes = std::mem::take(&mut self.changes);
        let mut is_late = false;
        if let Some(Some(series)) = self.series.get_mut(slot as usize) {
            is_late = series.observe(&self.compiled, event, at, &mut changes);
        }
        self.publish(slot, changes, tenant, out);
        Observed { slot, is_late, overflowed }
    }

    /// Returns whether an event of the log is one that the rule follows: not older than its first window, and not read from the
    /// past already.
    pub(super) fn follows(&mut self, event: &Event, at: i64, arrival: i64) -> bool {
        let from = match self.compiled.history_span() {
            Some(span) => self.active_from.saturating_sub(span),
            None => self.active_from,
        };
        if at < from {
            return false;
        }
        if self.primed.is_empty() {
            return true;
        }
        if arrival > self.active_from.saturating_add(REDELIVERY) {
            self.primed.clear();
        }
        !self.primed.contains(&event_hash(event))
    }

    /// Takes the past of the rule up to `until`: fills windows without judging the past, then judges what they show now.
    pub(super) fn prime<'a>(
        &mut self,
        events: impl Iterator<Item = (&'a Event, i64)>,
        until: i64,
        tenant: TenantId,
        out: &mut Vec<Transition>,
    ) {
        self.wants_history = false;
        self.active_from = until;
        let Some(span) = self.compiled.history_span() else { return };
        let first_at = self.active_from.saturating_sub(span);
        let mut key = Vec::new();
        for (event, at) in events {
            self.primed.insert(event_hash(event));
            if at < first_at || !self.compiled.rule.filter.matches(event) {
                continue;
            }
            encode_group(&self.compiled.rule.group_by, event, &mut key);
            let mut found = self.find(&key).1;
            if found.is_none() && self.slots.len() >= self.compiled.rule.max_groups as usize {
                key = overflow_key(&self.compiled.rule.group_by);
                found = self.find(&key).1;
            }
            let slot = found.unwrap_or_else(|| self.create(&key, at));
            if let Some(Some(series)) = self.series.get_mut(slot as usize) {
                series.remember(&self.compiled, event, at);
            }
        }
        let mut slots: Vec<u32> = self.slots.values().copied().collect();
        slots.sort_by_key(|slot| self.series[*slot as usize].as_ref().map(|series| series.fingerprint));
        for slot in slots {
            let mut changes = std::mem::take(&mut self.changes);
            if let Some(Some(series)) = self.series.get_mut(slot as usize) {
                series.first_at = series.first_at.min(first_at);
                series.judge_history(&self.compiled, self.active_from, &mut changes);
            }
            self.publish(slot, changes, tenant, out);
        }
    }

    /// Lets time pass for one instance.
    pub(super) fn run(&mut self, slot: u32, to: i64, tenant: TenantId, out: &mut Vec<Transition>) -> Fate {
        loop {
            let Some(Some(series)) = self.series.get_mut(slot as usize) else { return Fate::Gone };
            let mut changes = std::mem::take(&mut self.changes);
            let fate = series.run_to(&self.compiled, to, &mut changes);
            let is_over = changes.is_empty();
            self.publish(slot, changes, tenant, out);
            if fate == Fate::Gone {
                self.remove(slot);
                return fate;
            }
            if is_over {
                return fate;
            }
        }
    }

    /// Takes the truth of a composite expression.
    pub(super) fn set_truth(
        &mut self,
        truth: bool,
        at: i64,
        tenant: TenantId,
        out: &mut Vec<Transition>,
    ) -> u32 {
        let slot = self.find(&[]).1.unwrap_or_else(|| self.create(&[], at));
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(Some(series)) = self.series.get_mut(slot as usize) {
            series.set_truth(&self.compiled, truth, at, &mut changes);
        }
        self.publish(slot, changes, tenant, out);
        slot
    }

    /// Ends the episode of one instance.
    pub(super) fn end(
        &mut self,
        slot: u32,
        at: i64,
        reason: TransitionReason,
        tenant: TenantId,
        out: &mut Vec<Transition>,
    ) {
        let Some(Some(series)) = self.series.get_mut(slot as usize) else { return };
        let mut changes = std::mem::take(&mut self.changes);
        let at = at.max(series.machine.episode.as_ref().map_or(at, |episode| episode.since));
        let is_breach = series.machine.state() != Some(AlertState::Recovering);
        series.machine.end(at, reason, &mut changes);
        series.machine.held = is_breach && reason == TransitionReason::ResolvedByHand;
        self.publish(slot, changes, tenant, out);
    }

    /// Returns the slots of the open episodes, in the order of their fingerprints.
    pub(super) fn open_slots(&self) -> Vec<u32> {
        let open = |slot: &u32| {
            self.series[*slot as usize].as_ref().is_some_and(|series| series.machine.episode.is_some())
        };
        let mut slots: Vec<u32> = (0..).take(self.series.len()).filter(open).collect();
        slots.sort_by_key(|slot| self.series[*slot as usize].as_ref().map(|series| series.fingerprint));
        slots
    }

    /// Turns changes of one instance into transitions and decides which of them may notify.
    fn publish(&mut self, slot: u32, mut changes: Vec<Change>, tenant: TenantId, out: &mut Vec<Transition>) {
        let mut muted_now: Option<(i64, Option<Muted>)> = None;
        for change in changes.drain(..) {
            let Some(Some(series)) = self.series.get_mut(slot as usize) else { break };
            let rule = &self.compiled.rule;
            match (change.from.is_some_and(fires), fires(change.to)) {
                (false, true) if self.is_named => self.firing_changes.push((change.at, 1)),
                (true, false) if self.is_named => self.firing_changes.push((change.at, -1)),
                _ => {}
            }
            let mut muted = change.muted;
            if let Some((episode, decided)) = muted_now.filter(|(episode, _)| *episode == change.started_at) {
                muted = decided;
                muted_now = Some((episode, decided));
            }
            let is_news = match change.to {
                AlertState::Firing => change.from != Some(AlertState::Recovering),
                AlertState::NoData => true,
                _ => false,
            };
            if is_news {
                muted = mute(&mut self.notified, &series.machine, &self.compiled, change.at);
                if muted.is_none() {
                    series.machine.last_notified = change.at;
                    if rule.max_alerts_per_hour.is_some() {
                        self.notified.push_back(change.at);
                    }
                }
                if let Some(episode) =
                    series.machine.episode.as_mut().filter(|episode| episode.started_at == change.started_at)
                {
                    episode.muted = muted;
                }
                muted_now = Some((change.started_at, muted));
            }
            let started_at = Timestamp::from_micros(change.started_at);
            out.push(Transition {
                alert: alert_id(tenant, rule.id, series.fingerprint, started_at),
                sequence: change.sequence,
                rule: rule.id,
                rule_version: rule.version,
                fingerprint: series.fingerprint,
                group: decode_labels(&rule.group_by, &series.key),
                from: change.from,
                to: change.to,
                at: Timestamp::from_micros(change.at),
                started_at,
                fired_at: (change.fired_at != NEVER).then(|| Timestamp::from_micros(change.fired_at)),
                value: Some(change.value).filter(|value| !value.is_nan()),
                reason: change.reason,
                muted,
            });
        }
        self.changes = changes;
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.signed(self.active_from);
        out.flag(self.wants_history);
        out.unsigned(self.primed.len() as u64);
        self.primed.iter().for_each(|hash| out.bytes(&hash.to_le_bytes()));
        out.unsigned(self.notified.len() as u64);
        self.notified.iter().for_each(|at| out.signed(*at));
        let mut series: Vec<&Series> = self.series.iter().flatten().map(|series| &**series).collect();
        series.sort_by_key(|series| series.fingerprint);
        out.unsigned(series.len() as u64);
        for series in series {
            let mut one = Writer::default();
            series.write(&mut one);
            out.sized(&one.into_bytes());
        }
    }

    /// Reads the instances of a rule of the same definition.
    pub(super) fn read(&mut self, input: &mut Reader<'_>) -> Result<()> {
        self.active_from = input.signed()?;
        self.wants_history = input.flag()?;
        self.primed = read_hashes(input)?;
        self.notified = read_times(input)?;
        for _ in 0..input.length(1)? {
            let mut one = Reader::new(input.sized()?);
            let series = Series::read(&mut one, &self.compiled)?;
            let (hash, _) = self.find(&series.key);
            self.insert(hash, series);
        }
        Ok(())
    }
}

/// Returns whether a composite rule counts the state as firing.
fn fires(state: AlertState) -> bool {
    matches!(state, AlertState::Firing | AlertState::Recovering)
}

fn read_hashes(input: &mut Reader<'_>) -> Result<BTreeSet<u64>> {
    (0..input.length(8)?).map(|_| input.array().map(u64::from_le_bytes)).collect()
}

/// A hash of the event's id that is the same after a restart.
#[allow(clippy::cast_possible_truncation, reason = "the low half is the hash")]
fn event_hash(event: &Event) -> u64 {
    derive_uuid(b"pulsestream.event", event.id.as_str().as_bytes()) as u64
}

fn read_times(input: &mut Reader<'_>) -> Result<VecDeque<i64>> {
    (0..input.length(1)?).map(|_| input.signed()).collect()
}

/// What must be known of an instance to end its episode when its rule is gone.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) key: Vec<u8>,
    pub(super) fingerprint: Fingerprint,
    pub(super) machine: Machine,
}

/// Reads the instances of a rule that is not there any more, or has changed; only those with an open episode matter.
pub(super) fn read_orphans(input: &mut Reader<'_>) -> Result<Vec<Orphan>> {
    input.signed()?;
    input.flag()?;
    read_hashes(input)?;
    read_times(input)?;
    let mut orphans = Vec::new();
    for _ in 0..input.length(1)? {
        let mut one = Reader::new(input.sized()?);
        let head = Head::read(&mut one)?;
        if head.machine.episode.is_some() {
            orphans.push(Orphan {
                key: head.key.into(),
                fingerprint: head.fingerprint,
                machine: head.machine,
            });
        }
    }
    Ok(orphans)
}

/// The part of an instance that is written the same way for every kind of rule.
struct Head {
    key: Box<[u8]>,
    fingerprint: Fingerprint,
    machine: Machine,
}

impl Head {
    fn read(input: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            key: input.sized()?.into(),
            fingerprint: Fingerprint(u64::from_le_bytes(input.array()?)),
            machine: Machine::read(input)?,
        })
    }
}

impl Series {
    fn write(&self, out: &mut Writer) {
        out.sized(&self.key);
        out.bytes(&self.fingerprint.0.to_le_bytes());
        self.machine.write(out);
        out.signed(self.first_at);
        out.signed(self.evaluated_at);
        out.signed(self.last_event);
        out.double(self.value);
        out.unsigned(u64::from(self.empty_ticks));
        match &self.data {
            Data::Nothing => {}
            Data::One(window) => window.write(out),
            Data::Two(windows) => windows.iter().for_each(|window| window.write(out)),
            Data::Recorded(recorded) => {
                recorded.0.iter().for_each(|window| window.write(out));
                recorded.1.write(out);
            }
            Data::Waits(waits) => waits.write(out),
        }
    }

    fn read(input: &mut Reader<'_>, rule: &CompiledRule) -> Result<Self> {
        let head = Head::read(input)?;
        let mut series = Self {
            key: head.key,
            fingerprint: head.fingerprint,
            machine: head.machine,
            first_at: input.signed()?,
            evaluated_at: input.signed()?,
            due: FOREVER,
            queued: FOREVER,
            last_event: input.signed()?,
            value: input.double()?,
            empty_ticks: u8::try_from(input.unsigned()?).map_err(|_| input.corrupt())?,
            data: Data::Nothing,
        };
        match &rule.program {
            Program::Measured(measured) => {
                let windows = measured
                    .terms
                    .iter()
                    .map(|term| Window::read(input, &term.measure, measured.shape))
                    .collect::<Result<Vec<_>>>()?;
                series.data = match measured.history_length() {
                    Some(length) => Data::Recorded(Box::new((windows, History::read(input, length)?))),
                    None => Data::of_windows(windows),
                };
            }
            Program::Sequence { .. } => series.data = Data::Waits(Box::new(Waits::read(input)?)),
            Program::Absence { .. } | Program::Composite(_) => {}
        }
        Ok(series)
    }
}

/// Decides whether an instance that begins to fire may tell people.
fn mute(notified: &mut VecDeque<i64>, machine: &Machine, compiled: &CompiledRule, at: i64) -> Option<Muted> {
    if machine.last_notified != NEVER && at < machine.last_notified.saturating_add(compiled.cooldown) {
        return Some(Muted::Cooldown);
    }
    let most = compiled.rule.max_alerts_per_hour?;
    while notified.front().is_some_and(|first| first.saturating_add(HOUR) <= at) {
        notified.pop_front();
    }
    (notified.len() >= most as usize).then_some(Muted::HourlyCap)
}
