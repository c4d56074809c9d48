//! Who gets which delivery, and when.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::probe::{Probe, delivered, failed, lease_options, numbers};
use crate::id::DeliveryId;
use crate::ports::outbox::{AttemptRecord, Disposition, LeaseOptions, RecordOutcome};
use crate::testkit::alert_store::{at, delivery};
use crate::testkit::run::{BoxFuture, concurrently};

/// A delivery that is there already stays as it is.
pub(super) async fn outbox_enqueue_twice(probe: Probe) {
    assert_eq!(probe.enqueue(vec![delivery(1, 1, 5), delivery(2, 1, 5)]).await, 2);
    assert_eq!(probe.enqueue(vec![delivery(2, 9, 90), delivery(3, 1, 5)]).await, 1);
    assert_eq!(probe.read(2).await.0, delivery(2, 1, 5));
    assert_eq!(probe.enqueue(vec![delivery(4, 1, 5), delivery(4, 2, 6)]).await, 1, "twice in one call");
    let counts = probe.outbox.counts(probe.tenant).await.expect("counts succeeds");
    assert_eq!((counts.queued, counts.delivered), (4, 0));
    let leased = probe.lease("a", 5, 1).await;
    assert_eq!(probe.record(&leased[0], 5, Disposition::Delivered, None).await, RecordOutcome::Recorded);
    let id = leased[0].delivery.id.as_u128();
    assert_eq!(probe.enqueue(vec![delivery(id, 1, 5)]).await, 0, "delivered ones are not sent again");
}

/// What one holder has nobody gets, the same holder neither, before the lease ends.
pub(super) async fn outbox_lease_is_exclusive(probe: Probe) {
    probe.enqueue(vec![delivery(1, 1, 5), delivery(2, 2, 6)]).await;
    let leased = probe.lease_one("a", 5).await;
    assert_eq!((leased.tenant, leased.delivery.id.as_u128()), (probe.tenant, 1));
    assert_eq!((leased.expires_at, leased.delivery.attempts), (at(65), 0));
    assert_eq!(numbers(&probe.lease("b", 30, 10).await), [2]);
    for holder in ["a", "b"] {
        assert!(probe.lease(holder, 64, 10).await.is_empty());
    }
    let counts = probe.outbox.counts(probe.tenant).await.expect("counts succeeds");
    assert_eq!(counts.queued, 2, "leased ones wait still");
}

/// After the end of its lease a delivery is given again, under a higher token.
pub(super) async fn outbox_lease_expires(probe: Probe) {
    probe.enqueue(vec![delivery(1, 1, 5)]).await;
    let mut last = 0;
    for (holder, seconds) in [("a", 5), ("b", 65), ("b", 125), ("a", 500)] {
        let leased = probe.lease_one(holder, seconds).await;
        assert!(leased.lease_token > last, "{} after {last}", leased.lease_token);
        last = leased.lease_token;
    }
}

/// Those due first come first, of whatever tenant, and what is not due does not come.
pub(super) async fn outbox_leases_in_order(probe: Probe) {
    let stranger = probe.stranger();
    probe.enqueue(vec![delivery(1, 1, 30), delivery(2, 1, 10), delivery(3, 1, 50)]).await;
    stranger.enqueue(vec![delivery(4, 1, 20), delivery(5, 1, 51)]).await;
    assert!(probe.lease("a", 9, 10).await.is_empty());
    let leased = probe.lease("a", 50, 3).await;
    assert_eq!(numbers(&leased), [2, 4, 1]);
    assert_eq!([0, 1, 2].map(|index| leased[index].tenant == stranger.tenant), [false, true, false]);
    assert_eq!(numbers(&probe.lease("b", 50, 3).await), [3]);
    assert_eq!(numbers(&probe.lease("b", 51, 3).await), [5]);
}

/// A channel with enough under way waits, for all holders together, and holds nobody else back.
pub(super) async fn outbox_caps_channels(probe: Probe) {
    let many =
        (1..=600).map(|number| delivery(number, 1, 5)).chain([delivery(601, 2, 6), delivery(602, 3, 7)]);
    probe.enqueue(many.collect()).await;
    let options =
        |holder: &str, seconds| LeaseOptions { max_per_channel: 2, ..lease_options(holder, seconds) };
    let first = probe.outbox.lease(&options("a", 10)).await.expect("lease succeeds");
    assert_eq!(first.len(), 4, "two of the busy channel and the two others");
    assert_eq!(numbers(&first)[2..], [601, 602]);
    assert!(probe.outbox.lease(&options("b", 20)).await.expect("lease succeeds").is_empty());
    let outcome = probe.record(&first[0], 21, Disposition::Delivered, Some(delivered())).await;
    assert_eq!(outcome, RecordOutcome::Recorded);
    assert_eq!(probe.outbox.lease(&options("b", 22)).await.expect("lease succeeds").len(), 1);
    // A lease that ended does not count, whoever had it; the same channel of another tenant is another channel.
    let expired = probe.outbox.lease(&options("c", 75)).await.expect("lease succeeds");
    assert_eq!(expired.iter().filter(|leased| leased.delivery.channel.as_u128() == 1).count(), 1);
    let stranger = probe.stranger();
    stranger.enqueue(vec![delivery(1, 1, 5), delivery(2, 1, 5), delivery(3, 1, 5)]).await;
    let leased = probe.outbox.lease(&options("c", 76)).await.expect("lease succeeds");
    assert_eq!(leased.iter().filter(|leased| leased.tenant == stranger.tenant).count(), 2);
}

/// A tenant of whom the caller has enough under way waits, however much of it is due, and holds nobody else back.
pub(super) async fn outbox_passes_over_full_tenants(probe: Probe) {
    let (second, third) = (probe.stranger(), probe.stranger());
    probe.enqueue((1..=600).map(|number| delivery(number, number, 5)).collect()).await;
    second.enqueue(vec![delivery(601, 1, 6), delivery(602, 2, 7)]).await;
    third.enqueue(vec![delivery(603, 1, 6)]).await;
    let full = BTreeSet::from([probe.tenant, third.tenant]);
    let options = LeaseOptions { full, ..lease_options("a", 10) };
    assert_eq!(numbers(&probe.outbox.lease(&options).await.expect("lease succeeds")), [601, 602]);
    assert!(probe.outbox.lease(&options).await.expect("lease succeeds").is_empty());
    let options = LeaseOptions { full: BTreeSet::from([probe.tenant]), ..options };
    assert_eq!(numbers(&probe.outbox.lease(&options).await.expect("lease succeeds")), [603]);
    assert_eq!(probe.lease("a", 10, 10).await.len(), 10, "it is not full for others");
}

/// Who lost the lease, or never had it, records nothing.
pub(super) async fn outbox_refuses_lost_leases(probe: Probe) {
    probe.enqueue(vec![delivery(1, 1, 5)]).await;
    let lost = probe.lease_one("a", 5).await;
    let held = probe.lease_one("b", 100).await;
    let retry = Disposition::RetryAt(at(900));
    for disposition in [Disposition::Delivered, Disposition::Dead, retry.clone()] {
        let outcome = probe.record(&lost, 101, disposition, Some(failed("late"))).await;
        assert_eq!(outcome, RecordOutcome::LeaseLost);
    }
    let (stored, log) = probe.read(1).await;
    assert_eq!((stored, log), (delivery(1, 1, 5), vec![]));
    assert_eq!(probe.record(&held, 102, retry, Some(failed("503"))).await, RecordOutcome::Recorded);
    let outcome = probe.record(&held, 103, Disposition::Dead, Some(failed("again"))).await;
    assert_eq!(outcome, RecordOutcome::LeaseLost, "a result is recorded once");
    let mut gone = held.clone();
    gone.delivery.id = DeliveryId::from_u128(99);
    assert_eq!(probe.record(&gone, 104, Disposition::Delivered, None).await, RecordOutcome::LeaseLost);
    let mut foreign = held;
    foreign.tenant = probe.stranger().tenant;
    assert_eq!(probe.record(&foreign, 105, Disposition::Delivered, None).await, RecordOutcome::LeaseLost);
    assert_eq!(probe.read(1).await.1.len(), 1);
}

/// The next moment at which there is something to lease.
pub(super) async fn outbox_next_due(probe: Probe) {
    let next = || async { probe.outbox.next_due().await.expect("next_due succeeds") };
    assert_eq!(next().await, None);
    probe.enqueue(vec![delivery(1, 1, 50)]).await;
    probe.stranger().enqueue(vec![delivery(1, 1, 40)]).await;
    assert_eq!(next().await, Some(at(40)));
    let first = probe.lease_one("a", 45).await;
    assert_eq!(next().await, Some(at(50)));
    let second = probe.lease_one("a", 50).await;
    assert_eq!(next().await, Some(at(105)), "the end of the first lease");
    probe.record(&first, 51, Disposition::Delivered, Some(delivered())).await;
    assert_eq!(next().await, Some(at(110)));
    probe.record(&second, 51, Disposition::RetryAt(at(300)), Some(failed("503"))).await;
    assert_eq!(next().await, Some(at(300)));
    let last = probe.lease_one("a", 300).await;
    probe.record(&last, 301, Disposition::Cancelled, None).await;
    assert_eq!(next().await, None);
}

/// Eight dispatchers together deliver a thousand deliveries, each of them once.
pub(super) async fn outbox_dispatchers_race(probe: Probe) {
    const DELIVERIES: u128 = 1_000;
    probe.enqueue((1..=DELIVERIES).map(|number| delivery(number, number % 40, 5)).collect()).await;
    let seen: Arc<Mutex<HashMap<u128, u32>>> = Arc::default();
    let dispatcher = |number: usize| -> BoxFuture<'static, ()> {
        let (probe, seen) = (probe.clone(), seen.clone());
        Box::pin(async move {
            let mut idle = 0;
            while idle < 100 {
                let leased = probe.lease(&format!("holder-{number}"), 10, 16).await;
                idle = if leased.is_empty() { idle + 1 } else { 0 };
                let mut records = Vec::new();
                for leased in &leased {
                    let id = leased.delivery.id.as_u128();
                    *seen.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
                    records.push(AttemptRecord {
                        tenant: leased.tenant,
                        delivery: leased.delivery.id,
                        lease_token: leased.lease_token,
                        at: at(11),
                        disposition: Disposition::Delivered,
                        report: Some(delivered()),
                    });
                }
                let outcomes = probe.outbox.record(records).await.expect("record succeeds");
                assert!(outcomes.iter().all(|outcome| *outcome == RecordOutcome::Recorded));
                if probe.outbox.next_due().await.expect("next_due succeeds").is_none() {
                    return;
                }
            }
        })
    };
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), (0..8).map(dispatcher).collect()).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(seen.len() as u128, DELIVERIES, "all of them");
    assert!(seen.values().all(|times| *times == 1), "each of them once");
    let counts = probe.outbox.counts(probe.tenant).await.expect("counts succeeds");
    assert_eq!((counts.queued, u128::from(counts.delivered)), (0, DELIVERIES));
}
