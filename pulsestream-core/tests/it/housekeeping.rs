//! What is old goes, a batch at a time, and one process of all does it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::alerting::{
    Author, Delivery, Labels, NotificationContent, NotificationKind, Rule, RuleKind,
};
use pulsestream_core::at_rest::{
    KeyValueAlertStore, KeyValueCoordinator, KeyValueIdentityStore, KeyValueOutbox,
};
use pulsestream_core::auth::AuthService;
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::housekeeping::{Housekeeper, HousekeeperParts, Swept};
use pulsestream_core::id::{ChannelId, DeliveryId, RuleId, TenantId};
use pulsestream_core::memory::MemoryKeyValue;
use pulsestream_core::ports::alert_store::{AlertStore, ConfigChangeQuery, PutMode};
use pulsestream_core::ports::outbox::{AttemptRecord, Disposition, LeaseOptions, Outbox};
use pulsestream_core::settings::HousekeepingSettings;
use pulsestream_core::time::Timestamp;

const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

struct World {
    env: Env,
    clock: Arc<ManualClock>,
    store: Arc<MemoryKeyValue>,
    alerts: Arc<KeyValueAlertStore>,
    outbox: Arc<KeyValueOutbox>,
}

impl World {
    fn new() -> Self {
        let (env, clock) = Env::manual(START, 1);
        let store = Arc::new(MemoryKeyValue::new());
        let alerts = Arc::new(KeyValueAlertStore::new(store.clone()));
        let outbox = Arc::new(KeyValueOutbox::new(store.clone()));
        Self { env, clock, store, alerts, outbox }
    }

    async fn node(&self, holder: &str, batch: usize) -> Housekeeper {
        let identities = Arc::new(KeyValueIdentityStore::new(self.store.clone(), false));
        let accounts = AuthService::builder(self.env.clone(), identities.clone()).open().await.unwrap();
        let parts = HousekeeperParts {
            alerts: self.alerts.clone(),
            outbox: self.outbox.clone(),
            identities,
            accounts,
            coordinator: Arc::new(KeyValueCoordinator::new(self.store.clone(), self.env.clone())),
            env: self.env.clone(),
            holder: holder.into(),
        };
        Housekeeper::new(parts, HousekeepingSettings { batch, ..HousekeepingSettings::default() })
    }

    /// Makes so many entries in the log of changes.
    async fn change(&self, tenant: u128, times: u128) {
        for number in 1..=times {
            let rule = Rule::new(
                RuleId::from_u128(number),
                format!("rule {number}"),
                RuleKind::Absence { window: Duration::from_secs(60) },
            );
            let author = Author::server(self.env.now());
            self.alerts.put_rule(TenantId::from_u128(tenant), rule, PutMode::Always, &author).await.unwrap();
        }
    }

    async fn deliver(&self, tenant: u128, number: u128) {
        let (tenant, now) = (TenantId::from_u128(tenant), self.env.now());
        let content = NotificationContent {
            kind: NotificationKind::Test,
            title: "a test".into(),
            message: "a test".into(),
            group: Labels::default(),
            alerts: Vec::new(),
            omitted: 0,
        };
        let (id, channel) = (DeliveryId::from_u128(number), ChannelId::from_u128(1));
        let delivery = Delivery::new(id, channel, "ops".into(), content, now, now);
        self.outbox.enqueue(tenant, vec![delivery]).await.unwrap();
        let options = LeaseOptions {
            holder: "a".into(),
            now,
            limit: 1,
            ttl: DAY,
            max_per_channel: 9,
            full: BTreeSet::new(),
        };
        let leased = self.outbox.lease(&options).await.unwrap().remove(0);
        let record = AttemptRecord {
            tenant,
            delivery: leased.delivery.id,
            lease_token: leased.lease_token,
            at: now,
            disposition: Disposition::Delivered,
            report: None,
        };
        self.outbox.record(vec![record]).await.unwrap();
    }
}

/// Goes on to the end of a round and returns what each step deleted.
async fn round(node: &mut Housekeeper) -> Vec<Swept> {
    let mut swept = Vec::new();
    loop {
        let outcome = node.step().await.unwrap();
        swept.push(outcome.swept);
        if !outcome.has_more {
            return swept;
        }
    }
}

fn changes(swept: &[Swept]) -> Vec<u64> {
    swept.iter().map(|step| step.changes).collect()
}

#[tokio::test]
async fn who_has_much_to_delete_comes_again_after_the_others() {
    let world = World::new();
    world.change(1, 5).await;
    world.change(2, 1).await;
    world.clock.advance(401 * DAY);
    world.change(2, 1).await;
    let mut node = world.node("a", 2).await;
    assert_eq!(changes(&round(&mut node).await), [0, 2, 1, 2, 1], "the first step finds the tenants");
    let kept = world.alerts.changes(TenantId::from_u128(2), &ConfigChangeQuery::default()).await.unwrap();
    assert_eq!(kept.changes.len(), 1, "what is younger stays");
    assert_eq!(world.alerts.rules(TenantId::from_u128(1), &Default::default()).await.unwrap().total, 5);
    assert_eq!(round(&mut node).await, [Swept::default()], "the next round is not due");
    world.clock.advance(DAY);
    assert_eq!(changes(&round(&mut node).await), [0, 0, 0], "nothing is left");
}

#[tokio::test]
async fn each_kind_has_its_own_time() {
    let world = World::new();
    world.change(1, 1).await;
    world.deliver(1, 1).await;
    world.clock.advance(31 * DAY);
    world.deliver(1, 2).await;
    let mut node = world.node("a", 500).await;
    let swept = round(&mut node).await;
    assert_eq!(swept, [Swept::default(), Swept { deliveries: 1, ..Swept::default() }]);
    assert_eq!(world.outbox.counts(TenantId::from_u128(1)).await.unwrap().delivered, 1);
}

#[tokio::test]
async fn one_process_of_all_goes_round_and_another_takes_over() {
    let world = World::new();
    world.change(1, 3).await;
    world.clock.advance(401 * DAY);
    let (mut first, mut second) = (world.node("a", 1).await, world.node("b", 1).await);
    assert!(first.step().await.unwrap().has_more);
    assert_eq!(changes(&[first.step().await.unwrap().swept]), [1]);
    let outcome = second.step().await.unwrap();
    assert!(!outcome.has_more, "the first one is at it");
    assert!(outcome.next_due > world.env.now(), "and the second does not ask all the time");
    // The first one dies in the middle of its round.
    drop(first);
    world.clock.advance(Duration::from_secs(3_600));
    assert_eq!(changes(&round(&mut second).await), [0, 1, 1, 0]);
}
