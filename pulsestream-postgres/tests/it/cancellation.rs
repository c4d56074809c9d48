//! Futures that are dropped at every await: what a client does that goes away.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::FindQuery;

use crate::support::{config, connect, event, fresh_schema, with_server};

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
pub(crate) async fn drop_at_every_await<T, F: Future<Output = T>>(mut operation: impl FnMut(usize) -> F) {
    for polls in 0..100 {
        let future = DropAfter { inner: Some(Box::pin(operation(polls))), polls_left: polls };
        if future.await.is_some() {
            return;
        }
    }
    panic!("the operation does not end");
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
