//! Row-level security of every table, as the catalogue lists them: a new table without policies fails here.

use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_postgres::{Postgres, PostgresConfig};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use crate::isolation::{as_app_role, drop_role};
use crate::support::{config, direct, execute, fresh_schema, with_server};

/// Tables that are not a tenant's: what they hold belongs to the installation.
pub(crate) const OF_THE_INSTALLATION: [&str; 4] = ["checkpoints", "keyring", "leases", "migrations"];

/// "Insufficient privilege" (PostgreSQL manual, appendix A), also of a row that a policy refuses.
const REFUSED: &str = "42501";

async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    let rows =
        connection.fetch_all(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns a statement that stores a row with something in every column that needs it.
async fn insert(owner: &mut PgConnection, table: &str, tenant: TenantId) -> String {
    let columns = format!(
        "select attname::text || ':' || format_type(atttypid, null) from pg_attribute \
         where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped and attnotnull \
         and not atthasdef and attidentity = ''"
    );
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for column in texts(owner, &columns).await {
        let (name, kind) = column.split_once(':').unwrap();
        names.push(format!("\"{name}\""));
        values.push(match (name, kind) {
            ("tenant_id", _) => format!("'{tenant}'"),
            (_, "uuid") => "gen_random_uuid()".to_owned(),
            (_, "text") => "md5(random()::text)".to_owned(),
            (_, "text[]" | "jsonb") => "'{}'".to_owned(),
            (_, "smallint" | "integer" | "bigint") => "1".to_owned(),
            (_, "timestamp with time zone") => "now()".to_owned(),
            (_, "boolean") => "true".to_owned(),
            (_, other) => panic!("{table}.{name}: say here what a value of type {other} is"),
        });
    }
    format!("insert into {table} ({}) values ({})", names.join(", "), values.join(", "))
}

/// Runs a statement for a tenant, or for nobody, and rolls it back. Returns the tenants of the rows that it touched; nothing when
/// the role may not run it at all.
async fn touched(app: &mut PgConnection, tenant: &str, sql: &str) -> Option<Vec<String>> {
    execute(app, &format!("begin; select set_config('pulsestream.tenant', '{tenant}', true)")).await;
    let rows = app.fetch_all(AssertSqlSafe(sql)).await;
    execute(app, "rollback").await;
    match rows {
        Ok(rows) => {
            let mut tenants: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            tenants.sort();
            tenants.dedup();
            Some(tenants)
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(REFUSED) => None,
        Err(error) => panic!("{sql}: {error}"),
    }
}

#[test]
fn no_table_shows_changes_or_takes_rows_of_another_tenant() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let app_url = as_app_role(&url, &schema).await;
        let as_app = PostgresConfig { require_rls: true, ..config(schema.clone()) };
        Postgres::connect(&app_url, as_app, Env::system()).await.unwrap().close().await;
        let (mut owner, mut app) = (direct(&url).await, direct(&app_url).await);
        let tables = |has_tenant: &str| {
            format!(
                "select relname::text from pg_class t where relnamespace = '{schema}'::regnamespace \
                 and relkind in ('r', 'p') and not relispartition and {has_tenant} exists (select from pg_attribute \
                 where attrelid = t.oid and attname = 'tenant_id' and not attisdropped) order by relname"
            )
        };
        assert_eq!(texts(&mut owner, &tables("not")).await, OF_THE_INSTALLATION);
        // Foreign keys are of no interest here.
        execute(&mut owner, "set session_replication_role = replica").await;
        let (ours, theirs) = (TenantId::from_name("ours"), TenantId::from_name("theirs"));
        let tables = texts(&mut owner, &tables("")).await;
        assert!(tables.len() >= 16, "{tables:?}");
        for table in tables.iter().map(|name| format!("{schema}.{name}")) {
            for tenant in [ours, theirs] {
                let sql = insert(&mut owner, &table, tenant).await;
                execute(&mut owner, &sql).await;
            }
            let own = [ours.to_string()];
            let select = format!("select tenant_id::text from {table}");
            assert_eq!(touched(&mut app, &own[0], &select).await.unwrap(), own, "{select}");
            for change in ["delete from {table}", "update {table} set tenant_id = tenant_id"] {
                let sql = format!("{} returning tenant_id::text", change.replace("{table}", &table));
                if let Some(tenants) = touched(&mut app, &own[0], &sql).await {
                    assert_eq!(tenants, own, "{sql}");
                    // What the setting is after its transaction, and when nobody set it.
                    assert!(touched(&mut app, "", &sql).await.unwrap().is_empty(), "{sql}");
                }
            }
            assert!(touched(&mut app, "", &select).await.unwrap().is_empty(), "{select}");
            let foreign = insert(&mut owner, &table, theirs).await;
            assert_eq!(touched(&mut app, &own[0], &foreign).await, None, "{foreign}");
            let whole = app.execute(AssertSqlSafe(format!("truncate {table}"))).await;
            assert!(whole.is_err(), "{table} can be emptied under the policies");
        }
        drop(app);
        drop_role(&url, &schema).await;
    });
}
