//! A store whose queries lack the tenant predicate: row-level security alone keeps tenants apart.
//!
//! An operator `=` for identities that is always true stands before PostgreSQL's own in the search path, so `tenant_id = $1` selects
//! everything. The policies were made with the real one. Nothing foreign may come to light.

use std::collections::BTreeSet;

use pulsestream_core::Filter;
use pulsestream_core::event::FieldPath;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{AppendOptions, DeleteSelection, EventStore};
use pulsestream_core::query::{AggregateQuery, Column, FindQuery, ScanQuery};
use pulsestream_core::time::TimeRange;
use pulsestream_postgres::{Identifier, PostgresConfig};

use crate::support::{
    config, connect, connect_as_app, direct, event, execute, fresh_schema, url_as, with_server,
};

/// Makes the operator, and returns the URL of sessions that it is in force for.
pub(crate) async fn mutated(url: &str) -> String {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    MADE.get_or_init(|| async {
        let sql = "begin; select pg_advisory_xact_lock(hashtext('mutant')); create schema if not exists mutant; \
                   grant usage on schema mutant to public; \
                   create or replace function mutant.always(uuid, uuid) returns boolean language sql immutable as 'select true'; \
                   do $$ begin create operator mutant.= (leftarg = uuid, rightarg = uuid, function = mutant.always); \
                   exception when duplicate_function then null; end $$; commit";
        execute(&mut direct(url).await, sql).await;
    })
    .await;
    format!(
        "{url}{}options=-c%20search_path%3Dmutant,pg_catalog,public",
        if url.contains('?') { '&' } else { '?' }
    )
}

/// Connects to a schema that is there, as the role of applications.
pub(crate) async fn connect_mutant(url: &str, schema: Identifier) -> pulsestream_postgres::Postgres {
    // Made by the owner.
    mutated(url).await;
    let as_app = mutated(&url_as(url, "ps_test_app", "ps_test_app")).await;
    connect(&as_app, PostgresConfig { migrate: false, require_rls: true, ..config(schema) }).await
}

/// Titles of what a store gives away to a tenant, by every way to ask. The tail is not one: it spans tenants on purpose.
async fn titles_seen(store: &dyn EventStore, tenant: TenantId) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut note = |title: &str| {
        seen.insert(title.to_owned());
    };
    let ids: Vec<EventId> = (0..9).map(|number| EventId::new(format!("e{number}")).unwrap()).collect();
    for event in store.get(tenant, &ids).await.unwrap().into_iter().flatten() {
        note(event.title.as_deref().unwrap());
    }
    for filter in [
        None,
        Some("'title'"),
        Some("title matches 'title'"),
        Some("title contains 'title' or severity = 'info'"),
    ] {
        let filter: Option<Filter> = filter.map(|text| text.parse().unwrap());
        let query = FindQuery { filter: filter.clone(), count_total: true, ..FindQuery::default() };
        let page = store.find(tenant, &query).await.unwrap();
        assert_eq!(page.total, Some(page.events.len() as u64));
        page.events.iter().for_each(|event| note(event.title.as_deref().unwrap()));
        let aggregate = AggregateQuery {
            filter: filter.clone(),
            group_by: vec![FieldPath::Title],
            ..AggregateQuery::default()
        };
        for row in store.aggregate(tenant, &aggregate).await.unwrap().rows {
            note(&row.group[0].to_string());
        }
        let scan = ScanQuery { filter, columns: vec![FieldPath::Title], ..ScanQuery::default() };
        let mut scan = store.scan(tenant, &scan).await.unwrap();
        while let Some(batch) = scan.next_batch().await.unwrap() {
            if let Column::Texts { dictionary, .. } = &batch.columns[0] {
                dictionary.iter().for_each(|title| note(title));
            }
        }
    }
    seen
}

#[test]
fn events_of_others_stay_hidden_and_whole() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let store = connect_as_app(&url, config(schema.clone())).await.event_store().await.unwrap();
        let (ours, theirs) = (TenantId::from_name("ours"), TenantId::from_name("theirs"));
        for (tenant, title, count) in [(ours, "our title", 3), (theirs, "their title", 6)] {
            // Some of the same ids and times.
            let batch = (0..count).map(|number| {
                let mut event = event(&format!("e{number}"), number);
                event.title = Some(title.into());
                event
            });
            store.append(tenant, batch.collect(), AppendOptions::default()).await.unwrap();
        }
        let own = |title: &str| BTreeSet::from([title.to_owned()]);
        let mutant = connect_mutant(&url, schema.clone()).await.event_store().await.unwrap();
        assert_eq!(titles_seen(&*mutant, ours).await, own("our title"));
        assert!(titles_seen(&*mutant, TenantId::from_name("nobody")).await.is_empty());
        // As a superuser, for whom there are no policies, everything leaks: so the operator is in force.
        let leaky = connect(&mutated(&url).await, config(schema)).await.event_store().await.unwrap();
        assert_eq!(titles_seen(&*leaky, ours).await.len(), 2);

        let ids =
            DeleteSelection::Ids((0..6).map(|number| EventId::new(format!("e{number}")).unwrap()).collect());
        let all = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        let sifted = DeleteSelection::Matching {
            range: TimeRange::ALL,
            filter: Some("title matches 'title'".parse().unwrap()),
        };
        for selection in [ids, all, sifted] {
            mutant.delete(ours, &selection).await.unwrap();
        }
        mutant.retain(ours, event("late", 1_000).timestamp).await.unwrap();
        assert!(titles_seen(&*store, ours).await.is_empty());
        let query = FindQuery::default();
        assert_eq!(store.find(theirs, &query).await.unwrap().events.len(), 6);
    });
}
