//! Loaded columns within a budget of bytes.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
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
///
/// Filters are the exception: every append looks into all of them, one after the other, so that the least recently used one is the
/// one needed next. Of more filters than fit some stay, and the others are read again; none takes the place of another.
#[derive(Debug)]
pub(crate) struct Cache {
    state: Mutex<State>,
    budget_bytes: usize,
    /// How many filters were loaded and not kept, because they do not fit.
    unkept_filters: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<(u64, CacheKey), Entry>,
    /// Keys of columns, and those of filters, by when they were used.
    by_age: [BTreeMap<u64, (u64, CacheKey)>; 2],
    bytes: usize,
    filter_bytes: usize,
    age: u64,
}

impl State {
    /// Lets an entry go.
    fn remove(&mut self, key: &(u64, CacheKey)) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_age[class(key)].remove(&entry.age);
            self.bytes -= entry.bytes;
            self.filter_bytes -= if class(key) == FILTERS { entry.bytes } else { 0 };
        }
    }

    /// Returns the key of the column that was not used for the longest time, of a filter when there is no column, but not `kept`.
    fn oldest(&self, kept: &(u64, CacheKey)) -> Option<(u64, CacheKey)> {
        let mut by_age = self.by_age.iter().flat_map(|by_age| by_age.values().take(2));
        by_age.find(|key| *key != kept).cloned()
    }
}

/// What is the matter when filters do not fit.
pub(crate) const FILTERS_DO_NOT_FIT: &str = "the cache is too small for the fingerprints of the ids among which new ones may be, 5 bytes \
    an event, so that appends read some from the disk";
/// What helps then.
pub(crate) const RAISE_CACHE_BYTES: &str =
    "raise cache_bytes, or let ids begin with the time: fingerprints of older ids are not looked at then";

/// The place of filters in [`State::by_age`]: they go last.
const FILTERS: usize = 1;

fn class(key: &(u64, CacheKey)) -> usize {
    usize::from(key.1 == CacheKey::IdFilter)
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
        Self { state: Mutex::default(), budget_bytes, unkept_filters: AtomicU64::new(0) }
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
        let keys: Vec<_> = state.entries.keys().filter(|key| key.0 == part).cloned().collect();
        keys.iter().for_each(|key| state.remove(key));
    }

    /// Returns the bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Returns how many filters were loaded and not kept.
    pub(crate) fn unkept_filters(&self) -> u64 {
        self.unkept_filters.load(Ordering::Relaxed)
    }

    /// Counts a filter that does not fit, and says once what makes appends slow from now on.
    #[cold]
    fn refuse_filter(&self) {
        if self.unkept_filters.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(cache_bytes = self.budget_bytes, "{FILTERS_DO_NOT_FIT}: {RAISE_CACHE_BYTES}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &(u64, CacheKey)) -> Option<Arc<dyn Any + Send + Sync>> {
        let mut state = self.lock();
        state.age += 1;
        let State { entries, by_age, age, .. } = &mut *state;
        let entry = entries.get_mut(key)?;
        let by_age = &mut by_age[class(key)];
        if let Some(key) = by_age.remove(&entry.age) {
            by_age.insert(*age, key);
        }
        entry.age = *age;
        Some(Arc::clone(&entry.value))
    }

    fn insert(&self, key: (u64, CacheKey), value: Arc<dyn Any + Send + Sync>, bytes: usize) {
        // Something larger than the budget is used and let go.
        if bytes > self.budget_bytes {
            if class(&key) == FILTERS {
                self.refuse_filter();
            }
            return;
        }
        let mut state = self.lock();
        state.remove(&key);
        if class(&key) == FILTERS {
            if state.filter_bytes + bytes > self.budget_bytes {
                self.refuse_filter();
                return;
            }
            state.filter_bytes += bytes;
        }
        state.age += 1;
        let age = state.age;
        state.bytes += bytes;
        state.by_age[class(&key)].insert(age, key.clone());
        state.entries.insert(key.clone(), Entry { value, bytes, age });
        while state.bytes > self.budget_bytes {
            let Some(oldest) = state.oldest(&key) else { return };
            state.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_do_not_fit_leave_the_others_where_they_are() {
        let cache = Cache::new(100);
        let loads = std::cell::Cell::new(0);
        let filter = |part| {
            let load = || {
                loads.set(loads.get() + 1);
                Ok((part, 30))
            };
            cache.get(part, CacheKey::IdFilter, load).unwrap();
        };
        // Round after round through four of them, of which three fit.
        for _ in 0..10 {
            (1..=4).for_each(filter);
        }
        assert_eq!((loads.get(), cache.bytes(), cache.unkept_filters()), (3 + 10, 90, 10));
        // A column takes the place of some, and gives it back.
        cache.get(9, CacheKey::Ids, || Ok(((), 50))).unwrap();
        let held = |part, key| cache.find(&(part, key)).is_some();
        assert!(held(9, CacheKey::Ids) && cache.bytes() == 80);
        (1..=4).for_each(filter);
        assert!(!held(9, CacheKey::Ids));
        assert_eq!(cache.bytes(), 90);
        (1..=4).for_each(|part| cache.forget(part));
        assert_eq!(cache.bytes(), 0);
        let before = cache.unkept_filters();
        cache.get(5, CacheKey::IdFilter, || Ok(((), 101))).unwrap();
        assert_eq!(
            (cache.bytes(), cache.unkept_filters()),
            (0, before + 1),
            "one that is larger than the cache"
        );
    }

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
