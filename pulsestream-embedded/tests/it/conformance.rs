//! The conformance suite, over fresh events, over segments, and while both change all the time.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::env::Env;
use pulsestream_core::layers::{RetryLayer, RetrySettings, TimeoutLayer, TimeoutSettings};
use pulsestream_core::ports::event_store::{Durability, EventStore};
use pulsestream_core::testkit::event_store::EventStoreHarness;
use pulsestream_core::testkit::{FlakyEventStore, TestTimer};
use pulsestream_embedded::storage::SimFs;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// Opens stores in simulated folders, which are fast and leave nothing behind.
#[derive(Debug)]
struct Simulated {
    config: EmbeddedConfig,
    folders: std::sync::Mutex<Vec<(usize, SimFs)>>,
}

impl Simulated {
    fn new(config: EmbeddedConfig) -> Self {
        Self { config, folders: std::sync::Mutex::default() }
    }

    fn open_in(&self, folder: SimFs) -> Arc<dyn EventStore> {
        let store =
            EmbeddedStore::open_storage(Arc::new(folder.clone()), self.config.clone(), Env::system(), true)
                .unwrap();
        let store: Arc<dyn EventStore> = Arc::new(store);
        self.folders.lock().unwrap().push((address(&store), folder));
        store
    }
}

fn address(store: &Arc<dyn EventStore>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

#[async_trait]
impl EventStoreHarness for Simulated {
    async fn open(&self) -> Arc<dyn EventStore> {
        self.open_in(SimFs::new())
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        store.close().await.unwrap();
        let folder = {
            let folders = self.folders.lock().unwrap();
            folders.iter().rev().find(|(known, _)| *known == address(&store))?.1.clone()
        };
        drop(store);
        Some(self.open_in(folder))
    }

    /// Kills and losses of power in turn: whatever was acknowledged was durable.
    async fn crash(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        let (folder, turn) = {
            let folders = self.folders.lock().unwrap();
            let known = folders.iter().rev().find(|(known, _)| *known == address(&store))?;
            (known.1.clone(), folders.len() as u64)
        };
        let left = if turn.is_multiple_of(2) { folder.after_kill() } else { folder.after_power_loss(turn) };
        drop(store);
        Some(self.open_in(left))
    }
}

/// Small files, so that many are created.
fn small() -> EmbeddedConfig {
    EmbeddedConfig { log_file_bytes: 256 << 10, durability: Durability::Durable, ..EmbeddedConfig::default() }
}

mod fresh {
    use super::*;

    pulsestream_core::event_store_conformance!(Simulated::new(small()));
}

mod sealed_after_every_append {
    use super::*;

    pulsestream_core::event_store_conformance!(Simulated::new(EmbeddedConfig {
        seal_events: 1,
        segment_events: 64,
        ..small()
    }));
}

mod without_cache {
    use super::*;

    pulsestream_core::event_store_conformance!(Simulated::new(EmbeddedConfig {
        seal_events: 7,
        segment_events: 1_000,
        cache_bytes: 0,
        ..small()
    }));
}

/// Deadlines around retries around a store that fails two calls of three.
#[derive(Debug)]
struct Layered {
    simulated: Simulated,
    inner: std::sync::Mutex<Vec<(usize, Arc<dyn EventStore>)>>,
}

impl Layered {
    fn new(config: EmbeddedConfig) -> Self {
        Self { simulated: Simulated::new(config), inner: std::sync::Mutex::default() }
    }

    fn wrap(&self, store: Arc<dyn EventStore>) -> Arc<dyn EventStore> {
        let flaky = FlakyEventStore::new(Arc::clone(&store), 3);
        // Concurrent callers take each other's successes, so a few attempts more than three.
        let settings = RetrySettings { attempts: 100, ..RetrySettings::default() };
        let instant = Arc::new(TestTimer::instant());
        let retry = RetryLayer::new(Arc::new(flaky), instant, Env::system(), settings).unwrap();
        let timer = Arc::new(TestTimer::standing_still());
        let layer = TimeoutLayer::new(Arc::new(retry), timer, TimeoutSettings::default()).unwrap();
        let layer: Arc<dyn EventStore> = Arc::new(layer);
        self.inner.lock().unwrap().push((address(&layer), store));
        layer
    }
}

#[async_trait]
impl EventStoreHarness for Layered {
    async fn open(&self) -> Arc<dyn EventStore> {
        self.wrap(self.simulated.open().await)
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        let inner = {
            let layers = self.inner.lock().unwrap();
            Arc::clone(&layers.iter().rev().find(|(known, _)| *known == address(&store))?.1)
        };
        store.close().await.unwrap();
        Some(self.wrap(self.simulated.reopen(inner).await?))
    }
}

mod through_layers {
    use super::*;

    pulsestream_core::event_store_conformance!(Layered::new(EmbeddedConfig {
        seal_events: 30,
        segment_events: 200,
        ..small()
    }));
}
