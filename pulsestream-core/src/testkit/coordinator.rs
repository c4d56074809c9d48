//! What every [`Coordinator`] promises, case by case.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, concurrently};
use crate::ports::coordinator::{Coordinator, Lease};

/// What the suite needs to know about a coordinator.
#[async_trait]
pub trait CoordinatorHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh coordinator without leases.
    async fn open(&self) -> Arc<dyn Coordinator>;

    /// Lets time pass for the coordinator: moves an injected clock, or waits where a server keeps the time.
    async fn elapse(&self, span: Duration);

    /// Returns the unit of the spans in the cases; a coordinator whose time cannot be moved takes a short one.
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
    harness: Arc<dyn CoordinatorHarness>,
    coordinator: Arc<dyn Coordinator>,
    unit: Duration,
}

impl Probe {
    async fn open(harness: Arc<dyn CoordinatorHarness>) -> Self {
        Self { coordinator: harness.open().await, unit: harness.unit(), harness }
    }

    /// Asks for a lease of four units.
    async fn acquire(&self, resource: &str, holder: &str) -> Option<Lease> {
        self.coordinator.acquire(resource, holder, 4 * self.unit).await.expect("acquire succeeds")
    }

    async fn granted(&self, resource: &str, holder: &str) -> Lease {
        let lease = self.acquire(resource, holder).await.expect("the resource is free");
        assert_eq!((lease.resource.as_str(), lease.holder.as_str()), (resource, holder));
        lease
    }

    async fn elapse(&self, units: u32) {
        self.harness.elapse(units * self.unit).await;
    }
}

super::suite! {
    $
    /// Lists every promise of a coordinator as a test; takes an expression that makes the harness.
    coordinator_conformance, coordinator, CoordinatorHarness, Probe,
    [
        self: lease_has_one_holder, lease_token_ascends, lease_renewal_keeps_the_token, lease_renewal_prolongs,
            lease_expires, lease_release, lease_release_of_a_lost_lease, lease_listing, lease_races, lease_names;
    ]
}

/// While a lease runs nobody else gets one; other resources are free.
async fn lease_has_one_holder(probe: Probe) {
    probe.granted("alerting/1", "a").await;
    assert_eq!(probe.acquire("alerting/1", "b").await, None);
    probe.granted("alerting/2", "b").await;
    assert_eq!(probe.acquire("alerting/2", "a").await, None);
}

/// Every holder has a higher fencing token than those before, however the lease changed hands.
async fn lease_token_ascends(probe: Probe) {
    let mut last = 0;
    for round in 0..6 {
        let lease = probe.granted("r", if round % 2 == 0 { "a" } else { "b" }).await;
        assert!(lease.fencing_token > last, "{} after {last}", lease.fencing_token);
        last = lease.fencing_token;
        if round < 3 {
            probe.coordinator.release(&lease).await.expect("release succeeds");
        } else {
            probe.elapse(5).await;
        }
    }
    let same = probe.granted("r", "b").await;
    assert!(same.fencing_token > last, "who came too late to renew is a new holder");
}

/// Who renews in time keeps the token.
async fn lease_renewal_keeps_the_token(probe: Probe) {
    let first = probe.granted("r", "a").await;
    for _ in 0..3 {
        probe.elapse(2).await;
        assert_eq!(probe.granted("r", "a").await.fencing_token, first.fencing_token);
    }
}

/// A renewal counts from now on.
async fn lease_renewal_prolongs(probe: Probe) {
    let first = probe.granted("r", "a").await;
    probe.elapse(3).await;
    let renewed = probe.granted("r", "a").await;
    assert!(renewed.expires_at > first.expires_at);
    probe.elapse(3).await;
    assert_eq!(probe.acquire("r", "b").await, None, "the first span is over, the second is not");
}

/// After its span the lease may be taken by another.
async fn lease_expires(probe: Probe) {
    let first = probe.granted("r", "a").await;
    probe.elapse(5).await;
    let second = probe.granted("r", "b").await;
    assert!(second.fencing_token > first.fencing_token);
    assert_eq!(probe.acquire("r", "a").await, None);
}

/// A released lease may be taken at once, under a higher token.
async fn lease_release(probe: Probe) {
    let first = probe.granted("r", "a").await;
    probe.coordinator.release(&first).await.expect("release succeeds");
    let second = probe.granted("r", "b").await;
    assert!(second.fencing_token > first.fencing_token);
}

/// Releasing what one does not hold any more changes nothing.
async fn lease_release_of_a_lost_lease(probe: Probe) {
    let lost = probe.granted("r", "a").await;
    probe.elapse(5).await;
    probe.coordinator.release(&lost).await.expect("releasing an expired lease is passed over");
    let held = probe.granted("r", "b").await;
    probe.coordinator.release(&lost).await.expect("releasing a lost lease is passed over");
    assert_eq!(probe.acquire("r", "a").await, None, "the new holder still has it");
    let stale = Lease { fencing_token: held.fencing_token - 1, ..held.clone() };
    probe.coordinator.release(&stale).await.expect("so is a lower token of the same holder");
    assert_eq!(probe.acquire("r", "a").await, None);
    let unknown = Lease { resource: "other".into(), ..held };
    probe.coordinator.release(&unknown).await.expect("and a resource that nobody leased");
}

/// The running leases under a prefix, by resource.
async fn lease_listing(probe: Probe) {
    assert!(probe.coordinator.leases("").await.expect("listing succeeds").is_empty());
    let c = probe.granted("alerting/c", "x").await;
    let released = probe.granted("alerting/b", "x").await;
    probe.coordinator.release(&released).await.expect("release succeeds");
    probe.granted("rollup/a", "y").await;
    let a = probe.granted("alerting/a", "y").await;
    assert_eq!(probe.coordinator.leases("alerting/").await.expect("listing succeeds"), [a, c]);
    assert_eq!(probe.coordinator.leases("").await.expect("listing succeeds").len(), 3);
    assert!(probe.coordinator.leases("alerting/d").await.expect("listing succeeds").is_empty());
    probe.elapse(5).await;
    assert!(
        probe.coordinator.leases("").await.expect("listing succeeds").is_empty(),
        "expired ones do not show"
    );
}

/// Of concurrent contenders one gets the lease.
async fn lease_races(probe: Probe) {
    for round in 0..10 {
        let granted = Arc::new(AtomicUsize::new(0));
        let contender = |number: usize| -> BoxFuture<'static, ()> {
            let (probe, granted) = (probe.clone(), granted.clone());
            Box::pin(async move {
                let lease = probe.acquire(&format!("r{round}"), &format!("holder-{number}")).await;
                granted.fetch_add(usize::from(lease.is_some()), Ordering::Relaxed);
            })
        };
        let harness = probe.harness.clone();
        concurrently(move |task| harness.block_on(task), (0..4).map(contender).collect()).await;
        assert_eq!(granted.load(Ordering::Relaxed), 1, "one holder");
    }
}

/// Names are text of any kind, and nothing but themselves.
async fn lease_names(probe: Probe) {
    let names = ["a", "A", "a ", "a/b", "a*", "a%", "{a}", "\u{1f980}", "a:b"];
    for name in names {
        probe.granted(name, name).await;
    }
    for name in names {
        assert_eq!(probe.acquire(name, "other").await, None, "{name} is held");
    }
    assert_eq!(
        probe.coordinator.leases("a*").await.expect("listing succeeds").len(),
        1,
        "a prefix is no pattern"
    );
}
