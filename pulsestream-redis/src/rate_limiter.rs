//! The rate limiter: the arithmetic of core in one Lua script, so that all nodes share a limit.
//!
//! The time is the server's, so nodes whose clocks differ decide alike. That clock may jump: the script brings what it
//! remembers into one refill of now, as core's function does, so a jump back locks a key for one refill at most and a jump
//! ahead gives away one burst at most.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use pulsestream_core::memory::MemoryRateLimiter;
use pulsestream_core::ports::rate_limiter::{
    Decision, GcraState, RateLimit, RateLimiter, gcra, gcra_peek, gcra_up_to,
};

use crate::config::LimiterOutage;
use crate::connect::{Link, Request};
use crate::error::Effect;
use crate::keys::Keys;
use crate::script::{Invocation, Script};

static TAKE: Script = Script::new(include_str!("scripts/limit.lua"));

/// How long Redis is left alone after it did not answer.
const ASK_AGAIN_MICROS: u64 = 1_000_000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// All of it or nothing.
    All(u32),
    /// What is left, up to this.
    UpTo(u32),
}

impl Ask {
    async fn of(
        self,
        limiter: &MemoryRateLimiter,
        tenant: TenantId,
        key: &str,
        limit: RateLimit,
    ) -> Result<Decision> {
        match self {
            Self::All(cost) => limiter.take(tenant, key, cost, limit).await,
            Self::UpTo(at_most) => limiter.take_up_to(tenant, key, at_most, limit).await,
        }
    }
}

/// A rate limiter whose limits hold over all nodes.
#[derive(Debug)]
pub struct RedisRateLimiter {
    link: Link,
    keys: Keys,
    /// What decides while Redis does not answer, unless that is to be an error.
    local: Option<MemoryRateLimiter>,
    is_local: AtomicBool,
    env: Env,
    /// When Redis is asked again after it did not answer, in microseconds of monotonic time.
    ask_again_at: AtomicU64,
}

impl RedisRateLimiter {
    pub(crate) fn new(link: Link, keys: Keys, outage: LimiterOutage, env: Env) -> Self {
        let local = match outage {
            LimiterOutage::LimitLocally => Some(MemoryRateLimiter::new(env.clone())),
            LimiterOutage::Refuse => None,
        };
        Self { link, keys, local, is_local: AtomicBool::new(false), env, ask_again_at: AtomicU64::new(0) }
    }

    /// Returns whether the last decision was made by this node alone, because Redis did not answer.
    pub fn is_local(&self) -> bool {
        self.is_local.load(Ordering::Relaxed)
    }

    /// Takes at a given time, or at the server's.
    async fn take_at(
        &self,
        tenant: TenantId,
        key: &str,
        ask: Ask,
        limit: RateLimit,
        now_micros: Option<i64>,
    ) -> Result<Decision> {
        const OPERATION: &str = "rate_limiter.take";
        let (amount, part) = match ask {
            Ask::All(cost) => {
                limit.check_cost(cost)?;
                (cost, "")
            }
            Ask::UpTo(at_most) => (at_most, "part"),
        };
        let now = now_micros.map(|now| now.to_string()).unwrap_or_default();
        let interval = limit.interval_micros().to_string();
        let (burst, amount) = (limit.burst().to_string(), amount.to_string());
        let request = Request::Script(Invocation {
            script: &TAKE,
            keys: &[self.keys.limit(tenant, key)],
            arguments: &[&interval, &burst, &amount, &now, part].map(str::as_bytes),
        });
        let spent: i64 = self.link.send(request, Effect::Once, OPERATION).await?;
        // Only the distance to now matters: the script has stored what this computes again.
        match ask {
            Ask::All(cost) => Ok(gcra(GcraState(spent), 0, limit, cost)?.0),
            Ask::UpTo(at_most) => Ok(gcra_up_to(GcraState(spent), 0, limit, at_most).0),
        }
    }

    /// Asks Redis, or the local limiter while Redis does not answer.
    async fn decide(&self, tenant: TenantId, key: &str, ask: Ask, limit: RateLimit) -> Result<Decision> {
        if let Some(local) = self.meanwhile() {
            return ask.of(local, tenant, key, limit).await;
        }
        match self.take_at(tenant, key, ask, limit, None).await {
            Ok(decision) => {
                self.note(false, None);
                Ok(decision)
            }
            Err(error) => match self.instead(&error) {
                Some(local) => {
                    self.note(true, Some(&error));
                    ask.of(local, tenant, key, limit).await
                }
                None => Err(refused(error)),
            },
        }
    }

    async fn peek_at(&self, tenant: TenantId, key: &str, limit: RateLimit) -> Result<Decision> {
        const OPERATION: &str = "rate_limiter.peek";
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME").cmd("GET").arg(self.keys.limit(tenant, key));
        let ((seconds, micros), state): ((i64, i64), Option<i64>) =
            self.link.send(Request::Pipeline(&pipeline), Effect::Read, OPERATION).await?;
        gcra_peek(GcraState(state.unwrap_or_default()), seconds * 1_000_000 + micros, limit)
    }

    /// The local limiter, while Redis is known not to answer: callers do not queue up for its timeout. One of them asks again
    /// each second.
    fn meanwhile(&self) -> Option<&MemoryRateLimiter> {
        let local = self.local.as_ref().filter(|_| self.is_local())?;
        let now = self.now_micros();
        let at = self.ask_again_at.load(Ordering::Relaxed);
        let is_asking = now >= at
            && self
                .ask_again_at
                .compare_exchange(
                    at,
                    now.saturating_add(ASK_AGAIN_MICROS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        (!is_asking).then_some(local)
    }

    fn now_micros(&self) -> u64 {
        u64::try_from(self.env.monotonic().as_micros()).unwrap_or(u64::MAX)
    }

    /// Says once that it limits locally, and once that it does not any more.
    fn note(&self, is_local: bool, cause: Option<&Error>) {
        if is_local {
            self.ask_again_at.store(self.now_micros().saturating_add(ASK_AGAIN_MICROS), Ordering::Relaxed);
        }
        if self.is_local.swap(is_local, Ordering::Relaxed) == is_local {
            return;
        }
        match cause {
            Some(cause) => tracing::warn!(%cause, "redis does not answer: each node limits rates on its own"),
            None => tracing::info!("redis answers again: limits hold over all nodes"),
        }
    }

    /// The limiter to ask instead, when this failure is one of reaching Redis.
    fn instead(&self, error: &Error) -> Option<&MemoryRateLimiter> {
        let is_outage =
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown);
        self.local.as_ref().filter(|_| is_outage)
    }
}

/// For limiters nobody can be told that a call may have counted: the next call may come at once.
fn refused(error: Error) -> Error {
    if error.kind() != ErrorKind::OutcomeUnknown && error.kind() != ErrorKind::Timeout {
        return error;
    }
    let message = error.message().to_owned();
    Error::new(ErrorKind::Unavailable, error.operation(), message).with_source(error)
}

#[async_trait]
impl RateLimiter for RedisRateLimiter {
    async fn take(&self, tenant: TenantId, key: &str, cost: u32, limit: RateLimit) -> Result<Decision> {
        self.decide(tenant, key, Ask::All(cost), limit).await
    }

    async fn take_up_to(
        &self,
        tenant: TenantId,
        key: &str,
        at_most: u32,
        limit: RateLimit,
    ) -> Result<Decision> {
        self.decide(tenant, key, Ask::UpTo(at_most), limit).await
    }

    async fn peek(&self, tenant: TenantId, key: &str, limit: RateLimit) -> Result<Decision> {
        if let Some(local) = self.meanwhile() {
            return local.peek(tenant, key, limit).await;
        }
        match self.peek_at(tenant, key, limit).await {
            Ok(decision) => {
                self.note(false, None);
                Ok(decision)
            }
            Err(error) => match self.instead(&error) {
                Some(local) => {
                    self.note(true, Some(&error));
                    local.peek(tenant, key, limit).await
                }
                None => Err(refused(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;
    use pulsestream_testtools::server_url;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::config::RedisConfig;

    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

    fn limiter() -> Option<RedisRateLimiter> {
        let url = server_url("PULSESTREAM_TEST_REDIS_URL")?;
        let link = Link::new(&RedisConfig::new(url)).unwrap();
        let prefix = format!("test-limit-{}", std::process::id());
        Some(RedisRateLimiter::new(link, Keys::new(&prefix), LimiterOutage::Refuse, Env::system()))
    }

    /// What the key holds, which the script must have written as the function does.
    async fn state(limiter: &RedisRateLimiter, tenant: TenantId, key: &str) -> Option<i64> {
        let mut get = redis::cmd("GET");
        get.arg(limiter.keys.limit(tenant, key));
        limiter.link.send(Request::Command(&get), Effect::Read, "test").await.unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The time goes on, stands still, and jumps by up to 30 years in both directions.
        #[test]
        fn the_script_decides_and_remembers_as_the_function_does(
            amount in 1_u32..5_000,
            period_ms in prop_oneof![1_u64..5_000, Just(86_400_000), Just(366 * 86_400_000)],
            burst in 1_u32..300,
            start in prop_oneof![0_i64..1_000, Just(1_800_000_000_000_000)],
            steps in prop::collection::vec(
                (prop_oneof![
                    4 => 0_i64..3_000_000,
                    1 => Just(0),
                    1 => -1_000_000_000_000_000_i64..1_000_000_000_000_000,
                ], 0_u32..320, any::<bool>()),
                1..25,
            ),
        ) {
            let Some(limiter) = limiter() else { return Ok(()) };
            let limit = RateLimit::new(amount, Duration::from_millis(period_ms), burst);
            prop_assume!(limit.is_ok());
            // A key that no case has used, also when proptest repeats a case to make it smaller.
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let tenant = TenantId::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into());
            let limit = limit.unwrap();
            RUNTIME.block_on(async {
                let (mut now, mut expected) = (start, GcraState::default());
                for (pause, cost, in_part) in steps {
                    now = (now + pause).clamp(0, 1 << 51);
                    let (by_function, ask) = if in_part {
                        (Ok(gcra_up_to(expected, now, limit, cost)), Ask::UpTo(cost))
                    } else {
                        (gcra(expected, now, limit, cost), Ask::All(cost))
                    };
                    let by_script = limiter.take_at(tenant, "key", ask, limit, Some(now)).await;
                    match (by_function, by_script) {
                        (Ok((decision, state)), Ok(decided)) => {
                            prop_assert_eq!(decided, decision);
                            expected = state;
                        }
                        (Err(error), Err(refused)) => prop_assert_eq!(refused.kind(), error.kind()),
                        (function, script) => prop_assert!(false, "{:?} {:?}", function, script),
                    }
                    match state(&limiter, tenant, "key").await {
                        Some(kept) => prop_assert_eq!(kept, expected.0),
                        // A key with nothing spent is not kept: it starts again as a new one.
                        None => {
                            prop_assert!(expected.0 <= now);
                            expected = GcraState::default();
                        }
                    }
                }
                Ok(())
            })?;
        }
    }
}
