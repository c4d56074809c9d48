//! What every [`Cache`] promises, case by case. A cache may forget, but not soon after `set` with room to spare.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, fresh_tenant};
use crate::id::TenantId;
use crate::ports::cache::{Cache, CacheOptions};

/// What the suite needs to know about a cache.
#[async_trait]
pub trait CacheHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a cache with room for a few megabytes.
    async fn open(&self) -> Arc<dyn Cache>;

    /// Lets time pass for the cache: moves an injected clock, or waits where a server keeps the time.
    async fn elapse(&self, span: Duration);

    /// Returns the unit of the spans in the cases; a cache whose time cannot be moved takes a short one.
    fn unit(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

#[derive(Debug, Clone)]
struct Probe {
    harness: Arc<dyn CacheHarness>,
    cache: Arc<dyn Cache>,
    tenant: TenantId,
    unit: Duration,
}

impl Probe {
    async fn open(harness: Arc<dyn CacheHarness>) -> Self {
        Self { cache: harness.open().await, tenant: fresh_tenant(), unit: harness.unit(), harness }
    }

    fn stranger(&self) -> Self {
        Self { tenant: fresh_tenant(), ..self.clone() }
    }

    /// Sets a text for so many units.
    async fn set(&self, key: &str, value: &str, units: u32, tags: &[&str]) {
        let options = CacheOptions { ttl: units * self.unit, tags };
        self.cache.set(self.tenant, key, value.as_bytes().to_vec(), options).await.expect("set succeeds");
    }

    async fn get(&self, key: &str) -> Option<String> {
        let value = self.cache.get(self.tenant, key).await.expect("get succeeds");
        value.map(|value| String::from_utf8(value).expect("the case wrote text"))
    }

    async fn invalidate(&self, tag: &str) {
        self.cache.invalidate(self.tenant, tag).await.expect("invalidate succeeds");
    }

    /// Returns which of the keys have a value.
    async fn present(&self, keys: &[&str]) -> String {
        let mut found = Vec::new();
        for key in keys {
            if self.get(key).await.is_some() {
                found.push(*key);
            }
        }
        found.join(" ")
    }
}

super::suite! {
    $
    /// Lists every promise of a cache as a test; takes an expression that makes the harness.
    cache_conformance, cache, CacheHarness, Probe,
    [
        self: cache_returns_what_was_set, cache_is_isolated, cache_expires, cache_replaces, cache_invalidates_by_tag,
            cache_invalidation_is_isolated, cache_forgets_old_tags, cache_keys_and_values_are_any;
    ]
}

/// What was set is returned; what was not is not.
async fn cache_returns_what_was_set(probe: Probe) {
    assert_eq!(probe.get("a").await, None);
    probe.set("a", "1", 100, &[]).await;
    assert_eq!(probe.get("a").await.as_deref(), Some("1"));
    assert_eq!(probe.get("b").await, None);
}

/// A key of another tenant is another key.
async fn cache_is_isolated(probe: Probe) {
    let other = probe.stranger();
    probe.set("a", "mine", 100, &[]).await;
    assert_eq!(other.get("a").await, None);
    other.set("a", "theirs", 100, &[]).await;
    assert_eq!(probe.get("a").await.as_deref(), Some("mine"));
}

/// Nothing is returned at or after its expiry.
async fn cache_expires(probe: Probe) {
    probe.set("short", "1", 2, &["t"]).await;
    probe.set("long", "2", 100, &["t"]).await;
    probe.harness.elapse(probe.unit).await;
    assert_eq!(probe.present(&["short", "long"]).await, "short long");
    probe.harness.elapse(probe.unit).await;
    assert_eq!(probe.present(&["short", "long"]).await, "long");
}

/// Setting again replaces value and expiry.
async fn cache_replaces(probe: Probe) {
    probe.set("a", "first", 100, &[]).await;
    probe.set("a", "second", 1, &[]).await;
    assert_eq!(probe.get("a").await.as_deref(), Some("second"));
    probe.harness.elapse(2 * probe.unit).await;
    assert_eq!(probe.get("a").await, None, "the shorter span counts");
    probe.set("b", "first", 1, &[]).await;
    probe.set("b", "second", 100, &[]).await;
    probe.harness.elapse(2 * probe.unit).await;
    assert_eq!(probe.get("b").await.as_deref(), Some("second"), "and so does the longer one");
}

/// Every value with the tag is dropped, the others stay, and the tag can be used again.
async fn cache_invalidates_by_tag(probe: Probe) {
    probe.set("a", "1", 100, &["x"]).await;
    probe.set("b", "2", 100, &["x", "y"]).await;
    probe.set("c", "3", 100, &["y"]).await;
    probe.set("d", "4", 100, &[]).await;
    probe.invalidate("x").await;
    assert_eq!(probe.present(&["a", "b", "c", "d"]).await, "c d");
    probe.invalidate("nothing").await;
    probe.set("a", "5", 100, &["x"]).await;
    assert_eq!(probe.present(&["a", "b", "c", "d"]).await, "a c d");
    probe.invalidate("y").await;
    assert_eq!(probe.present(&["a", "b", "c", "d"]).await, "a d");
}

/// A tag of another tenant is another tag.
async fn cache_invalidation_is_isolated(probe: Probe) {
    let other = probe.stranger();
    probe.set("a", "1", 100, &["x"]).await;
    other.set("a", "2", 100, &["x"]).await;
    other.invalidate("x").await;
    assert_eq!(probe.get("a").await.as_deref(), Some("1"));
    assert_eq!(other.get("a").await, None);
}

/// A value that was set again has the tags of the second time.
async fn cache_forgets_old_tags(probe: Probe) {
    probe.set("a", "1", 100, &["old"]).await;
    probe.set("a", "2", 100, &["new"]).await;
    probe.invalidate("new").await;
    assert_eq!(probe.get("a").await, None);
}

/// Keys are any text, values any bytes, also none.
async fn cache_keys_and_values_are_any(probe: Probe) {
    for key in ["", " ", "a:b", "{x}", "*", "\u{1f980}", "a\nb"] {
        probe.set(key, key, 100, &[key]).await;
        assert_eq!(probe.get(key).await.as_deref(), Some(key));
    }
    probe.invalidate("*").await;
    assert_eq!(probe.get("").await.as_deref(), Some(""), "a tag is no pattern");
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let options = CacheOptions { ttl: 100 * probe.unit, tags: &[] };
    probe.cache.set(probe.tenant, "bytes", bytes.clone(), options).await.expect("set succeeds");
    assert_eq!(probe.cache.get(probe.tenant, "bytes").await.expect("get succeeds"), Some(bytes));
}
