//! Deadlines and retries as an application asks for them.

use std::sync::Arc;
use std::time::Duration;

use pulsestream::ErrorKind;
use pulsestream::core::layers::{RetrySettings, TimeoutSettings};
use pulsestream::core::memory::MemoryEventStore;
use pulsestream::core::testkit::FlakyEventStore;
use pulsestream::prelude::*;

/// Time passes at once while nothing else happens, so nobody waits for the pauses.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_now_and_then_is_asked_again() {
    let store = || Arc::new(FlakyEventStore::new(Arc::new(MemoryEventStore::new()), 3));
    let tenant = TenantId::from_name("shop");
    let builder = || PulseStream::builder().without_background().with_event_store(store());
    let ps = builder().open("memory:").await.unwrap();
    let event = || Event::new(EventId::new("e1").unwrap(), "order_placed", ps.env().now());
    assert_eq!(ps.tenant(tenant).ingest(event()).await.unwrap_err().kind(), ErrorKind::Unavailable);

    let layered = builder().with_retries(RetrySettings::default()).with_timeouts(TimeoutSettings::default());
    let ps = layered.open("memory:").await.unwrap();
    let started = tokio::time::Instant::now();
    ps.tenant(tenant).ingest(event()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(150), "it paused twice: {:?}", started.elapsed());
    assert_eq!(ps.tenant(tenant).find(FindQuery::default()).await.unwrap().events.len(), 1);
    ps.close().await.unwrap();

    let refused = builder().with_retries(RetrySettings { attempts: 0, ..RetrySettings::default() });
    assert_eq!(refused.open("memory:").await.unwrap_err().kind(), ErrorKind::Invalid);
}
