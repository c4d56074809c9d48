//! The conformance suite of key-value stores.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream_core::env::Env;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::key_value::KeyValue;
use pulsestream_core::testkit::KeyValueHarness;
use pulsestream_embedded::storage::SimFs;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

/// Keeps the stores whose key-value stores the cases use.
#[derive(Debug, Default)]
struct Simulated(Mutex<HashMap<usize, (EmbeddedStore, SimFs)>>);

impl Simulated {
    fn open_in(&self, folder: SimFs) -> Arc<dyn KeyValue> {
        let config = EmbeddedConfig { log_file_bytes: 64 << 10, ..EmbeddedConfig::default() };
        let store =
            EmbeddedStore::open_storage(Arc::new(folder.clone()), config, Env::system(), true).unwrap();
        let key_value = store.key_value().unwrap();
        self.0.lock().unwrap().insert(address(&key_value), (store, folder));
        key_value
    }
}

fn address(store: &Arc<dyn KeyValue>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

#[async_trait]
impl KeyValueHarness for Simulated {
    async fn open(&self) -> Arc<dyn KeyValue> {
        self.open_in(SimFs::new())
    }

    async fn reopen(&self, store: Arc<dyn KeyValue>) -> Option<Arc<dyn KeyValue>> {
        let (events, folder) = self.0.lock().unwrap().remove(&address(&store))?;
        store.close().await.unwrap();
        events.close().await.unwrap();
        Some(self.open_in(folder))
    }
}

pulsestream_core::key_value_conformance!(Simulated::default());
