//! The rate limiter port, and the arithmetic that every limiter shares.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;
use crate::time::micros;

/// The longest time in which a spent burst may come back: ten years.
const MAX_REFILL_MICROS: i64 = 10 * 366 * 86_400 * 1_000_000;

/// How much is allowed: so much per period on the long run, and so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    interval_micros: i64,
    burst: u32,
}

impl RateLimit {
    /// Creates a limit of `amount` per `period`, with up to `burst` at once.
    ///
    /// One unit comes back every `period / amount`, rounded down to whole microseconds: a limit is never tighter than stated, and
    /// above 10,000 a second it is up to 1 % wider.
    ///
    /// # Errors
    /// `Invalid` when the amount or the burst is 0, the amount is above one per microsecond, or a burst takes more than ten
    /// years to come back.
    pub fn new(amount: u32, period: Duration, burst: u32) -> Result<Self> {
        let refuse =
            |message: &'static str| Err(Error::invalid("rate_limit.new", "", "out_of_range", message));
        if amount == 0 || burst == 0 {
            return refuse("a rate limit must allow at least 1");
        }
        let interval_micros = micros(period) / i64::from(amount);
        if interval_micros == 0 {
            return refuse("a rate limit must not be above one per microsecond");
        }
        match interval_micros.checked_mul(i64::from(burst)) {
            Some(refill) if refill <= MAX_REFILL_MICROS => Ok(Self { interval_micros, burst }),
            _ => refuse("the burst of a rate limit must come back within ten years"),
        }
    }

    /// Creates a limit of `amount` per minute.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn per_minute(amount: u32, burst: u32) -> Result<Self> {
        Self::new(amount, Duration::from_secs(60), burst)
    }

    /// Returns how much is allowed at once.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Returns the time in which one unit comes back, in microseconds, at least 1.
    pub const fn interval_micros(&self) -> i64 {
        self.interval_micros
    }

    /// Returns the time in which a spent burst comes back, in microseconds.
    pub const fn refill_micros(&self) -> i64 {
        // `new` has checked the product.
        self.interval_micros * self.burst as i64
    }

    /// Returns how long to wait until `amount`, or the burst if that is less, is left, when all is left after `reset_after`.
    pub fn wait_for(&self, amount: u32, reset_after: Duration) -> Duration {
        let wanted = self.interval_micros * i64::from(amount.min(self.burst));
        span(micros(reset_after).saturating_add(wanted).saturating_sub(self.refill_micros()))
    }

    /// Refuses a cost that can never be met.
    ///
    /// # Errors
    /// `TooLarge` when `cost` is above the burst.
    pub fn check_cost(&self, cost: u32) -> Result<()> {
        if cost <= self.burst {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            "rate_limiter.take",
            "more than the burst of the rate limit at once",
        )
        .with_context("cost", cost)
        .with_context("burst", self.burst))
    }
}

/// What a limiter says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether all that was asked for is allowed.
    pub allowed: bool,
    /// How much was taken.
    pub taken: u32,
    /// How much is allowed at once.
    pub limit: u32,
    /// How much of it is left.
    pub remaining: u32,
    /// After which time what was not taken is allowed, or as much of it as a burst; zero when all is taken.
    pub retry_after: Duration,
    /// After which time all of `limit` is left.
    pub reset_after: Duration,
}

/// What a limiter remembers of one key: the time at which everything taken has come back, in microseconds of its clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GcraState(pub i64);

/// Decides about taking `cost` at `now_micros`: the generic cell rate algorithm as virtual scheduling (ITU-T I.371, annex A).
///
/// Pure, in whole microseconds, so that every limiter decides alike. A new key starts with [`GcraState::default`]. The returned
/// state must be kept also when the request is refused: it is within one refill of now, and so a clock that jumps back
/// locks a key for one refill at most, and one that jumps ahead gives away one burst at most.
///
/// # Errors
/// `TooLarge` when `cost` is above the burst, which no waiting would change.
pub fn gcra(state: GcraState, now_micros: i64, limit: RateLimit, cost: u32) -> Result<(Decision, GcraState)> {
    limit.check_cost(cost)?;
    let (now, spent) = spent(state, now_micros, limit);
    let taken = if limit.left(spent) >= cost { cost } else { 0 };
    Ok(limit.decide(now, spent, cost, taken))
}

/// Decides about taking as much as is left, up to `at_most`, at `now_micros`; otherwise as [`gcra`].
pub fn gcra_up_to(
    state: GcraState,
    now_micros: i64,
    limit: RateLimit,
    at_most: u32,
) -> (Decision, GcraState) {
    let (now, spent) = spent(state, now_micros, limit);
    limit.decide(now, spent, at_most, limit.left(spent).min(at_most))
}

/// Returns a time that is far enough from the ends that nothing overflows, and what is spent then.
fn spent(state: GcraState, now_micros: i64, limit: RateLimit) -> (i64, i64) {
    let now = now_micros.clamp(i64::MIN / 2, i64::MAX / 2);
    (now, state.0.clamp(now, now + limit.refill_micros()) - now)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

impl RateLimit {
    fn left(&self, spent: i64) -> u32 {
        u32::try_from((self.refill_micros() - spent) / self.interval_micros).unwrap_or(u32::MAX)
    }

    /// Describes that `taken` of `asked` was taken.
    fn decide(&self, now: i64, spent: i64, asked: u32, taken: u32) -> (Decision, GcraState) {
        let kept = spent + self.interval_micros * i64::from(taken);
        let reset_after = span(kept);
        let rest = asked - taken;
        let decision = Decision {
            allowed: rest == 0,
            taken,
            limit: self.burst,
            remaining: self.left(kept),
            retry_after: if rest == 0 { Duration::ZERO } else { self.wait_for(rest, reset_after) },
            reset_after,
        };
        (decision, GcraState(now + kept))
    }
}

/// Limits how often something may happen.
///
/// Keys are the caller's: `ingest`, `login:192.0.2.1`. Different keys and different tenants never share a limit.
#[async_trait]
pub trait RateLimiter: fmt::Debug + Send + Sync + 'static {
    /// Takes `cost` from what `key` has left, all of it or nothing, in one atomic step.
    ///
    /// # Contract
    /// - Decides as [`gcra`] does, on a clock that only goes forward where there is one (`take_spends_the_burst_then_refuses`,
    ///   `take_refuses_all_or_nothing`, `take_of_nothing`, `take_gives_back_with_time`, `take_follows_a_changed_limit`).
    /// - Concurrent calls together never take more than the limit allows (`take_is_atomic`).
    /// - A key of another tenant is another key (`take_is_isolated`), and so is another text, whatever it
    ///   holds (`take_tells_keys_apart`).
    ///
    /// # Errors
    /// `TooLarge` when `cost` is above the burst (`take_refuses_more_than_the_burst`); `Unavailable` when the limiter cannot be
    /// reached.
    async fn take(&self, tenant: TenantId, key: &str, cost: u32, limit: RateLimit) -> Result<Decision>;

    /// Takes as much of `at_most` as `key` has left, which may be nothing, in one atomic step. More than the burst may be
    /// asked for; it is never taken at once.
    ///
    /// # Contract
    /// - Decides as [`gcra_up_to`] does (`take_up_to_gives_what_is_left`, `take_up_to_may_ask_for_more_than_the_burst`,
    ///   `take_up_to_spends_what_take_spends`).
    /// - Concurrent calls together never take more than the limit allows (`take_up_to_is_atomic`).
    ///
    /// # Errors
    /// `Unavailable` when the limiter cannot be reached.
    async fn take_up_to(
        &self,
        tenant: TenantId,
        key: &str,
        at_most: u32,
        limit: RateLimit,
    ) -> Result<Decision>;

    /// Returns what [`Self::take`] with a cost of 1 would decide, and takes nothing.
    ///
    /// # Contract
    /// - Peeking any number of times changes nothing (`peek_takes_nothing`).
    /// - It tells what is left (`peek_tells_what_take_decides`).
    ///
    /// # Errors
    /// `Unavailable` when the limiter cannot be reached.
    async fn peek(&self, tenant: TenantId, key: &str, limit: RateLimit) -> Result<Decision>;
}

/// Decides about a cost of 1 without taking it; for limiters to implement [`RateLimiter::peek`].
///
/// # Errors
/// None: a limit always has a burst of at least 1.
pub fn gcra_peek(state: GcraState, now_micros: i64, limit: RateLimit) -> Result<Decision> {
    let (left, _) = gcra(state, now_micros, limit, 0)?;
    let (one, _) = gcra(state, now_micros, limit, 1)?;
    Ok(Decision { allowed: one.allowed, retry_after: one.retry_after, ..left })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn limit(amount: u32, burst: u32) -> RateLimit {
        RateLimit::per_minute(amount, burst).unwrap()
    }

    #[test]
    fn limits_at_the_edge() {
        let second = Duration::from_secs(1);
        assert!(RateLimit::new(0, second, 1).is_err());
        assert!(RateLimit::new(1, second, 0).is_err());
        assert!(RateLimit::new(1_000_000, second, 1).is_ok());
        assert!(RateLimit::new(1_000_001, second, 1).is_err());
        let year = Duration::from_secs(366 * 86_400);
        assert!(RateLimit::new(1, year, 10).is_ok());
        assert!(RateLimit::new(1, year, 11).is_err());
        assert!(RateLimit::new(1, Duration::MAX, u32::MAX).is_err());
    }

    #[test]
    fn a_burst_then_one_per_interval() {
        let limit = limit(100, 200);
        let (decision, state) = gcra(GcraState::default(), MINUTE, limit, 200).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (true, 0));
        assert_eq!(decision.reset_after, Duration::from_secs(120));
        let (decision, state) = gcra(state, MINUTE, limit, 1).unwrap();
        assert_eq!((decision.allowed, decision.retry_after), (false, Duration::from_millis(600)));
        assert!(!gcra(state, MINUTE + 599_999, limit, 1).unwrap().0.allowed);
        let (decision, _) = gcra(state, MINUTE + 600_000, limit, 1).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (true, 0));
        assert_eq!(gcra(state, 3 * MINUTE, limit, 0).unwrap().0.remaining, 200);
    }

    #[test]
    fn an_interval_that_is_no_whole_number_still_gives_the_whole_burst() {
        let limit = limit(7, 7);
        let mut state = GcraState::default();
        for left in (0..7).rev() {
            let (decision, next) = gcra(state, 5, limit, 1).unwrap();
            assert_eq!((decision.allowed, decision.remaining), (true, left));
            state = next;
        }
        assert!(!gcra(state, 5, limit, 1).unwrap().0.allowed);
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let limit = limit(60, 10);
        let (_, state) = gcra(GcraState::default(), 0, limit, 6).unwrap();
        let (decision, state) = gcra(state, 0, limit, 5).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (false, 4));
        assert_eq!(decision.retry_after, Duration::from_secs(1));
        assert!(gcra(state, 0, limit, 4).unwrap().0.allowed);
    }

    #[test]
    fn a_cost_above_the_burst_is_an_error() {
        assert!(gcra(GcraState::default(), 0, limit(60, 10), 10).unwrap().0.allowed);
        let error = gcra(GcraState::default(), 0, limit(60, 10), 11).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("burst=`10`"), "{error}");
    }

    #[test]
    fn as_much_as_is_left() {
        let limit = limit(60, 10);
        let (decision, state) = gcra_up_to(GcraState::default(), 0, limit, 6);
        assert_eq!((decision.allowed, decision.taken, decision.remaining), (true, 6, 4));
        let (decision, state) = gcra_up_to(state, 0, limit, 7);
        assert_eq!((decision.allowed, decision.taken, decision.remaining), (false, 4, 0));
        assert_eq!(decision.retry_after, Duration::from_secs(3));
        let (decision, state) = gcra_up_to(state, 999_999, limit, u32::MAX);
        assert_eq!((decision.taken, decision.retry_after), (0, Duration::from_micros(9_000_001)));
        let (decision, _) = gcra_up_to(state, 1_000_000, limit, u32::MAX);
        assert_eq!((decision.taken, decision.retry_after), (1, Duration::from_secs(10)));
        assert_eq!(limit.wait_for(0, Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(limit.wait_for(3, decision.reset_after), Duration::from_secs(3));
    }

    #[test]
    fn a_clock_that_jumps_neither_locks_nor_frees_for_long() {
        let limit = limit(60, 10);
        let year = 366 * 1_440 * MINUTE;
        let (_, state) = gcra(GcraState::default(), year, limit, 10).unwrap();
        // Back by a year: refused, and allowed again within one refill of the new time.
        let (decision, state) = gcra(state, 0, limit, 1).unwrap();
        assert_eq!((decision.allowed, decision.retry_after), (false, Duration::from_secs(1)));
        assert!(gcra(state, 10_000_000, limit, 10).unwrap().0.allowed);
        // Ahead by a year: one burst, no more.
        let (decision, state) = gcra(state, year, limit, 10).unwrap();
        assert!(decision.allowed);
        assert!(!gcra(state, year, limit, 1).unwrap().0.allowed);
        for now in [i64::MIN, i64::MAX] {
            for state in [i64::MIN, 0, i64::MAX] {
                gcra(GcraState(state), now, limit, 10).unwrap();
            }
        }
    }

    #[test]
    fn peek_tells_what_take_would_do() {
        let limit = limit(60, 2);
        let (_, state) = gcra(GcraState::default(), 0, limit, 1).unwrap();
        let decision = gcra_peek(state, 0, limit).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (true, 1));
        let (_, state) = gcra(state, 0, limit, 1).unwrap();
        let decision = gcra_peek(state, 0, limit).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (false, 0));
        assert_eq!(decision.retry_after, Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            amount in 1_u32..1_000,
            burst in 1_u32..100,
            steps in prop::collection::vec((0_i64..3_000_000, 0_u32..100), 1..80),
        ) {
            let limit = limit(amount, burst);
            let (mut state, mut now, mut taken) = (GcraState::default(), MINUTE, 0_i64);
            for (pause, cost) in steps {
                now += pause;
                let cost = cost.min(burst);
                let (decision, next) = gcra(state, now, limit, cost).unwrap();
                prop_assert_eq!(decision.allowed, decision.retry_after.is_zero());
                if decision.allowed {
                    taken += i64::from(cost);
                } else {
                    let later = now + micros(decision.retry_after);
                    prop_assert!(gcra(next, later, limit, cost).unwrap().0.allowed);
                    prop_assert!(!gcra(next, later - 1, limit, cost).unwrap().0.allowed);
                }
                prop_assert!(taken <= i64::from(burst) + (now - MINUTE) / limit.interval_micros());
                state = next;
            }
        }
    }
}
