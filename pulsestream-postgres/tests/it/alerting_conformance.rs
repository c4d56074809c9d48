//! The conformance suites of the alert store and the outbox, each case in a schema of its own, as a role that row-level security
//! holds for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::testkit::{AlertStoreHarness, BoxFuture, OutboxHarness};
use pulsestream_postgres::Identifier;

use crate::pooler::Route;
use crate::support::fresh_schema;

type Stores = (Arc<dyn AlertStore>, Arc<dyn Outbox>);

/// Remembers which schema a store was opened in, to open it again.
#[derive(Debug)]
pub(crate) struct Alerting {
    route: Route,
    schemas: Mutex<HashMap<usize, Identifier>>,
}

impl Alerting {
    pub(crate) fn over(route: Route) -> Self {
        Self { route, schemas: Mutex::default() }
    }

    async fn open_in(&self, schema: Identifier) -> Stores {
        let postgres = self.route.connect_as_app(schema.clone()).await;
        let stores: Stores = (postgres.alert_store(), postgres.outbox());
        self.schemas.lock().unwrap().insert(address(&stores), schema);
        stores
    }
}

fn address((alerts, _): &Stores) -> usize {
    Arc::as_ptr(alerts).cast::<()>() as usize
}

#[async_trait]
impl AlertStoreHarness for Alerting {
    async fn open(&self) -> Stores {
        self.open_in(fresh_schema()).await
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        let schema = self.schemas.lock().unwrap().remove(&address(&stores))?;
        drop(stores);
        Some(self.open_in(schema).await)
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.route.run(future);
    }
}

#[async_trait]
impl OutboxHarness for Alerting {
    async fn open(&self) -> Arc<dyn Outbox> {
        self.open_in(fresh_schema()).await.1
    }

    fn block_on(&self, future: BoxFuture<'static, ()>) {
        self.route.run(future);
    }
}

mod alert_store {
    use super::{Alerting, Route};

    pulsestream_core::alert_store_conformance!(Alerting::over(Route::Direct));
}

mod outbox {
    use super::{Alerting, Route};

    pulsestream_core::outbox_conformance!(Alerting::over(Route::Direct));
}
