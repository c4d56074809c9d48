//! The conformance suites of the alert store and the outbox, over the key-value store of a folder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueOutbox};
use pulsestream_core::env::Env;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::key_value::KeyValue;
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::testkit::{AlertStoreHarness, OutboxHarness};
use pulsestream_embedded::storage::SimFs;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

type Stores = (Arc<dyn AlertStore>, Arc<dyn Outbox>);
type Parts = (EmbeddedStore, Arc<dyn KeyValue>, SimFs);

/// Keeps what the stores that the cases use are made of.
#[derive(Debug, Default)]
struct Simulated(Mutex<HashMap<usize, Parts>>);

impl Simulated {
    fn open_in(&self, folder: SimFs) -> Stores {
        let config = EmbeddedConfig { log_file_bytes: 64 << 10, ..EmbeddedConfig::default() };
        let store =
            EmbeddedStore::open_storage(Arc::new(folder.clone()), config, Env::system(), true).unwrap();
        let key_value = store.key_value().unwrap();
        let stores: Stores = (
            Arc::new(KeyValueAlertStore::new(key_value.clone())),
            Arc::new(KeyValueOutbox::new(key_value.clone())),
        );
        self.0.lock().unwrap().insert(address(&stores), (store, key_value, folder));
        stores
    }
}

fn address((alerts, _): &Stores) -> usize {
    Arc::as_ptr(alerts).cast::<()>() as usize
}

#[async_trait]
impl AlertStoreHarness for Simulated {
    async fn open(&self) -> Stores {
        self.open_in(SimFs::new())
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        let (events, key_value, folder) = self.0.lock().unwrap().remove(&address(&stores))?;
        drop(stores);
        key_value.close().await.unwrap();
        events.close().await.unwrap();
        drop((key_value, events));
        Some(self.open_in(folder))
    }
}

#[async_trait]
impl OutboxHarness for Simulated {
    async fn open(&self) -> Arc<dyn Outbox> {
        self.open_in(SimFs::new()).1
    }
}

mod alert_store {
    use super::Simulated;

    pulsestream_core::alert_store_conformance!(Simulated::default());
}

mod outbox {
    use super::Simulated;

    pulsestream_core::outbox_conformance!(Simulated::default());
}
