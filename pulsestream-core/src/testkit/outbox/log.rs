//! What became of deliveries: log, counts, replay, pages, pruning.

use super::probe::{Probe, delivered, failed, numbers};
use crate::alerting::DeliveryStatus;
use crate::id::{ChannelId, DeliveryId};
use crate::ports::outbox::{
    DeliveryAttempt, DeliveryCounts, DeliveryQuery, Disposition, RecordOutcome, ReplaySelection,
};
use crate::testkit::alert_store::{at, delivery};
use crate::time::TimeRange;

impl Probe {
    /// Leases what is due and records the same for all of it.
    async fn finish(&self, seconds: i64, disposition: Disposition) {
        for leased in self.lease("a", seconds, 100).await {
            self.record(&leased, seconds, disposition.clone(), Some(delivered())).await;
        }
    }

    async fn listed(&self, query: &DeliveryQuery) -> Vec<u128> {
        let page = self.outbox.deliveries(self.tenant, query).await.expect("deliveries succeeds");
        page.deliveries.iter().map(|delivery| delivery.id.as_u128()).collect()
    }

    async fn replay(&self, selection: ReplaySelection, seconds: i64) -> u64 {
        self.outbox.replay(self.tenant, &selection, at(seconds)).await.expect("replay succeeds")
    }

    async fn counts(&self) -> DeliveryCounts {
        self.outbox.counts(self.tenant).await.expect("counts succeeds")
    }
}

/// Every attempt with a report is in the log, in order, with all that was reported.
pub(super) async fn outbox_logs_attempts(probe: Probe) {
    probe.enqueue(vec![delivery(1, 1, 5)]).await;
    let mut expected = Vec::new();
    for attempt in 1..=3_u32 {
        let seconds = i64::from(attempt) * 100;
        let leased = probe.lease_one("a", seconds).await;
        assert_eq!((leased.delivery.attempts, leased.delivery.schedule_position), (attempt - 1, attempt - 1));
        let report = failed(&format!("failure {attempt}"));
        expected.push(DeliveryAttempt { attempt, at: at(seconds), report: report.clone() });
        probe.record(&leased, seconds, Disposition::RetryAt(at(seconds + 100)), Some(report)).await;
        let (stored, log) = probe.read(1).await;
        assert_eq!((stored.due_at, stored.status), (at(seconds + 100), DeliveryStatus::Queued));
        assert_eq!(stored.last_error, Some(format!("failure {attempt}").into()));
        assert_eq!(log, expected);
    }
    let leased = probe.lease_one("a", 400).await;
    probe.record(&leased, 401, Disposition::Postponed(at(500)), None).await;
    let (stored, log) = probe.read(1).await;
    assert_eq!((stored.attempts, stored.schedule_position, stored.due_at), (3, 3, at(500)));
    assert_eq!(log, expected, "nothing was tried");
    let leased = probe.lease_one("a", 500).await;
    probe.record(&leased, 501, Disposition::Delivered, Some(delivered())).await;
    let (stored, log) = probe.read(1).await;
    assert_eq!((stored.status, stored.finished_at), (DeliveryStatus::Delivered, Some(at(501))));
    assert_eq!((stored.attempts, stored.last_error, log.len()), (4, None, 4));
}

/// Each disposition puts the delivery where it says, and the counts follow.
pub(super) async fn outbox_dispositions(probe: Probe) {
    probe.enqueue((1..=5).map(|number| delivery(number, number, 5)).collect()).await;
    let leased = probe.lease("a", 5, 10).await;
    let dispositions = [
        (Disposition::Delivered, DeliveryStatus::Delivered),
        (Disposition::RetryAt(at(50)), DeliveryStatus::Queued),
        (Disposition::Dead, DeliveryStatus::Dead),
        (Disposition::Cancelled, DeliveryStatus::Cancelled),
        (Disposition::Postponed(at(60)), DeliveryStatus::Queued),
    ];
    for (leased, (disposition, status)) in leased.iter().zip(dispositions) {
        probe.record(leased, 6, disposition.clone(), None).await;
        let stored = probe.read(leased.delivery.id.as_u128()).await.0;
        assert_eq!(stored.status, status, "{disposition:?}");
        assert_eq!(stored.finished_at, (status != DeliveryStatus::Queued).then_some(at(6)));
        assert_eq!(stored.attempts, 0, "nothing was tried");
    }
    let expected = DeliveryCounts { queued: 2, delivered: 1, dead: 1, cancelled: 1 };
    assert_eq!(probe.counts().await, expected);
    assert_eq!(numbers(&probe.lease("a", 100, 10).await).len(), 2, "finished ones are not given again");
}

/// Another tenant neither sees nor changes a delivery.
pub(super) async fn outbox_is_isolated(probe: Probe) {
    probe.enqueue(vec![delivery(1, 1, 5)]).await;
    probe.finish(5, Disposition::Dead).await;
    let stranger = probe.stranger();
    assert!(stranger.listed(&DeliveryQuery::default()).await.is_empty());
    let id = DeliveryId::from_u128(1);
    assert_eq!(stranger.outbox.delivery(stranger.tenant, id).await.expect("succeeds"), None);
    assert_eq!(stranger.counts().await, DeliveryCounts::default());
    for selection in [
        ReplaySelection::Ids(vec![id]),
        ReplaySelection::Range { range: TimeRange::ALL, channel: None },
        ReplaySelection::Dead { channel: None },
    ] {
        assert_eq!(stranger.replay(selection, 10).await, 0);
    }
    assert_eq!(stranger.outbox.prune(stranger.tenant, at(9_999), 9).await.expect("prune succeeds"), 0);
    assert_eq!(stranger.enqueue(vec![delivery(1, 2, 7)]).await, 1, "the same id is another delivery");
    assert_eq!(probe.read(1).await.0.status, DeliveryStatus::Dead);
    assert_eq!(probe.counts().await.dead, 1);
}

/// A replayed delivery is the same one: its id and its log stay, its schedule starts again.
pub(super) async fn outbox_replay_keeps_identity(probe: Probe) {
    probe.enqueue(vec![delivery(1, 1, 5)]).await;
    let leased = probe.lease_one("a", 5).await;
    probe.record(&leased, 6, Disposition::Dead, Some(failed("gone"))).await;
    assert_eq!(probe.replay(ReplaySelection::Ids(vec![DeliveryId::from_u128(1)]), 50).await, 1);
    let (stored, log) = probe.read(1).await;
    assert_eq!((stored.status, stored.finished_at), (DeliveryStatus::Queued, None));
    assert_eq!((stored.due_at, stored.schedule_started_at, stored.schedule_position), (at(50), at(50), 0));
    assert_eq!((stored.attempts, log.len(), stored.created_at), (1, 1, at(1)));
    assert_eq!(probe.counts().await, DeliveryCounts { queued: 1, ..DeliveryCounts::default() });
    let again = probe.lease_one("a", 50).await;
    assert!(again.lease_token > leased.lease_token, "a result of before counts no more");
    probe.record(&again, 51, Disposition::Delivered, Some(delivered())).await;
    let attempts: Vec<_> = probe.read(1).await.1.iter().map(|line| line.attempt).collect();
    assert_eq!(attempts, [1, 2]);
}

/// A replay takes what was selected, and leaves alone what waits.
pub(super) async fn outbox_replay_selects(probe: Probe) {
    probe.enqueue((1..=8).map(|number| delivery(number, number % 2, 5)).collect()).await;
    for leased in probe.lease("a", 5, 100).await {
        let disposition = match leased.delivery.id.as_u128() {
            1..=3 => Disposition::Dead,
            4 | 5 => Disposition::Delivered,
            6 => Disposition::Cancelled,
            _ => Disposition::RetryAt(at(900)),
        };
        probe.record(&leased, 6, disposition, Some(delivered())).await;
    }
    let channel = Some(ChannelId::from_u128(0));
    assert_eq!(probe.replay(ReplaySelection::Dead { channel }, 50).await, 1);
    assert_eq!(probe.replay(ReplaySelection::Dead { channel: None }, 50).await, 2);
    assert_eq!(probe.replay(ReplaySelection::Dead { channel: None }, 50).await, 0, "they wait");
    let range = TimeRange::new(at(4), at(6));
    assert_eq!(probe.replay(ReplaySelection::Range { range, channel }, 50).await, 1);
    assert_eq!(probe.replay(ReplaySelection::Range { range: TimeRange::ALL, channel: None }, 50).await, 2);
    let ids = [7, 8, 99].map(DeliveryId::from_u128).to_vec();
    assert_eq!(probe.replay(ReplaySelection::Ids(ids), 50).await, 0, "those wait, that one is unknown");
    assert_eq!(probe.counts().await.queued, 8);
    assert_eq!(probe.read(7).await.0.due_at, at(900));
}

/// Following `next` visits each delivery that matches once, the newest first.
pub(super) async fn outbox_pages_are_complete(probe: Probe) {
    let mut deliveries: Vec<_> = (1..=20).map(|number| delivery(number, number % 2, 5)).collect();
    for delivery in &mut deliveries[9..] {
        delivery.created_at = at(10);
    }
    probe.enqueue(deliveries).await;
    let mut query = DeliveryQuery { limit: 3, ..DeliveryQuery::default() };
    let mut visited = Vec::new();
    for number in 0..20 {
        let page = probe.outbox.deliveries(probe.tenant, &query).await.expect("deliveries succeeds");
        visited.extend(page.deliveries.iter().map(|delivery| delivery.id.as_u128()));
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
        probe.enqueue(vec![delivery(1_000 + number, 1, 5)]).await;
    }
    assert_eq!(visited, (1..=20).rev().collect::<Vec<_>>());
    let base = DeliveryQuery { range: Some(TimeRange::new(at(3), at(10))), ..DeliveryQuery::default() };
    assert_eq!(probe.listed(&base).await, [9, 8, 7, 6, 5, 4, 3]);
    let channel = Some(ChannelId::from_u128(0));
    let query = DeliveryQuery { channel, ..base.clone() };
    assert_eq!(probe.listed(&query).await, [8, 6, 4]);
    assert_eq!(probe.listed(&DeliveryQuery { limit: 2, ..query.clone() }).await, [8, 6]);
    let status = Some(DeliveryStatus::Delivered);
    assert!(probe.listed(&DeliveryQuery { status, ..query }).await.is_empty());
    let range = Some(TimeRange::new(at(5), at(5)));
    assert!(probe.listed(&DeliveryQuery { range, ..base }).await.is_empty());
}

/// What was finished before a moment goes with its log, no more than asked; what waits stays.
pub(super) async fn outbox_prunes(probe: Probe) {
    probe
        .enqueue(
            (1..=4).map(|number| delivery(number, number, 5 * i64::try_from(number).unwrap_or(0))).collect(),
        )
        .await;
    probe.finish(5, Disposition::Delivered).await;
    probe.finish(10, Disposition::Dead).await;
    probe.finish(15, Disposition::Cancelled).await;
    let mut gone = Vec::new();
    for limit in [0, 1, 5] {
        gone.push(probe.outbox.prune(probe.tenant, at(15), limit).await.expect("prune succeeds"));
    }
    assert_eq!(gone, [0, 1, 1]);
    assert_eq!(probe.listed(&DeliveryQuery::default()).await, [4, 3]);
    let expected = DeliveryCounts { queued: 1, cancelled: 1, ..DeliveryCounts::default() };
    assert_eq!(probe.counts().await, expected);
    let id = DeliveryId::from_u128(1);
    assert_eq!(probe.outbox.delivery(probe.tenant, id).await.expect("succeeds"), None);
    assert_eq!(probe.outbox.prune(probe.tenant, at(9_999), 9).await.expect("prune succeeds"), 1);
    assert_eq!(probe.replay(ReplaySelection::Dead { channel: None }, 50).await, 0);
    assert_eq!(numbers(&probe.lease("a", 20, 10).await), [4]);
}

/// Nothing is found of an erased tenant, whatever became of its deliveries; leases that were held are lost.
pub(super) async fn outbox_erase_leaves_nothing(probe: Probe) {
    let stranger = probe.stranger();
    for of in [&probe, &stranger] {
        of.enqueue(
            (1..=4).map(|number| delivery(number, 1, 5 * i64::try_from(number).unwrap_or(0))).collect(),
        )
        .await;
    }
    let held = probe.lease("a", 5, 10).await;
    assert_eq!(held.len(), 2, "one of each tenant");
    for leased in &held {
        assert_eq!(probe.record(leased, 6, Disposition::Delivered, None).await, RecordOutcome::Recorded);
    }
    let held = probe.lease("a", 10, 10).await;
    for _ in 0..2 {
        probe.outbox.erase(probe.tenant).await.expect("erase succeeds");
        assert!(probe.listed(&DeliveryQuery::default()).await.is_empty());
        assert_eq!(probe.counts().await, DeliveryCounts::default());
        let id = DeliveryId::from_u128(1);
        assert_eq!(probe.outbox.delivery(probe.tenant, id).await.expect("succeeds"), None);
    }
    for leased in &held {
        let expected =
            if leased.tenant == probe.tenant { RecordOutcome::LeaseLost } else { RecordOutcome::Recorded };
        assert_eq!(probe.record(leased, 11, Disposition::Delivered, None).await, expected);
    }
    assert_eq!(stranger.listed(&DeliveryQuery::default()).await, [4, 3, 2, 1]);
    let expected = DeliveryCounts { queued: 2, delivered: 2, ..DeliveryCounts::default() };
    assert_eq!(stranger.counts().await, expected);
    let left = probe.lease("b", 99, 10).await;
    assert!(left.iter().all(|leased| leased.tenant == stranger.tenant), "{left:?}");
    assert_eq!(left.len(), 2);
    assert!(probe.outbox.next_due().await.expect("succeeds").is_some());
}
