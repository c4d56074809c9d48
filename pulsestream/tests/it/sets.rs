//! The same application on every set of stores.

use std::time::Duration;

use pulsestream::Result;
use pulsestream::core::alerting::{Alert, AlertState};
use pulsestream::core::ports::alert_store::AlertQuery;
use pulsestream::core::ports::cache::CacheOptions;
use pulsestream::core::ports::live_bus::{LiveMessage, LiveTopic};
use pulsestream::core::query::{AggregateQuery, Measure};
use pulsestream::prelude::*;

use crate::live::{id_of, next};
use crate::server::{joint, own_schema, servers};

fn event(id: &str, ps: &PulseStream) -> Event {
    let mut event = Event::new(EventId::new(id).unwrap(), "order_failed", ps.env().now());
    event.severity = Severity::Error;
    event
}

/// Waits until `ask` has an answer, for at most half a minute.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> T {
    for _ in 0..3_000 {
        if let Some(answer) = ask().await.unwrap() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

async fn count(tenant: &Tenant) -> Result<u64> {
    let query = AggregateQuery { measures: vec![Measure::Count], ..AggregateQuery::default() };
    let table = tenant.aggregate(query).await?;
    Ok(table
        .rows
        .first()
        .and_then(|row| row.values[0])
        .map_or(0, |count| format!("{count}").parse().unwrap()))
}

/// What an application may rely on, whatever is behind it: `first` and `second` are nodes on one set of stores.
async fn use_it(first: &PulseStream, second: &PulseStream) {
    let queued = first.ingest().queue().is_some();
    let tenant = TenantId::from_u128(first.env().uuid_v7().unwrap());
    let (here, there) = (first.tenant(tenant), second.tenant(tenant));
    let stranger = second.tenant(TenantId::from_u128(first.env().uuid_v7().unwrap()));
    here.rules()
        .create("Failing orders", "count > 2 over 5m where severity >= 'error'", &["log"])
        .await
        .unwrap();

    let mut feed = there.live().await.unwrap();

    // Events: stored once, found on both nodes, by nobody else.
    for id in ["e1", "e2", "e3", "e1"] {
        let accepted = here.ingest(event(id, first)).await.unwrap();
        assert_eq!(accepted.queued, queued);
    }
    let again = there.ingest(event("e2", second)).await.unwrap();
    assert_eq!((again.duplicate, again.queued), (!queued, queued));
    until("the events are stored", async || Ok((count(&there).await? == 3).then_some(()))).await;
    if queued {
        until("the queue is empty", async || {
            Ok((second.ingest().queue().unwrap().depth().await?.batches == 0).then_some(()))
        })
        .await;
    }
    assert_eq!(count(&there).await.unwrap(), 3, "each of them once");
    assert_eq!(there.find(FindQuery::default()).await.unwrap().events.len(), 3);
    assert_eq!(count(&stranger).await.unwrap(), 0);
    assert!(stranger.get(EventId::new("e1").unwrap()).await.unwrap().is_none());

    // One alert, whichever node made it, seen on both.
    let alerts = async |tenant: &Tenant| -> Result<Vec<Alert>> {
        Ok(tenant.alerts().list(&AlertQuery::default()).await?.alerts)
    };
    let alert = until("the alert fires", async || Ok(alerts(&there).await?.pop())).await;
    assert_eq!(alerts(&here).await.unwrap().iter().map(|alert| alert.id).collect::<Vec<_>>(), [alert.id]);
    assert!(alerts(&stranger).await.unwrap().is_empty());

    // What was stored and fired here was seen there as it happened.
    let mut seen = Vec::new();
    let mut fired = false;
    while seen.len() < 3 || !fired {
        let message = next(&mut feed).await;
        if message.as_ref().is_some_and(|message| message.topic == LiveTopic::Event) {
            seen.push(id_of(message));
        } else {
            let told: Alert = serde_json::from_str(&message.expect("an alert").body).unwrap();
            assert_eq!(told.id, alert.id);
            fired |= told.state == AlertState::Firing;
        }
    }
    seen.sort();
    assert_eq!(seen, ["e1", "e2", "e3"]);

    // Limits, cache and live messages reach the other node.
    let spent =
        async |ps: &PulseStream| ps.ingest().rate_limit(tenant, Default::default()).await.unwrap().remaining;
    assert!(spent(second).await <= 200 - 4, "{}", spent(second).await);
    let options = CacheOptions { ttl: Duration::from_secs(60), tags: &["t"] };
    first.cache().set(tenant, "key", b"value".to_vec(), options).await.unwrap();
    let mut heard = second.live_bus().subscribe(tenant).await.unwrap();
    until("a live message arrives", async || {
        let message = LiveMessage { topic: LiveTopic::Event, body: r#"{"id":"x"}"#.into() };
        first.live_bus().publish(tenant, vec![message]).await?;
        Ok(tokio::time::timeout(Duration::from_millis(200), heard.next()).await.ok())
    })
    .await
    .unwrap();
    let status = second.status().await;
    assert!(status.is_healthy(), "{status:?}");
    assert_eq!(status.components.iter().any(|component| component.name == "ingest_queue"), queued);
}

/// Whether the cache is one for all nodes, so that what one drops no other shows.
async fn share_a_cache(first: &PulseStream, second: &PulseStream) {
    let tenant = TenantId::from_u128(first.env().uuid_v7().unwrap());
    let options = CacheOptions { ttl: Duration::from_secs(60), tags: &["dashboard"] };
    first.cache().set(tenant, "overview", b"1".to_vec(), options).await.unwrap();
    assert_eq!(second.cache().get(tenant, "overview").await.unwrap().as_deref(), Some(&b"1"[..]));
    second.cache().invalidate(tenant, "dashboard").await.unwrap();
    assert_eq!(first.cache().get(tenant, "overview").await.unwrap(), None);
    let spent =
        async |ps: &PulseStream| ps.ingest().rate_limit(tenant, Default::default()).await.unwrap().remaining;
    first.tenant(tenant).ingest(event("limit", first)).await.unwrap();
    assert_eq!(spent(first).await, 199);
    assert_eq!(spent(second).await, 199);
}

async fn close(nodes: &[&PulseStream]) {
    for node in nodes {
        node.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_and_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["memory:".to_owned(), folder.path().join("events").display().to_string()] {
        let ps = PulseStream::open(&url).await.unwrap();
        use_it(&ps, &ps.clone()).await;
        close(&[&ps]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_with_redis() {
    let Some((_, redis)) = servers() else { return };
    for queue in ["", "&queue=redis"] {
        let ps = PulseStream::open(&format!("{}{queue}", joint("memory:", &redis))).await.unwrap();
        use_it(&ps, &ps.clone()).await;
        close(&[&ps]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_nodes_in_postgres() {
    let Some((postgres, _)) = servers() else { return };
    let url = own_schema(&postgres);
    let first = PulseStream::open(&url).await.unwrap();
    let second = PulseStream::open(&url).await.unwrap();
    use_it(&first, &first.clone()).await;
    let tenant = TenantId::from_name("shop");
    let mut feed = second.tenant(tenant).live().await.unwrap();
    first.tenant(tenant).ingest(event("e1", &first)).await.unwrap();
    assert_eq!(id_of(next(&mut feed).await), "e1", "stored on one node, seen on the other");
    close(&[&first, &second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_nodes_in_postgres_with_redis() {
    let Some((postgres, redis)) = servers() else { return };
    let url = joint(&own_schema(&postgres), &redis);
    let first = PulseStream::open(&url).await.unwrap();
    let second = PulseStream::open(&url).await.unwrap();
    use_it(&first, &second).await;
    share_a_cache(&first, &second).await;
    close(&[&first, &second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_nodes_with_a_queue_in_front() {
    let Some((postgres, redis)) = servers() else { return };
    let url = format!("{}&queue=redis", joint(&own_schema(&postgres), &redis));
    let first = PulseStream::open(&url).await.unwrap();
    let second = PulseStream::open(&url).await.unwrap();
    use_it(&first, &second).await;
    close(&[&first, &second]).await;
}
