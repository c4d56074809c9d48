//! A store that answers when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pulsestream::core::memory::MemoryEventStore;
use pulsestream::core::testkit::{EventStoreCall, Intercept, InterceptedEventStore, Interception};
use tokio::sync::watch;

/// The memory store behind a gate, for what requests ask and append.
pub(crate) type HeldStore = InterceptedEventStore<Gate>;

#[derive(Debug)]
pub(crate) struct Gate {
    held: watch::Sender<bool>,
    waiting: AtomicUsize,
}

pub(crate) fn held_store(inner: MemoryEventStore) -> HeldStore {
    let gate = Gate { held: watch::Sender::new(false), waiting: AtomicUsize::new(0) };
    InterceptedEventStore::around(Arc::new(inner), gate)
}

impl Gate {
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// Waits until so many calls wait.
    pub(crate) async fn waiting(&self, calls: usize) {
        while self.waiting.load(Ordering::SeqCst) < calls {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Intercept for Gate {
    async fn intercept(&self, call: EventStoreCall) -> Interception {
        use EventStoreCall::{Aggregate, Append, Find, Get};
        if matches!(call, Append | Get | Find | Aggregate) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let mut held = self.held.subscribe();
            // The sender lives as long as the store.
            let _ = held.wait_for(|held| !held).await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        Interception::Pass
    }
}
