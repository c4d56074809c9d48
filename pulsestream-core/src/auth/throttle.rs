//! Delays after failures: per account first, then per source address.
//!
//! An attempt is pending until its verdict; one that gets none, because its caller went away, counts as a failure. While an
//! account has few failures several attempts may be pending, so that a program that signs in many times at once is not held up;
//! after that one at a time, so that parallel guesses get no further. Attempts refused here are not counted, so that a refused
//! owner is not locked out for longer by trying. Unknown accounts are delayed like known ones. The counts live in this process:
//! each node counts its own.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mac::sha256;
use crate::env::Clock;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::time::duration_text;

/// Settings of the delays after failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleSettings {
    /// Failures of an account without a delay.
    pub account_free: u32,
    /// Sign-ins of an account that may be under way at once while it has fewer failures than that.
    pub account_parallel: u32,
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
            account_parallel: 16,
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

/// What is known of an account or an address.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    pending: u32,
    /// When the last failure was counted.
    last: Duration,
}

#[derive(Debug, Default)]
struct Table {
    failures: HashMap<Key, Failures>,
    /// The same, fewest failures and oldest first: what is forgotten when the table is full.
    weakest: BTreeSet<(u32, Duration, Key)>,
}

#[derive(Debug)]
struct Inner {
    settings: ThrottleSettings,
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
}

/// Counts failures and says when the next attempt may be made.
#[derive(Debug, Clone)]
pub(crate) struct Throttle(Arc<Inner>);

/// A pending attempt. Dropped without a verdict it counts as a failure.
#[derive(Debug)]
#[must_use = "dropping an attempt counts it as a failure"]
pub(crate) struct Attempt {
    throttle: Throttle,
    account: Key,
    source: Option<Key>,
    settled: bool,
}

impl Throttle {
    pub(crate) fn new(settings: ThrottleSettings, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { settings, clock, table: Mutex::default() }))
    }

    /// Starts an attempt, or refuses it with `RateLimited` and the time to wait.
    pub(crate) fn attempt(
        &self,
        purpose: Purpose,
        account: &[&str],
        source: Option<IpAddr>,
    ) -> Result<Attempt> {
        let (account, source) =
            (account_key(purpose, account), source.map(|source| source_key(purpose, source)));
        let (inner, now) = (&*self.0, self.0.clock.monotonic());
        let settings = &inner.settings;
        let mut table = inner.table.lock().unwrap_or_else(PoisonError::into_inner);
        let most_pending = purpose.most_pending(settings);
        let account_wait = table.wait(&account, settings.account_free, most_pending, settings, now);
        let source_wait = source.map_or(Duration::ZERO, |source| {
            table.wait(&source, settings.source_free, settings.source_free.max(1), settings, now)
        });
        let wait = account_wait.max(source_wait);
        if wait > Duration::ZERO {
            return Err(Error::new(
                ErrorKind::RateLimited,
                "auth.throttle",
                "too many attempts: wait before the next",
            )
            .with_retry(Retry::After(wait)));
        }
        for key in [Some(account), source].into_iter().flatten() {
            table.change(key, settings, now, |failures| failures.pending += 1);
        }
        drop(table);
        Ok(Attempt { throttle: self.clone(), account, source, settled: false })
    }

    /// Forgets the failures of an account, as after a password reset.
    pub(crate) fn clear(&self, purpose: Purpose, account: &[&str]) {
        let key = account_key(purpose, account);
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.change(key, &self.0.settings, self.0.clock.monotonic(), |failures| failures.count = 0);
    }
}

impl Attempt {
    /// It was right: the failures of the account are forgotten, those of the address stay.
    pub(crate) fn succeed(mut self) {
        self.settle(|failures| failures.count = 0, |_| ());
    }

    /// It did not get as far as a verdict, such as when the store was away.
    pub(crate) fn undo(mut self) {
        self.settle(|_| (), |_| ());
    }

    fn settle(&mut self, account: impl Fn(&mut Failures), source: impl Fn(&mut Failures)) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let (inner, now) = (&*self.throttle.0, self.throttle.0.clock.monotonic());
        let mut table = inner.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.change(self.account, &inner.settings, now, |failures| {
            failures.pending = failures.pending.saturating_sub(1);
            account(failures);
        });
        if let Some(key) = self.source {
            table.change(key, &inner.settings, now, |failures| {
                failures.pending = failures.pending.saturating_sub(1);
                source(failures);
            });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = self.throttle.0.clock.monotonic();
        let fail = |failures: &mut Failures| {
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
        };
        self.settle(fail, fail);
    }
}

impl Table {
    /// Returns how long `key` has to wait before its next attempt.
    fn wait(
        &self,
        key: &Key,
        free: u32,
        most_pending: u32,
        settings: &ThrottleSettings,
        now: Duration,
    ) -> Duration {
        let Some(failures) = self.failures.get(key) else { return Duration::ZERO };
        let free = free.max(1);
        let passed = now.saturating_sub(failures.last);
        let delayed = failures.count >= free && passed < settings.memory();
        if failures.pending >= if delayed { 1 } else { most_pending } {
            return settings.base_delay;
        }
        if !delayed {
            return Duration::ZERO;
        }
        let doublings = (failures.count - free).min(31);
        let delay = settings.base_delay.saturating_mul(1 << doublings).min(settings.max_delay);
        delay.saturating_sub(passed)
    }

    /// Changes what is known of `key`, after forgetting what is too old, and makes room for it.
    fn change(
        &mut self,
        key: Key,
        settings: &ThrottleSettings,
        now: Duration,
        change: impl FnOnce(&mut Failures),
    ) {
        let mut failures = self.remove(&key).unwrap_or_default();
        if now.saturating_sub(failures.last) >= settings.memory() {
            failures.count = 0;
        }
        change(&mut failures);
        if failures.count == 0 && failures.pending == 0 {
            return;
        }
        while self.failures.len() >= settings.entries {
            let Some((_, _, weakest)) = self.weakest.pop_first() else { break };
            self.failures.remove(&weakest);
        }
        self.weakest.insert((failures.count, failures.last, key));
        self.failures.insert(key, failures);
    }

    fn remove(&mut self, key: &Key) -> Option<Failures> {
        let failures = self.failures.remove(key)?;
        self.weakest.remove(&(failures.count, failures.last, *key));
        Some(failures)
    }
}

impl ThrottleSettings {
    /// For how long failures count: never shorter than a delay.
    fn memory(&self) -> Duration {
        self.forget_after.max(self.max_delay)
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
    /// How many attempts of an account may be pending while it has few failures.
    fn most_pending(self, settings: &ThrottleSettings) -> u32 {
        match self {
            Self::SignIn => settings.account_parallel.max(1),
            // A message that was sent cannot be taken back, so the free ones are all there are.
            Self::PasswordReset | Self::Registration => settings.account_free.max(1),
        }
    }

    const fn label(self) -> &'static [u8] {
        match self {
            Self::SignIn => b"sign-in",
            Self::PasswordReset => b"password-reset",
            Self::Registration => b"registration",
        }
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
