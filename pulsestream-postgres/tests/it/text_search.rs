//! Text search with and without its index.

use std::sync::Arc;

use pulsestream_core::id::TenantId;
use pulsestream_core::memory::MemoryEventStore;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::query::{AggregateQuery, FindQuery, ScanQuery};
use pulsestream_core::testkit::Random;
use pulsestream_postgres::{Postgres, PostgresConfig};
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{
    config, connect, connect_as_app, direct, event, execute, fresh_schema, number, url_as, with_server,
};

const WORDS: [&str; 14] = [
    "Timeout",
    "timeouts",
    "refused",
    "100%_done",
    "a\\b",
    "für",
    "FÜR",
    "Straße",
    "ΟΔΟΣ",
    "x",
    "--",
    "[42]",
    "İstanbul",
    "\u{212a}elvin",
];

const FILTERS: [&str; 18] = [
    "'timeout'",
    "'IMEOUT'",
    "message contains 'Timeout'",
    "message contains 'timeout'",
    "title = 'refused'",
    "title starts_with 'ref' or message ends_with 'done'",
    "'100%_d'",
    "'a\\\\b refused'",
    "'für'",
    "'refused für'",
    "'straße'",
    "'οδος'",
    "'istanbul'",
    "'kelvin'",
    "'x'",
    "'[42]' and not 'timeout'",
    "'refused' and message matches 't.m'",
    "('timeout' or 'refused') and severity = 'info'",
];

/// Events whose titles and messages are made of the same few words.
fn events(count: i64) -> Vec<pulsestream_core::event::Event> {
    let random = Random::new(7);
    let word = || WORDS[usize::try_from(random.below(WORDS.len() as u64)).unwrap()];
    (0..count)
        .map(|number| {
            let mut event = event(&format!("e{number}"), number);
            if random.below(4) > 0 {
                event.title = Some(word().into());
            }
            if random.below(4) > 0 {
                event.message = Some(format!("{} {}{} {}", word(), word(), word(), word()).into());
            }
            event
        })
        .collect()
}

async fn details(store: &dyn EventStore) -> Vec<(&'static str, String)> {
    store.check().await.unwrap().details
}

/// Asks both the same and compares all answers.
async fn compare(store: &dyn EventStore, model: &dyn EventStore, tenant: TenantId) {
    for text in FILTERS {
        let filter: pulsestream_core::Filter = text.parse().unwrap();
        let mut query =
            FindQuery { filter: Some(filter.clone()), limit: 7, count_total: true, ..FindQuery::default() };
        loop {
            let (page, expected) =
                (store.find(tenant, &query).await.unwrap(), model.find(tenant, &query).await.unwrap());
            assert_eq!(page, expected, "{text}");
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
        let aggregate = AggregateQuery {
            filter: Some(filter.clone()),
            group_by: vec!["title".parse().unwrap()],
            ..AggregateQuery::default()
        };
        assert_eq!(
            store.aggregate(tenant, &aggregate).await.unwrap(),
            model.aggregate(tenant, &aggregate).await.unwrap(),
            "{text}"
        );
        let scan = ScanQuery {
            filter: Some(filter),
            columns: vec!["id".parse().unwrap(), "message".parse().unwrap()],
            ..ScanQuery::default()
        };
        let (mut found, mut expected) =
            (store.scan(tenant, &scan).await.unwrap(), model.scan(tenant, &scan).await.unwrap());
        let (found, expected) = (found.next_batch().await.unwrap(), expected.next_batch().await.unwrap());
        let times = |batch: &Option<pulsestream_core::query::ColumnBatch>| {
            batch.as_ref().map(|batch| batch.timestamps.clone())
        };
        assert_eq!(times(&found), times(&expected), "{text}");
    }
}

async fn filled(store: &dyn EventStore, count: i64) -> (TenantId, Arc<MemoryEventStore>) {
    let (tenant, model) = (TenantId::from_name("text"), Arc::new(MemoryEventStore::new()));
    for store in [store, &*model as &dyn EventStore] {
        store.append(tenant, events(count), AppendOptions::default()).await.unwrap();
        // The same words of somebody else.
        store.append(TenantId::from_name("other"), events(50), AppendOptions::default()).await.unwrap();
    }
    (tenant, model)
}

#[test]
fn the_index_changes_no_answer() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let store = connect_as_app(&url, config(schema.clone())).await.event_store().await.unwrap();
        assert!(details(&*store).await.contains(&("text_index", "true".to_owned())));
        let (tenant, model) = filled(&*store, 400).await;
        // Also the candidates of rare words: `refused` is in less than the most that the index is asked for.
        compare(&*store, &*model, tenant).await;
        let mut owner = direct(&url).await;
        execute(&mut owner, "begin; set local enable_seqscan = off").await;
        let plan = format!(
            "explain select from {schema}.events where \
             lower(coalesce(title, '') || ' ' || coalesce(message, '')) like any (array['%refused%'])"
        );
        let plan = owner.fetch_all(AssertSqlSafe(plan)).await.unwrap();
        let lines: Vec<String> = plan.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        assert!(lines.join("\n").contains("Bitmap Index Scan"), "{lines:?}");
    });
}

#[test]
fn common_words_are_found_in_the_order_of_time() {
    with_server(|url| async move {
        let store = connect_as_app(&url, config(fresh_schema())).await.event_store().await.unwrap();
        // More of each word than the index is asked for.
        let (tenant, model) = filled(&*store, 9_000).await;
        let query = FindQuery {
            filter: Some("'refused'".parse().unwrap()),
            limit: 100,
            count_total: true,
            ..FindQuery::default()
        };
        let page = store.find(tenant, &query).await.unwrap();
        assert!(page.total > Some(2_000), "{:?}", page.total);
        assert_eq!(page, model.find(tenant, &query).await.unwrap());
    });
}

#[test]
fn candidates_are_those_of_the_tenant_alone() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let postgres = connect_as_app(&url, config(schema.clone())).await;
        let store = postgres.event_store().await.unwrap();
        let (tenant, _) = filled(&*store, 100).await;
        let mut app = direct(&url_as(&url, "ps_test_app", "ps_test_app")).await;
        let candidates = format!(
            "select count(*) from {schema}.text_candidates(array['%'], '-infinity', 'infinity', 1000)"
        );
        assert_eq!(number(&mut app, &candidates).await, 0, "without a tenant");
        for (tenant, count) in
            [(tenant, 100), (TenantId::from_name("other"), 50), (TenantId::from_name("no"), 0)]
        {
            execute(&mut app, &format!("begin; select set_config('pulsestream.tenant', '{tenant}', true)"))
                .await;
            assert_eq!(number(&mut app, &candidates).await, count);
            execute(&mut app, "rollback").await;
        }
    });
}

#[test]
fn without_the_extension_a_search_reads_the_events() {
    with_server(|url| async move {
        // An owner of a schema in a database where it may not create anything else, so no extension.
        let schema = fresh_schema();
        let (database, role) = (schema.to_string(), format!("owner_{schema}"));
        let mut server = direct(&url).await;
        execute(&mut server, &format!("create database {database} template template0")).await;
        execute(&mut server, &format!("create role {role} login password 'x'")).await;
        let (base, _) = url.rsplit_once('/').unwrap();
        let inside = format!("{base}/{database}");
        execute(&mut direct(&inside).await, &format!("create schema {schema} authorization {role}")).await;
        let postgres: Postgres = connect(&url_as(&inside, &role, "x"), config(schema)).await;
        let store = postgres.event_store().await.unwrap();
        assert!(details(&*store).await.contains(&("text_index", "false".to_owned())));
        let (tenant, model) = filled(&*store, 60).await;
        compare(&*store, &*model, tenant).await;
        postgres.close().await;
        execute(&mut server, &format!("drop database {database} with (force)")).await;
        execute(&mut server, &format!("drop role {role}")).await;
    });
}

#[test]
fn an_index_that_is_not_wanted_is_not_made() {
    with_server(|url| async move {
        let config = PostgresConfig { text_index: false, ..config(fresh_schema()) };
        let store = connect(&url, config).await.event_store().await.unwrap();
        assert!(details(&*store).await.contains(&("text_index", "false".to_owned())));
    });
}
