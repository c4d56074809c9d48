//! From a URL to open stores.

use std::sync::Arc;

use pulsestream_core::at_rest::KeyValueIdentityStore;
use pulsestream_core::memory::{MemoryEventStore, MemoryKeyValue};
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::identity::IdentityStore;
use pulsestream_core::ports::key_value::KeyValue;
use pulsestream_core::{Error, ErrorKind, Result};

use crate::url::{PrimaryStore, StoreUrl};

/// The stores that were given, before the URL fills the rest.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    pub(crate) event_store: Option<Arc<dyn EventStore>>,
    pub(crate) key_value: Option<Arc<dyn KeyValue>>,
    pub(crate) identity_store: Option<Arc<dyn IdentityStore>>,
}

/// All stores, open.
#[derive(Debug)]
pub(crate) struct OpenStores {
    pub(crate) event_store: Arc<dyn EventStore>,
    pub(crate) identity_store: Arc<dyn IdentityStore>,
    key_value: Option<Arc<dyn KeyValue>>,
}

impl OpenStores {
    /// Closes all of them, each also when another fails, and returns the first failure.
    pub(crate) async fn close(&self) -> Result<()> {
        let events = self.event_store.close().await;
        let at_rest = match &self.key_value {
            Some(store) => store.close().await,
            None => Ok(()),
        };
        events.and(at_rest)
    }
}

/// Opens what `url` names and was not given.
pub(crate) async fn open(given: Stores, url: &StoreUrl) -> Result<OpenStores> {
    let mut stores = given;
    let complete =
        stores.event_store.is_some() && (stores.key_value.is_some() || stores.identity_store.is_some());
    if !complete {
        open_primary(&mut stores, &url.primary).await?;
    }
    let missing =
        || Error::new(ErrorKind::Internal, "pulsestream.open", "the backend opened no store of a kind");
    let key_value = stores.key_value;
    let identity_store = match (stores.identity_store, &key_value) {
        (Some(store), _) => store,
        (None, Some(store)) => Arc::new(KeyValueIdentityStore::new(store.clone(), false)),
        (None, None) => return Err(missing()),
    };
    Ok(OpenStores { event_store: stores.event_store.ok_or_else(missing)?, identity_store, key_value })
}

async fn open_primary(stores: &mut Stores, primary: &PrimaryStore) -> Result<()> {
    match primary {
        PrimaryStore::Memory => {
            stores.event_store.get_or_insert_with(|| Arc::new(MemoryEventStore::new()));
            stores.key_value.get_or_insert_with(|| Arc::new(MemoryKeyValue::new()));
            Ok(())
        }
        other => Err(Error::new(
            ErrorKind::Unsupported,
            "pulsestream.open",
            "this build was made without the backend for this store",
        )
        .with_context("store", other)),
    }
}
