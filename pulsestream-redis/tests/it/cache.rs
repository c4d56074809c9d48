//! The cache over two nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, ErrorKind};
use pulsestream_core::ports::cache::{Cache, CacheOptions};
use pulsestream_redis::open;
use pulsestream_testtools::{FaultProxy, eventually_async};

use crate::support::{Scope, tenant};

const HOUR: Duration = Duration::from_secs(3600);

fn hour<'a>(tags: &'a [&'a str]) -> CacheOptions<'a> {
    CacheOptions { ttl: HOUR, tags }
}

#[tokio::test]
async fn a_tag_drops_its_values_on_every_node_and_no_others() {
    let Some(scope) = Scope::new() else { return };
    let (here, there) = (scope.open().await.cache(), scope.open().await.cache());
    let (a, b) = (tenant("a"), tenant("b"));
    here.set(a, "both", b"1".to_vec(), hour(&["x", "y"])).await.unwrap();
    here.set(a, "one", b"2".to_vec(), hour(&["y"])).await.unwrap();
    here.set(a, "none", b"3\n".to_vec(), hour(&[])).await.unwrap();
    here.set(b, "both", b"4".to_vec(), hour(&["x"])).await.unwrap();
    assert_eq!(there.get(a, "both").await.unwrap().unwrap(), b"1");
    there.invalidate(a, "x").await.unwrap();
    assert_eq!(here.get(a, "both").await.unwrap(), None);
    assert_eq!(here.get(a, "one").await.unwrap().unwrap(), b"2");
    assert_eq!(here.get(a, "none").await.unwrap().unwrap(), b"3\n");
    assert_eq!(here.get(b, "both").await.unwrap().unwrap(), b"4");
    assert_eq!(here.get(b, "one").await.unwrap(), None);
    here.set(a, "both", b"5".to_vec(), hour(&["x", "y"])).await.unwrap();
    assert_eq!(there.get(a, "both").await.unwrap().unwrap(), b"5");
    for _ in 0..3 {
        here.invalidate(a, "y").await.unwrap();
        assert_eq!(there.get(a, "both").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_lost_tag_is_a_miss_and_values_expire() {
    let Some(scope) = Scope::new() else { return };
    let cache = scope.open().await.cache();
    let a = tenant("a");
    cache.set(a, "k", b"v".to_vec(), hour(&["x"])).await.unwrap();
    let mut raw = scope.raw().await;
    let tags: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{}:*:tag:*", scope.config.key_prefix))
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(tags.len(), 1);
    let left_ms: i64 = redis::cmd("PTTL").arg(&tags[0]).query_async(&mut raw).await.unwrap();
    assert!(left_ms > 3_000_000, "a tag must outlive its values, {left_ms}");
    let _: i64 = redis::cmd("DEL").arg(&tags[0]).query_async(&mut raw).await.unwrap();
    assert_eq!(cache.get(a, "k").await.unwrap(), None);
    // A new generation must not make the old value valid again.
    cache.set(a, "other", b"v".to_vec(), hour(&["x"])).await.unwrap();
    assert_eq!(cache.get(a, "k").await.unwrap(), None);

    let short = CacheOptions { ttl: Duration::from_millis(30), tags: &["x"] };
    cache.set(a, "short", b"v".to_vec(), short).await.unwrap();
    eventually_async("the value expires", async || cache.get(a, "short").await.unwrap().is_none()).await;
    cache.set(a, "k", b"v".to_vec(), hour(&[])).await.unwrap();
    let never = CacheOptions { ttl: Duration::ZERO, tags: &[] };
    cache.set(a, "k", b"v".to_vec(), never).await.unwrap();
    assert_eq!(cache.get(a, "k").await.unwrap(), None);
    let forever = CacheOptions { ttl: Duration::MAX, tags: &["x"] };
    cache.set(a, "k", b"v".to_vec(), forever).await.unwrap();
    assert_eq!(cache.get(a, "k").await.unwrap().unwrap(), b"v");
}

#[tokio::test]
async fn a_value_at_the_limit_is_kept_and_one_above_refused() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.cache.max_value_bytes = 1_000;
    let cache = scope.open().await.cache();
    cache.set(tenant("a"), "k", vec![0; 1_000], hour(&[])).await.unwrap();
    assert_eq!(cache.get(tenant("a"), "k").await.unwrap().unwrap().len(), 1_000);
    let error = cache.set(tenant("a"), "k", vec![0; 1_001], hour(&[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_on_two_nodes_compute_once() {
    let Some(scope) = Scope::new() else { return };
    let nodes = [scope.open().await.cache(), scope.open().await.cache()];
    let computed = Arc::new(AtomicU32::new(0));
    let callers = (0..40).map(|number| {
        let (cache, computed) = (nodes[number % 2].clone(), computed.clone());
        tokio::spawn(async move {
            let fill = async || {
                computed.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(b"value".to_vec())
            };
            cache.get_or_fill(tenant("a"), "k", hour(&["x"]), fill).await.unwrap()
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), b"value");
    }
    assert_eq!(computed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_value_whose_tag_is_dropped_while_it_is_computed_is_not_kept() {
    let Some(scope) = Scope::new() else { return };
    let cache = scope.open().await.cache();
    let a = tenant("a");
    // The tag is new in the first round and known in the second.
    for round in 0..2 {
        let fill = async || {
            cache.invalidate(a, "x").await?;
            Ok(b"old".to_vec())
        };
        assert_eq!(cache.get_or_fill(a, "k", hour(&["x"]), fill).await.unwrap(), b"old", "{round}");
        assert_eq!(cache.get(a, "k").await.unwrap(), None, "{round}");
    }
    let fill = async || Ok(b"new".to_vec());
    cache.get_or_fill(a, "k", hour(&["x"]), fill).await.unwrap();
    assert_eq!(cache.get(a, "k").await.unwrap().unwrap(), b"new");
}

#[tokio::test]
async fn a_failed_computation_is_not_kept_and_the_next_caller_does_not_wait() {
    let Some(mut scope) = Scope::new() else { return };
    // So long that waiting for it would end the test by its runner.
    scope.config.cache.fill_timeout_ms = 3_600_000;
    let cache = scope.open().await.cache();
    let fail = async || Err(Error::new(ErrorKind::Unavailable, "test", "no"));
    assert!(cache.get_or_fill(tenant("a"), "k", hour(&[]), fail).await.is_err());
    let fill = async || Ok(b"v".to_vec());
    assert_eq!(cache.get_or_fill(tenant("a"), "k", hour(&[]), fill).await.unwrap(), b"v");
}

#[tokio::test]
async fn without_redis_every_caller_computes() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let cache = open(scope.through(proxy.address()), Env::system()).await.unwrap().cache();
    proxy.set_down(true);
    let fill = async || Ok(b"v".to_vec());
    assert_eq!(cache.get_or_fill(tenant("a"), "k", hour(&["x"]), fill).await.unwrap(), b"v");
    assert_eq!(cache.get(tenant("a"), "k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    proxy.set_down(false);
    assert_eq!(cache.get(tenant("a"), "k").await.unwrap(), None);
}
