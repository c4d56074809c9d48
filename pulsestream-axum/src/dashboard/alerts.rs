//! Alerts, counted.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pulsestream_core::alerting::AlertSeverity;
use pulsestream_core::id::{AlertId, TenantId};
use pulsestream_core::ports::alert_store::AlertQuery;
use pulsestream_core::text::Text;
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::aged;
use crate::app::App;
use crate::failure::Answer;
use crate::v1::alerting::{message, title, triggered_at};

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Alerts by severity, the latest of them, and how that changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardAlertSummary)]
pub(crate) struct AlertSummary {
    pub(super) total_alerts: u64,
    pub(super) critical_count: u64,
    pub(super) warning_count: u64,
    pub(super) info_count: u64,
    recent_alerts: Vec<RecentAlert>,
    alert_trends: AlertTrends,
    #[schema(value_type = String, format = DateTime)]
    last_updated: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardRecentAlert)]
struct RecentAlert {
    #[schema(value_type = String)]
    id: AlertId,
    title: String,
    /// `info`, `warning` or `critical`.
    severity: &'static str,
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    triggered_at: Timestamp,
    #[schema(value_type = String)]
    rule_name: Text,
    message: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardAlertTrends)]
struct AlertTrends {
    total_alerts: u64,
    critical_count: u64,
    warning_count: u64,
    info_count: u64,
    /// Started in the last 24 hours.
    alerts_today: u64,
    /// Started in the last 7 days.
    alerts_this_week: u64,
    /// Started in the last 30 days.
    alerts_this_month: u64,
    /// `increasing`, `decreasing` or `stable`: the last 7 days against the 7 before.
    trend_direction: &'static str,
}

/// The three severities of version 2.
pub(super) fn severity(severity: AlertSeverity) -> &'static str {
    match severity {
        AlertSeverity::Low => "info",
        AlertSeverity::Medium => "warning",
        AlertSeverity::High | AlertSeverity::Critical => "critical",
    }
}

pub(super) async fn get(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let tenant = caller.tenant();
    aged::answer(&app, tenant, "v2:alerts", summary(&app, tenant)).await
}

/// Sums the alerts of a tenant up.
pub(super) async fn summary(app: &App, tenant: TenantId) -> Answer<AlertSummary> {
    let now = app.ps.env().now();
    let counts = app.ps.alert_store().alert_counts(tenant).await?;
    let of =
        |name: &str| counts.iter().filter(|it| severity(it.severity) == name).map(|it| it.count).sum::<u64>();
    let (critical, warning, info) = (of("critical"), of("warning"), of("info"));
    let recent = AlertQuery { limit: 10, ..AlertQuery::default() };
    let recent = app.ps.alert_store().alerts(tenant, &recent).await?.alerts;
    let (today, week, month) = tokio::try_join!(
        started(app, tenant, app.last(DAY)),
        started(app, tenant, app.last(WEEK)),
        started(app, tenant, app.last(MONTH)),
    )?;
    let before = started(app, tenant, TimeRange::last(WEEK, app.last(WEEK).start)).await?;
    Ok(AlertSummary {
        total_alerts: critical + warning + info,
        critical_count: critical,
        warning_count: warning,
        info_count: info,
        recent_alerts: recent
            .iter()
            .map(|alert| RecentAlert {
                id: alert.id,
                title: title(alert),
                severity: severity(alert.severity),
                status: alert.v1_status(),
                triggered_at: triggered_at(alert),
                rule_name: alert.rule_name.clone(),
                message: message(alert),
            })
            .collect(),
        alert_trends: AlertTrends {
            total_alerts: critical + warning + info,
            critical_count: critical,
            warning_count: warning,
            info_count: info,
            alerts_today: today,
            alerts_this_week: week,
            alerts_this_month: month,
            trend_direction: match week.cmp(&before) {
                std::cmp::Ordering::Less => "decreasing",
                std::cmp::Ordering::Equal => "stable",
                std::cmp::Ordering::Greater => "increasing",
            },
        },
        last_updated: now,
    })
}

async fn started(app: &App, tenant: TenantId, range: TimeRange) -> Answer<u64> {
    let query = AlertQuery { range: Some(range), limit: 1, count_total: true, ..AlertQuery::default() };
    Ok(app.ps.alert_store().alerts(tenant, &query).await?.total.unwrap_or_default())
}
