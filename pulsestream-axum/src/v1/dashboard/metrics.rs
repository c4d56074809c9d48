//! Volume, errors and the busiest endpoints of the last while.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pulsestream_core::FieldError;
use pulsestream_core::event::FieldPath;
use pulsestream_core::filter::{Expr, Filter};
use pulsestream_core::id::TenantId;
use pulsestream_core::query::{AggregateOrder, AggregateQuery, AggregateRow, Bucket, Measure, OrderKey};
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::aged;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Query;

const MINUTE: Duration = Duration::from_secs(60);
/// The longest window: thirty days, which are 43,200 minutes.
const MAX_WINDOW: Duration = Duration::from_secs(30 * 86_400);
const MAX_BUCKETS: usize = 43_202;
const TOP_ENDPOINTS: usize = 10;

/// How far back to look.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RealTimeQuery {
    /// A number with `s`, `m`, `h` or `d`; up to `30d`.
    #[serde(default = "one_hour")]
    #[schema(max_length = 20, default = "1h")]
    time_window: String,
}

fn one_hour() -> String {
    "1h".to_owned()
}

/// What happened in the window.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RealTimeAnswer {
    success: bool,
    data: RealTime,
}

#[derive(Debug, Serialize, ToSchema)]
struct RealTime {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    time_window: String,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// Minutes with events.
    event_volume: Vec<Volume>,
    error_trend: Vec<Errors>,
    top_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Volume {
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    count: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Errors {
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    total: u64,
    errors: u64,
    /// Percent.
    error_rate: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Endpoint {
    endpoint: String,
    request_count: u64,
    /// Milliseconds.
    avg_response_time: Option<f64>,
    error_count: u64,
    /// Percent.
    error_rate: f64,
}

pub(super) async fn real_time(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RealTimeQuery>,
) -> Answer<Response> {
    let tenant = caller.tenant();
    let window = span(&query.time_window)?;
    let key = format!("v1:real-time:{}", window.as_secs());
    let work = async {
        let until = app.ps.env().now();
        let range = TimeRange::new(until.minus(window), until.plus(Duration::from_micros(1)));
        let (minutes, endpoints) =
            tokio::try_join!(minutes(&app, tenant, range), endpoints(&app, tenant, range))?;
        let data = RealTime {
            tenant_id: tenant,
            time_window: query.time_window,
            since: range.start,
            until,
            event_volume: minutes
                .iter()
                .map(|(timestamp, it)| Volume { timestamp: *timestamp, count: it.total })
                .collect(),
            error_trend: minutes
                .into_iter()
                .map(|(timestamp, it)| Errors {
                    timestamp,
                    total: it.total,
                    errors: it.errors(),
                    error_rate: it.share * 100.0,
                })
                .collect(),
            top_endpoints: endpoints,
        };
        Ok(RealTimeAnswer { success: true, data })
    };
    aged::answer(&app, tenant, &key, work).await
}

/// Reads `90s`, `15m`, `1h`, `7d`.
fn span(text: &str) -> Answer<Duration> {
    let refuse = || {
        let message = "must be a number with s, m, h or d, from 1s to 30d";
        Failure::invalid_query(vec![FieldError::new("/time_window", "invalid_time_window", message)])
    };
    let unit = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => return Err(refuse()),
    };
    let digits = &text[..text.len() - 1];
    let number =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let span = number.and_then(|number| number.checked_mul(unit)).map(Duration::from_secs);
    span.filter(|span| !span.is_zero() && *span <= MAX_WINDOW).ok_or_else(refuse)
}

/// Count and share of errors of some events.
struct Shared {
    total: u64,
    share: f64,
}

impl Shared {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count is a whole number, not negative"
    )]
    fn of(row: &AggregateRow) -> Self {
        let value = |index: usize| row.values.get(index).copied().flatten().unwrap_or_default();
        Self { total: value(0) as u64, share: value(1) }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count is a count"
    )]
    fn errors(&self) -> u64 {
        (self.total as f64 * self.share).round() as u64
    }
}

async fn minutes(app: &App, tenant: TenantId, range: TimeRange) -> Answer<Vec<(Timestamp, Shared)>> {
    let query = AggregateQuery {
        range,
        bucket: Some(Bucket::Fixed(MINUTE)),
        measures: vec![Measure::Count, Measure::ErrorRate],
        max_groups: MAX_BUCKETS,
        ..AggregateQuery::default()
    };
    let table = app.ps.event_store().aggregate(tenant, &query).await?;
    Ok(table.rows.iter().filter_map(|row| row.bucket.map(|start| (start, Shared::of(row)))).collect())
}

async fn endpoints(app: &App, tenant: TenantId, range: TimeRange) -> Answer<Vec<Endpoint>> {
    let query = AggregateQuery {
        range,
        filter: Some(Filter::new(Expr::Exists(FieldPath::SourceEndpoint))?),
        group_by: vec![FieldPath::SourceEndpoint],
        measures: vec![Measure::Count, Measure::ErrorRate, Measure::Avg(FieldPath::ResponseTimeMs)],
        order: AggregateOrder { by: OrderKey::Measure(0), descending: true },
        limit: Some(TOP_ENDPOINTS),
        max_groups: app.settings().query.max_groups,
        ..AggregateQuery::default()
    };
    let table = app.ps.event_store().aggregate(tenant, &query).await?;
    let endpoint = |row: &AggregateRow| {
        let shared = Shared::of(row);
        Endpoint {
            endpoint: row.group.first().map(ToString::to_string).unwrap_or_default(),
            request_count: shared.total,
            avg_response_time: row.values.get(2).copied().flatten(),
            error_count: shared.errors(),
            error_rate: shared.share * 100.0,
        }
    };
    Ok(table.rows.iter().map(endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("30d", 2_592_000)] {
            assert_eq!(span(text).unwrap(), Duration::from_secs(seconds));
        }
        for bad in ["", "h", "0s", "31d", "1w", "-1h", "1.5h", "99999999999999999999d", "1h ", "\u{e9}"] {
            assert_eq!(span(bad).unwrap_err().status().as_u16(), 422, "{bad}");
        }
    }
}
