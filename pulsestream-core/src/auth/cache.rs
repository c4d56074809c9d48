//! What was found in the store a moment ago, bounded in number and age, and forgotten with each change.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

struct State<K, V> {
    entries: HashMap<K, (V, Duration)>,
    order: VecDeque<(K, Duration)>,
    generation: u64,
}

/// A small cache. An answer that was read before a change is not taken in after it.
pub(crate) struct CheckedCache<K, V> {
    state: Mutex<State<K, V>>,
    capacity: usize,
    ttl: Duration,
}

/// The moment before a read of the store; see [`CheckedCache::insert`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generation(u64);

impl<K: Hash + Eq + Clone, V: Clone> CheckedCache<K, V> {
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        let state = State { entries: HashMap::new(), order: VecDeque::new(), generation: 0 };
        Self { state: Mutex::new(state), capacity, ttl }
    }

    /// Returns what is remembered and not too old, or the moment to hand to [`Self::insert`] after asking the store.
    pub(crate) fn get(&self, key: &K, now: Duration) -> Result<V, Generation> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.entries.get(key) {
            Some((value, at)) if now.saturating_sub(*at) < self.ttl => Ok(value.clone()),
            _ => Err(Generation(state.generation)),
        }
    }

    /// Remembers an answer, unless something was forgotten since `read_at`: the answer may be older than that change.
    pub(crate) fn insert(&self, key: K, value: V, now: Duration, read_at: Generation) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ttl.is_zero() || state.generation != read_at.0 {
            return;
        }
        while state.entries.len() >= self.capacity && !state.entries.contains_key(&key)
            || state.order.len() >= self.capacity.saturating_mul(2)
        {
            let Some((oldest, at)) = state.order.pop_front() else { break };
            if state.entries.get(&oldest).is_some_and(|(_, current)| *current == at) {
                state.entries.remove(&oldest);
            }
        }
        state.order.push_back((key.clone(), now));
        state.entries.insert(key, (value, now));
    }

    /// Changes an entry that is held, without making it younger.
    pub(crate) fn update(&self, key: &K, change: impl FnOnce(&mut V)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, _)) = state.entries.get_mut(key) {
            change(value);
        }
    }

    /// Forgets the entries for which `stale` is true.
    pub(crate) fn forget(&self, stale: impl Fn(&K, &V) -> bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.generation += 1;
        state.entries.retain(|key, (value, _)| !stale(key, value));
    }

    /// Forgets one entry.
    pub(crate) fn forget_key(&self, key: &K) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.generation += 1;
        state.entries.remove(key);
    }
}

impl<K, V> fmt::Debug for CheckedCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedCache").field("capacity", &self.capacity).field("ttl", &self.ttl).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn put(cache: &CheckedCache<u32, u32>, key: u32, now: Duration) {
        if let Err(generation) = cache.get(&key, now) {
            cache.insert(key, key, now, generation);
        }
    }

    #[test]
    fn remembers_for_its_time_and_no_longer() {
        let cache = CheckedCache::new(4, TTL);
        put(&cache, 1, Duration::ZERO);
        assert!(cache.get(&1, TTL - Duration::from_micros(1)).is_ok());
        assert!(cache.get(&1, TTL).is_err());
    }

    #[test]
    fn an_answer_older_than_a_change_is_not_taken_in() {
        let cache = CheckedCache::new(4, TTL);
        let Err(before) = cache.get(&1, Duration::ZERO) else { panic!("empty") };
        cache.forget_key(&1);
        cache.insert(1, 7, Duration::ZERO, before);
        assert!(cache.get(&1, Duration::ZERO).is_err());
    }

    #[test]
    fn stays_within_its_bound_however_it_is_used() {
        let cache = CheckedCache::new(4, TTL);
        for step in 0..1_000_u32 {
            put(&cache, step % 7, TTL * step);
            put(&cache, 1_000, TTL * step);
            let state = cache.state.lock().unwrap();
            assert!(state.entries.len() <= 4 && state.order.len() <= 8);
        }
    }

    #[test]
    fn no_time_means_no_memory() {
        let cache = CheckedCache::new(4, Duration::ZERO);
        put(&cache, 1, Duration::ZERO);
        assert!(cache.get(&1, Duration::ZERO).is_err());
    }
}
