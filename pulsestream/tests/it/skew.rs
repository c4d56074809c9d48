//! Nodes whose clocks differ.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pulsestream::core::alerting::{Alert, AlertState, ChannelRef, PROCESSOR, Rule, RuleExpression};
use pulsestream::core::env::{Clock, Env, SystemClock, SystemEntropy};
use pulsestream::core::id::RuleId;
use pulsestream::core::ports::alert_store::AlertQuery;
use pulsestream::core::ports::event_store::PARTITIONS;
use pulsestream::core::time::Timestamp;
use pulsestream::prelude::*;
use pulsestream_testtools::eventually_async;

use crate::forward::Forward;
use crate::server::{own_schema, servers};

/// The system's clock, ahead by a fixed time.
#[derive(Debug)]
struct Ahead(SystemClock, Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().plus(self.1)
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

struct Cluster {
    url: String,
    forward: Arc<Forward>,
}

impl Cluster {
    async fn node(&self, ahead: Duration) -> PulseStream {
        PulseStream::builder()
            .with_env(Env::new(Arc::new(Ahead(SystemClock::new(), ahead)), Arc::new(SystemEntropy)))
            .with_notifier(self.forward.clone())
            .with_server_channel(Forward::channel(1, "pager"))
            .open(&self.url)
            .await
            .unwrap()
    }
}

async fn is_shared_by(ps: &PulseStream, nodes: usize) -> bool {
    let leases = ps.coordinator().leases(&format!("{PROCESSOR}/")).await.unwrap();
    let holders: BTreeSet<_> = leases.iter().map(|lease| lease.holder.clone()).collect();
    let most = usize::from(PARTITIONS).div_ceil(nodes);
    let count = |holder| leases.iter().filter(|lease| lease.holder == holder).count();
    leases.len() == usize::from(PARTITIONS)
        && holders.len() == nodes
        && holders.into_iter().all(|holder| count(holder) <= most)
}

async fn alerts(tenant: &Tenant) -> Vec<Alert> {
    tenant.alerts().list(&AlertQuery::default()).await.unwrap().alerts
}

/// Sends three events that fail through this node, under its own time.
async fn fail(ps: &PulseStream, tenant: TenantId, service: &str) {
    let tenant = ps.tenant(tenant);
    for number in 0..3 {
        let id = EventId::new(format!("{service}-{number}")).unwrap();
        let mut event = Event::new(id, "order_failed", tenant.now());
        event.source.service = Some(service.into());
        tenant.ingest(event).await.unwrap();
    }
}

/// What must hold when the clocks of two nodes are so far apart. `once` says whether each notification is sent once; otherwise some are
/// sent again under the same id, because one node takes what the other is sending for abandoned.
async fn nodes_that_are_apart(apart: Duration, once: bool) {
    let Some((postgres, _)) = servers() else { return };
    let (forward, mut notifications) = Forward::new();
    let cluster = Cluster { url: own_schema(&postgres), forward };
    let (slow, fast) = (cluster.node(Duration::ZERO).await, cluster.node(apart).await);
    eventually_async("both share the partitions", async || is_shared_by(&slow, 2).await).await;
    let tenants: Vec<TenantId> = (1..=6).map(|number| TenantId::from_u128(number * 7_919)).collect();
    for tenant in &tenants {
        let expression: RuleExpression = "count > 2 over 5m by source.service".parse().unwrap();
        let mut rule = Rule::new(RuleId::from_u128(1), "failing orders", expression.kind.clone());
        expression.apply_to(&mut rule);
        rule.channels = vec![ChannelRef::new("pager")];
        rule.notify_at_once = true;
        slow.tenant(*tenant).rules().put(rule).await.unwrap();
    }
    let mut told = BTreeSet::new();
    let mut expect = async |services: &[&str], ps: &PulseStream| {
        let wanted = tenants.len() * services.len();
        for tenant in &tenants {
            let tenant = ps.tenant(*tenant);
            eventually_async("the alerts fire", async || {
                let alerts = alerts(&tenant).await;
                let firing = alerts.iter().filter(|alert| alert.state == AlertState::Firing);
                firing.count() == services.len()
            })
            .await;
            assert_eq!(alerts(&tenant).await.len(), services.len(), "one episode for each service");
        }
        while told.len() < wanted {
            let notification = notifications.recv().await.unwrap();
            let is_new = told.insert(notification.delivery.id);
            assert!(is_new || !once, "each notification once");
        }
    };
    for tenant in &tenants {
        fail(&slow, *tenant, "by-slow").await;
        fail(&fast, *tenant, "by-fast").await;
    }
    expect(&["by-slow", "by-fast"], &slow).await;
    // The partitions of one go to the other, whose clock is behind.
    fast.close().await.unwrap();
    eventually_async("one has all partitions", async || is_shared_by(&slow, 1).await).await;
    for tenant in &tenants {
        fail(&slow, *tenant, "afterwards").await;
    }
    expect(&["by-slow", "by-fast", "afterwards"], &slow).await;
    slow.close().await.unwrap();
    while let Ok(again) = notifications.try_recv() {
        assert!(!once && told.contains(&again.delivery.id), "nothing is sent that was not expected");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_by_seconds_change_nothing() {
    nodes_that_are_apart(Duration::from_secs(4), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_by_minutes_repeat_notifications_and_nothing_else() {
    nodes_that_are_apart(Duration::from_secs(120), false).await;
}
