//! Delays after failures: per account first, then per source address.
//!
//! An attempt is counted before the password is looked at and forgiven when it was right, so that a thousand parallel guesses
//! get no further than the free ones. Attempts refused here are not counted, so that a refused owner is not locked out for
//! longer by trying. Unknown accounts are delayed like known ones. The counts live in this process: each node counts its own.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mac::sha256;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::time::duration_text;

/// Settings of the delays after failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleSettings {
    /// Failures of an account without a delay.
    pub account_free: u32,
    /// Failures from a source address without a delay; many people may share one.
    pub source_free: u32,
    /// The first delay; each further failure doubles it.
    #[serde(with = "duration_text")]
    pub base_delay: Duration,
    /// The longest delay, so that an attacker cannot lock an owner out for long.
    #[serde(with = "duration_text")]
    pub max_delay: Duration,
    /// How long after the last failure the count starts again.
    #[serde(with = "duration_text")]
    pub forget_after: Duration,
    /// Accounts and addresses remembered; beyond it those with the fewest failures are forgotten.
    pub entries: usize,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        Self {
            account_free: 3,
            source_free: 30,
            base_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(900),
            forget_after: Duration::from_secs(3_600),
            entries: 65_536,
        }
    }
}

type Key = [u8; 32];

/// What is delayed. Each purpose counts on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    SignIn,
    PasswordReset,
    Registration,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Duration,
}

#[derive(Debug, Default)]
struct Table {
    failures: HashMap<Key, Failures>,
    /// The same, fewest failures and oldest first: what is forgotten when the table is full.
    weakest: BTreeSet<(u32, Duration, Key)>,
}

/// Counts attempts and says when the next one may be made.
#[derive(Debug)]
pub(crate) struct Throttle {
    settings: ThrottleSettings,
    table: Mutex<Table>,
}

/// An attempt that was counted as a failure, to be forgiven when it was none.
#[derive(Debug)]
#[must_use]
pub(crate) struct Attempt {
    account: Key,
    source: Option<Key>,
}

impl Throttle {
    pub(crate) fn new(settings: ThrottleSettings) -> Self {
        Self { settings, table: Mutex::default() }
    }

    /// Counts an attempt, or refuses it with `RateLimited` and the time to wait. `now` is monotonic.
    pub(crate) fn attempt(
        &self,
        purpose: Purpose,
        account: &[&str],
        source: Option<IpAddr>,
        now: Duration,
    ) -> Result<Attempt> {
        let attempt = Attempt {
            account: account_key(purpose, account),
            source: source.map(|ip| source_key(purpose, ip)),
        };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let account_wait = table.wait(&attempt.account, self.settings.account_free, &self.settings, now);
        let source_wait = attempt
            .source
            .map_or(Duration::ZERO, |key| table.wait(&key, self.settings.source_free, &self.settings, now));
        let wait = account_wait.max(source_wait);
        if wait > Duration::ZERO {
            return Err(Error::new(
                ErrorKind::RateLimited,
                "auth.throttle",
                "too many attempts: wait before the next",
            )
            .with_retry(Retry::After(wait)));
        }
        table.count(attempt.account, &self.settings, now);
        if let Some(source) = attempt.source {
            table.count(source, &self.settings, now);
        }
        Ok(attempt)
    }

    /// Forgives an attempt that was right: the account starts again, the address gets this one back.
    pub(crate) fn forgive(&self, attempt: &Attempt) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.remove(&attempt.account);
        if let Some(source) = attempt.source {
            table.give_back(&source);
        }
    }

    /// Forgives an attempt that did not get as far as a verdict, such as when the store was away.
    pub(crate) fn undo(&self, attempt: &Attempt) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.give_back(&attempt.account);
        if let Some(source) = attempt.source {
            table.give_back(&source);
        }
    }

    /// Forgets the failures of an account, as after a password reset.
    pub(crate) fn clear(&self, purpose: Purpose, account: &[&str]) {
        let key = account_key(purpose, account);
        self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

impl Table {
    fn wait(&self, key: &Key, free: u32, settings: &ThrottleSettings, now: Duration) -> Duration {
        let Some(failures) = self.failures.get(key) else { return Duration::ZERO };
        let passed = now.saturating_sub(failures.last);
        if failures.count < free.max(1) || passed >= settings.forget_after.max(settings.max_delay) {
            return Duration::ZERO;
        }
        let doublings = (failures.count - free.max(1)).min(31);
        let delay = settings.base_delay.saturating_mul(1 << doublings).min(settings.max_delay);
        delay.saturating_sub(passed)
    }

    fn count(&mut self, key: Key, settings: &ThrottleSettings, now: Duration) {
        let before = self.remove(&key);
        let remembered = before.filter(|failures| {
            now.saturating_sub(failures.last) < settings.forget_after.max(settings.max_delay)
        });
        let count = remembered.map_or(0, |failures| failures.count).saturating_add(1);
        while self.failures.len() >= settings.entries {
            let Some((_, _, weakest)) = self.weakest.pop_first() else { break };
            self.failures.remove(&weakest);
        }
        self.insert(key, Failures { count, last: now });
    }

    fn give_back(&mut self, key: &Key) {
        if let Some(failures) = self.remove(key).filter(|failures| failures.count > 1) {
            self.insert(*key, Failures { count: failures.count - 1, ..failures });
        }
    }

    fn insert(&mut self, key: Key, failures: Failures) {
        self.weakest.insert((failures.count, failures.last, key));
        self.failures.insert(key, failures);
    }

    fn remove(&mut self, key: &Key) -> Option<Failures> {
        let failures = self.failures.remove(key)?;
        self.weakest.remove(&(failures.count, failures.last, *key));
        Some(failures)
    }
}

fn account_key(purpose: Purpose, account: &[&str]) -> Key {
    let mut parts: Vec<&[u8]> = vec![purpose.label(), b"account"];
    for part in account {
        parts.extend([b"\0".as_slice(), part.as_bytes()]);
    }
    sha256(&parts)
}

/// An IPv6 customer has at least a /64, so the lower half of the address says nothing about who it is.
fn source_key(purpose: Purpose, source: IpAddr) -> Key {
    let bytes = match source.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()).to_be_bytes(),
        IpAddr::V6(address) => (address.to_bits() & (u128::MAX << 64)).to_be_bytes(),
    };
    sha256(&[purpose.label(), b"source", &bytes])
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::SignIn => b"sign-in",
            Self::PasswordReset => b"password-reset",
            Self::Registration => b"registration",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn throttle() -> Throttle {
        Throttle::new(ThrottleSettings::default())
    }

    fn wait(throttle: &Throttle, account: &str, source: &str, now: Duration) -> Option<u64> {
        let source = source.parse().ok();
        match throttle.attempt(Purpose::SignIn, &["shop", account], source, now) {
            Ok(_) => None,
            Err(error) => Some(error.retry_after().unwrap().as_secs()),
        }
    }

    #[test]
    fn delays_double_and_stop_at_the_limit() {
        let throttle = throttle();
        let mut now = seconds(10);
        for _ in 0..3 {
            assert_eq!(wait(&throttle, "a", "", now), None);
        }
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900] {
            assert_eq!(wait(&throttle, "a", "", now), Some(expected));
            assert_eq!(wait(&throttle, "b-of-its-own", "", now + seconds(1_000_000)), None);
            now += seconds(expected);
            assert_eq!(wait(&throttle, "a", "", now), None, "after {expected} s the next is free");
        }
    }

    #[test]
    fn guesses_of_a_day_are_few() {
        let throttle = throttle();
        let guesses =
            (0..86_400).filter(|second| wait(&throttle, "a", "", seconds(*second)).is_none()).count();
        assert!((80..130).contains(&guesses), "{guesses}");
    }

    #[test]
    fn a_right_password_starts_again_and_an_hour_forgets() {
        let throttle = throttle();
        for _ in 0..2 {
            assert_eq!(wait(&throttle, "a", "", seconds(0)), None);
        }
        let attempt = throttle.attempt(Purpose::SignIn, &["shop", "a"], None, seconds(0)).unwrap();
        throttle.forgive(&attempt);
        for _ in 0..3 {
            assert_eq!(wait(&throttle, "a", "", seconds(0)), None);
        }
        assert_eq!(wait(&throttle, "a", "", seconds(0)), Some(1));
        for _ in 0..3 {
            assert_eq!(wait(&throttle, "a", "", seconds(3_600)), None, "forgotten");
        }
        assert_eq!(wait(&throttle, "a", "", seconds(3_600)), Some(1));
    }

    #[test]
    fn one_address_trying_many_accounts_is_delayed_and_others_are_not() {
        let throttle = throttle();
        for account in 0..30 {
            assert_eq!(wait(&throttle, &account.to_string(), "203.0.113.9", seconds(0)), None);
        }
        assert_eq!(wait(&throttle, "31", "203.0.113.9", seconds(0)), Some(1));
        assert_eq!(wait(&throttle, "31", "::ffff:203.0.113.9", seconds(0)), Some(1), "the same address");
        assert_eq!(wait(&throttle, "31", "203.0.113.10", seconds(0)), None);
        for host in 0..30 {
            assert_eq!(
                wait(&throttle, &format!("six{host}"), &format!("2001:db8::{host:x}"), seconds(0)),
                None
            );
        }
        assert_eq!(wait(&throttle, "six", "2001:db8::ffff", seconds(0)), Some(1), "the same /64");
    }

    #[test]
    fn refused_attempts_do_not_lengthen_the_delay() {
        let throttle = throttle();
        for _ in 0..4 {
            let _ = wait(&throttle, "a", "", seconds(0));
        }
        for _ in 0..1_000 {
            assert_eq!(wait(&throttle, "a", "", seconds(0)), Some(1));
        }
        assert_eq!(wait(&throttle, "a", "", seconds(1)), None);
    }

    #[test]
    fn a_flood_of_made_up_accounts_does_not_free_the_victim() {
        let throttle = Throttle::new(ThrottleSettings { entries: 100, ..ThrottleSettings::default() });
        for now in [0, 0, 0, 1, 3] {
            assert_eq!(wait(&throttle, "victim", "", seconds(now)), None);
        }
        for account in 0..10_000 {
            let _ = wait(&throttle, &account.to_string(), "", seconds(3));
        }
        assert_eq!(wait(&throttle, "victim", "", seconds(3)), Some(4));
        let table = throttle.table.lock().unwrap();
        assert_eq!((table.failures.len(), table.weakest.len()), (100, 100));
    }

    #[test]
    fn an_attempt_without_a_verdict_is_given_back() {
        let throttle = throttle();
        for _ in 0..100 {
            let attempt =
                throttle.attempt(Purpose::SignIn, &["a"], Some([10, 0, 0, 1].into()), seconds(0)).unwrap();
            throttle.undo(&attempt);
        }
        assert!(throttle.table.lock().unwrap().failures.is_empty());
    }
}
