//! Nodes as processes of their own, which are killed and held up.
//!
//! This test program starts itself again for each node, with the variables below and the one test [`node`].

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pulsestream::core::alerting::{Alert, AlertState, PROCESSOR, TimelineKind};
use pulsestream::core::ports::alert_store::AlertQuery;
use pulsestream::core::ports::coordinator::Lease;
use pulsestream::core::ports::event_store::PARTITIONS;
use pulsestream::core::settings::Settings;
use pulsestream::prelude::*;
use pulsestream_testtools::{POSTGRES, PostgresServer, eventually_async, find_program, server_url};

use crate::server::joint;

const URL: &str = "PULSESTREAM_TEST_NODE_URL";
/// Shorter than in production, so that the test is.
const LEASE_TTL: Duration = Duration::from_secs(2);

/// A node: works until it is killed, or whoever started it is gone. Without the variables it is no test at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    let Ok(url) = std::env::var(URL) else { return };
    let mut settings = Settings::default();
    settings.alerting.lease_ttl = LEASE_TTL;
    let _ps = PulseStream::builder().with_settings(settings).open(&url).await.unwrap();
    // Until the test that started it is gone.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
}

/// A process that is killed with the test.
struct Node(Child);

impl Node {
    fn start(url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["nodes::node", "--exact"])
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The leases on partitions that have not ended.
async fn held(ps: &PulseStream) -> Vec<Lease> {
    ps.coordinator().leases(&format!("{PROCESSOR}/")).await.unwrap()
}

fn holders(leases: &[Lease]) -> BTreeSet<String> {
    leases.iter().map(|lease| lease.holder.to_string()).collect()
}

/// Waits until the leases are as wanted, and returns them with how long it took.
async fn until(what: &str, ps: &PulseStream, is_so: impl Fn(&[Lease]) -> bool) -> (Vec<Lease>, Duration) {
    let started = ps.env().monotonic();
    let elapsed = || ps.env().monotonic().saturating_sub(started);
    while elapsed() < Duration::from_secs(60) {
        let leases = held(ps).await;
        if is_so(&leases) {
            return (leases, elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}: {:?}", held(ps).await);
}

fn is_spread_over(nodes: usize) -> impl Fn(&[Lease]) -> bool {
    let most = usize::from(PARTITIONS).div_ceil(nodes);
    move |leases| {
        let holders = holders(leases);
        let count = |holder: &String| leases.iter().filter(|lease| lease.holder.as_str() == holder).count();
        leases.len() == usize::from(PARTITIONS)
            && holders.len() == nodes
            && holders.iter().all(|holder| count(holder) <= most)
    }
}

async fn alerts(tenant: &Tenant) -> Vec<Alert> {
    tenant.alerts().list(&AlertQuery::default()).await.unwrap().alerts
}

async fn fail_orders(tenant: &Tenant, name: &str) {
    for number in 0..3 {
        let id = EventId::new(format!("{name}-{number}")).unwrap();
        let mut event = Event::new(id, "order_failed", tenant.now());
        event.severity = Severity::Error;
        event.source.service = Some(name.into());
        tenant.ingest(event).await.unwrap();
    }
}

async fn until_alerts(tenant: &Tenant, count: usize) {
    eventually_async("the alerts are there", async || alerts(tenant).await.len() >= count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_a_node_that_dies_or_sleeps_moves_and_one_that_wakes_up_late_writes_nothing() {
    let (Some(program), Some(redis)) = (find_program(&POSTGRES), server_url("PULSESTREAM_TEST_REDIS_URL"))
    else {
        return;
    };
    let postgres = PostgresServer::start(&program, &[]).unwrap();
    let url = joint(&postgres.url(), &redis);
    // Looks and feeds; does not work itself.
    let observer = PulseStream::builder().without_background().open(&url).await.unwrap();
    let tenants: Vec<_> =
        (1..=8).map(|number| observer.tenant(TenantId::from_u128(number * 7_919))).collect();
    for tenant in &tenants {
        let rule = "count > 2 over 5m where severity >= 'error' by source.service";
        tenant.rules().create("Failing orders", rule, &["log"]).await.unwrap();
    }
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&url)).collect();
    until("three nodes share the partitions", &observer, is_spread_over(3)).await;
    for tenant in &tenants {
        fail_orders(tenant, "before").await;
    }
    for tenant in &tenants {
        until_alerts(tenant, 1).await;
    }

    // Killed: the others take over within two leases.
    let dead = nodes.pop().unwrap();
    drop(dead);
    let (_, moved) = until("two nodes share the partitions", &observer, is_spread_over(2)).await;
    assert!(moved < 5 * LEASE_TTL, "{moved:?}");
    for tenant in &tenants {
        fail_orders(tenant, "after-kill").await;
    }
    for tenant in &tenants {
        until_alerts(tenant, 2).await;
    }

    // Held up, not dead: it believes that it still works, and wakes up when another does.
    nodes[0].signal("-STOP");
    let before = held(&observer).await;
    let (after, _) = until("one node has all", &observer, is_spread_over(1)).await;
    let moved = after.iter().filter(|lease| {
        let earlier = before.iter().find(|earlier| earlier.resource == lease.resource);
        earlier.is_some_and(|earlier| earlier.fencing_token < lease.fencing_token)
    });
    assert!(moved.count() > 0, "tokens ascend with the holder");
    for tenant in &tenants {
        fail_orders(tenant, "while-asleep").await;
    }
    nodes[0].signal("-CONT");
    for tenant in &tenants {
        until_alerts(tenant, 3).await;
    }
    until("both share again", &observer, is_spread_over(2)).await;
    for tenant in &tenants {
        fail_orders(tenant, "at-the-end").await;
    }
    for tenant in &tenants {
        until_alerts(tenant, 4).await;
        // One episode for each group, whoever worked on it.
        let ids: BTreeSet<_> = alerts(tenant).await.iter().map(|alert| alert.fingerprint).collect();
        assert_eq!((ids.len(), alerts(tenant).await.len()), (4, 4));
        for alert in alerts(tenant).await {
            let timeline = tenant.alerts().timeline(alert.id).await.unwrap();
            let to_firing =
                |kind: &TimelineKind| matches!(kind, TimelineKind::Transition { to: AlertState::Firing, .. });
            let fired = timeline.iter().filter(|entry| to_firing(&entry.kind)).count();
            assert_eq!(fired, 1, "{timeline:?}");
        }
    }
    drop(nodes);
    observer.close().await.unwrap();
}
