//! What composite rules know of the rules that they name.
//!
//! Instances of different rules are judged as their events and timers come, which is not the order of time: one rule may fire because of
//! an event while the end of another, a second earlier, waits for stragglers still. So composites take changes in the order of time,
//! and only once nothing earlier is to come.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::FOREVER;
use crate::alerting::codec::{Reader, Writer};
use crate::error::Result;
use crate::id::RuleId;

/// The rules that composites name, and how many of their instances fire.
#[derive(Debug, Default)]
pub(super) struct NamedRules {
    /// For each named rule the places of the composites that name it.
    composites: BTreeMap<RuleId, Vec<u32>>,
    /// How many instances fire, as far as composites know.
    firing: BTreeMap<RuleId, i64>,
    /// By how many more or fewer will fire from a time on.
    waiting: BTreeMap<(i64, RuleId), i64>,
}

impl NamedRules {
    /// Sets which rules are named; `firing` says how many instances of a rule fire that was not named before.
    pub(super) fn watch(&mut self, composites: BTreeMap<RuleId, Vec<u32>>, firing: impl Fn(RuleId) -> usize) {
        self.waiting.retain(|(_, rule), _| composites.contains_key(rule));
        let known = std::mem::take(&mut self.firing);
        let count = |rule: RuleId| i64::try_from(firing(rule)).unwrap_or(i64::MAX);
        let counted =
            composites.keys().map(|rule| (*rule, known.get(rule).copied().unwrap_or_else(|| count(*rule))));
        self.firing = counted.collect();
        self.composites = composites;
    }

    /// Forgets what was known of a rule whose instances are gone.
    pub(super) fn forget(&mut self, rule: RuleId) {
        self.firing.remove(&rule);
        self.waiting.retain(|(_, named), _| *named != rule);
    }

    /// Takes changes of how many instances of a rule fire, each with its time.
    pub(super) fn take(&mut self, rule: RuleId, changes: impl Iterator<Item = (i64, i64)>) {
        for (at, more) in changes {
            *self.waiting.entry((at, rule)).or_default() += more;
        }
    }

    /// Returns the time of the first change that waits.
    pub(super) fn next(&self) -> i64 {
        self.waiting.first_key_value().map_or(FOREVER, |((at, _), _)| *at)
    }

    /// Makes the changes up to `at` known, and returns the places of the composites that they concern.
    pub(super) fn settle(&mut self, at: i64) -> BTreeSet<u32> {
        let mut concerned = BTreeSet::new();
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= at) {
            let ((_, rule), more) = entry.remove_entry();
            let Some(firing) = self.firing.get_mut(&rule) else { continue };
            let before = *firing > 0;
            *firing += more;
            if before != (*firing > 0) {
                concerned.extend(self.composites.get(&rule).into_iter().flatten());
            }
        }
        concerned
    }

    /// Returns whether a named rule fires.
    pub(super) fn fires(&self, rule: RuleId) -> bool {
        self.firing.get(&rule).is_some_and(|firing| *firing > 0)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.unsigned(self.firing.len() as u64);
        for (rule, firing) in &self.firing {
            out.bytes(&rule.to_bytes());
            out.signed(*firing);
        }
        out.unsigned(self.waiting.len() as u64);
        for ((at, rule), more) in &self.waiting {
            out.signed(*at);
            out.bytes(&rule.to_bytes());
            out.signed(*more);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self> {
        let mut named = Self::default();
        for _ in 0..input.length(17)? {
            named.firing.insert(RuleId::from_bytes(input.array()?), input.signed()?);
        }
        for _ in 0..input.length(18)? {
            let at = input.signed()?;
            named.waiting.insert((at, RuleId::from_bytes(input.array()?)), input.signed()?);
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [RuleId; 2] = [RuleId::from_u128(1), RuleId::from_u128(2)];

    fn named() -> NamedRules {
        let mut named = NamedRules::default();
        named.watch(BTreeMap::from([(RULES[0], vec![7]), (RULES[1], vec![7, 8])]), |_| 0);
        named
    }

    #[test]
    fn changes_are_known_in_the_order_of_time() {
        let mut named = named();
        named.take(RULES[1], [(10, 1)].into_iter());
        named.take(RULES[0], [(8, 1), (8, 1), (9, -1)].into_iter());
        assert_eq!(named.next(), 8);
        assert_eq!(named.settle(9), BTreeSet::from([7]));
        assert_eq!(RULES.map(|rule| named.fires(rule)), [true, false]);
        named.take(RULES[0], [(10, -1)].into_iter());
        assert_eq!(named.settle(10), BTreeSet::from([7, 8]));
        assert_eq!(RULES.map(|rule| named.fires(rule)), [false, true]);
        assert_eq!(named.next(), FOREVER);
    }

    #[test]
    fn what_begins_and_ends_in_one_moment_concerns_nobody() {
        let mut named = named();
        named.take(RULES[0], [(5, 1), (5, -1)].into_iter());
        assert_eq!((named.next(), named.settle(5)), (5, BTreeSet::new()));
    }

    #[test]
    fn rules_that_are_gone_do_not_fire() {
        let mut named = named();
        named.take(RULES[0], [(5, 1), (9, 1)].into_iter());
        named.settle(5);
        named.forget(RULES[0]);
        named.watch(BTreeMap::from([(RULES[0], vec![0])]), |_| 0);
        assert_eq!((named.fires(RULES[0]), named.next()), (false, FOREVER));
        named.watch(BTreeMap::from([(RULES[0], vec![0]), (RULES[1], vec![0])]), |_| 3);
        assert_eq!(
            RULES.map(|rule| named.fires(rule)),
            [false, true],
            "it was known already, the other was not"
        );
    }
}
