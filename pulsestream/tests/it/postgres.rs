//! The same application on PostgreSQL and Redis.

use pulsestream::prelude::*;

/// Returns the URL of a test server; without one the test passes over loudly, and fails in CI.
fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set: run `cargo xtask test`");
        println!("PASSED OVER: {variable} is not set; run `cargo xtask test`");
    }
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_alerts_and_accounts_share_the_servers() {
    let (Some(postgres), Some(redis)) =
        (server("PULSESTREAM_TEST_POSTGRES_URL"), server("PULSESTREAM_TEST_REDIS_URL"))
    else {
        return;
    };
    let joint = if postgres.contains('?') { '&' } else { '?' };
    let url = format!("{postgres}{joint}redis={redis}");
    let first = PulseStream::open(&url).await.unwrap();
    let second = PulseStream::open(&url).await.unwrap();
    let tenant = TenantId::from_u128(first.env().uuid_v7().unwrap());
    let event = Event::new(EventId::new("e1").unwrap(), "order_placed", first.env().now());
    assert!(!first.tenant(tenant).ingest(event.clone()).await.unwrap().duplicate);
    assert!(second.tenant(tenant).ingest(event).await.unwrap().duplicate);
    let found = second.tenant(tenant).find(FindQuery::default()).await.unwrap();
    assert_eq!(found.events.len(), 1);
    let spent = |ps: PulseStream| async move {
        ps.ingest().rate_limit(tenant, Default::default()).await.unwrap().remaining
    };
    assert_eq!(spent(first.clone()).await, spent(second.clone()).await);
    first.close().await.unwrap();
    second.close().await.unwrap();
}
