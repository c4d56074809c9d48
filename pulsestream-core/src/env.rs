//! Time, ids and randomness, injected, so that a test can drive all three.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Where the time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall-clock time; it may jump in both directions.
    fn now(&self) -> Timestamp;

    /// Returns the time since an arbitrary start; it never goes back.
    fn monotonic(&self) -> Duration;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Creates a clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    fn now(&self) -> Timestamp {
        let micros = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        Timestamp::from_micros(micros)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    wall_micros: AtomicI64,
    monotonic_micros: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { wall_micros: AtomicI64::new(start.as_micros()), monotonic_micros: AtomicU64::new(0) }
    }

    /// Moves wall and monotonic time forward.
    pub fn advance(&self, span: Duration) {
        self.wall_micros.fetch_add(crate::time::micros(span), Ordering::SeqCst);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.monotonic_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// Makes the wall clock jump, as an administrator or NTP does; monotonic time stays.
    pub fn jump_to(&self, at: Timestamp) {
        self.wall_micros.store(at.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall_micros.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_micros.load(Ordering::SeqCst))
    }
}

/// Where random bytes come from.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with random bytes, fit for keys when the source is [`SystemEntropy`].
    ///
    /// # Errors
    /// `Unavailable` when the source cannot deliver.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// The random source of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the operating system")]
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "entropy.fill", "the operating system gave no randomness")
                .with_context("cause", error)
        })
    }
}

/// A reproducible source for tests and demos (SplitMix64 of Steele, Lea and Flood, 2014); never for keys.
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// Creates the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

/// The surroundings a component works in: clock, ids and randomness. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    last_id: Arc<Mutex<u64>>,
}

impl Env {
    /// Creates an environment of the given parts.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, last_id: Arc::new(Mutex::new(0)) }
    }

    /// Creates the environment of the operating system.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock::new()), Arc::new(SystemEntropy))
    }

    /// Creates a reproducible environment at `start`, and returns its clock to drive it.
    pub fn manual(start: Timestamp, seed: u64) -> (Self, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(start));
        (Self::new(clock.clone(), Arc::new(SeededEntropy::new(seed))), clock)
    }

    /// Returns the wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the time since an arbitrary start, which never goes back.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the random source.
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// Returns `N` random bytes.
    ///
    /// # Errors
    /// `Unavailable` when the source cannot deliver.
    pub fn random_bytes<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns a new UUIDv7 (RFC 9562, method 1 of section 6.2): ids of one process ascend strictly, also when the clock goes back.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn uuid_v7(&self) -> Result<u128> {
        let tail = self.random_bytes()?;
        Ok(uuid_of(self.take_stamps(1), tail))
    }

    /// Returns as many new UUIDv7s as asked for, ascending, for less than as many calls of [`Self::uuid_v7`]: the operating system is
    /// asked for randomness once.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn uuids_v7(&self, count: usize) -> Result<Vec<u128>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut tails = vec![[0; 8]; count];
        self.entropy.fill(tails.as_flattened_mut())?;
        let first = self.take_stamps(count as u64);
        Ok((first..).zip(tails).map(|(stamp, tail)| uuid_of(stamp, tail)).collect())
    }

    /// Takes at least one stamp that no id has yet, and returns the first of them.
    fn take_stamps(&self, count: u64) -> u64 {
        let millis = u64::try_from(self.now().as_micros() / 1_000).unwrap_or(0);
        let mut last = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        let first = (*last + 1).max(millis << STAMP_COUNTER_BITS);
        *last = first + (count - 1);
        first
    }
}

/// How many low bits of a stamp count the ids of a millisecond; the others are its milliseconds.
const STAMP_COUNTER_BITS: u32 = 12;

fn uuid_of(stamp: u64, tail: [u8; 8]) -> u128 {
    let head = u128::from(stamp >> STAMP_COUNTER_BITS) << 80;
    let counter = u128::from(stamp & ((1 << STAMP_COUNTER_BITS) - 1)) << 64;
    head | (0x7 << 76) | counter | (0b10 << 62) | u128::from(u64::from_le_bytes(tail) >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_when_the_clock_goes_back() {
        let (env, clock) = Env::manual(Timestamp::from_seconds(1_000_000), 7);
        let first = env.uuid_v7().unwrap();
        clock.jump_to(Timestamp::from_seconds(10));
        let mut last = first;
        for _ in 0..10_000 {
            let next = env.uuid_v7().unwrap();
            assert!(next > last);
            last = next;
        }
        assert_eq!(uuid::Uuid::from_u128(last).get_version_num(), 7);
    }

    #[test]
    fn ids_in_a_run_are_those_of_single_calls() {
        let env = || Env::manual(Timestamp::from_seconds(1_000_000), 7).0;
        let (one_by_one, together) = (env(), env());
        let mut expected: Vec<_> = (0..5_000).map(|_| one_by_one.uuid_v7().unwrap()).collect();
        expected.push(one_by_one.uuid_v7().unwrap());
        let mut run = together.uuids_v7(5_000).unwrap();
        run.extend(together.uuids_v7(0).unwrap());
        run.push(together.uuid_v7().unwrap());
        assert_eq!(run, expected);
        assert!(run.is_sorted());
    }

    #[test]
    fn seeded_entropy_repeats() {
        let draw = |seed| SeededEntropy::new(seed).next_u64();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
