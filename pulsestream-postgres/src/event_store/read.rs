//! Reading whole events: by id, and page by page.

use std::collections::HashMap;
use std::sync::Arc;

use pulsestream_core::error::Result;
use pulsestream_core::event::Event;
use pulsestream_core::filter::Filter;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::query::{Cursor, FindPage, FindQuery, Order};
use pulsestream_core::time::TimeRange;
use sqlx::PgConnection;

use super::PostgresEventStore;
use super::search::Tables;
use crate::database::{Scope, bound, bound_once};
use crate::error::Fault;
use crate::event_row::{column_list, event_of};
use crate::sql::{self, FilterSql, Params};
use crate::wire::{Columns, Param};

/// Rows fetched at a time when a filter is evaluated here.
const CHUNK_ROWS: usize = 2_000;

/// The events of one tenant in a range of time that match a filter: the `where` of most statements.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) params: Params,
    /// Conditions on the alias `e`, joined by `and`.
    pub(super) conditions: String,
    /// The filter, when SQL does not say all of it.
    pub(super) residual: Option<Filter>,
    /// Placeholders of the times and ids of the only events in question.
    candidates: Option<(String, String)>,
}

impl Selection {
    pub(super) fn new(tenant: TenantId, range: TimeRange, filter: Option<&Filter>) -> Self {
        let mut params = Params::default();
        let mut conditions = format!("e.tenant_id = {}", params.bind(Param::uuid(tenant.as_u128())));
        conditions
            .push_str(&format!(" and e.\"timestamp\" >= {}", params.bind(Param::timestamp(range.start))));
        conditions.push_str(&format!(" and e.\"timestamp\" < {}", params.bind(Param::timestamp(range.end))));
        let mut residual = None;
        if let Some(filter) = filter {
            let FilterSql { condition, exact } = sql::filter(filter, &mut params);
            conditions.push_str(&format!(" and {condition}"));
            residual = (!exact).then(|| filter.clone());
        }
        Self { params, conditions, residual, candidates: None }
    }

    /// Leaves only the events with these times and ids.
    pub(super) fn narrow_to(&mut self, times: Param, ids: Param) {
        self.candidates = Some((self.params.bind(times), self.params.bind(ids)));
    }

    /// Returns what stands after `from`: the table of events under the alias `e`.
    pub(super) fn source(&self, tables: &Tables) -> String {
        let table = &tables.events;
        match &self.candidates {
            None => format!("{table} e"),
            // `limit 1` makes it one look-up by key for each, in the one partition that can hold it.
            Some((times, ids)) => format!(
                "unnest({times}, {ids}) as c (at_time, event_id) cross join lateral (select * from {table} own \
                 where own.tenant_id = $1 and own.\"timestamp\" = c.at_time and own.id = c.event_id limit 1) e"
            ),
        }
    }

    /// Returns the condition that selects what comes after a place. The first half lets the index and the partitions be used.
    pub(super) fn after(&mut self, order: Order, cursor: &Cursor) -> String {
        let at = self.params.bind(Param::timestamp(cursor.timestamp));
        let id = self.params.bind(Param::text(cursor.id.as_str()));
        let sign = match order {
            Order::NewestFirst => '<',
            Order::OldestFirst => '>',
        };
        format!(" and e.\"timestamp\" {sign}= {at} and (e.\"timestamp\" {sign} {at} or e.id {sign} {id})")
    }
}

pub(super) const fn direction(order: Order) -> &'static str {
    match order {
        Order::NewestFirst => "order by e.\"timestamp\" desc, e.id desc",
        Order::OldestFirst => "order by e.\"timestamp\", e.id",
    }
}

impl PostgresEventStore {
    pub(super) async fn get_by_ids(&self, tenant: TenantId, ids: &[EventId]) -> Result<Vec<Option<Event>>> {
        let schema = self.schema();
        // `limit 1` makes it one look-up by key for each id, in the one partition that can hold it.
        let sql: Arc<str> = Arc::from(format!(
            "select {columns} from {schema}.event_keys k cross join lateral (select * from {schema}.events e \
             where e.tenant_id = $1 and e.\"timestamp\" = k.\"timestamp\" and e.id = k.event_id limit 1) e \
             where k.tenant_id = $1 and k.event_id = any($2)",
            columns = column_list("e."),
        ));
        let params = [Param::uuid(tenant.as_u128()), Param::texts(ids.iter().map(EventId::as_str))];
        let found = self
            .database
            .read("event_store.get", Scope::Tenant(tenant), move |connection| {
                let statement = bound(sql.clone(), &params);
                Box::pin(async move {
                    let rows = statement.fetch_all(connection).await?;
                    rows.iter().map(event_of).collect::<Result<Vec<Event>, Fault>>()
                })
            })
            .await?;
        let by_id: HashMap<EventId, Event> =
            found.into_iter().map(|event| (event.id.clone(), event)).collect();
        Ok(ids.iter().map(|id| by_id.get(id).cloned()).collect())
    }

    pub(super) async fn find_page(&self, tenant: TenantId, query: FindQuery) -> Result<FindPage> {
        let tables = self.tables.clone();
        self.database
            .read("event_store.find", Scope::Tenant(tenant), move |connection| {
                let (tables, query) = (tables.clone(), query.clone());
                Box::pin(async move {
                    let selection =
                        tables.select(connection, tenant, query.range, query.filter.as_ref()).await?;
                    let mut events = if selection.residual.is_some() {
                        sift(connection, &tables, tenant, &query).await?
                    } else {
                        page(connection, &tables, selection.clone(), &query).await?
                    };
                    let more = events.len() > query.limit;
                    events.truncate(query.limit);
                    let next = events
                        .last()
                        .filter(|_| more)
                        .map(|last| Cursor { timestamp: last.timestamp, id: last.id.clone() });
                    let total = match query.count_total {
                        false => None,
                        true => Some(count(connection, &tables, selection, tenant, &query).await?),
                    };
                    Ok(FindPage { events, next, total })
                })
            })
            .await
    }
}

/// Reads a page and one event more.
async fn page(
    connection: &mut PgConnection,
    tables: &Tables,
    mut selection: Selection,
    query: &FindQuery,
) -> Result<Vec<Event>, Fault> {
    let after = query.after.as_ref().map(|cursor| selection.after(query.order, cursor)).unwrap_or_default();
    let limit = selection.params.bind(Param::int8(saturating(query.limit.saturating_add(1))));
    let skip = selection.params.bind(Param::int8(saturating(query.skip)));
    let sql = format!(
        "select {columns} from {source} where {conditions}{after} {order} limit {limit} offset {skip}",
        columns = column_list("e."),
        source = selection.source(tables),
        conditions = selection.conditions,
        order = direction(query.order),
    );
    let rows = bound_once(sql, selection.params.as_slice()).fetch_all(connection).await?;
    rows.iter().map(event_of).collect()
}

/// As [`page`], for a filter that is evaluated here.
async fn sift(
    connection: &mut PgConnection,
    tables: &Tables,
    tenant: TenantId,
    query: &FindQuery,
) -> Result<Vec<Event>, Fault> {
    let mut skip = query.skip;
    let mut found = Vec::new();
    each_match(connection, tables, tenant, query, query.after.clone(), |event| {
        if skip > 0 {
            skip -= 1;
            return Ok(true);
        }
        found.push(event);
        Ok(found.len() <= query.limit)
    })
    .await?;
    Ok(found)
}

async fn count(
    connection: &mut PgConnection,
    tables: &Tables,
    selection: Selection,
    tenant: TenantId,
    query: &FindQuery,
) -> Result<u64, Fault> {
    if selection.residual.is_some() {
        let mut total = 0;
        each_match(connection, tables, tenant, query, None, |_| {
            total += 1;
            Ok(true)
        })
        .await?;
        return Ok(total);
    }
    let sql = format!("select count(*) from {} where {}", selection.source(tables), selection.conditions);
    let row = bound_once(sql, selection.params.as_slice()).fetch_one(connection).await?;
    Ok(u64::try_from(Columns::new(&row).int8()?).unwrap_or_default())
}

/// Calls `visit` for every match after a place, in the order of the query, until it returns false.
pub(super) async fn each_match(
    connection: &mut PgConnection,
    tables: &Tables,
    tenant: TenantId,
    query: &FindQuery,
    after: Option<Cursor>,
    mut visit: impl FnMut(Event) -> Result<bool, Fault> + Send,
) -> Result<(), Fault> {
    let mut after = after;
    let selection = tables.select(connection, tenant, query.range, query.filter.as_ref()).await?;
    let residual = selection.residual.clone();
    loop {
        let chunk = FindQuery {
            limit: CHUNK_ROWS - 1,
            skip: 0,
            order: query.order,
            after: after.take(),
            ..FindQuery::default()
        };
        let events = page(connection, tables, selection.clone(), &chunk).await?;
        let full = events.len() == CHUNK_ROWS;
        after = events.last().map(|last| Cursor { timestamp: last.timestamp, id: last.id.clone() });
        for event in events {
            if residual.as_ref().is_none_or(|filter| filter.matches(&event)) && !visit(event)? {
                return Ok(());
            }
        }
        if !full {
            return Ok(());
        }
    }
}

pub(crate) fn saturating(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
