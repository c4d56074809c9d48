//! Leases between nodes, and what a clock or a loss of data does to them.

use std::time::Duration;

use pulsestream_core::error::ErrorKind;
use pulsestream_core::ports::coordinator::{Coordinator, Lease};
use pulsestream_redis::RedisCoordinator;
use pulsestream_testtools::eventually_async;

use crate::support::Scope;

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(20);

async fn acquire(coordinator: &RedisCoordinator, holder: &str, ttl: Duration) -> Option<Lease> {
    coordinator.acquire("alerting/7", holder, ttl).await.unwrap()
}

/// The lease that `holder` gets when the one before has ended.
async fn acquire_in_time(coordinator: &RedisCoordinator, holder: &str) -> Lease {
    let mut got = None;
    eventually_async("the lease is free", async || {
        got = acquire(coordinator, holder, HOUR).await;
        got.is_some()
    })
    .await;
    got.unwrap()
}

#[tokio::test]
async fn a_lease_has_one_holder_and_its_token_ascends() {
    let Some(scope) = Scope::new() else { return };
    let (here, there) = (scope.open().await.coordinator(), scope.open().await.coordinator());
    let first = acquire(&here, "here", HOUR).await.unwrap();
    assert_eq!(acquire(&there, "there", HOUR).await, None);
    let renewed = acquire(&here, "here", HOUR).await.unwrap();
    assert_eq!(renewed.fencing_token, first.fencing_token);
    assert!(renewed.expires_at >= first.expires_at);

    here.release(&first).await.unwrap();
    let second = acquire(&there, "there", MOMENT).await.unwrap();
    assert!(second.fencing_token > first.fencing_token);
    // Too late: it is another's by now.
    here.release(&first).await.unwrap();
    let third = acquire_in_time(&here, "here").await;
    assert!(third.fencing_token > second.fencing_token);
    let again = here.acquire("alerting/8", "here", HOUR).await.unwrap().unwrap();
    assert!(again.fencing_token > third.fencing_token);
}

#[tokio::test]
async fn a_holder_that_comes_back_after_its_lease_ended_gets_a_new_token() {
    let Some(scope) = Scope::new() else { return };
    let coordinator = scope.open().await.coordinator();
    let mut before = acquire(&coordinator, "here", MOMENT).await.unwrap();
    eventually_async("the token changes", async || {
        let lease = acquire(&coordinator, "here", Duration::from_micros(1)).await.unwrap();
        let is_new = lease.fencing_token > before.fencing_token;
        assert!(is_new || lease.fencing_token == before.fencing_token);
        before = lease;
        is_new
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_ask_at_once_one_gets_it() {
    let Some(scope) = Scope::new() else { return };
    let nodes = [scope.open().await.coordinator(), scope.open().await.coordinator()];
    let askers = (0..32).map(|number: usize| {
        let coordinator = nodes[number % 2].clone();
        tokio::spawn(async move { acquire(&coordinator, &number.to_string(), HOUR).await })
    });
    let mut granted = Vec::new();
    for asker in askers.collect::<Vec<_>>() {
        granted.extend(asker.await.unwrap());
    }
    assert_eq!(granted.len(), 1);
    assert_eq!(nodes[0].leases("").await.unwrap(), granted);
}

#[tokio::test]
async fn leases_are_listed_by_prefix_in_order() {
    let Some(scope) = Scope::new() else { return };
    let coordinator = scope.open().await.coordinator();
    for resource in ["rollups/2", "alerting/10", "alerting/1", "alert"] {
        coordinator.acquire(resource, "a holder\nwith words", HOUR).await.unwrap().unwrap();
    }
    coordinator.acquire("alerting/9", "b", Duration::from_micros(1)).await.unwrap().unwrap();
    eventually_async("the short one ends", async || {
        coordinator.leases("alerting/").await.unwrap().len() == 2
    })
    .await;
    let leases = coordinator.leases("alerting/").await.unwrap();
    let resources: Vec<&str> = leases.iter().map(|lease| lease.resource.as_str()).collect();
    assert_eq!(resources, ["alerting/1", "alerting/10"]);
    assert_eq!(leases[0].holder.as_str(), "a holder\nwith words");
    assert_eq!(coordinator.leases("%").await.unwrap(), []);
}

#[tokio::test]
async fn tokens_ascend_over_a_loss_of_all_data() {
    let Some(scope) = Scope::new() else { return };
    let coordinator = scope.open().await.coordinator();
    let mut last = 0;
    for _ in 0..5 {
        let lease = acquire(&coordinator, "here", HOUR).await.unwrap();
        assert!(lease.fencing_token > last);
        last = lease.fencing_token;
        let mut raw = scope.raw().await;
        let prefix = &scope.config.key_prefix;
        let mut delete = redis::cmd("DEL");
        delete.arg(format!("{prefix}:{{leases}}:held")).arg(format!("{prefix}:{{leases}}:token"));
        let deleted: u32 = delete.query_async(&mut raw).await.unwrap();
        assert_eq!(deleted, 2);
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_hold_a_lease() {
    let Some(scope) = Scope::new() else { return };
    let coordinator = scope.open().await.coordinator();
    let lease = acquire(&coordinator, "dead", MOMENT).await.unwrap();
    // What a clock set back by a year looks like: an end in a year, and a grant of 20 ms.
    let key = format!("{}:{{leases}}:held", scope.config.key_prefix);
    let year_ahead = lease.expires_at.as_micros() + 366 * 86_400 * 1_000_000;
    let entry = format!("{} {year_ahead} 20000 dead", lease.fencing_token);
    let mut raw = scope.raw().await;
    let _: i64 =
        redis::cmd("HSET").arg(&key).arg("alerting/7").arg(entry).query_async(&mut raw).await.unwrap();
    assert_eq!(acquire(&coordinator, "next", HOUR).await, None);
    assert_eq!(acquire_in_time(&coordinator, "next").await.holder.as_str(), "next");
}

#[tokio::test]
async fn a_lease_without_length_or_without_end_is_refused() {
    let Some(scope) = Scope::new() else { return };
    let coordinator = scope.open().await.coordinator();
    for ttl in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(366 * 86_400 + 1), Duration::MAX]
    {
        let error = coordinator.acquire("r", "h", ttl).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
