//! What a sequence rule remembers: keys that wait, and keys that missed their deadline.

use std::collections::{BTreeSet, HashMap};

use super::machine::FOREVER;
use crate::alerting::codec::{Reader, Writer};
use crate::error::Result;

/// Most keys that wait at once in one instance; further ones are not watched.
pub(super) const MAX_WAITING: usize = 100_000;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Waits {
    /// Deadline of every key that waits.
    deadlines: HashMap<u64, i64>,
    by_deadline: BTreeSet<(i64, u64)>,
    /// When each missed key is forgotten.
    missed: HashMap<u64, i64>,
    by_end: BTreeSet<(i64, u64)>,
}

impl Waits {
    /// Starts to wait for a key, unless it waits already.
    pub(super) fn start(&mut self, key: u64, deadline: i64) {
        if self.deadlines.len() < MAX_WAITING && !self.deadlines.contains_key(&key) {
            self.deadlines.insert(key, deadline);
            self.by_deadline.insert((deadline, key));
        }
    }

    /// The awaited event of a key came; a key that had missed its deadline counts no longer.
    pub(super) fn finish(&mut self, key: u64) {
        if let Some(deadline) = self.deadlines.remove(&key) {
            self.by_deadline.remove(&(deadline, key));
        }
        if let Some(end) = self.missed.remove(&key) {
            self.by_end.remove(&(end, key));
        }
    }

    /// Returns when something changes next.
    pub(super) fn next(&self) -> i64 {
        let first = |set: &BTreeSet<(i64, u64)>| set.first().map_or(FOREVER, |(at, _)| *at);
        first(&self.by_deadline).min(first(&self.by_end))
    }

    /// Lets time pass: keys whose deadline is up to `at` have missed it for `within`.
    pub(super) fn pass(&mut self, at: i64, within: i64) {
        while let Some((deadline, key)) = self.by_deadline.first().copied().filter(|(due, _)| *due <= at) {
            self.by_deadline.pop_first();
            self.deadlines.remove(&key);
            let end = deadline.saturating_add(within);
            if let Some(before) = self.missed.insert(key, end) {
                self.by_end.remove(&(before, key));
            }
            self.by_end.insert((end, key));
        }
        while let Some((_, key)) = self.by_end.first().copied().filter(|(end, _)| *end <= at) {
            self.by_end.pop_first();
            self.missed.remove(&key);
        }
    }

    /// Returns how many keys have missed their deadline.
    #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
    pub(super) fn value(&self) -> f64 {
        self.missed.len() as f64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deadlines.is_empty() && self.missed.is_empty()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        for set in [&self.by_deadline, &self.by_end] {
            out.unsigned(set.len() as u64);
            for (at, key) in set {
                out.signed(*at);
                out.bytes(&key.to_le_bytes());
            }
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let mut waits = Self::default();
        for (map, set) in
            [(&mut waits.deadlines, &mut waits.by_deadline), (&mut waits.missed, &mut waits.by_end)]
        {
            for _ in 0..input.length(9)? {
                let at = input.signed()?;
                let key = u64::from_le_bytes(input.array()?);
                map.insert(key, at);
                set.insert((at, key));
            }
        }
        Ok(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_wait_miss_and_are_forgotten() {
        let mut waits = Waits::default();
        waits.start(1, 10);
        waits.start(2, 12);
        waits.start(1, 99);
        assert_eq!(waits.next(), 10);
        waits.pass(11, 5);
        assert_eq!(waits.value(), 1.0);
        waits.finish(2);
        assert_eq!(waits.next(), 15);
        waits.pass(15, 5);
        assert!(waits.is_empty());
    }
}
