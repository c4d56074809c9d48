//! Alerts: listing, locking, storing and pruning.

use std::collections::HashMap;
use std::sync::Arc;

use pulsestream_core::alerting::Alert;
use pulsestream_core::error::Result;
use pulsestream_core::id::{AlertId, TenantId};
use pulsestream_core::ports::alert_store::{AlertCursor, AlertPage, AlertQuery};
use pulsestream_core::time::Timestamp;
use sqlx::PgConnection;

use super::DEFAULT_LIMIT;
use crate::database::{Database, Scope, bound, bound_once};
use crate::error::Fault;
use crate::event_store::saturating;
use crate::record::{decode, encode};
use crate::sql::Params;
use crate::wire::{ArrayParam, BOOL, Columns, INT8, JSONB, Param, TEXT, TIMESTAMPTZ, UUID};

/// Rows read at a time when labels are matched here, and deleted at a time.
const CHUNK: usize = 1_000;

pub(super) async fn list(database: &Arc<Database>, tenant: TenantId, query: AlertQuery) -> Result<AlertPage> {
    let schema = database.schema().to_owned();
    database
        .read("alert_store.alerts", Scope::Tenant(tenant), move |connection| {
            let (schema, query) = (schema.clone(), query.clone());
            Box::pin(async move {
                // Matchers hold regular expressions, which never go to the server.
                if query.labels.is_empty() {
                    select(connection, &schema, tenant, &query).await
                } else {
                    sift(connection, &schema, tenant, &query).await
                }
            })
        })
        .await
}

/// Returns the conditions of the query but for the labels.
fn conditions(tenant: TenantId, query: &AlertQuery, params: &mut Params) -> String {
    let mut all = vec![format!("tenant_id = {}", params.bind(Param::uuid(tenant.as_u128())))];
    if !query.states.is_empty() {
        let states = Param::texts(query.states.iter().map(|state| state.as_str()));
        all.push(format!("state = any({})", params.bind(states)));
        if query.states.iter().all(|state| state.is_open()) {
            // Lets the index of the open ones be used.
            all.push("state <> 'resolved'".to_owned());
        }
    }
    if !query.severities.is_empty() {
        let severities = Param::texts(query.severities.iter().map(|severity| severity.as_str()));
        all.push(format!("severity = any({})", params.bind(severities)));
    }
    if let Some(suppressed) = query.suppressed {
        all.push(format!("suppressed = {}", params.bind(Param::bool(suppressed))));
    }
    if let Some(rule) = query.rule {
        all.push(format!("rule_id = {}", params.bind(Param::uuid(rule.as_u128()))));
    }
    if let Some(fingerprint) = query.fingerprint {
        all.push(format!("fingerprint = {}", params.bind(Param::int8(fingerprint.0.cast_signed()))));
    }
    if let Some(range) = query.range {
        all.push(format!("started_at >= {}", params.bind(Param::timestamp(range.start))));
        all.push(format!("started_at < {}", params.bind(Param::timestamp(range.end))));
    }
    if !query.include_unfired {
        all.push("(state <> 'resolved' or fired_at is not null)".to_owned());
    }
    all.join(" and ")
}

async fn page(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    query: &AlertQuery,
    after: Option<AlertCursor>,
    (limit, skip): (usize, usize),
) -> Result<Vec<Alert>, Fault> {
    let mut params = Params::default();
    let mut conditions = conditions(tenant, query, &mut params);
    if let Some(cursor) = after {
        let at = params.bind(Param::timestamp(cursor.started_at));
        let id = params.bind(Param::uuid(cursor.id.as_u128()));
        conditions.push_str(&format!(" and (started_at, alert_id) < ({at}, {id})"));
    }
    let limit = params.bind(Param::int8(saturating(limit)));
    let skip = params.bind(Param::int8(saturating(skip)));
    let sql = format!(
        "select record from {schema}.alerts where {conditions} order by started_at desc, alert_id desc \
         limit {limit} offset {skip}"
    );
    let rows = bound_once(sql, params.as_slice()).fetch_all(connection).await?;
    rows.iter().map(|row| decode(Columns::new(row).jsonb()?, "alert")).collect()
}

async fn select(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    query: &AlertQuery,
) -> Result<AlertPage, Fault> {
    let limit = limit_of(query);
    let size = (limit.saturating_add(1), query.skip);
    let mut alerts = page(connection, schema, tenant, query, query.after, size).await?;
    let more = alerts.len() > limit;
    alerts.truncate(limit);
    let next = alerts.last().filter(|_| more).map(cursor_of);
    let mut total = None;
    if query.count_total {
        let mut params = Params::default();
        let conditions = conditions(tenant, query, &mut params);
        let sql = format!("select count(*) from {schema}.alerts where {conditions}");
        let row = bound_once(sql, params.as_slice()).fetch_one(connection).await?;
        total = u64::try_from(Columns::new(&row).int8()?).ok();
    }
    Ok(AlertPage { alerts, next, total })
}

/// As [`select`], for labels that are matched here.
async fn sift(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    query: &AlertQuery,
) -> Result<AlertPage, Fault> {
    let limit = limit_of(query);
    let mut result = AlertPage { total: query.count_total.then_some(0), ..AlertPage::default() };
    let mut skip = query.skip;
    // The total counts what lies before the cursor too.
    let mut place = if query.count_total { None } else { query.after };
    loop {
        let found = page(connection, schema, tenant, query, place, (CHUNK, 0)).await?;
        let is_last = found.len() < CHUNK;
        place = found.last().map(cursor_of);
        for alert in found.into_iter().filter(|alert| query.selects(alert)) {
            result.total = result.total.map(|total| total + 1);
            let is_before =
                |cursor: AlertCursor| (alert.started_at, alert.id) >= (cursor.started_at, cursor.id);
            if query.after.is_some_and(is_before) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
            } else if result.alerts.len() < limit {
                result.alerts.push(alert);
            } else if result.next.is_none() {
                result.next = result.alerts.last().map(cursor_of);
            }
        }
        if is_last || (result.next.is_some() && result.total.is_none()) {
            return Ok(result);
        }
    }
}

fn limit_of(query: &AlertQuery) -> usize {
    if query.limit == 0 { DEFAULT_LIMIT } else { query.limit }
}

fn cursor_of(alert: &Alert) -> AlertCursor {
    AlertCursor { started_at: alert.started_at, id: alert.id }
}

/// Reads alerts and keeps everybody else from changing them until the transaction ends.
pub(super) async fn lock(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    ids: &[AlertId],
) -> Result<HashMap<AlertId, Alert>, Fault> {
    // In one order, so that two that lock some of the same do not wait for each other.
    let sql = format!(
        "select record from {schema}.alerts where tenant_id = $1 and alert_id = any($2) order by alert_id for update"
    );
    let params = [Param::uuid(tenant.as_u128()), Param::uuids(ids.iter().map(|id| id.as_u128()))];
    let mut found = HashMap::new();
    for row in bound(Arc::from(sql), &params).fetch_all(connection).await? {
        let alert: Alert = decode(Columns::new(&row).jsonb()?, "alert")?;
        found.insert(alert.id, alert);
    }
    Ok(found)
}

/// Puts alerts, each of them once.
pub(super) async fn store<'a>(
    connection: &mut PgConnection,
    schema: &str,
    tenant: TenantId,
    alerts: impl IntoIterator<Item = &'a Alert>,
) -> Result<(), Fault> {
    let mut columns = [UUID, UUID, INT8, TEXT, TEXT, BOOL, TIMESTAMPTZ, TIMESTAMPTZ, TIMESTAMPTZ, JSONB]
        .map(ArrayParam::new);
    let [ids, rules, fingerprints, states, severities, suppressed, started, fired, resolved, records] =
        &mut columns;
    for alert in alerts {
        ids.raw(Some(&alert.id.to_bytes()));
        rules.raw(Some(&alert.rule.to_bytes()));
        fingerprints.raw(Some(&alert.fingerprint.0.to_be_bytes()));
        states.text(Some(alert.state.as_str()));
        severities.text(Some(alert.severity.as_str()));
        suppressed.raw(Some(&[u8::from(alert.suppressed_by.is_some())]));
        started.timestamp(alert.started_at);
        fired.optional_timestamp(alert.fired_at);
        resolved.optional_timestamp(alert.resolved_at);
        records.jsonb(Some(&encode(alert, "alert")?));
    }
    let sql = format!(
        "insert into {schema}.alerts (tenant_id, alert_id, rule_id, fingerprint, state, severity, suppressed, \
         started_at, fired_at, resolved_at, record) \
         select $1, input.* from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as input \
         on conflict (tenant_id, alert_id) do update set rule_id = excluded.rule_id, \
         fingerprint = excluded.fingerprint, state = excluded.state, severity = excluded.severity, \
         suppressed = excluded.suppressed, started_at = excluded.started_at, fired_at = excluded.fired_at, \
         resolved_at = excluded.resolved_at, record = excluded.record"
    );
    let mut params = vec![Param::uuid(tenant.as_u128())];
    params.extend(columns.map(Param::from));
    bound(Arc::from(sql), &params).execute(connection).await?;
    Ok(())
}

pub(super) async fn prune(
    database: &Arc<Database>,
    tenant: TenantId,
    before: Timestamp,
    limit: usize,
) -> Result<u64> {
    // Timelines go with their alerts, through the foreign key.
    let sql: Arc<str> = Arc::from(format!(
        "delete from {schema}.alerts where tenant_id = $1 and alert_id in (select alert_id from {schema}.alerts \
         where tenant_id = $1 and resolved_at < $2 limit $3)",
        schema = database.schema(),
    ));
    let params = [Param::uuid(tenant.as_u128()), Param::timestamp(before), Param::int8(saturating(limit))];
    database
        .write("alert_store.prune_alerts", Scope::Tenant(tenant), move |connection| {
            let statement = bound(sql.clone(), &params);
            Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
        })
        .await
}
