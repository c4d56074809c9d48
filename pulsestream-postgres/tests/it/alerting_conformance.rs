//! The conformance suites of the alert store and the outbox, each case in a schema of its own, as a role that row-level security
//! holds for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::testkit::{AlertStoreHarness, BoxFuture, OutboxHarness};
use pulsestream_postgres::Identifier;

use crate::support::{config, connect_as_app, fresh_schema, url, with_server};

type Stores = (Arc<dyn AlertStore>, Arc<dyn Outbox>);

/// Remembers which schema a store was opened in, to open it again.
#[derive(Debug, Default)]
struct Harness {
    schemas: Mutex<HashMap<usize, Identifier>>,
}

impl Harness {
    async fn open_in(&self, schema: Identifier) -> Stores {
        let postgres = connect_as_app(&url().unwrap(), config(schema.clone())).await;
        let stores: Stores = (postgres.alert_store(), postgres.outbox());
        self.schemas.lock().unwrap().insert(address(&stores), schema);
        stores
    }
}

fn address((alerts, _): &Stores) -> usize {
    Arc::as_ptr(alerts).cast::<()>() as usize
}

#[async_trait]
impl AlertStoreHarness for Harness {
    async fn open(&self) -> Stores {
        self.open_in(fresh_schema()).await
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        let schema = self.schemas.lock().unwrap().remove(&address(&stores))?;
        drop(stores);
        Some(self.open_in(schema).await)
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        with_server(|_| future);
    }
}

#[async_trait]
impl OutboxHarness for Harness {
    async fn open(&self) -> Arc<dyn Outbox> {
        self.open_in(fresh_schema()).await.1
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        with_server(|_| future);
    }
}

mod alert_store {
    use super::Harness;

    pulsestream_core::alert_store_conformance!(Harness::default());
}

mod outbox {
    use super::Harness;

    pulsestream_core::outbox_conformance!(Harness::default());
}
