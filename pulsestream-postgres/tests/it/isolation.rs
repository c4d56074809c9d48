//! Row-level security as the second wall.

use pulsestream_core::env::Env;
use pulsestream_core::error::ErrorKind;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position, TailOptions};
use pulsestream_core::ports::outbox::Outbox;
use pulsestream_core::query::FindQuery;
use pulsestream_postgres::{Identifier, Postgres, PostgresConfig};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::isolation_tables::OF_THE_INSTALLATION;
use crate::mutant_at_rest::fill_alerting;
use crate::support::{
    config, connect, direct, event, execute, fresh_schema, number, stored, url_as, with_option, with_server,
};

/// Makes a role that owns nothing, migrates as the owner, and returns the URL to connect with as that role.
pub(crate) async fn as_app_role(url: &str, schema: &Identifier) -> String {
    let role = format!("app_{schema}");
    let mut owner = direct(url).await;
    execute(&mut owner, &format!("create role {role} login password 'app'")).await;
    let config = PostgresConfig { app_role: Some(role.parse().unwrap()), ..config(schema.clone()) };
    connect(url, config).await.close().await;
    url_as(url, &role, "app")
}

pub(crate) async fn drop_role(url: &str, schema: &Identifier) {
    let mut owner = direct(url).await;
    execute(&mut owner, &format!("drop schema {schema} cascade; drop role app_{schema}")).await;
}

#[test]
fn the_application_role_can_do_everything_the_store_does() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let app_url = as_app_role(&url, &schema).await;
        let config = PostgresConfig { require_rls: true, migrate: false, ..config(schema.clone()) };
        let postgres = Postgres::connect(&app_url, config, Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let (ours, theirs) = (TenantId::from_name("ours"), TenantId::from_name("theirs"));
        for tenant in [ours, theirs] {
            let batch = vec![event("a", 1), event("b", 2), event("a", 3)];
            let outcomes = store.append(tenant, batch, AppendOptions::default()).await.unwrap();
            assert_eq!(stored(&outcomes), 2);
        }
        assert_eq!(store.find(ours, &FindQuery::default()).await.unwrap().events.len(), 2);
        let batch = store.tail(Partition::of(theirs), Position::START, TailOptions::default()).await.unwrap();
        assert!(batch.events.iter().filter(|event| event.tenant == theirs).count() == 2);
        assert_eq!(store.retain(ours, event("a", 2).timestamp).await.unwrap(), 1);
        assert_eq!(store.find(theirs, &FindQuery::default()).await.unwrap().events.len(), 2);
        assert!(store.check().await.unwrap().writable);
        postgres.close().await;
        drop_role(&url, &schema).await;
    });
}

#[test]
fn what_processors_read_is_there_whatever_the_server_plans() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let app_url = as_app_role(&url, &schema).await;
        let config = PostgresConfig { require_rls: true, migrate: false, ..config(schema.clone()) };
        let tenant = TenantId::from_name("ours");
        let filling = connect(&app_url, config.clone()).await;
        let events = (0..500).map(|number| event(&format!("e{number}"), number)).collect();
        filling.event_store().await.unwrap().append(tenant, events, AppendOptions::default()).await.unwrap();
        fill_alerting(&filling, tenant).await;
        filling.close().await;
        execute(
            &mut direct(&url).await,
            &format!("analyze {schema}.event_keys, {schema}.revisions, {schema}.deliveries"),
        )
        .await;
        for setting in [
            "enable_nestloop=off",
            "enable_hashjoin=off",
            "enable_mergejoin=off",
            "enable_seqscan=off",
            "enable_indexscan=off",
            "enable_bitmapscan=off",
            "enable_memoize=off",
            "join_collapse_limit=1",
            "plan_cache_mode=force_generic_plan",
            "plan_cache_mode=force_custom_plan",
        ] {
            let postgres = connect(&with_option(&app_url, setting), config.clone()).await;
            let (store, partition) = (postgres.event_store().await.unwrap(), Partition::of(tenant));
            let ended = tokio::time::timeout(
                std::time::Duration::from_secs(60),
                store.wait_for_events(partition, Position::START),
            );
            ended.await.unwrap_or_else(|_| panic!("{setting}: it waits for what is there")).unwrap();
            let batch = store.tail(partition, Position::START, TailOptions::default()).await.unwrap();
            assert_eq!(batch.events.len(), 500, "{setting}");
            let revisions = postgres.alert_store().revisions(partition).await.unwrap();
            assert_eq!(revisions.len(), 1, "{setting}");
            assert!(postgres.outbox().next_due().await.unwrap().is_some(), "{setting}");
            postgres.close().await;
        }
        drop_role(&url, &schema).await;
    });
}

#[test]
fn a_role_above_row_level_security_is_refused_when_asked() {
    with_server(|url| async move {
        let config = PostgresConfig { require_rls: true, ..config(fresh_schema()) };
        let error = Postgres::connect(&url, config, Env::system()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.to_string().contains("reason="), "{error}");
    });
}

/// Runs a statement without a tenant predicate in a transaction of the tenant, and returns the tenants whose rows it touched.
async fn tenants_touched(connection: &mut PgConnection, tenant: &str, sql: &str) -> Vec<String> {
    connection.execute("begin").await.unwrap();
    connection
        .execute(AssertSqlSafe(format!("select set_config('pulsestream.tenant', '{tenant}', true)")))
        .await
        .unwrap();
    let rows = connection.fetch_all(AssertSqlSafe(sql)).await;
    connection.execute("rollback").await.unwrap();
    let mut tenants: Vec<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    tenants.sort();
    tenants.dedup();
    tenants
}

#[test]
fn a_statement_without_its_tenant_predicate_finds_nothing_foreign() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let app_url = as_app_role(&url, &schema).await;
        let config = PostgresConfig { require_rls: true, ..config(schema.clone()) };
        let postgres = Postgres::connect(&app_url, config, Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let (ours, theirs) = (TenantId::from_name("ours"), TenantId::from_name("theirs"));
        for tenant in [ours, theirs] {
            let batch = (0..20).map(|index| event(&format!("e{index}"), index)).collect();
            store.append(tenant, batch, AppendOptions::default()).await.unwrap();
        }
        let mut app = direct(&app_url).await;
        for table in ["events", "event_keys"] {
            let read = format!("select tenant_id::text from {schema}.{table}");
            let delete = format!("delete from {schema}.{table} returning tenant_id::text");
            for sql in [&read, &delete] {
                assert_eq!(
                    tenants_touched(&mut app, &ours.to_string(), sql).await,
                    [ours.to_string()],
                    "{sql}"
                );
                // What the setting is after its transaction, and what it is when nobody set it.
                assert!(tenants_touched(&mut app, "", sql).await.is_empty(), "{sql}");
            }
        }
        // A row of another tenant cannot be written either.
        app.execute("begin").await.unwrap();
        app.execute(AssertSqlSafe(format!("select set_config('pulsestream.tenant', '{ours}', true)")))
            .await
            .unwrap();
        let foreign = format!(
            "insert into {schema}.event_keys (tenant_id, event_id, \"timestamp\", partition, seq) \
             values ('{theirs}', 'x', now(), 0, 0)"
        );
        assert!(app.execute(AssertSqlSafe(foreign)).await.is_err());
        app.execute("rollback").await.unwrap();
        // Nor can the application's role reach under the policies.
        for sql in [
            format!("select count(*) from {schema}.events_other"),
            format!("truncate {schema}.events"),
            format!("alter table {schema}.events disable row level security"),
            format!("update {schema}.events set title = 'x'"),
        ] {
            assert!(app.execute(AssertSqlSafe(sql.clone())).await.is_err(), "{sql}");
        }
        drop(app);
        postgres.close().await;
        drop_role(&url, &schema).await;
    });
}

#[test]
fn nothing_of_a_tenant_stays_on_the_connection() {
    with_server(|url| async move {
        let config = PostgresConfig { max_connections: 1, ..config(fresh_schema()) };
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
        let postgres = Postgres::with_pool(pool.clone(), config, Env::system()).await.unwrap();
        let store = postgres.event_store().await.unwrap();
        let tenant = TenantId::from_name("leak");
        store.append(tenant, vec![event("a", 1)], AppendOptions::default()).await.unwrap();
        store.find(tenant, &FindQuery::default()).await.unwrap();
        for _ in 0..4 {
            let left: Option<String> = pool
                .fetch_one("select nullif(current_setting('pulsestream.tenant', true), '')")
                .await
                .unwrap()
                .get(0);
            assert_eq!(left, None);
        }
    });
}

#[test]
fn every_key_starts_with_the_tenant() {
    with_server(|url| async move {
        let schema = fresh_schema();
        connect(&url, config(schema.clone())).await.close().await;
        let own = format!("('{}')", OF_THE_INSTALLATION.join("', '"));
        // What is unique across tenants on purpose: a slug, and the random id of an API key.
        let names = "('tenants_slug', 'api_keys_id')";
        let wrong = format!(
            "select count(*) from pg_constraint c join pg_class t on t.oid = c.conrelid \
             join pg_attribute a on a.attrelid = t.oid and a.attnum = c.conkey[1] \
             where t.relnamespace = '{schema}'::regnamespace and c.contype in ('p', 'u', 'f') \
             and t.relname not in {own} and c.conname not in {names} and a.attname <> 'tenant_id'"
        );
        let unique_indexes = format!(
            "select count(*) from pg_index i join pg_class t on t.oid = i.indrelid \
             join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0] \
             join pg_class x on x.oid = i.indexrelid \
             where t.relnamespace = '{schema}'::regnamespace and i.indisunique \
             and t.relname not in {own} and x.relname not in {names} and a.attname <> 'tenant_id'"
        );
        let unprotected = format!(
            "select count(*) from pg_class t join pg_attribute a on a.attrelid = t.oid and a.attname = 'tenant_id' \
             where t.relnamespace = '{schema}'::regnamespace and t.relkind in ('r', 'p') \
             and not t.relispartition and not t.relrowsecurity"
        );
        let mut observer = direct(&url).await;
        for sql in [wrong, unique_indexes, unprotected] {
            assert_eq!(number(&mut observer, &sql).await, 0, "{sql}");
        }
    });
}
