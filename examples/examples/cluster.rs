//! Three nodes of one application on the same PostgreSQL and Redis: one of them dies, and its work moves to the others.
//!
//! The program starts itself three times as a node and watches from outside, as an operator would: which node has which
//! partitions, what the queue in Redis holds, which alerts fire. `cargo xtask services` prints the two variables it needs.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pulsestream::core::ports::alert_store::AlertQuery;
use pulsestream::core::settings::Settings;
use pulsestream::prelude::*;

/// So that the example is short; in production it is three times as long.
const LEASE_TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> pulsestream::Result<()> {
    if let (Some("node"), Some(url)) = (std::env::args().nth(1).as_deref(), std::env::args().nth(2)) {
        return node(&url).await;
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
    let servers = (variable("PULSESTREAM_TEST_POSTGRES_URL"), variable("PULSESTREAM_TEST_REDIS_URL"));
    let (Some(postgres), Some(redis)) = servers else {
        assert!(variable("CI").is_none(), "PostgreSQL and Redis are needed: run `cargo xtask test`");
        println!("NOT RUN: give PostgreSQL and Redis with the variables that `cargo xtask services` prints");
        return Ok(());
    };
    let joint = if postgres.contains('?') { '&' } else { '?' };
    let prefix = format!("cluster-{}", std::process::id());
    let url = format!("{postgres}{joint}redis={redis}&redis_prefix={prefix}&queue=redis");

    let mut nodes = [start(&url), start(&url), start(&url)];
    let outside = PulseStream::builder().without_background().open(&url).await?;
    let first = outside.env().uuid_v7()?;
    let shops: Vec<_> = (0..8).map(|number| outside.tenant(TenantId::from_u128(first + number))).collect();
    for shop in &shops {
        let rule = "count > 2 over 5m where severity >= 'error' by source.service";
        shop.rules().create("Failing orders", rule, &["log"]).await?;
    }
    let before =
        until(&outside, |holders| holders.len() >= nodes.len() && holders.values().sum::<usize>() == 16)
            .await?;
    println!("{} nodes share the 16 partitions: {}", before.len(), shares(&before));

    // The acknowledgement comes from the queue in Redis; whichever node takes the events from there stores them.
    fail_orders(&shops, "checkout").await?;
    alerts(&shops, 1).await?;
    println!("{} shops have an alert each", shops.len());

    let killed = outside.env().monotonic();
    let elapsed = || outside.env().monotonic().saturating_sub(killed).as_secs_f64();
    kill(&mut nodes[0]);
    println!("a node is killed");
    fail_orders(&shops, "payment").await?;
    let after = until(&outside, |holders| {
        holders.values().sum::<usize>() == 16
            && before.keys().filter(|holder| holders.contains_key(*holder)).count() == 2
    })
    .await?;
    println!("after {:.1} s the others have its partitions: {}", elapsed(), shares(&after));
    alerts(&shops, 2).await?;
    println!("{} shops have their second alert, {:.1} s after the kill", shops.len(), elapsed());

    // Nothing was lost, nothing is there twice, and nothing waits.
    for shop in &shops {
        assert_eq!(shop.find(FindQuery::default()).await?.events.len(), 6);
    }
    if let Some(queue) = outside.ingest().queue() {
        println!("{} batches wait in the queue", queue.depth().await?.batches);
    }
    nodes.iter_mut().for_each(kill);
    outside.close().await
}

/// A node of the application: the same program on every machine. It would serve requests; here it only works in the background.
async fn node(url: &str) -> pulsestream::Result<()> {
    let mut settings = Settings::default();
    settings.alerting.lease_ttl = LEASE_TTL;
    let ps = PulseStream::builder().with_settings(settings).open(url).await?;
    // Until the program that started it is gone.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    ps.close().await
}

fn start(url: &str) -> Child {
    let program = std::env::current_exe().expect("a running program has a path");
    Command::new(program)
        .args(["node", url])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program starts once more")
}

fn kill(node: &mut Child) {
    // One that is dead already is as good.
    let _ = node.kill();
    let _ = node.wait();
}

async fn fail_orders(shops: &[Tenant], service: &str) -> pulsestream::Result<()> {
    for shop in shops {
        for number in 0..3 {
            let mut event =
                Event::new(EventId::new(format!("{service}-{number}"))?, "order_failed", shop.now());
            event.severity = Severity::Error;
            event.source.service = Some(service.into());
            shop.ingest(event).await?;
        }
    }
    Ok(())
}

/// Waits until every shop has so many alerts.
async fn alerts(shops: &[Tenant], count: usize) -> pulsestream::Result<()> {
    for shop in shops {
        while shop.alerts().list(&AlertQuery::default()).await?.alerts.len() < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Waits until the partitions are held as wanted, and returns how many each node has.
async fn until(
    ps: &PulseStream,
    is_so: impl Fn(&BTreeMap<String, usize>) -> bool,
) -> pulsestream::Result<BTreeMap<String, usize>> {
    loop {
        let mut holders = BTreeMap::new();
        for lease in ps.coordinator().leases("alerting/").await? {
            *holders.entry(lease.holder.to_string()).or_default() += 1;
        }
        if is_so(&holders) {
            return Ok(holders);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn shares(holders: &BTreeMap<String, usize>) -> String {
    holders.values().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
}
