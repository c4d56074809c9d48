//! The default store: a folder.

use std::collections::BTreeSet;
use std::time::Duration;

use pulsestream::ErrorKind;
use pulsestream::core::alerting::{Delivery, Labels, NotificationContent, NotificationKind};
use pulsestream::core::id::{ChannelId, DeliveryId};
use pulsestream::core::ports::outbox::LeaseOptions;
use pulsestream::prelude::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("events").display().to_string();
    let tenant = TenantId::from_name("shop");
    let ps = PulseStream::open(&url).await.unwrap();
    let event = Event::new(EventId::new("e1").unwrap(), "order_placed", ps.env().now());
    assert!(!ps.tenant(tenant).ingest(event.clone()).await.unwrap().duplicate);
    let second = PulseStream::open(&url).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::StoreLocked);
    ps.close().await.unwrap();

    let ps = PulseStream::open(&url).await.unwrap();
    assert!(ps.tenant(tenant).ingest(event).await.unwrap().duplicate);
    let found = ps.tenant(tenant).find(FindQuery::default()).await.unwrap();
    assert_eq!(found.events.len(), 1);
    ps.close().await.unwrap();
    let refused = ps.tenant(tenant).find(FindQuery::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_has_events_and_accounts() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let ps = PulseStream::open(&place("events").display().to_string()).await.unwrap();
    let tenant = TenantId::from_name("shop");
    let event = Event::new(EventId::new("e1").unwrap(), "order_placed", ps.env().now());
    ps.tenant(tenant).ingest(event.clone()).await.unwrap();
    let rule = ps.tenant(tenant).rules().create("Many", "count > 3 over 5m", &["log"]).await.unwrap();
    let backup = ps.backup(place("copy"), |_| {}).await.unwrap();
    assert_eq!(backup.events, 1);
    assert_eq!(ps.backup(place("copy"), |_| {}).await.unwrap_err().kind(), ErrorKind::Conflict);
    ps.close().await.unwrap();

    let ps = PulseStream::open(&place("copy").display().to_string()).await.unwrap();
    assert!(ps.tenant(tenant).ingest(event).await.unwrap().duplicate);
    assert_eq!(ps.tenant(tenant).rules().get(rule.id).await.unwrap(), rule);
    ps.close().await.unwrap();

    let memory = PulseStream::open("memory:").await.unwrap();
    assert_eq!(memory.backup(place("other"), |_| {}).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(!place("other").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_process_held_is_free_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("events").display().to_string();
    let open = || PulseStream::builder().without_background().open(&url);
    let (tenant, hour) = (TenantId::from_name("shop"), Duration::from_secs(3_600));
    let ps = open().await.unwrap();
    let now = ps.env().now();
    let lease = ps.coordinator().acquire("alerting/7", "a process that dies", hour).await.unwrap().unwrap();
    let content = NotificationContent {
        kind: NotificationKind::Test,
        title: "a test".into(),
        message: "a test".into(),
        group: Labels::default(),
        alerts: Vec::new(),
        omitted: 0,
    };
    let (id, channel) = (DeliveryId::from_u128(1), ChannelId::from_u128(1));
    let delivery = Delivery::new(id, channel, "ops".into(), content, now, now);
    ps.outbox().enqueue(tenant, vec![delivery]).await.unwrap();
    let options = LeaseOptions {
        holder: "a process".into(),
        now,
        limit: 9,
        ttl: hour,
        max_per_channel: 1,
        full: BTreeSet::new(),
    };
    let held = ps.outbox().lease(&options).await.unwrap().remove(0);
    // It gives nothing back, as if it had been killed; only the lock of the folder goes with it.
    ps.close().await.unwrap();

    let ps = open().await.unwrap();
    let taken = ps.coordinator().acquire("alerting/7", "the next process", hour).await.unwrap().unwrap();
    assert!(taken.fencing_token > lease.fencing_token, "whoever wakes up late is still kept out");
    let again = ps.outbox().lease(&options).await.unwrap().remove(0);
    assert_eq!(again.delivery.id, held.delivery.id);
    assert!(again.lease_token > held.lease_token);
    ps.close().await.unwrap();
}

#[tokio::test]
async fn a_folder_is_used_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("events").display().to_string();
    let config = pulsestream::EmbeddedConfig { batch_bytes: 100, ..Default::default() };
    let ps = PulseStream::builder().with_embedded_config(config.clone()).open(&url).await.unwrap();
    let mut event = Event::new(EventId::new("e1").unwrap(), "order_placed", ps.env().now());
    event.message = Some("x".repeat(200).into());
    let refused = ps.tenant(TenantId::from_name("shop")).ingest(event).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    ps.close().await.unwrap();
    let wrong = pulsestream::EmbeddedConfig { query_threads: 0, ..config };
    let refused = PulseStream::builder().with_embedded_config(wrong).open(&url).await.unwrap_err();
    assert_eq!(refused.fields()[0].pointer, "/query_threads");
}
