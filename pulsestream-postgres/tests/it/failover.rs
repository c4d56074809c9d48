//! The primary dies and its standby takes over.

use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::FindQuery;
use pulsestream_postgres::{Postgres, PostgresConfig, PostgresEventStore};
use pulsestream_testtools::{POSTGRES, PostgresServer, eventually_async, find_program};

use crate::support::{config, connect, event, fresh_schema, runtime, stored};

#[test]
fn a_standby_refuses_appends_until_it_is_promoted_and_then_goes_on() {
    let Some(program) = find_program(&POSTGRES) else { return };
    let mut primary = PostgresServer::start(&program, &[]).unwrap();
    let standby = primary.start_standby(&program).unwrap();
    runtime().block_on(async {
        let (schema, tenant) = (fresh_schema(), TenantId::from_name("failover"));
        let before = connect(&primary.url(), config(schema.clone())).await.event_store().await.unwrap();
        let batch = (0..20).map(|number| event(&format!("e{number}"), number)).collect();
        before.append(tenant, batch, AppendOptions::default()).await.unwrap();
        let found = |store: Arc<PostgresEventStore>| async move {
            store.find(tenant, &FindQuery::default()).await.map(|page| page.events.len())
        };

        let url = standby.url();
        eventually_async("the standby has the schema and the events", async || {
            let config = PostgresConfig { migrate: false, ..config(schema.clone()) };
            let replica = Postgres::connect(&url, config, Env::system()).await;
            let Ok(replica) = replica else { return false };
            let count = found(replica.event_store().await.unwrap()).await;
            replica.close().await;
            count.is_ok_and(|count| count == 20)
        })
        .await;
        let as_node = PostgresConfig { migrate: false, ..config(schema) };
        let after = connect(&url, as_node).await.event_store().await.unwrap();
        let refused =
            after.append(tenant, vec![event("new", 30)], AppendOptions::default()).await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.retry_after().is_some()),
            (ErrorKind::Unavailable, true),
            "{refused}"
        );
        assert!(!after.check().await.unwrap().writable);

        primary.kill().unwrap();
        let lost =
            before.append(tenant, vec![event("lost", 30)], AppendOptions::default()).await.unwrap_err();
        assert!(matches!(lost.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown), "{lost}");
        standby.promote().unwrap();
        // The same store, with the connections it has.
        let outcomes = after.append(tenant, vec![event("new", 30), event("e3", 3)], AppendOptions::default());
        assert_eq!(stored(&outcomes.await.unwrap()), 1, "the other is a duplicate");
        assert_eq!(found(after.clone()).await.unwrap(), 21);
        assert!(after.check().await.unwrap().writable);
    });
}
