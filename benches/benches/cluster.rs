//! One node beside three, on the same PostgreSQL and Redis under the same total load: what sharing costs.
//!
//! ```sh
//! cargo xtask services   # prints the variables to export
//! cargo bench -p pulsestream-benches --bench cluster
//! ```
//!
//! 48 callers send single events of 64 tenants, each with a rule, so that every partition has work. One node and three take turns on
//! one machine, each first as often as the other, because the server slows down while the tables grow. Three nodes share the
//! connections that one node has, as an operator divides those of a server. The median of each is reported, with the partitions that
//! each node held.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends at the first error and prints its table"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsestream::{PulseStream, Tenant, Unlimited};
use pulsestream_benches::servers::{median, postgres_url, redis_url, spread_id, units_per_second};
use pulsestream_core::alerting::PROCESSOR;
use pulsestream_core::event::{Event, Severity};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::PARTITIONS;
use pulsestream_postgres::PostgresConfig;

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 6;
const CALLERS: usize = 48;
/// Connections to PostgreSQL of all nodes together.
const CONNECTIONS: u32 = 18;
const TENANTS: u128 = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

fn event(ps: &PulseStream) -> Event {
    let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let mut event = Event::new(EventId::from_u128(spread_id(number)), "api_call", ps.env().now());
    event.severity = if number.is_multiple_of(50) { Severity::Error } else { Severity::Info };
    event.title = Some("GET /api/v1/orders/{id}".into());
    event.source.service = Some("checkout".into());
    event.metrics.response_time_ms = Some(12.5);
    event
}

/// Single events a second with the callers spread over the nodes.
async fn rate(nodes: &[PulseStream], tenants: &[TenantId]) -> f64 {
    units_per_second(ROUND, CALLERS, |caller| {
        let ps = nodes[caller % nodes.len()].clone();
        let tenants: Vec<Tenant> = tenants.iter().map(|tenant| ps.tenant(*tenant)).collect();
        let mut next = caller;
        move || {
            let (tenant, event) = (tenants[next % tenants.len()].clone(), event(&ps));
            next += 1;
            async move {
                tenant.ingest(event).await.unwrap();
                1
            }
        }
    })
    .await
}

/// Opens so many nodes and waits until they share the partitions evenly; returns how many each has.
async fn open(url: &str, count: usize) -> (Vec<PulseStream>, Vec<usize>) {
    let mut nodes = Vec::new();
    let own = CONNECTIONS / u32::try_from(count).unwrap();
    let config = PostgresConfig { max_connections: own, ..PostgresConfig::default() };
    for _ in 0..count {
        let builder = PulseStream::builder().with_rate_limiter(Arc::new(Unlimited));
        nodes.push(builder.with_postgres_config(config.clone()).open(url).await.unwrap());
    }
    let most = usize::from(PARTITIONS).div_ceil(count);
    loop {
        let mut shares = BTreeMap::new();
        for lease in nodes[0].coordinator().leases(&format!("{PROCESSOR}/")).await.unwrap() {
            *shares.entry(lease.holder).or_insert(0) += 1;
        }
        let shares: Vec<usize> = shares.into_values().collect();
        let is_even = shares.len() == count && shares.iter().all(|share| *share <= most);
        if is_even && shares.iter().sum::<usize>() == usize::from(PARTITIONS) {
            return (nodes, shares);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::main]
async fn main() {
    let (Some(postgres), Some(redis)) = (postgres_url(), redis_url()) else { return };
    let url = format!("{postgres}?redis={redis}&redis_prefix=bench-{}", std::process::id());
    let outside = PulseStream::builder().without_background().open(&url).await.unwrap();
    let first = outside.env().uuid_v7().unwrap();
    let tenants: Vec<TenantId> =
        (0..TENANTS).map(|number| TenantId::from_u128(first + (number << 32))).collect();
    for tenant in &tenants {
        let rule = "count > 1000000 over 5m where severity >= 'error' by source.service";
        outside.tenant(*tenant).rules().create("Many errors", rule, &["log"]).await.unwrap();
    }
    let (mut one, mut three, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for count in if round % 2 == 0 { [1, 3] } else { [3, 1] } {
            let (nodes, held) = open(&url, count).await;
            let rate = rate(&nodes, &tenants).await;
            for node in nodes {
                node.close().await.unwrap();
            }
            if count == 1 {
                one.push(rate);
            } else {
                three.push(rate);
                shares = held;
            }
        }
    }
    let (one, three) = (median(one), median(three));
    println!(
        "one node {one:.0}/s, three nodes {three:.0}/s: {:.2}x; partitions of the three: {shares:?}",
        three / one
    );
    outside.close().await.unwrap();
}
