//! Measuring events.

use axum::extract::State;
use pulsestream_core::event::{FieldPath, Value};
use pulsestream_core::query::{AggregateOrder, AggregateQuery, Bucket, Measure, OrderKey};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{Error, FieldError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Json;
use crate::number::finite;

/// What to measure.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "range": {"from": "2026-01-01T00:00:00Z"}, "group_by": ["source.service"], "bucket": "1h",
    "measures": ["count", "p95(metrics.response_time_ms)"]
}))]
pub(super) struct AggregateIn {
    range: RangeIn,
    /// A condition in the filter language.
    filter: Option<String>,
    /// Paths such as `source.service`.
    #[serde(default)]
    #[schema(max_items = 3)]
    group_by: Vec<String>,
    /// A length such as `5m`, or `day`, `week` or `month`, with ` in ZONE`.
    bucket: Option<String>,
    /// `count`, `rate`, `error_rate`, or `count_distinct`, `sum`, `avg`, `min`, `max`, `pNN` of a path in parentheses.
    #[serde(default = "count")]
    #[schema(min_items = 1, max_items = 32)]
    measures: Vec<String>,
    order: Option<OrderIn>,
    /// How many rows at most, after ordering.
    #[schema(minimum = 1, maximum = 1000000)]
    limit: Option<usize>,
    /// Whether percentiles and distinct counts may be estimates.
    #[serde(default)]
    approximate: bool,
}

fn count() -> Vec<String> {
    vec!["count".to_owned()]
}

/// When the events happened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RangeIn {
    /// The first instant inside.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first instant after; now, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// The order of the rows.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderIn {
    /// `bucket`, `group`, or one of the measures.
    by: String,
    #[serde(default)]
    descending: bool,
}

/// What was measured.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AggregateOut {
    /// The paths of `group` in each row.
    group_by: Vec<String>,
    /// The measures of `values` in each row.
    measures: Vec<String>,
    rows: Vec<RowOut>,
    /// How many rows there were before the limit.
    total_rows: usize,
}

/// One row.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AggregateRow)]
struct RowOut {
    /// Start of the bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    bucket: Option<Timestamp>,
    #[schema(value_type = Vec<serde_json::Value>)]
    group: Vec<Value>,
    /// Null where there was nothing to measure; a sum beyond the largest number is that number.
    values: Vec<Option<f64>>,
}

pub(super) async fn aggregate(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<AggregateIn>,
) -> Answer<axum::Json<AggregateOut>> {
    let query = query(&app, &body)?;
    query.validate()?;
    let table = app.ps.event_store().aggregate(caller.tenant(), &query).await?;
    // JSON has no infinity.
    let shown = |values: Vec<Option<f64>>| values.into_iter().map(|it| it.map(finite)).collect();
    let rows = table.rows.into_iter();
    Ok(axum::Json(AggregateOut {
        group_by: query.group_by.iter().map(ToString::to_string).collect(),
        measures: query.measures.iter().map(ToString::to_string).collect(),
        rows: rows
            .map(|row| RowOut { bucket: row.bucket, group: row.group, values: shown(row.values) })
            .collect(),
        total_rows: table.total_rows,
    }))
}

/// Reads every part, and tells everything that is wrong with them at once.
fn query(app: &App, body: &AggregateIn) -> Answer<AggregateQuery> {
    let mut refusals = Vec::new();
    let settings = &app.settings().query;
    let range = TimeRange::new(body.range.from, body.range.to.unwrap_or_else(|| app.ps.env().now()));
    if range.is_empty() {
        refusals.push(FieldError::new("/range/to", "out_of_range", "must be after from"));
    }
    refusals.extend(settings.refuse_range(range));
    let filter = super::filter(body.filter.as_deref(), "/filter").unwrap_or_else(|field| {
        refusals.push(field);
        None
    });
    let mut group_by = Vec::new();
    for (index, path) in body.group_by.iter().enumerate() {
        let read = path.parse::<FieldPath>();
        group_by.extend(read.map_err(|error| refuse(&mut refusals, format!("/group_by/{index}"), &error)));
    }
    let mut measures = Vec::new();
    for (index, measure) in body.measures.iter().enumerate() {
        let read = measure.parse::<Measure>();
        measures.extend(read.map_err(|error| refuse(&mut refusals, format!("/measures/{index}"), &error)));
    }
    let bucket = body.bucket.as_deref().map(str::parse::<Bucket>).transpose().unwrap_or_else(|error| {
        refuse(&mut refusals, "/bucket".to_owned(), &error);
        None
    });
    let order = body.order.as_ref().map_or_else(AggregateOrder::default, |order| {
        let by = order_key(&order.by, &measures).unwrap_or_else(|| {
            let message = "must be bucket, group or one of the measures";
            refusals.push(FieldError::new("/order/by", "unknown_value", message));
            OrderKey::Bucket
        });
        AggregateOrder { by, descending: order.descending }
    });
    if !refusals.is_empty() {
        return Err(Failure::invalid_body(refusals));
    }
    let (max_groups, approximate) = (settings.max_groups, body.approximate);
    Ok(AggregateQuery {
        range,
        filter,
        group_by,
        bucket,
        measures,
        order,
        limit: body.limit,
        max_groups,
        approximate,
    })
}

fn refuse(refusals: &mut Vec<FieldError>, pointer: String, error: &Error) {
    let code = error.fields().first().map_or("invalid".into(), |field| field.code.clone());
    refusals.push(FieldError::new(pointer, code, error.message()));
}

fn order_key(text: &str, measures: &[Measure]) -> Option<OrderKey> {
    match text {
        "bucket" => Some(OrderKey::Bucket),
        "group" => Some(OrderKey::Group),
        _ => {
            let wanted: Measure = text.parse().ok()?;
            measures.iter().position(|measure| *measure == wanted).map(OrderKey::Measure)
        }
    }
}
