//! The default store: a folder.

use pulsestream::ErrorKind;
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
