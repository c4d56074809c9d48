//! What is kept for long enough goes by itself, on every store.

use std::sync::Arc;
use std::time::Duration;

use pulsestream::core::env::{Env, ManualClock, SystemEntropy};
use pulsestream::core::ports::alert_store::{AlertQuery, ConfigChangeQuery};
use pulsestream::core::ports::outbox::DeliveryCounts;
use pulsestream::core::time::Timestamp;
use pulsestream::prelude::*;
use pulsestream_testtools::server_url;

use crate::server::own_schema;
use crate::sets::until;

const DAY: Duration = Duration::from_secs(86_400);

/// Lets an alert come and go, and a year pass.
async fn come_and_go(url: &str) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
    let env = Env::new(clock.clone(), Arc::new(SystemEntropy));
    let ps = PulseStream::builder().with_env(env).open(url).await.unwrap();
    let shop = ps.tenant(TenantId::from_name("shop"));
    let rule = shop.rules().create("Failing orders", "count > 2 over 5m", &["log"]).await.unwrap();
    for number in 0..4 {
        let event = Event::new(EventId::from_u128(number), "order_failed", ps.env().now());
        shop.ingest(event).await.unwrap();
    }
    let alerts = async || {
        let page = ps.alert_store().alerts(shop.id(), &AlertQuery::default()).await;
        page.map(|page| page.alerts)
    };
    until("the alert", async || Ok(alerts().await?.pop())).await;
    // The window empties, and both messages have been grouped and sent.
    until("its end and the messages about it", async || {
        clock.advance(Duration::from_secs(60));
        let is_over = alerts().await?.iter().all(|alert| !alert.state.is_open());
        let counts = ps.outbox().counts(shop.id()).await?;
        Ok((is_over && counts.queued == 0 && counts.delivered > 0).then_some(()))
    })
    .await;

    clock.advance(31 * DAY);
    until("the end of the messages", async || {
        Ok((ps.outbox().counts(shop.id()).await? == DeliveryCounts::default()).then_some(()))
    })
    .await;
    assert_eq!(alerts().await.unwrap().len(), 1, "alerts are kept for 90 days");
    clock.advance(370 * DAY);
    until("the end of the rest", async || {
        let changes = ps.alerting().changes(shop.id(), &ConfigChangeQuery::default()).await?.changes;
        Ok((alerts().await?.is_empty() && changes.is_empty()).then_some(()))
    })
    .await;
    assert_eq!(shop.rules().get(rule.id).await.unwrap(), rule, "what is configured stays");
    ps.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_forgets_what_is_old() {
    come_and_go("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_forgets_what_is_old() {
    let folder = tempfile::tempdir().unwrap();
    come_and_go(&folder.path().join("events").display().to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_forgets_what_is_old() {
    let Some(postgres) = server_url("PULSESTREAM_TEST_POSTGRES_URL") else { return };
    come_and_go(&own_schema(&postgres)).await;
}
