//! The cache port.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::TenantId;

/// How to keep a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions<'a> {
    /// For how long.
    pub ttl: Duration,
    /// Names under which it can be dropped together with others.
    pub tags: &'a [&'a str],
}

/// Keeps values for a while; may forget any of them at any time.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync + 'static {
    /// Returns the value of a key, unless it expired, was dropped or was forgotten.
    ///
    /// # Contract
    /// - Another tenant's value under the same key is not returned (`cache_is_isolated`).
    /// - Nothing is returned at or after its expiry (`cache_expires`).
    async fn get(&self, tenant: TenantId, key: &str) -> Result<Option<Vec<u8>>>;

    /// Keeps a value.
    async fn set(&self, tenant: TenantId, key: &str, value: Vec<u8>, options: CacheOptions<'_>)
    -> Result<()>;

    /// Drops every value of the tenant that carries the tag.
    ///
    /// # Contract
    /// - After it returns no value that was set before with the tag is returned (`cache_invalidates_by_tag`).
    async fn invalidate(&self, tenant: TenantId, tag: &str) -> Result<()>;
}
