//! What a case works with: a fresh store, a tenant, and changes to make in it.

use std::sync::Arc;
use std::time::Duration;

use super::AlertStoreHarness;
use crate::alerting::{
    Alert, AlertChange, AlertSeverity, AlertState, Author, Delivery, Fingerprint, Labels,
    NotificationContent, NotificationKind, Rule, RuleKind, Transition, TransitionReason,
};
use crate::id::{AlertId, ChannelId, DeliveryId, RuleId, TenantId};
use crate::ports::alert_store::{
    AlertCommit, AlertCommitOutcome, AlertQuery, AlertStore, CheckpointUpdate, PutMode, TenantAlertChanges,
};
use crate::ports::event_store::{Partition, Position};
use crate::ports::outbox::Outbox;
use crate::time::Timestamp;

/// A fresh store, its outbox, a tenant, and the harness they come from.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Opens stores.
    pub harness: Arc<dyn AlertStoreHarness>,
    /// The store under test.
    pub store: Arc<dyn AlertStore>,
    /// Where the deliveries of its commits are.
    pub outbox: Arc<dyn Outbox>,
    /// The tenant of the case.
    pub tenant: TenantId,
}

impl Probe {
    /// Opens a store for one case.
    pub async fn open(harness: Arc<dyn AlertStoreHarness>) -> Self {
        let ((store, outbox), tenant) = (harness.open().await, harness.tenant());
        Self { harness, store, outbox, tenant }
    }

    /// Returns another tenant in the same store.
    pub(super) fn stranger(&self) -> Self {
        Self { tenant: self.harness.tenant(), ..self.clone() }
    }

    pub(super) fn partition(&self) -> Partition {
        Partition::of(self.tenant)
    }

    /// Sees to it that the tenant has configuration: commits pass over those that have none.
    pub(super) async fn configured(&self) -> &Self {
        let routing = self.store.routing(self.tenant).await.expect("routing succeeds");
        if routing.version == 0 {
            let author = Author::new("ann", at(0));
            self.store
                .put_routing(self.tenant, routing, PutMode::Always, &author)
                .await
                .expect("put succeeds");
        }
        self
    }

    /// Commits changes as the step of the processor `test` after `after_sequence`.
    pub(super) async fn commit(
        &self,
        after_sequence: u64,
        alerts: Vec<AlertChange>,
    ) -> crate::error::Result<AlertCommitOutcome> {
        self.configured().await.store.commit(self.commit_of(after_sequence, 1, alerts)).await
    }

    /// Commits changes where nothing stands in the way.
    pub(super) async fn committed(&self, after_sequence: u64, alerts: Vec<AlertChange>) {
        let outcome = self.commit(after_sequence, alerts).await.expect("commit succeeds");
        assert_eq!(outcome, AlertCommitOutcome::Committed);
    }

    pub(super) fn commit_of(
        &self,
        after_sequence: u64,
        fencing_token: u64,
        alerts: Vec<AlertChange>,
    ) -> AlertCommit {
        let changes =
            TenantAlertChanges { tenant: self.tenant, alerts, timeline: Vec::new(), deliveries: Vec::new() };
        AlertCommit {
            checkpoint: CheckpointUpdate {
                processor: "test".into(),
                partition: self.partition(),
                fencing_token,
                after_sequence,
                position: Position(u128::from(10 * (after_sequence + 1))),
                state: format!("state {}", after_sequence + 1).into_bytes(),
            },
            changes: vec![changes],
        }
    }

    pub(super) async fn alert(&self, number: u128) -> Option<Alert> {
        self.store.alert(self.tenant, AlertId::from_u128(number)).await.expect("alert succeeds")
    }

    /// Returns the numbers of the alerts that a query finds, in its order.
    pub(super) async fn found(&self, query: &AlertQuery) -> Vec<u128> {
        let page = self.store.alerts(self.tenant, query).await.expect("alerts succeeds");
        page.alerts.iter().map(|alert| alert.id.as_u128()).collect()
    }
}

/// Returns a moment some seconds after the first.
pub(in crate::testkit) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_767_225_600 + seconds)
}

pub(super) fn rule(number: u128) -> Rule {
    let kind = RuleKind::Absence { window: Duration::from_secs(60) };
    let mut rule = Rule::new(RuleId::from_u128(number), format!("rule {number}"), kind);
    rule.created_at = at(i64::try_from(number).unwrap_or(0));
    rule
}

/// Returns a change of alert `number`, which is of rule `number % 3` and started at second `number`; it fires once it fired.
pub(super) fn change(
    number: u128,
    sequence: u32,
    from: Option<AlertState>,
    to: AlertState,
    seconds: i64,
) -> AlertChange {
    let started_at = at(i64::try_from(number).unwrap_or(0));
    let group: Labels = [("service".into(), format!("s{}", number % 2).into())].into();
    let has_fired = matches!(to, AlertState::Firing | AlertState::Recovering)
        || matches!(from, Some(AlertState::Firing | AlertState::Recovering));
    AlertChange {
        transition: Transition {
            alert: AlertId::from_u128(number),
            sequence,
            rule: RuleId::from_u128(number % 3),
            rule_version: 1,
            fingerprint: Fingerprint::of(&group),
            group: group.clone(),
            from,
            to,
            at: at(seconds),
            started_at,
            fired_at: has_fired.then_some(started_at),
            value: Some(f64::from(sequence) + 0.1),
            reason: TransitionReason::Condition,
            muted: None,
        },
        rule_name: format!("rule {}", number % 3).into(),
        severity: if number.is_multiple_of(2) { AlertSeverity::High } else { AlertSeverity::Low },
        labels: group,
        annotations: [("title".into(), "\u{1f525} it \"burns\"".into())].into(),
        summary: "count > 1 over 5m".into(),
        suppressed_by: None,
    }
}

pub(super) fn firing(number: u128) -> AlertChange {
    change(number, 1, None, AlertState::Firing, i64::try_from(number).unwrap_or(0))
}

pub(super) fn resolved(number: u128, seconds: i64) -> AlertChange {
    change(number, 2, Some(AlertState::Firing), AlertState::Resolved, seconds)
}

/// Returns a delivery that is due at some second.
pub(in crate::testkit) fn delivery(number: u128, channel: u128, due_seconds: i64) -> Delivery {
    let content = NotificationContent {
        kind: NotificationKind::Firing,
        title: "it burns".into(),
        message: "in the \"kitchen\"\n\u{1f525}".into(),
        group: Labels::new(),
        alerts: Vec::new(),
        omitted: 0,
    };
    let channel = ChannelId::from_u128(channel);
    let (created, due) = (at(i64::try_from(number).unwrap_or(0)), at(due_seconds));
    Delivery::new(DeliveryId::from_u128(number), channel, "ops".into(), content, created, due)
}
