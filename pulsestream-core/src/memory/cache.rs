//! The cache in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::env::Env;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::cache::{Cache, CacheOptions};
use crate::text::Text;

/// Keeps values up to a number of bytes, on monotonic time.
///
/// When a value does not fit, those that expire soonest are forgotten first. A value larger than the whole cache is not kept.
#[derive(Debug)]
pub struct MemoryCache {
    env: Env,
    max_bytes: usize,
    state: Mutex<State>,
}

type Key = (TenantId, Text);

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Keys by the time they expire; the number tells equal times apart.
    by_expiry: BTreeMap<(Duration, u64), Key>,
    /// Keys by tag.
    by_tag: HashMap<Key, HashSet<Text>>,
    bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    expiry: (Duration, u64),
    tags: Vec<Text>,
}

impl MemoryCache {
    /// Creates a cache that holds about `max_bytes` bytes of keys, values and tags.
    pub fn new(env: Env, max_bytes: usize) -> Self {
        Self { env, max_bytes, state: Mutex::default() }
    }

    /// Returns about how many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, tenant: TenantId, key: &str) -> Result<Option<Vec<u8>>> {
        let mut state = self.lock();
        state.forget_expired(self.env.monotonic());
        Ok(state.entries.get(&(tenant, Text::from(key))).map(|entry| entry.value.clone()))
    }

    async fn set(
        &self,
        tenant: TenantId,
        key: &str,
        value: Vec<u8>,
        options: CacheOptions<'_>,
    ) -> Result<()> {
        let now = self.env.monotonic();
        let key = (tenant, Text::from(key));
        let mut state = self.lock();
        state.forget_expired(now);
        state.forget(&key);
        let entry = Entry {
            value,
            expiry: (now.saturating_add(options.ttl), state.next_number),
            tags: options.tags.iter().map(|tag| Text::from(*tag)).collect(),
        };
        state.next_number += 1;
        if !options.ttl.is_zero() && entry_bytes(&key, &entry) <= self.max_bytes {
            state.keep(key, entry);
            state.shrink_to(self.max_bytes);
        }
        Ok(())
    }

    async fn invalidate(&self, tenant: TenantId, tag: &str) -> Result<()> {
        let mut state = self.lock();
        for key in state.by_tag.remove(&(tenant, Text::from(tag))).unwrap_or_default() {
            state.forget(&(tenant, key));
        }
        Ok(())
    }
}

impl State {
    fn keep(&mut self, key: Key, entry: Entry) {
        self.bytes += entry_bytes(&key, &entry);
        self.by_expiry.insert(entry.expiry, key.clone());
        for tag in &entry.tags {
            self.by_tag.entry((key.0, tag.clone())).or_default().insert(key.1.clone());
        }
        self.entries.insert(key, entry);
    }

    fn forget(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.bytes -= entry_bytes(key, &entry);
        self.by_expiry.remove(&entry.expiry);
        for tag in entry.tags {
            let tag = (key.0, tag);
            if let Some(keys) = self.by_tag.get_mut(&tag) {
                keys.remove(&key.1);
                if keys.is_empty() {
                    self.by_tag.remove(&tag);
                }
            }
        }
    }

    fn forget_expired(&mut self, now: Duration) {
        while let Some((&(expiry, _), key)) = self.by_expiry.first_key_value()
            && expiry <= now
        {
            let key = key.clone();
            self.forget(&key);
        }
    }

    fn shrink_to(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes
            && let Some((_, key)) = self.by_expiry.first_key_value()
        {
            let key = key.clone();
            self.forget(&key);
        }
    }
}

/// What an entry occupies: its content, and the three maps that know it.
fn entry_bytes(key: &Key, entry: &Entry) -> usize {
    const MAPS: usize = 160;
    let tags: usize = entry.tags.iter().map(|tag| MAPS + tag.len()).sum();
    MAPS + 3 * key.1.len() + entry.value.len() + tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::block_on;
    use crate::time::Timestamp;

    #[test]
    fn stays_within_its_bytes_and_forgets_what_expires_soonest() {
        let (env, _) = Env::manual(Timestamp::EPOCH, 1);
        let cache = MemoryCache::new(env, 10_000);
        let tenant = TenantId::from_name("a");
        block_on(async {
            for number in 0..100_u64 {
                let options = CacheOptions { ttl: Duration::from_secs(1_000 - number), tags: &["all"] };
                cache.set(tenant, &number.to_string(), vec![0; 1_000], options).await.unwrap();
                assert!(cache.bytes() <= 10_000);
            }
            assert_eq!(cache.get(tenant, "0").await.unwrap().map(|value| value.len()), Some(1_000));
            assert_eq!(cache.get(tenant, "99").await.unwrap(), None);
            let options = CacheOptions { ttl: Duration::MAX, tags: &[] };
            cache.set(tenant, "huge", vec![0; 10_001], options).await.unwrap();
            assert_eq!(cache.get(tenant, "huge").await.unwrap(), None);
            cache.invalidate(tenant, "all").await.unwrap();
            assert_eq!(cache.bytes(), 0);
        });
    }
}
