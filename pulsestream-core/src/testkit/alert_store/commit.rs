//! Commits of the processor: guarded, atomic, repeatable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::probe::{Probe, at, delivery, firing, resolved};
use crate::alerting::{AlertState, TimelineEntry, TimelineKind};
use crate::error::ErrorKind;
use crate::id::{AlertId, DeliveryId};
use crate::ports::alert_store::{AlertCommit, AlertCommitOutcome, AlertQuery, Checkpoint};
use crate::ports::event_store::Position;
use crate::ports::outbox::DeliveryQuery;
use crate::testkit::run::{BoxFuture, concurrently};

impl Probe {
    async fn checkpoint(&self) -> Option<Checkpoint> {
        self.store.checkpoint("test", self.partition()).await.expect("checkpoint succeeds")
    }

    async fn refused_commit(&self, commit: AlertCommit, kind: ErrorKind) {
        let error = self.store.commit(commit).await.expect_err("this commit must be refused");
        assert_eq!(error.kind(), kind, "{error}");
    }

    async fn delivery_numbers(&self) -> Vec<u128> {
        let page = self.outbox.deliveries(self.tenant, &DeliveryQuery::default()).await.expect("succeeds");
        page.deliveries.iter().map(|delivery| delivery.id.as_u128()).collect()
    }
}

/// Alert 1 fires, somebody is told, and its timeline has an entry more.
fn rich(probe: &Probe, after_sequence: u64, fencing_token: u64, number: u128) -> AlertCommit {
    let mut commit = probe.commit_of(after_sequence, fencing_token, vec![firing(number)]);
    let id = AlertId::from_u128(number);
    let kind = TimelineKind::Commented;
    commit.changes[0].timeline = vec![TimelineEntry::by(id, at(50), &"router".into(), None, kind)];
    commit.changes[0].deliveries = vec![delivery(number, 1, 5)];
    commit
}

/// Who was replaced by another with a higher token changes nothing any more.
pub(super) async fn commit_refuses_old_tokens(probe: Probe) {
    probe.configured().await;
    let commit = |after, token, number| probe.commit_of(after, token, vec![firing(number)]);
    probe.store.commit(commit(0, 5, 1)).await.expect("the first");
    probe.refused_commit(commit(1, 4, 2), ErrorKind::Fenced).await;
    probe.store.commit(commit(1, 7, 3)).await.expect("the successor");
    probe.refused_commit(commit(2, 5, 4), ErrorKind::Fenced).await;
    probe.refused_commit(commit(0, 5, 4), ErrorKind::Fenced).await;
    probe.store.commit(commit(2, 7, 5)).await.expect("still the successor");
    assert_eq!(probe.found(&AlertQuery::default()).await, [5, 3, 1]);
    assert_eq!(probe.checkpoint().await.map(|checkpoint| checkpoint.fencing_token), Some(7));
}

/// A commit that does not follow the stored one is refused.
pub(super) async fn commit_is_compare_and_set(probe: Probe) {
    assert_eq!(probe.checkpoint().await, None);
    probe.refused_commit(probe.commit_of(1, 1, vec![firing(1)]), ErrorKind::Conflict).await;
    probe.committed(0, vec![firing(1)]).await;
    let expected =
        Checkpoint { sequence: 1, position: Position(10), state: b"state 1".to_vec(), fencing_token: 1 };
    assert_eq!(probe.checkpoint().await, Some(expected.clone()));
    let mut other = probe.commit_of(0, 1, vec![firing(2)]);
    other.checkpoint.position = Position(11);
    probe.refused_commit(other, ErrorKind::Conflict).await;
    probe.refused_commit(probe.commit_of(2, 1, vec![firing(2)]), ErrorKind::Conflict).await;
    assert_eq!(probe.checkpoint().await, Some(expected));
    assert_eq!(probe.found(&AlertQuery::default()).await, [1]);
}

/// A commit whose answer was lost is made again, and has happened once.
pub(super) async fn commit_twice_is_once(probe: Probe) {
    probe.configured().await;
    let commit = rich(&probe, 0, 3, 1);
    let outcome = probe.store.commit(commit.clone()).await.expect("the first");
    assert_eq!(outcome, AlertCommitOutcome::Committed);
    let (alert, checkpoint) = (probe.alert(1).await, probe.checkpoint().await);
    for _ in 0..2 {
        let outcome = probe.store.commit(commit.clone()).await.expect("the same again");
        assert_eq!(outcome, AlertCommitOutcome::Replayed);
    }
    assert_eq!((probe.alert(1).await, probe.checkpoint().await), (alert, checkpoint));
    let timeline = probe.store.timeline(probe.tenant, AlertId::from_u128(1)).await.expect("succeeds");
    assert_eq!((timeline.len(), probe.delivery_numbers().await), (2, vec![1]));
    probe.store.commit(rich(&probe, 1, 3, 2)).await.expect("the next");
    probe.refused_commit(commit, ErrorKind::Conflict).await;
}

/// A refused commit leaves nothing behind, of no tenant.
pub(super) async fn commit_is_atomic(probe: Probe) {
    probe.configured().await;
    probe.store.commit(rich(&probe, 0, 2, 1)).await.expect("the first");
    let stranger = probe.stranger();
    stranger.configured().await;
    for (after, token, kind) in [(5, 2, ErrorKind::Conflict), (1, 1, ErrorKind::Fenced)] {
        let mut commit = rich(&probe, after, token, 2);
        commit.changes.extend(rich(&stranger, after, token, 3).changes);
        probe.refused_commit(commit, kind).await;
    }
    assert_eq!(probe.found(&AlertQuery::default()).await, [1]);
    assert!(stranger.found(&AlertQuery::default()).await.is_empty());
    assert_eq!((probe.delivery_numbers().await, stranger.delivery_numbers().await), (vec![1], vec![]));
    assert_eq!(probe.checkpoint().await.map(|checkpoint| checkpoint.sequence), Some(1));
    let counts = probe.store.alert_counts(probe.tenant).await.expect("succeeds");
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 1);
}

/// One commit changes alerts of several tenants, writes their timelines and fills the outbox.
pub(super) async fn commit_makes_alerts_timelines_and_deliveries(probe: Probe) {
    probe.configured().await;
    let stranger = probe.stranger();
    stranger.configured().await;
    let mut commit = rich(&probe, 0, 1, 1);
    commit.changes[0].alerts.push(resolved(1, 20));
    commit.changes.extend(rich(&stranger, 0, 1, 2).changes);
    probe.store.commit(commit).await.expect("commit succeeds");
    let alert = probe.alert(1).await.expect("it was opened");
    assert_eq!((alert.state, alert.resolved_at, alert.sequence), (AlertState::Resolved, Some(at(20)), 2));
    assert_eq!((alert.value, alert.fired_at), (Some(2.1), Some(at(1))));
    assert_eq!(alert.annotations, firing(1).annotations);
    let timeline = probe.store.timeline(probe.tenant, alert.id).await.expect("succeeds");
    assert_eq!(timeline.iter().map(|entry| entry.at).collect::<Vec<_>>(), [at(1), at(20), at(50)]);
    let (stored, log) = probe
        .outbox
        .delivery(probe.tenant, DeliveryId::from_u128(1))
        .await
        .expect("delivery succeeds")
        .expect("it was planned");
    assert_eq!((stored, log), (delivery(1, 1, 5), vec![]));
    assert_eq!((probe.delivery_numbers().await, stranger.delivery_numbers().await), (vec![1], vec![2]));
    // A delivery that is planned again is passed over, whatever became of it.
    probe.store.commit(rich(&probe, 1, 1, 1)).await.expect("commit succeeds");
    assert_eq!(probe.delivery_numbers().await, [1]);
}

/// Processors and partitions have checkpoints of their own.
pub(super) async fn commit_processors_are_apart(probe: Probe) {
    probe.committed(0, vec![firing(1)]).await;
    let mut other = probe.commit_of(0, 9, Vec::new());
    other.checkpoint.processor = "other".into();
    other.checkpoint.state = Vec::new();
    probe.store.commit(other).await.expect("another processor");
    probe.committed(1, vec![firing(2)]).await;
    let checkpoint = probe.store.checkpoint("other", probe.partition()).await.expect("succeeds");
    let checkpoint = checkpoint.expect("it committed");
    assert_eq!((checkpoint.sequence, checkpoint.fencing_token, checkpoint.state.len()), (1, 9, 0));
    assert_eq!(probe.store.checkpoint("tes", probe.partition()).await.expect("succeeds"), None);
}

/// Of processes that all believe to be next one commits, whatever their number.
pub(super) async fn commit_races_have_one_winner(probe: Probe) {
    probe.configured().await;
    for round in 0..8_u64 {
        let wins = Arc::new(AtomicUsize::new(0));
        let committer = |number: u64| -> BoxFuture<'static, ()> {
            let (probe, wins) = (probe.clone(), wins.clone());
            Box::pin(async move {
                let mut commit = rich(&probe, round, 1, u128::from(round * 8 + number + 1));
                commit.checkpoint.position = Position(u128::from(round * 8 + number + 1));
                match probe.store.commit(commit).await {
                    Ok(outcome) => {
                        assert_eq!(outcome, AlertCommitOutcome::Committed);
                        wins.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            })
        };
        let harness = probe.harness.clone();
        concurrently(move |task| harness.block_on(task), (0..8).map(committer).collect()).await;
        assert_eq!(wins.load(Ordering::Relaxed), 1, "one committer");
        let found = probe.found(&AlertQuery::default()).await;
        assert_eq!(found.len() as u64, round + 1, "the others left nothing");
        assert_eq!(probe.delivery_numbers().await, found);
        let position = probe.checkpoint().await.map(|checkpoint| checkpoint.position.0);
        assert_eq!(position, found.first().copied());
    }
}

/// A commit that returned is there, whole, after the store was closed and opened again.
pub(super) async fn commit_survives_reopening(probe: Probe) {
    probe.configured().await;
    probe.store.commit(rich(&probe, 0, 1, 1)).await.expect("commit succeeds");
    let expected = (probe.alert(1).await, probe.checkpoint().await);
    let Probe { harness, store, outbox, tenant } = probe;
    let Some((store, outbox)) = harness.reopen((store, outbox)).await else { return };
    let probe = Probe { harness, store, outbox, tenant };
    assert_eq!((probe.alert(1).await, probe.checkpoint().await), expected);
    assert_eq!(probe.delivery_numbers().await, [1]);
    probe.committed(1, vec![firing(2)]).await;
}
