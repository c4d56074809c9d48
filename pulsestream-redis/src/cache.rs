//! The cache: values with an expiry, dropped together by tag, computed by one caller at a time.
//!
//! A tag is a generation number, and a value carries the generations it was computed under; to drop all values of a tag is to
//! give it the next number. The alternative, a set of keys for each tag, costs a command for each value dropped and has to be
//! cleaned of values that expired.
//!
//! A value is kept as `1 HASH=GENERATION HASH=GENERATION\n` and the bytes, where 1 is the version of the format.

use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::cache::{Cache, CacheOptions};

use crate::config::CacheConfig;
use crate::connect::{Link, Request};
use crate::error::Effect;
use crate::keys::{Keys, hash};
use crate::script::{Invocation, Script};

static SET: Script = Script::new(include_str!("scripts/cache_set.lua"));
static INVALIDATE: Script = Script::new(include_str!("scripts/cache_invalidate.lua"));
static GENERATIONS: Script = Script::new(include_str!("scripts/cache_generations.lua"));
static FILL_RELEASE: Script = Script::new(include_str!("scripts/fill_release.lua"));

const VERSION: &str = "1";
/// A year: what is to be kept for longer is not for a cache, and Redis refuses times that overflow.
const MAX_TTL_MS: u64 = 366 * 86_400_000;
/// How often a caller looks whether another has computed the value.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A cache that all nodes share.
#[derive(Debug)]
pub struct RedisCache {
    link: Link,
    keys: Keys,
    config: CacheConfig,
    env: Env,
}

/// The generations of the tags of a value, as they were before it was computed.
type Generations = Vec<String>;

impl RedisCache {
    pub(crate) fn new(link: Link, keys: Keys, config: CacheConfig, env: Env) -> Self {
        Self { link, keys, config, env }
    }

    /// Returns the value of a key, or computes it with `fill` and keeps it.
    ///
    /// While one caller computes, on whatever node, the others wait for its value, up to the fill timeout of the settings. A
    /// value whose tag is dropped while it is computed is returned and not kept. When Redis does not answer, every caller
    /// computes for itself.
    ///
    /// # Errors
    /// Those of `fill`, which are not kept: the next caller computes again.
    ///
    /// # Cancel safety
    /// Dropping the future while it computes makes others wait for the rest of the fill timeout.
    pub async fn get_or_fill<F, Fut>(
        &self,
        tenant: TenantId,
        key: &str,
        options: CacheOptions<'_>,
        fill: F,
    ) -> Result<Vec<u8>>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Vec<u8>>> + Send,
    {
        let token = match self.value_or_right(tenant, key).await {
            Ok(Found::Value(value)) => return Ok(value),
            Ok(Found::Right(token)) => token,
            Err(error) => {
                tracing::debug!(%error, "computing a value without the cache");
                return fill().await;
            }
        };
        let generations = self.generations(tenant, options).await;
        let outcome = fill().await;
        if let (Ok(value), Ok(generations)) = (&outcome, generations)
            && let Err(error) = self.keep(tenant, key, value, options, &generations).await
        {
            tracing::debug!(%error, "a computed value was not kept");
        }
        if let Err(error) = self.release_right(tenant, key, &token).await {
            tracing::debug!(%error, "others wait until the right to compute a value expires");
        }
        outcome
    }

    /// Waits until there is a value, or until this caller has the right to compute it.
    async fn value_or_right(&self, tenant: TenantId, key: &str) -> Result<Found> {
        const OPERATION: &str = "cache.get_or_fill";
        let token = format!("{:032x}", u128::from_le_bytes(self.env.random_bytes()?));
        let fill_timeout_ms = self.config.fill_timeout_ms;
        let mut take = redis::cmd("SET");
        take.arg(self.keys.fill(tenant, key)).arg(&token).arg("NX").arg("PX").arg(fill_timeout_ms);
        let waiting = async {
            loop {
                if let Some(value) = self.get(tenant, key).await? {
                    return Ok(Found::Value(value));
                }
                let taken: Option<String> =
                    self.link.send(Request::Command(&take), Effect::Once, OPERATION).await?;
                if taken.is_some() {
                    // The one before may have kept its value between our look and our right.
                    return Ok(match self.get(tenant, key).await? {
                        Some(value) => {
                            self.release_right(tenant, key, &token).await?;
                            Found::Value(value)
                        }
                        None => Found::Right(token.clone()),
                    });
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(Duration::from_millis(fill_timeout_ms), waiting).await {
            Ok(found) => found,
            Err(_) => Err(Error::new(ErrorKind::Timeout, OPERATION, "another caller computes for too long")),
        }
    }

    async fn release_right(&self, tenant: TenantId, key: &str, token: &str) -> Result<()> {
        let request = Request::Script(Invocation {
            script: &FILL_RELEASE,
            keys: &[self.keys.fill(tenant, key)],
            arguments: &[token.as_bytes()],
        });
        self.link.send(request, Effect::Repeatable, "cache.get_or_fill").await
    }

    async fn generations(&self, tenant: TenantId, options: CacheOptions<'_>) -> Result<Generations> {
        if options.tags.is_empty() {
            return Ok(Generations::new());
        }
        let keys: Vec<String> = options.tags.iter().map(|tag| self.keys.tag(tenant, tag)).collect();
        let kept_ms = self.config.fill_timeout_ms.saturating_add(milliseconds(options.ttl)).to_string();
        let request = Request::Script(Invocation {
            script: &GENERATIONS,
            keys: &keys,
            arguments: &[kept_ms.as_bytes()],
        });
        self.link.send(request, Effect::Repeatable, "cache.get_or_fill").await
    }

    async fn keep(
        &self,
        tenant: TenantId,
        key: &str,
        value: &[u8],
        options: CacheOptions<'_>,
        generations: &[String],
    ) -> Result<()> {
        const OPERATION: &str = "cache.set";
        if value.len() > self.config.max_value_bytes {
            return Err(Error::new(
                ErrorKind::TooLarge,
                OPERATION,
                "the value is larger than the cache takes",
            )
            .with_context("bytes", value.len())
            .with_context("max_value_bytes", self.config.max_value_bytes));
        }
        let cached = self.keys.cached(tenant, key);
        // Redis returns a key still in the millisecond in which it expires.
        let ttl_ms = milliseconds(options.ttl).saturating_sub(1);
        if ttl_ms == 0 {
            let mut delete = redis::cmd("DEL");
            delete.arg(cached);
            return self.link.send(Request::Command(&delete), Effect::Repeatable, OPERATION).await;
        }
        let ttl_ms = ttl_ms.to_string();
        let hashes: Vec<String> = options.tags.iter().map(|tag| hash(tag)).collect();
        let tags = hashes.iter().map(|hash| self.keys.tag_of_hash(tenant, hash));
        let keys: Vec<String> = std::iter::once(cached).chain(tags).collect();
        let texts = hashes.iter().chain(generations).map(String::as_bytes);
        let arguments: Vec<&[u8]> =
            [ttl_ms.as_bytes(), VERSION.as_bytes(), value].into_iter().chain(texts).collect();
        let request = Request::Script(Invocation { script: &SET, keys: &keys, arguments: &arguments });
        self.link.send(request, Effect::Repeatable, OPERATION).await
    }
}

enum Found {
    Value(Vec<u8>),
    /// The right to compute it, with its token.
    Right(String),
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, tenant: TenantId, key: &str) -> Result<Option<Vec<u8>>> {
        const OPERATION: &str = "cache.get";
        let mut get = redis::cmd("GET");
        get.arg(self.keys.cached(tenant, key));
        let kept: Option<Vec<u8>> = self.link.send(Request::Command(&get), Effect::Read, OPERATION).await?;
        // What another version has written is as good as not there.
        let Some((tags, mut kept, body)) = kept.and_then(read_kept) else { return Ok(None) };
        if !tags.is_empty() {
            let mut current = redis::cmd("MGET");
            for (hash, _) in &tags {
                current.arg(self.keys.tag_of_hash(tenant, hash));
            }
            let current: Vec<Option<String>> =
                self.link.send(Request::Command(&current), Effect::Read, OPERATION).await?;
            let carried = tags.iter().map(|(_, generation)| Some(generation));
            if !carried.eq(current.iter().map(Option::as_ref)) {
                return Ok(None);
            }
        }
        kept.drain(..body);
        Ok(Some(kept))
    }

    async fn set(
        &self,
        tenant: TenantId,
        key: &str,
        value: Vec<u8>,
        options: CacheOptions<'_>,
    ) -> Result<()> {
        self.keep(tenant, key, &value, options, &[]).await
    }

    async fn invalidate(&self, tenant: TenantId, tag: &str) -> Result<()> {
        // A tag without values has to outlive only those that are being computed.
        let kept_ms = self.config.fill_timeout_ms.to_string();
        let request = Request::Script(Invocation {
            script: &INVALIDATE,
            keys: &[self.keys.tag(tenant, tag)],
            arguments: &[kept_ms.as_bytes()],
        });
        self.link.send(request, Effect::Repeatable, "cache.invalidate").await
    }
}

/// Tags with their generations, the whole, and where the value begins in it.
type Kept = (Vec<(String, String)>, Vec<u8>, usize);

fn read_kept(kept: Vec<u8>) -> Option<Kept> {
    let end = kept.iter().position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&kept[..end]).ok()?.split(' ');
    if words.next() != Some(VERSION) {
        return None;
    }
    let tag = |word: &str| word.split_once('=').map(|(hash, number)| (hash.to_owned(), number.to_owned()));
    let tags = words.map(tag).collect::<Option<Vec<_>>>()?;
    Some((tags, kept, end + 1))
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).min(MAX_TTL_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_form_is_read_back() {
        let (tags, kept, body) = read_kept(b"1 ab=7 cd=8\nva\nlue".to_vec()).unwrap();
        assert_eq!(tags, [("ab".to_owned(), "7".to_owned()), ("cd".to_owned(), "8".to_owned())]);
        assert_eq!(&kept[body..], b"va\nlue");
        let (tags, kept, body) = read_kept(b"1\n".to_vec()).unwrap();
        assert!(tags.is_empty() && kept[body..].is_empty());
        for foreign in ["", "1", "2\nvalue", "1 ab\nvalue", "1 ab=7"] {
            assert!(read_kept(foreign.as_bytes().to_vec()).is_none(), "{foreign}");
        }
    }
}
