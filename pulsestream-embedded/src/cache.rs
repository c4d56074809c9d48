//! Loaded columns within a budget of bytes.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pulsestream_core::event::FieldPath;

use crate::error::FaultResult;
use crate::field::{IntField, NumberField, TextField};

/// What of a part is cached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CacheKey {
    Ints(IntField),
    Dict(FieldPath),
    Numbers(FieldPath),
    /// A number field as it is stored; the flag too, which no path shows as a number.
    Stored(NumberField),
    Dynamic(FieldPath),
    Texts(TextField, u32),
    Ids,
    IdIndex,
    IdFilter,
    Errors,
    TailOrder(u16),
    /// Numbers of the values of a path, with the epoch of their interner.
    Interned(FieldPath, u64),
}

/// Columns by part and key; the least recently used go first when the budget is exceeded.
#[derive(Debug)]
pub(crate) struct Cache {
    state: Mutex<State>,
    budget_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<(u64, CacheKey), Entry>,
    by_age: BTreeMap<u64, (u64, CacheKey)>,
    bytes: usize,
    age: u64,
}

#[derive(Debug)]
struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    age: u64,
}

impl Cache {
    /// Creates a cache that keeps up to `budget_bytes`.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self { state: Mutex::default(), budget_bytes }
    }

    /// Returns what is kept under the key of a part, or loads it. `load` also says how many bytes it takes.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn get<T: Any + Send + Sync>(
        &self,
        part: u64,
        key: CacheKey,
        load: impl FnOnce() -> FaultResult<(T, usize)>,
    ) -> FaultResult<Arc<T>> {
        let key = (part, key);
        if let Some(found) = self.find(&key)
            && let Ok(found) = found.downcast()
        {
            return Ok(found);
        }
        // Loaded without the lock; two threads may load the same, and the second one wins.
        let (value, bytes) = load()?;
        let value = Arc::new(value);
        self.insert(key, Arc::clone(&value) as _, bytes);
        Ok(value)
    }

    /// Forgets everything of a part.
    pub(crate) fn forget(&self, part: u64) {
        let mut state = self.lock();
        let State { entries, by_age, bytes, .. } = &mut *state;
        entries.retain(|key, entry| {
            let keep = key.0 != part;
            if !keep {
                by_age.remove(&entry.age);
                *bytes -= entry.bytes;
            }
            keep
        });
    }

    /// Returns the bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &(u64, CacheKey)) -> Option<Arc<dyn Any + Send + Sync>> {
        let mut state = self.lock();
        state.age += 1;
        let State { entries, by_age, age, .. } = &mut *state;
        let entry = entries.get_mut(key)?;
        if let Some(key) = by_age.remove(&entry.age) {
            by_age.insert(*age, key);
        }
        entry.age = *age;
        Some(Arc::clone(&entry.value))
    }

    fn insert(&self, key: (u64, CacheKey), value: Arc<dyn Any + Send + Sync>, bytes: usize) {
        // Something larger than the budget is used and let go.
        if bytes > self.budget_bytes {
            return;
        }
        let mut state = self.lock();
        state.age += 1;
        let age = state.age;
        state.bytes += bytes;
        state.by_age.insert(age, key.clone());
        if let Some(old) = state.entries.insert(key, Entry { value, bytes, age }) {
            state.by_age.remove(&old.age);
            state.bytes -= old.bytes;
        }
        while state.bytes > self.budget_bytes {
            let Some((_, oldest)) = state.by_age.pop_first() else { return };
            if let Some(entry) = state.entries.remove(&oldest) {
                state.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Cache::new(100);
        let load = |part| cache.get(part, CacheKey::Ids, || Ok((part, 40))).unwrap();
        load(1);
        load(2);
        load(1);
        load(3);
        assert_eq!(cache.bytes(), 80);
        let hit = |part| cache.find(&(part, CacheKey::Ids)).is_some();
        assert_eq!((hit(1), hit(2), hit(3)), (true, false, true));
        cache.forget(1);
        assert_eq!((cache.bytes(), hit(1), hit(3)), (40, false, true));
        cache.get(4, CacheKey::Errors, || Ok(((), 101))).unwrap();
        assert_eq!(cache.bytes(), 40, "larger than the budget is not kept");
    }
}
