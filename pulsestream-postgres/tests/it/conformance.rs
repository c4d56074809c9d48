//! The conformance suites, each case in a schema of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::identity::IdentityStore;
use pulsestream_core::testkit::{BoxFuture, EventStoreHarness, IdentityStoreHarness};
use pulsestream_postgres::Identifier;

use crate::support::{config, connect, fresh_schema, url, with_server};

#[derive(Debug)]
struct Identities;

#[async_trait]
impl IdentityStoreHarness for Identities {
    async fn open(&self) -> Arc<dyn IdentityStore> {
        connect(&url().unwrap(), config(fresh_schema())).await.identity_store()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        with_server(|_| future);
    }
}

mod identity_store {
    use super::Identities;

    pulsestream_core::identity_store_conformance!(Identities);
}

/// Remembers which schema a store was opened in, to open it again.
#[derive(Debug, Default)]
struct Harness {
    schemas: Mutex<HashMap<usize, Identifier>>,
}

impl Harness {
    async fn open_in(&self, schema: Identifier) -> Arc<dyn EventStore> {
        let url = url().unwrap();
        let store: Arc<dyn EventStore> =
            connect(&url, config(schema.clone())).await.event_store().await.unwrap();
        self.schemas.lock().unwrap().insert(address(&store), schema);
        store
    }
}

fn address(store: &Arc<dyn EventStore>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

#[async_trait]
impl EventStoreHarness for Harness {
    async fn open(&self) -> Arc<dyn EventStore> {
        self.open_in(fresh_schema()).await
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        let schema = self.schemas.lock().unwrap().remove(&address(&store))?;
        store.close().await.unwrap();
        Some(self.open_in(schema).await)
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        with_server(|_| future);
    }
}

mod event_store {
    use super::Harness;

    pulsestream_core::event_store_conformance!(Harness::default());
}
