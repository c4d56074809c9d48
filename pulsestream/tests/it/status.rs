//! What an application can ask about itself.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream::core::ports::cache::{Cache, CacheOptions};
use pulsestream::prelude::*;
use pulsestream::{Error, ErrorKind, Result};

/// A cache that does not answer.
#[derive(Debug)]
struct Silent;

fn silent<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unavailable, "cache", "nobody is there"))
}

#[async_trait]
impl Cache for Silent {
    async fn get(&self, _: TenantId, _: &str) -> Result<Option<Vec<u8>>> {
        silent()
    }

    async fn set(&self, _: TenantId, _: &str, _: Vec<u8>, _: CacheOptions<'_>) -> Result<()> {
        silent()
    }

    async fn invalidate(&self, _: TenantId, _: &str) -> Result<()> {
        silent()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_component_is_asked_and_what_fails_is_named() {
    let ps = PulseStream::open("memory:").await.unwrap();
    let status = ps.status().await;
    assert!(status.is_healthy() && status.is_accepting(), "{status:?}");
    assert_eq!(status.event_store.unwrap().backend, "memory");
    ps.close().await.unwrap();

    let ps = PulseStream::builder().with_cache(Arc::new(Silent)).open("memory:").await.unwrap();
    let status = ps.status().await;
    assert!(!status.is_healthy() && status.is_accepting(), "a cache is not vital");
    let failed: Vec<_> = status.components.iter().filter(|component| component.outcome.is_err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].name, "cache");
    assert_eq!(failed[0].outcome.as_ref().unwrap_err().message(), "nobody is there");
    ps.close().await.unwrap();
}
