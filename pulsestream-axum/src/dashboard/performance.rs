//! Volume, throughput, response times and error rates.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pulsestream_core::event::FieldPath;
use pulsestream_core::filter::{Expr, Filter};
use pulsestream_core::id::TenantId;
use pulsestream_core::query::{AggregateOrder, AggregateQuery, AggregateRow, Bucket, Measure, OrderKey};
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::aged;
use crate::app::App;
use crate::failure::Answer;
use crate::number::finite;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// Endpoints and services that are listed: those with the most events.
const MOST: usize = 50;

/// The last hour.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardRealTime)]
pub(crate) struct RealTime {
    /// Events by the minute they happened in.
    event_volume: BTreeMap<String, u64>,
    /// Mean milliseconds by endpoint.
    response_times: BTreeMap<String, f64>,
    /// Percent of the events that are errors, by service.
    error_rates: BTreeMap<String, f64>,
    /// Events per second over whole minutes, by minute.
    throughput: BTreeMap<String, f64>,
    #[schema(value_type = String, format = DateTime)]
    last_updated: Timestamp,
}

pub(super) async fn real_time(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let tenant = caller.tenant();
    aged::answer(&app, tenant, "v2:real-time", real_time_of(&app, tenant)).await
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count is a whole number, not negative"
)]
pub(super) async fn real_time_of(app: &App, tenant: TenantId) -> Answer<RealTime> {
    let range = app.last(HOUR);
    let minutes = AggregateQuery {
        range,
        bucket: Some(Bucket::Fixed(MINUTE)),
        measures: vec![Measure::Count],
        ..AggregateQuery::default()
    };
    let (minutes, response_times, error_rates) = tokio::try_join!(
        async { Ok(app.ps.event_store().aggregate(tenant, &minutes).await?) },
        by(app, tenant, range, FieldPath::SourceEndpoint, Measure::Avg(FieldPath::ResponseTimeMs)),
        by(app, tenant, range, FieldPath::SourceService, Measure::ErrorRate),
    )?;
    let by_minute = |row: &AggregateRow| {
        let value = row.values.first().copied().flatten().unwrap_or_default();
        row.bucket.map(|start| (start.to_string(), value))
    };
    Ok(RealTime {
        event_volume: minutes.rows.iter().filter_map(by_minute).map(|(at, n)| (at, n as u64)).collect(),
        response_times,
        error_rates: error_rates.into_iter().map(|(name, share)| (name, share * 100.0)).collect(),
        throughput: minutes
            .rows
            .iter()
            .filter_map(by_minute)
            .map(|(at, n)| (at, n / MINUTE.as_secs_f64()))
            .collect(),
        last_updated: app.ps.env().now(),
    })
}

/// Measures the most frequent values of a field.
pub(super) async fn by(
    app: &App,
    tenant: TenantId,
    range: TimeRange,
    field: FieldPath,
    measure: Measure,
) -> Answer<BTreeMap<String, f64>> {
    let query = AggregateQuery {
        range,
        filter: Some(Filter::new(Expr::Exists(field.clone()))?),
        group_by: vec![field],
        measures: vec![Measure::Count, measure],
        order: AggregateOrder { by: OrderKey::Measure(0), descending: true },
        limit: Some(MOST),
        max_groups: app.settings().query.max_groups,
        ..AggregateQuery::default()
    };
    let table = app.ps.event_store().aggregate(tenant, &query).await?;
    let named = |row: &AggregateRow| {
        let name = row.group.first()?.to_string();
        Some((name, row.values.get(1).copied().flatten().map(finite)?))
    };
    Ok(table.rows.iter().filter_map(named).collect())
}

/// How a range went.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Performance {
    events: u64,
    pub(super) events_per_second: f64,
    /// Percent.
    pub(super) error_rate: f64,
    pub(super) avg_response_time_ms: Option<f64>,
    pub(super) p95_response_time_ms: Option<f64>,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count is a whole number, not negative"
)]
pub(super) async fn performance(app: &App, tenant: TenantId, range: TimeRange) -> Answer<Performance> {
    let path = FieldPath::ResponseTimeMs;
    let measures = vec![
        Measure::Count,
        Measure::Rate,
        Measure::ErrorRate,
        Measure::Avg(path.clone()),
        Measure::Percentile { path, millipercent: 95_000 },
    ];
    let query = AggregateQuery { range, measures, ..AggregateQuery::default() };
    let table = app.ps.event_store().aggregate(tenant, &query).await?;
    let value = |index: usize| {
        table.rows.first().and_then(|row| row.values.get(index).copied().flatten()).map(finite)
    };
    Ok(Performance {
        events: value(0).unwrap_or_default() as u64,
        events_per_second: value(1).unwrap_or_default(),
        error_rate: value(2).unwrap_or_default() * 100.0,
        avg_response_time_ms: value(3),
        p95_response_time_ms: value(4),
    })
}
