//! What keeps one channel from being overrun, and everybody else from waiting for it: how many attempts at once, how many in a
//! minute, and a pause after failures in a row.
//!
//! A gate is of one process; several processes that deliver side by side each have their own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::alerting::Channel;
use crate::id::{ChannelId, DeliveryId, TenantId};
use crate::time::Timestamp;

/// The first pause after failures in a row; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// How long a delivery waits for the attempts that are under way.
const TURN: Duration = Duration::from_secs(1);
/// After how long a turn that was not taken is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// What a channel is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub(super) attempts_per_minute: u32,
    pub(super) burst: u32,
    pub(super) failures_before_pause: u32,
}

/// What became of an attempt, as far as the way to the receiver matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// The receiver answered, with success or with a refusal of the message.
    Open,
    /// It did not, or asked to try again.
    Failed,
}

/// The right to make one attempt now; dropping it ends the attempt without a word about the receiver.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    lane: (TenantId, ChannelId),
}

#[derive(Debug, Default)]
struct Lane {
    /// A changed channel starts afresh.
    version: u64,
    under_way: u32,
    failures: u32,
    /// Set while the channel pauses, and until an attempt after it succeeded.
    paused_until: Option<Timestamp>,
    pause: Duration,
    /// When the bucket of the rate is full again.
    full_at: Timestamp,
    /// Deliveries that were told when their turn is.
    turns: HashMap<DeliveryId, Timestamp>,
}

/// The gates of all channels.
#[derive(Debug)]
pub(super) struct Gate {
    allowance: Allowance,
    lanes: Mutex<HashMap<(TenantId, ChannelId), Lane>>,
}

impl Gate {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self { allowance, lanes: Mutex::default() }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<(TenantId, ChannelId), Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a delivery may be tried at `now`; the error is when at the earliest. A delivery that is told when its turn is
    /// gets it then, so that each waits once, however many there are.
    pub(super) fn enter(
        &self,
        tenant: TenantId,
        channel: &Channel,
        delivery: DeliveryId,
        now: Timestamp,
    ) -> Result<Pass<'_>, Timestamp> {
        let mut lanes = self.lanes();
        let lane = lanes.entry((tenant, channel.id)).or_default();
        if lane.version != channel.version {
            *lane = Lane { version: channel.version, under_way: lane.under_way, ..Lane::default() };
        }
        if let Some(until) = lane.paused_until {
            if now < until {
                return Err(until);
            }
            // One attempt finds out whether the receiver is back.
            if lane.under_way > 0 {
                return Err(now.plus(TURN));
            }
        }
        if channel.max_concurrency.is_some_and(|most| lane.under_way >= u32::from(most)) {
            return Err(now.plus(TURN));
        }
        match lane.turns.get(&delivery).copied() {
            Some(turn) if now < turn => return Err(turn),
            Some(_) => drop(lane.turns.remove(&delivery)),
            None => {
                let interval = MINUTE / self.allowance.attempts_per_minute.max(1);
                let burst = interval.saturating_mul(self.allowance.burst.max(1) - 1);
                let full_at = lane.full_at.max(now);
                lane.full_at = full_at.plus(interval);
                let turn = full_at.minus(burst);
                if turn > now {
                    if lane.turns.len() % 1_024 == 1_023 {
                        // Some were cancelled, and never come back for their turn.
                        lane.turns.retain(|_, turn| turn.plus(FORGOTTEN) > now);
                    }
                    lane.turns.insert(delivery, turn);
                    return Err(turn);
                }
            }
        }
        lane.under_way += 1;
        Ok(Pass { gate: self, lane: (tenant, channel.id) })
    }
}

impl Pass<'_> {
    /// Ends the attempt and says what became of it.
    pub(super) fn leave(self, passage: Passage, now: Timestamp) {
        let mut lanes = self.gate.lanes();
        let Some(lane) = lanes.get_mut(&self.lane) else { return };
        match passage {
            Passage::Open => {
                (lane.failures, lane.paused_until, lane.pause) = (0, None, Duration::ZERO);
            }
            Passage::Failed => {
                lane.failures += 1;
                let is_probe = lane.paused_until.is_some();
                if is_probe || lane.failures >= self.gate.allowance.failures_before_pause {
                    let twice = lane.pause.saturating_mul(2).clamp(FIRST_PAUSE, MAX_PAUSE);
                    // Attempts that were under way when the pause began say nothing new.
                    if lane.paused_until.is_none_or(|until| now >= until) {
                        lane.pause = twice;
                        lane.paused_until = Some(now.plus(twice));
                    }
                }
            }
        }
        if lanes.len() > 64 {
            lanes.retain(|_, lane| !lane.is_at_rest(now));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.gate.lanes().get_mut(&self.lane) {
            lane.under_way = lane.under_way.saturating_sub(1);
        }
    }
}

impl Lane {
    fn is_at_rest(&self, now: Timestamp) -> bool {
        self.under_way == 0 && self.failures == 0 && self.turns.is_empty() && self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::ChannelConfig;

    const TENANT: TenantId = TenantId::from_u128(1);
    const ALLOWANCE: Allowance = Allowance { attempts_per_minute: 60, burst: 3, failures_before_pause: 2 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + seconds)
    }

    fn channel() -> Channel {
        Channel { version: 1, ..Channel::new(ChannelId::from_u128(1), "ops", ChannelConfig::Log {}) }
    }

    fn enter<'g>(
        gate: &'g Gate,
        channel: &Channel,
        number: u128,
        seconds: i64,
    ) -> Result<Pass<'g>, Timestamp> {
        gate.enter(TENANT, channel, DeliveryId::from_u128(number), at(seconds))
    }

    fn wait(gate: &Gate, channel: &Channel, number: u128, seconds: i64) -> Option<Timestamp> {
        enter(gate, channel, number, seconds).err()
    }

    #[test]
    fn a_burst_goes_and_the_rest_take_turns() {
        let (gate, channel) = (Gate::new(ALLOWANCE), channel());
        let waits = [1, 2, 3, 4, 5].map(|number| wait(&gate, &channel, number, 0));
        assert_eq!(waits, [None, None, None, Some(at(1)), Some(at(2))]);
        assert_eq!(wait(&gate, &channel, 5, 1), Some(at(2)), "its turn stays");
        assert_eq!([4, 5].map(|number| wait(&gate, &channel, number, 2)), [None, None]);
        assert_eq!(wait(&gate, &channel, 6, 100), None);
    }

    #[test]
    fn failures_in_a_row_pause_and_one_attempt_finds_out() {
        let (gate, channel) = (Gate::new(ALLOWANCE), channel());
        for number in [1, 2] {
            enter(&gate, &channel, number, 0).unwrap().leave(Passage::Failed, at(0));
        }
        assert_eq!(wait(&gate, &channel, 3, 1), Some(at(30)));
        let probe = enter(&gate, &channel, 3, 30).unwrap();
        assert_eq!(wait(&gate, &channel, 4, 30), Some(at(31)), "only one");
        probe.leave(Passage::Failed, at(30));
        assert_eq!(wait(&gate, &channel, 4, 31), Some(at(90)), "twice as long");
        // An attempt that is broken off leaves room for the next one.
        drop(enter(&gate, &channel, 4, 90).unwrap());
        enter(&gate, &channel, 5, 90).unwrap().leave(Passage::Open, at(90));
        assert_eq!([6, 7].map(|number| wait(&gate, &channel, number, 91)), [None, None]);
    }

    #[test]
    fn a_changed_channel_starts_afresh_and_others_do_not_notice() {
        let (gate, channel) = (Gate::new(ALLOWANCE), channel());
        for number in [1, 2] {
            enter(&gate, &channel, number, 0).unwrap().leave(Passage::Failed, at(0));
        }
        let other = Channel { id: ChannelId::from_u128(2), ..channel.clone() };
        assert_eq!(wait(&gate, &other, 3, 1), None);
        assert_eq!(wait(&gate, &Channel { version: 2, ..channel }, 4, 1), None);
    }

    #[test]
    fn a_channel_can_ask_for_fewer_at_once() {
        let gate = Gate::new(ALLOWANCE);
        let channel = Channel { max_concurrency: Some(1), ..channel() };
        let first = enter(&gate, &channel, 1, 0).unwrap();
        assert_eq!(wait(&gate, &channel, 2, 0), Some(at(1)));
        first.leave(Passage::Open, at(1));
        assert_eq!(wait(&gate, &channel, 2, 1), None);
    }
}
