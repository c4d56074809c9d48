//! What a case works with: a fresh outbox, a tenant, and shorthands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::OutboxHarness;
use crate::alerting::Delivery;
use crate::id::{DeliveryId, TenantId};
use crate::ports::notifier::{DeliveryOutcome, DeliveryReport};
use crate::ports::outbox::{
    AttemptRecord, DeliveryAttempt, Disposition, LeaseOptions, LeasedDelivery, Outbox, RecordOutcome,
};
use crate::testkit::alert_store::at;

/// A fresh outbox, a tenant, and the harness they come from.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Opens outboxes.
    pub harness: Arc<dyn OutboxHarness>,
    /// The outbox under test.
    pub outbox: Arc<dyn Outbox>,
    /// The tenant of the case.
    pub tenant: TenantId,
}

impl Probe {
    /// Opens an outbox for one case.
    pub async fn open(harness: Arc<dyn OutboxHarness>) -> Self {
        let (outbox, tenant) = (harness.open().await, harness.tenant());
        Self { harness, outbox, tenant }
    }

    /// Returns another tenant in the same outbox.
    pub(super) fn stranger(&self) -> Self {
        Self { tenant: self.harness.tenant(), ..self.clone() }
    }

    pub(super) async fn enqueue(&self, deliveries: Vec<Delivery>) -> usize {
        self.outbox.enqueue(self.tenant, deliveries).await.expect("enqueue succeeds")
    }

    /// Leases for a minute, at some second, up to ten at a time for each channel.
    pub(super) async fn lease(&self, holder: &str, seconds: i64, limit: usize) -> Vec<LeasedDelivery> {
        let options = LeaseOptions { limit, ..lease_options(holder, seconds) };
        self.outbox.lease(&options).await.expect("lease succeeds")
    }

    /// Leases the one delivery that is due.
    pub(super) async fn lease_one(&self, holder: &str, seconds: i64) -> LeasedDelivery {
        let mut leased = self.lease(holder, seconds, 10).await;
        assert_eq!(leased.len(), 1, "one is due: {leased:?}");
        leased.remove(0)
    }

    pub(super) async fn record(
        &self,
        leased: &LeasedDelivery,
        seconds: i64,
        disposition: Disposition,
        report: Option<DeliveryReport>,
    ) -> RecordOutcome {
        let record = AttemptRecord {
            tenant: leased.tenant,
            delivery: leased.delivery.id,
            lease_token: leased.lease_token,
            at: at(seconds),
            disposition,
            report,
        };
        let outcomes = self.outbox.record(vec![record]).await.expect("record succeeds");
        assert_eq!(outcomes.len(), 1, "one outcome for each record");
        outcomes[0]
    }

    /// Reads a delivery that must be there.
    pub(super) async fn read(&self, number: u128) -> (Delivery, Vec<DeliveryAttempt>) {
        let id = DeliveryId::from_u128(number);
        let found = self.outbox.delivery(self.tenant, id).await.expect("delivery succeeds");
        found.expect("the delivery is there")
    }
}

pub(super) fn lease_options(holder: &str, seconds: i64) -> LeaseOptions {
    LeaseOptions {
        holder: holder.into(),
        now: at(seconds),
        limit: 10,
        ttl: Duration::from_secs(60),
        max_per_channel: 10,
        full: BTreeSet::new(),
    }
}

pub(super) fn delivered() -> DeliveryReport {
    DeliveryReport {
        outcome: DeliveryOutcome::Delivered,
        request: "POST https://example.com/hook".into(),
        response: Some("200 OK".into()),
        status_code: Some(200),
        latency: Duration::from_millis(12),
    }
}

pub(super) fn failed(error: &str) -> DeliveryReport {
    let outcome = DeliveryOutcome::RetryAfter { after: Some(Duration::from_secs(7)), error: error.into() };
    DeliveryReport { outcome, response: None, status_code: Some(503), ..delivered() }
}

pub(super) fn numbers(leased: &[LeasedDelivery]) -> Vec<u128> {
    leased.iter().map(|leased| leased.delivery.id.as_u128()).collect()
}
