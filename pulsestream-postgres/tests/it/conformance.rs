//! The conformance suites, each case in a schema of its own, as a role that row-level security holds for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::ports::coordinator::Coordinator;
use pulsestream_core::ports::document_store::DocumentStore;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::identity::IdentityStore;
use pulsestream_core::ports::live_bus::LiveBus;
use pulsestream_core::testkit::{
    BoxFuture, CoordinatorHarness, DocumentStoreHarness, EventStoreHarness, IdentityStoreHarness,
    LiveBusHarness,
};
use pulsestream_postgres::Identifier;

use crate::pooler::Route;
use crate::support::fresh_schema;

#[derive(Debug)]
pub(crate) struct Leases(pub(crate) Route);

#[async_trait]
impl CoordinatorHarness for Leases {
    async fn open(&self) -> Arc<dyn Coordinator> {
        self.0.connect_as_app(fresh_schema()).await.coordinator()
    }

    /// The server keeps the time.
    async fn elapse(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    fn unit(&self) -> Duration {
        Duration::from_millis(250)
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.0.run(future);
    }
}

mod coordinator {
    use super::{Leases, Route};

    pulsestream_core::coordinator_conformance!(Leases(Route::Direct));
}

#[derive(Debug)]
pub(crate) struct Documents(pub(crate) Route);

#[async_trait]
impl DocumentStoreHarness for Documents {
    async fn open(&self) -> Arc<dyn DocumentStore> {
        self.0.connect_as_app(fresh_schema()).await.document_store()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.0.run(future);
    }
}

mod document_store {
    use super::{Documents, Route};

    pulsestream_core::document_store_conformance!(Documents(Route::Direct));
}

#[derive(Debug)]
pub(crate) struct Live(pub(crate) Route);

#[async_trait]
impl LiveBusHarness for Live {
    async fn open(&self) -> Arc<dyn LiveBus> {
        let postgres = self.0.connect_as_app(fresh_schema()).await;
        postgres.live_bus(self.capacity()).await.unwrap()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.0.run(future);
    }
}

mod live_bus {
    use super::{Live, Route};

    pulsestream_core::live_bus_conformance!(Live(Route::Direct));
}

#[derive(Debug)]
pub(crate) struct Identities(pub(crate) Route);

#[async_trait]
impl IdentityStoreHarness for Identities {
    async fn open(&self) -> Arc<dyn IdentityStore> {
        self.0.connect_as_app(fresh_schema()).await.identity_store()
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.0.run(future);
    }
}

mod identity_store {
    use super::{Identities, Route};

    pulsestream_core::identity_store_conformance!(Identities(Route::Direct));
}

/// Remembers which schema a store was opened in, to open it again.
#[derive(Debug)]
pub(crate) struct Events {
    route: Route,
    schemas: Mutex<HashMap<usize, Identifier>>,
}

impl Events {
    pub(crate) fn over(route: Route) -> Self {
        Self { route, schemas: Mutex::default() }
    }

    async fn open_in(&self, schema: Identifier) -> Arc<dyn EventStore> {
        let postgres = self.route.connect_as_app(schema.clone()).await;
        let store: Arc<dyn EventStore> = postgres.event_store().await.unwrap();
        self.schemas.lock().unwrap().insert(address(&store), schema);
        store
    }
}

fn address(store: &Arc<dyn EventStore>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

#[async_trait]
impl EventStoreHarness for Events {
    async fn open(&self) -> Arc<dyn EventStore> {
        self.open_in(fresh_schema()).await
    }

    async fn reopen(&self, store: Arc<dyn EventStore>) -> Option<Arc<dyn EventStore>> {
        let schema = self.schemas.lock().unwrap().remove(&address(&store))?;
        store.close().await.unwrap();
        Some(self.open_in(schema).await)
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.route.run(future);
    }
}

mod event_store {
    use super::{Events, Route};

    pulsestream_core::event_store_conformance!(Events::over(Route::Direct));
}
