//! The rate limiter in memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::env::Env;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::rate_limiter::{Decision, GcraState, RateLimit, RateLimiter, gcra, gcra_peek, gcra_up_to};
use crate::time::micros;

/// Locks that keys are spread over.
const SHARDS: usize = 16;

/// Keys remembered unless another number is asked for.
const DEFAULT_MAX_KEYS: usize = 1 << 18;

/// What is known of the keys of one shard, by their fingerprint.
type Shard = Mutex<HashMap<u128, GcraState>>;

/// Limits within this process, on monotonic time.
///
/// Memory is bounded: a key is remembered by a fingerprint of 128 bits, keyed with a secret of the process, while something of
/// its limit is spent. When there are too many such keys, those that have spent the least are forgotten, which gives them a full
/// burst again.
#[derive(Debug)]
pub struct MemoryRateLimiter {
    env: Env,
    shards: [Shard; SHARDS],
    max_keys_per_shard: usize,
    secrets: [RandomState; 2],
}

impl MemoryRateLimiter {
    /// Creates a limiter that remembers up to 262,144 keys, about 10 MiB.
    pub fn new(env: Env) -> Self {
        Self::with_max_keys(env, DEFAULT_MAX_KEYS)
    }

    /// Creates a limiter that remembers about `max_keys` keys.
    pub fn with_max_keys(env: Env, max_keys: usize) -> Self {
        Self {
            env,
            shards: std::array::from_fn(|_| Mutex::default()),
            max_keys_per_shard: max_keys.div_ceil(SHARDS).max(1),
            secrets: [RandomState::new(), RandomState::new()],
        }
    }

    /// Returns how many keys are remembered.
    pub fn keys(&self) -> usize {
        let count = |shard: &Shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(count).sum()
    }

    fn fingerprint(&self, tenant: TenantId, key: &str) -> u128 {
        let [high, low] = &self.secrets;
        u128::from(high.hash_one((tenant, key))) << 64 | u128::from(low.hash_one((tenant, key)))
    }

    fn shard(&self, fingerprint: u128) -> &Shard {
        &self.shards[(fingerprint % SHARDS as u128) as usize]
    }

    fn now_micros(&self) -> i64 {
        micros(self.env.monotonic())
    }

    /// Decides about a key, and remembers its new state.
    fn decide(
        &self,
        tenant: TenantId,
        key: &str,
        by: impl FnOnce(GcraState, i64) -> Result<(Decision, GcraState)>,
    ) -> Result<Decision> {
        let fingerprint = self.fingerprint(tenant, key);
        let now = self.now_micros();
        let mut states = self.shard(fingerprint).lock().unwrap_or_else(PoisonError::into_inner);
        let known = states.get(&fingerprint).copied();
        let (decision, state) = by(known.unwrap_or_default(), now)?;
        if known.is_none() && states.len() >= self.max_keys_per_shard {
            make_room(&mut states, GcraState(now), self.max_keys_per_shard);
        }
        states.insert(fingerprint, state);
        Ok(decision)
    }
}

/// Makes room: forgets the keys with nothing spent, and if that is not enough the eighth that has spent the least.
fn make_room(states: &mut HashMap<u128, GcraState>, now: GcraState, max_keys: usize) {
    states.retain(|_, state| *state > now);
    if states.len() < max_keys {
        return;
    }
    let mut times: Vec<GcraState> = states.values().copied().collect();
    let eighth = times.len() / 8;
    let (_, threshold, _) = times.select_nth_unstable(eighth);
    let threshold = *threshold;
    states.retain(|_, state| *state > threshold);
}

#[async_trait]
impl RateLimiter for MemoryRateLimiter {
    async fn take(&self, tenant: TenantId, key: &str, cost: u32, limit: RateLimit) -> Result<Decision> {
        self.decide(tenant, key, |state, now| gcra(state, now, limit, cost))
    }

    async fn take_up_to(
        &self,
        tenant: TenantId,
        key: &str,
        at_most: u32,
        limit: RateLimit,
    ) -> Result<Decision> {
        self.decide(tenant, key, |state, now| Ok(gcra_up_to(state, now, limit, at_most)))
    }

    async fn peek(&self, tenant: TenantId, key: &str, limit: RateLimit) -> Result<Decision> {
        let fingerprint = self.fingerprint(tenant, key);
        let states = self.shard(fingerprint).lock().unwrap_or_else(PoisonError::into_inner);
        gcra_peek(states.get(&fingerprint).copied().unwrap_or_default(), self.now_micros(), limit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::time::Timestamp;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_u128(number)
    }

    #[tokio::test]
    async fn time_gives_back_and_wall_clock_jumps_do_not() {
        let (env, clock) = Env::manual(Timestamp::from_seconds(1_000), 1);
        let limiter = MemoryRateLimiter::new(env);
        let limit = RateLimit::per_minute(60, 3).unwrap();
        assert!(limiter.take(tenant(1), "k", 3, limit).await.unwrap().allowed);
        for wall in [0, 4_000_000_000] {
            clock.jump_to(Timestamp::from_seconds(wall));
            let decision = limiter.take(tenant(1), "k", 1, limit).await.unwrap();
            assert_eq!((decision.allowed, decision.retry_after), (false, Duration::from_secs(1)));
        }
        clock.advance(Duration::from_secs(1));
        assert!(limiter.peek(tenant(1), "k", limit).await.unwrap().allowed);
        assert!(limiter.take(tenant(1), "k", 1, limit).await.unwrap().allowed);
        assert!(!limiter.peek(tenant(1), "k", limit).await.unwrap().allowed);
        let error = limiter.take(tenant(1), "k", 4, limit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn keys_and_tenants_are_apart() {
        let limiter = MemoryRateLimiter::new(Env::manual(Timestamp::EPOCH, 1).0);
        let limit = RateLimit::per_minute(60, 1).unwrap();
        for (tenant_number, key) in [(1, "a"), (1, "b"), (2, "a"), (1, "")] {
            assert!(limiter.take(tenant(tenant_number), key, 1, limit).await.unwrap().allowed);
        }
        assert!(!limiter.take(tenant(2), "a", 1, limit).await.unwrap().allowed);
    }

    #[test]
    fn threads_together_take_no_more_than_the_burst() {
        let limiter = Arc::new(MemoryRateLimiter::new(Env::manual(Timestamp::EPOCH, 1).0));
        let limit = RateLimit::per_minute(1, 1_000).unwrap();
        let take = |limiter: Arc<MemoryRateLimiter>| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let take = async || limiter.take(tenant(1), "k", 1, limit).await.unwrap().allowed;
                runtime.block_on(async {
                    let mut allowed = 0;
                    for _ in 0..500 {
                        allowed += u32::from(take().await);
                    }
                    allowed
                })
            })
        };
        let threads: Vec<_> = (0..4).map(|_| take(limiter.clone())).collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>(), 1_000);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_busiest_key_is_remembered() {
        let (env, clock) = Env::manual(Timestamp::EPOCH, 1);
        let limiter = MemoryRateLimiter::with_max_keys(env, 1_600);
        let limit = RateLimit::per_minute(60, 1_000).unwrap();
        limiter.take(tenant(1), "busy", 1_000, limit).await.unwrap();
        for key in 0..20_000 {
            limiter.take(tenant(1), &key.to_string(), 1, limit).await.unwrap();
            assert!(limiter.keys() <= 1_600);
        }
        assert!(!limiter.take(tenant(1), "busy", 1, limit).await.unwrap().allowed);
        clock.advance(Duration::from_secs(2_000));
        for key in 0..20_000 {
            limiter.take(tenant(2), &key.to_string(), 1, limit).await.unwrap();
        }
        assert!(limiter.keys() <= 1_600);
        assert!(limiter.take(tenant(1), "busy", 1_000, limit).await.unwrap().allowed);
    }
}
