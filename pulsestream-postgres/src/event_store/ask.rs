//! Aggregates.

use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use pulsestream_core::query::{
    AggregateQuery, AggregateRow, AggregateTable, Aggregator, Bucket, FindQuery, Order,
};
use pulsestream_core::time::TimeRange;
use sqlx::PgConnection;

use super::PostgresEventStore;
use super::read::{Selection, each_match, saturating};
use super::search::Tables;
use crate::database::{Scope, bound_once};
use crate::error::Fault;
use crate::sql::AggregateSql;
use crate::wire::{Columns, Param};

const OPERATION: &str = "event_store.aggregate";

/// What the server answered.
enum Answer {
    Table(AggregateTable),
    /// SQL does not express the question, or the server cannot compute with a value: the events are evaluated here.
    NotInSql,
}

impl PostgresEventStore {
    pub(super) async fn measure(&self, tenant: TenantId, query: AggregateQuery) -> Result<AggregateTable> {
        let tables = self.tables.clone();
        let answer = self
            .database
            .read(OPERATION, Scope::Tenant(tenant), {
                let (tables, query) = (tables.clone(), query.clone());
                move |connection| {
                    let (tables, query) = (tables.clone(), query.clone());
                    Box::pin(async move {
                        match in_sql(connection, &tables, tenant, &query).await {
                            // A sum beyond the largest double is an error for PostgreSQL, and infinite for everybody else.
                            Err(fault) if fault.is_data_exception() => Ok(Answer::NotInSql),
                            other => other,
                        }
                    })
                }
            })
            .await?;
        if let Answer::Table(table) = answer {
            return Ok(table);
        }
        self.database
            .read(OPERATION, Scope::Tenant(tenant), move |connection| {
                let (tables, query) = (tables.clone(), query.clone());
                Box::pin(async move {
                    let mut aggregator = Aggregator::new(&query)?;
                    let matches = FindQuery {
                        range: query.range,
                        filter: query.filter.clone(),
                        order: Order::OldestFirst,
                        ..FindQuery::default()
                    };
                    each_match(connection, &tables, tenant, &matches, None, |event| {
                        aggregator.add_event(&event)?;
                        Ok(true)
                    })
                    .await?;
                    Ok(aggregator.finish())
                })
            })
            .await
    }
}

async fn in_sql(
    connection: &mut PgConnection,
    tables: &Tables,
    tenant: TenantId,
    query: &AggregateQuery,
) -> Result<Answer, Fault> {
    let mut selection = tables.select(connection, tenant, query.range, query.filter.as_ref()).await?;
    if selection.residual.is_some() {
        return Ok(Answer::NotInSql);
    }
    let range = match &query.bucket {
        Some(Bucket::Calendar { .. }) => occupied(connection, &tables.events, tenant, query.range).await?,
        _ => query.range,
    };
    let Some(sql) = AggregateSql::new(query, range, &mut selection.params) else {
        return Ok(Answer::NotInSql);
    };
    let keys: Vec<String> = (1..=sql.keys).map(|key| key.to_string()).collect();
    let group_by = if keys.is_empty() { String::new() } else { format!(" group by {}", keys.join(", ")) };
    let limit = selection.params.bind(Param::int8(saturating(query.max_groups.max(1).saturating_add(1))));
    let text = format!(
        "select {select} from {source} where {conditions}{group_by} limit {limit}",
        select = sql.select,
        source = selection.source(tables),
        conditions = selection.conditions,
    );
    let found = bound_once(text, selection.params.as_slice()).fetch_all(connection).await?;
    let rows = found
        .iter()
        .map(|row| Ok(sql.row(query, Columns::new(row))?))
        .collect::<Result<Vec<AggregateRow>, Fault>>()?;
    // Without keys there is a row also over no events, which is no group.
    if rows.len() > query.max_groups && !(sql.keys == 0 && query.max_groups > 0) {
        return Err(Fault::Typed(
            Error::new(
                ErrorKind::TooLarge,
                OPERATION,
                "the question has too many groups; group by less, or shorten the range",
            )
            .with_context("max_groups", query.max_groups),
        ));
    }
    Ok(Answer::Table(AggregateTable::finish(query, rows)))
}

/// Returns the part of the range that holds events of the tenant.
async fn occupied(
    connection: &mut PgConnection,
    table: &str,
    tenant: TenantId,
    range: TimeRange,
) -> Result<TimeRange, Fault> {
    let selection = Selection::new(tenant, range, None);
    let sql = format!(
        "select min(e.\"timestamp\"), max(e.\"timestamp\") from {table} e where {}",
        selection.conditions
    );
    let row = bound_once(sql, selection.params.as_slice()).fetch_one(connection).await?;
    let mut columns = Columns::new(&row);
    Ok(match (columns.optional_timestamp()?, columns.optional_timestamp()?) {
        (Some(first), Some(last)) => {
            TimeRange::new(first, last.plus(std::time::Duration::from_micros(1)).min(range.end))
        }
        _ => TimeRange::new(range.start, range.start),
    })
}
