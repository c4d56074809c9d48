//! Reading projected columns.

use std::sync::Arc;

use async_trait::async_trait;
use pulsestream_core::error::Result;
use pulsestream_core::event::Value;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::EventScan;
use pulsestream_core::query::{Column, ColumnBatch, Cursor, Order, ScanQuery};
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use sqlx::PgConnection;

use super::read::{direction, saturating};
use super::search::Tables;
use crate::database::{Database, Scope, bound_once};
use crate::error::Fault;
use crate::event_row::{column_list, event_from};
use crate::sql::{Field, ScanColumn, field};
use crate::wire::{Columns, Param};

/// Reads each batch in a transaction of its own, from where the last one ended: no transaction stays open while the caller works
/// on a batch, and events that are appended meanwhile may appear.
#[derive(Debug)]
pub(super) struct PostgresScan {
    database: Arc<Database>,
    tables: Tables,
    tenant: TenantId,
    query: Arc<ScanQuery>,
    after: Option<Cursor>,
    finished: bool,
}

/// The rows of one batch, and where they end.
struct Batch {
    rows: Vec<(Timestamp, Vec<Value>)>,
    end: Option<Cursor>,
    finished: bool,
}

impl PostgresScan {
    pub(super) fn new(database: Arc<Database>, tables: Tables, tenant: TenantId, query: ScanQuery) -> Self {
        Self { database, tables, tenant, query: Arc::new(query), after: None, finished: false }
    }
}

#[async_trait]
impl EventScan for PostgresScan {
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>> {
        while !self.finished {
            let tables = self.tables.clone();
            let (tenant, query, after) = (self.tenant, self.query.clone(), self.after.clone());
            let batch = self
                .database
                .read("event_store.scan", Scope::Tenant(tenant), move |connection| {
                    let (tables, query, after) = (tables.clone(), query.clone(), after.clone());
                    Box::pin(async move { next(connection, &tables, tenant, &query, after).await })
                })
                .await?;
            self.finished = batch.finished;
            if batch.end.is_some() {
                self.after = batch.end;
            }
            // All rows of a batch may have been sifted out.
            if !batch.rows.is_empty() {
                return Ok(Some(transpose(batch.rows, self.query.columns.len())));
            }
        }
        Ok(None)
    }
}

async fn next(
    connection: &mut PgConnection,
    tables: &Tables,
    tenant: TenantId,
    query: &ScanQuery,
    after: Option<Cursor>,
) -> Result<Batch, Fault> {
    let mut selection = tables.select(connection, tenant, query.range, query.filter.as_ref()).await?;
    let after = after.map(|cursor| selection.after(Order::OldestFirst, &cursor)).unwrap_or_default();
    let limit = selection.params.bind(Param::int8(saturating(query.batch_rows)));
    let fields: Option<Vec<Field>> =
        query.columns.iter().map(|path| field(path, &mut selection.params)).collect();
    let projection: Option<Vec<(String, ScanColumn)>> = fields
        .filter(|_| selection.residual.is_none())
        .map(|fields| fields.iter().map(Field::column).collect());
    let columns = match &projection {
        Some(projection) => {
            let own = ["e.\"timestamp\"", "e.id"].into_iter();
            own.chain(projection.iter().map(|(expression, _)| expression.as_str()))
                .collect::<Vec<_>>()
                .join(", ")
        }
        None => column_list("e."),
    };
    let sql = format!(
        "select {columns} from {source} where {conditions}{after} {order} limit {limit}",
        source = selection.source(tables),
        conditions = selection.conditions,
        order = direction(Order::OldestFirst),
    );
    let found = bound_once(sql, selection.params.as_slice()).fetch_all(connection).await?;
    let mut batch =
        Batch { rows: Vec::with_capacity(found.len()), end: None, finished: found.len() < query.batch_rows };
    for row in &found {
        let mut columns = Columns::new(row);
        let (timestamp, id, values) = match &projection {
            Some(projection) => {
                let (timestamp, id) = (columns.timestamp()?, EventId::new(columns.str()?)?);
                let values = projection.iter().map(|(_, kind)| kind.read(&mut columns)).collect::<Result<
                    Vec<_>,
                    sqlx::Error,
                >>(
                )?;
                (timestamp, id, Some(values))
            }
            None => {
                let event = event_from(&mut columns)?;
                let is_match = selection.residual.as_ref().is_none_or(|filter| filter.matches(&event));
                let values = is_match.then(|| {
                    query.columns.iter().map(|path| path.value(&event).to_value()).collect::<Vec<_>>()
                });
                (event.timestamp, event.id, values)
            }
        };
        batch.end = Some(Cursor { timestamp, id });
        if let Some(values) = values {
            batch.rows.push((timestamp, values));
        }
    }
    Ok(batch)
}

fn transpose(rows: Vec<(Timestamp, Vec<Value>)>, width: usize) -> ColumnBatch {
    let mut timestamps = Vec::with_capacity(rows.len());
    let mut columns: Vec<Vec<Value>> = (0..width).map(|_| Vec::with_capacity(rows.len())).collect();
    for (timestamp, values) in rows {
        timestamps.push(timestamp);
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(value);
        }
    }
    ColumnBatch { timestamps, columns: columns.into_iter().map(typed).collect() }
}

/// Gives a column the type of its values, when they have one.
fn typed(values: Vec<Value>) -> Column {
    let all = |is_kind: fn(&Value) -> bool| {
        values.iter().all(|value| matches!(value, Value::Missing) || is_kind(value))
    };
    if all(|value| matches!(value, Value::Number(_))) {
        return Column::Numbers(values.iter().map(Value::as_number).collect());
    }
    if all(|value| matches!(value, Value::Text(_))) {
        return dictionary(values);
    }
    if all(|value| matches!(value, Value::Bool(_))) {
        let flag = |value: &Value| if let Value::Bool(flag) = value { Some(*flag) } else { None };
        return Column::Bools(values.iter().map(flag).collect());
    }
    Column::Values(values)
}

fn dictionary(values: Vec<Value>) -> Column {
    let mut codes_of: std::collections::HashMap<Text, u32> = std::collections::HashMap::new();
    let mut dictionary = Vec::new();
    let codes = values
        .into_iter()
        .map(|value| {
            let Value::Text(text) = value else { return None };
            Some(*codes_of.entry(text).or_insert_with_key(|text| {
                dictionary.push(text.clone());
                u32::try_from(dictionary.len() - 1).unwrap_or(u32::MAX)
            }))
        })
        .collect();
    Column::Texts { dictionary, codes }
}
