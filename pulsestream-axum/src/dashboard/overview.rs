//! The health of a tenant's system, with its causes.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use pulsestream_core::event::FieldPath;
use pulsestream_core::id::TenantId;
use pulsestream_core::query::Measure;
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{Error, ErrorKind};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::alerts::{self, AlertSummary};
use super::performance::{self, HOUR, Performance};
use crate::access::Caller;
use crate::aged;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Params;
use crate::service::HealthStatus;

/// The percentages of errors from which a service is in `warning` and `critical`.
const WARNING_PERCENT: f64 = 5.0;
const CRITICAL_PERCENT: f64 = 20.0;

/// Everything in brief.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardOverview)]
pub(crate) struct Overview {
    pub(super) system_health: SystemHealth,
    pub(super) alert_summary: AlertSummary,
    pub(super) performance_summary: Performance,
    #[schema(value_type = String, format = DateTime)]
    pub(super) last_updated: Timestamp,
}

/// How the services of the tenant are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SystemHealth {
    /// The worst of the services and of PulseStream itself.
    pub(super) overall_status: SystemStatus,
    /// Services by the share of errors in their events of the last hour; `pulsestream` is this server.
    pub(super) services: BTreeMap<String, SystemStatus>,
    pub(super) performance_metrics: Vec<PerformanceMetric>,
    #[schema(value_type = String, format = DateTime)]
    last_check: Timestamp,
    uptime_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SystemStatus {
    Healthy,
    Warning,
    Critical,
}

/// A number of the last hour beside that of the hour before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PerformanceMetric {
    pub(super) metric_name: &'static str,
    pub(super) current_value: f64,
    pub(super) previous_value: f64,
    /// Of the previous value; null when that is zero.
    pub(super) change_percentage: Option<f64>,
    /// `up`, `down` or `stable`.
    trend: &'static str,
    pub(super) unit: &'static str,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

impl PerformanceMetric {
    fn new(
        metric_name: &'static str,
        unit: &'static str,
        current: f64,
        previous: f64,
        timestamp: Timestamp,
    ) -> Self {
        Self {
            metric_name,
            current_value: current,
            previous_value: previous,
            change_percentage: (previous != 0.0).then(|| (current - previous) * 100.0 / previous),
            trend: match current.total_cmp(&previous) {
                std::cmp::Ordering::Less => "down",
                std::cmp::Ordering::Equal => "stable",
                std::cmp::Ordering::Greater => "up",
            },
            unit,
            timestamp,
        }
    }
}

/// Names the overview in the cache.
pub(super) const KEPT: &str = "v2:overview";

pub(super) async fn get(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let tenant = caller.tenant();
    aged::answer(&app, tenant, KEPT, overview(&app, tenant)).await
}

/// Puts the overview of a tenant together.
pub(super) async fn overview(app: &App, tenant: TenantId) -> Answer<Overview> {
    let (system_health, alert_summary, performance_summary) = tokio::try_join!(
        system_health(app, tenant),
        alerts::summary(app, tenant),
        performance::performance(app, tenant, app.last(HOUR)),
    )?;
    Ok(Overview { system_health, alert_summary, performance_summary, last_updated: app.ps.env().now() })
}

async fn system_health(app: &App, tenant: TenantId) -> Answer<SystemHealth> {
    let range = app.last(HOUR);
    let (rates, now, before) = tokio::try_join!(
        performance::by(app, tenant, range, FieldPath::SourceService, Measure::ErrorRate),
        performance::performance(app, tenant, range),
        performance::performance(app, tenant, TimeRange::last(HOUR, range.start)),
    )?;
    let of_rate = |share: f64| match share * 100.0 {
        percent if percent >= CRITICAL_PERCENT => SystemStatus::Critical,
        percent if percent >= WARNING_PERCENT => SystemStatus::Warning,
        _ => SystemStatus::Healthy,
    };
    let mut services: BTreeMap<_, _> =
        rates.into_iter().map(|(name, share)| (name, of_rate(share))).collect();
    let own = match app.health_status().await {
        HealthStatus::Healthy => SystemStatus::Healthy,
        HealthStatus::Degraded => SystemStatus::Warning,
        HealthStatus::Unhealthy => SystemStatus::Critical,
    };
    services.entry("pulsestream".to_owned()).and_modify(|status| *status = own.max(*status)).or_insert(own);
    let at = app.ps.env().now();
    let response_time = |it: Performance| it.avg_response_time_ms.unwrap_or_default();
    Ok(SystemHealth {
        overall_status: services.values().copied().max().unwrap_or(own),
        performance_metrics: vec![
            PerformanceMetric::new(
                "throughput",
                "events/s",
                now.events_per_second,
                before.events_per_second,
                at,
            ),
            PerformanceMetric::new("error_rate", "%", now.error_rate, before.error_rate, at),
            PerformanceMetric::new("avg_response_time", "ms", response_time(now), response_time(before), at),
        ],
        services,
        last_check: at,
        uptime_seconds: app.ps.uptime().as_secs(),
    })
}

/// The data of one widget.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Widget {
    widget_id: String,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(value_type = Object)]
    data: Value,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

pub(super) async fn widget(State(app): State<App>, caller: Caller, params: Params) -> Answer<Response> {
    let (tenant, id) = (caller.tenant(), params.text("widget")?);
    if !matches!(id, "alerts" | "metrics" | "health" | "performance") {
        return Err(Failure::not_found("dashboard.widget", "there is no such widget"));
    }
    aged::answer(&app, tenant, &format!("v2:widget:{id}"), computed(&app, tenant, id)).await
}

async fn computed(app: &App, tenant: TenantId, id: &str) -> Answer<Widget> {
    let data = match id {
        "alerts" => serde_json::to_value(alerts::summary(app, tenant).await?),
        "metrics" => serde_json::to_value(performance::real_time_of(app, tenant).await?),
        "health" => serde_json::to_value(system_health(app, tenant).await?),
        _ => serde_json::to_value(performance::performance(app, tenant, app.last(HOUR)).await?),
    };
    let data = data.map_err(|error| {
        Error::new(ErrorKind::Internal, "dashboard.widget", "the data cannot be written").with_source(error)
    })?;
    Ok(Widget { widget_id: id.to_owned(), tenant_id: tenant, data, timestamp: app.ps.env().now() })
}
