//! Futures that are dropped at every await: what a client does that goes away.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{
    AppendOptions, DeleteSelection, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::query::{AggregateQuery, FindQuery, ScanQuery};
use pulsestream_core::time::TimeRange;
use pulsestream_postgres::{PostgresConfig, PostgresEventStore};

use crate::support::{config, connect, direct, event, fresh_schema, number, with_server};

/// Polls the inner future at most so often, then drops it.
struct DropAfter<F> {
    inner: Option<F>,
    polls_left: usize,
}

impl<F: Future + Unpin> Future for DropAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            self.inner = None;
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        let inner = self.inner.as_mut().expect("it is polled until it is dropped");
        Pin::new(inner).poll(context).map(Some)
    }
}

/// Runs the operation with every number of polls until it ends by itself.
async fn drop_at_every_await<T, F: Future<Output = T>>(mut operation: impl FnMut(usize) -> F) {
    for polls in 0..100 {
        let future = DropAfter { inner: Some(Box::pin(operation(polls))), polls_left: polls };
        if future.await.is_some() {
            return;
        }
    }
    panic!("the operation does not end");
}

async fn every_operation(store: &PostgresEventStore, tenant: TenantId) {
    let event_of = |number: usize| -> Vec<Event> { vec![event(&format!("dropped-{number}"), 1)] };
    drop_at_every_await(|polls| store.append(tenant, event_of(polls), AppendOptions::default())).await;
    let query = FindQuery { count_total: true, ..FindQuery::default() };
    drop_at_every_await(|_| store.find(tenant, &query)).await;
    let ids = [event("dropped-0", 1).id];
    drop_at_every_await(|_| store.get(tenant, &ids)).await;
    let question = AggregateQuery::default();
    drop_at_every_await(|_| store.aggregate(tenant, &question)).await;
    let scan = ScanQuery::default();
    drop_at_every_await(|_| async { store.scan(tenant, &scan).await.unwrap().next_batch().await }).await;
    drop_at_every_await(|_| store.tail(Partition::of(tenant), Position::START, TailOptions::default())).await;
    drop_at_every_await(|_| store.wait_for_events(Partition::of(tenant), Position::START)).await;
    drop_at_every_await(|_| store.check()).await;
    let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
    drop_at_every_await(|_| store.delete(tenant, &everything)).await;
}

#[test]
fn a_dropped_future_leaves_no_transaction_open() {
    with_server(|url| async move {
        let schema = fresh_schema();
        // The name tells its connections from those of other tests.
        let named = format!("{url}{}application_name={schema}", if url.contains('?') { '&' } else { '?' });
        let config = PostgresConfig { max_connections: 2, ..config(schema.clone()) };
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(3).connect(&named).await.unwrap();
        let postgres =
            pulsestream_postgres::Postgres::with_pool(pool, config, pulsestream_core::env::Env::system())
                .await
                .unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("dropped");
        let mut observer = direct(&url).await;
        for _ in 0..20 {
            every_operation(&store, tenant).await;
        }
        // What was dropped goes on in its task until it is done; then none is left inside a transaction.
        let open = format!(
            "select count(*) from pg_stat_activity where application_name = '{schema}' \
             and state like 'idle in transaction%' and state_change < clock_timestamp() - interval '200 ms'"
        );
        let busy = format!(
            "select count(*) from pg_stat_activity where application_name = '{schema}' and state <> 'idle'"
        );
        let settled = async {
            while number(&mut observer, &busy).await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut settled = pin!(settled);
        let _ = tokio::time::timeout(Duration::from_secs(10), settled.as_mut()).await;
        assert_eq!(number(&mut direct(&url).await, &open).await, 0);
        // And the pool still works.
        let outcomes = store.append(tenant, vec![event("after", 1)], AppendOptions::default()).await.unwrap();
        assert_eq!(crate::support::stored(&outcomes), 1);
    });
}

#[test]
fn a_dropped_append_is_done_or_not_done() {
    with_server(|url| async move {
        let store = connect(&url, config(fresh_schema())).await.event_store().await.unwrap();
        let tenant = TenantId::from_name("halves");
        for round in 0..20 {
            drop_at_every_await(|polls| {
                let batch = (0..50).map(|index| event(&format!("{round}-{polls}-{index}"), index)).collect();
                store.append(tenant, batch, AppendOptions::default())
            })
            .await;
        }
        // Appending again waits for what is under way, and makes every batch whole.
        let page = store.find(tenant, &FindQuery { limit: 100_000, ..FindQuery::default() }).await.unwrap();
        let mut sizes = std::collections::HashMap::new();
        for event in &page.events {
            let batch = event.id.as_str().rsplit_once('-').unwrap().0.to_owned();
            *sizes.entry(batch).or_insert(0) += 1;
        }
        assert!(sizes.values().all(|size| *size == 50), "{sizes:?}");
        assert!(!sizes.is_empty());
    });
}
