//! What the dashboard shows at once.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pulsestream_core::alerting::{AlertSeverity, AlertState};
use pulsestream_core::event::{Event, FieldPath, JsonObject};
use pulsestream_core::id::{AlertId, EventId, TenantId};
use pulsestream_core::ports::alert_store::{AlertCount, AlertQuery, RuleQuery};
use pulsestream_core::query::{AggregateQuery, FindQuery, Measure};
use pulsestream_core::text::Text;
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::aged;
use crate::app::App;
use crate::failure::Answer;
use crate::input::Query;
use crate::v1::alerting::{AlertSeverityName, title, triggered_at};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Everything in brief.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OverviewAnswer {
    success: bool,
    data: Overview,
    #[schema(value_type = String)]
    tenant_id: TenantId,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    total_events: u64,
    /// Since midnight UTC.
    events_today: u64,
    events_last_hour: u64,
    /// Over the last hour.
    events_per_second: f64,
    /// Percent of the events of the last 24 hours.
    error_rate: f64,
    /// Milliseconds, over the last 24 hours.
    avg_response_time: Option<f64>,
    active_alerts: u64,
    total_rules: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    generated_at: Timestamp,
}

pub(super) async fn overview(State(app): State<App>, caller: Caller) -> Answer<Response> {
    let tenant = caller.tenant();
    let work = async {
        Ok(OverviewAnswer { success: true, data: overview_of(&app, tenant).await?, tenant_id: tenant })
    };
    aged::answer(&app, tenant, "v1:overview", work).await
}

/// Sums a tenant up.
pub(super) async fn overview_of(app: &App, tenant: TenantId) -> Answer<Overview> {
    let now = app.ps.env().now();
    let today = TimeRange::new(now.floor(DAY), now.floor(DAY).plus(DAY));
    let (total, today, hour, day, last, response_time, active, rules) = tokio::try_join!(
        app.counted(tenant, TimeRange::ALL),
        app.counted(tenant, today),
        app.counted(tenant, app.last(HOUR)),
        app.counted(tenant, app.last(DAY)),
        app.last_event_at(tenant),
        average_response_time(app, tenant, app.last(DAY)),
        active_counts(app, tenant),
        rule_count(app, tenant),
    )?;
    Ok(Overview {
        total_events: total.events,
        events_today: today.events,
        events_last_hour: hour.events,
        events_per_second: hour.rate,
        error_rate: day.error_rate * 100.0,
        avg_response_time: response_time,
        active_alerts: active.iter().map(|it| it.count).sum(),
        total_rules: rules,
        last_event_at: last,
        generated_at: now,
    })
}

async fn average_response_time(app: &App, tenant: TenantId, range: TimeRange) -> Answer<Option<f64>> {
    let measures = vec![Measure::Avg(FieldPath::ResponseTimeMs)];
    let query = AggregateQuery { range, measures, ..AggregateQuery::default() };
    let table = app.ps.event_store().aggregate(tenant, &query).await?;
    Ok(table.rows.first().and_then(|row| row.values.first().copied().flatten()))
}

/// Counts the alerts that fire and are not suppressed.
async fn active_counts(app: &App, tenant: TenantId) -> Answer<Vec<AlertCount>> {
    let mut counts = app.ps.alert_store().alert_counts(tenant).await?;
    let fires = |state| matches!(state, AlertState::Firing | AlertState::Recovering | AlertState::NoData);
    counts.retain(|it| fires(it.state) && !it.suppressed);
    Ok(counts)
}

async fn rule_count(app: &App, tenant: TenantId) -> Answer<u64> {
    let query = RuleQuery { limit: 1, ..RuleQuery::default() };
    Ok(app.ps.alert_store().rules(tenant, &query).await?.total)
}

/// How many of the latest events to return.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct StreamQuery {
    #[serde(default = "fifty")]
    #[schema(minimum = 1, maximum = 1000, default = 50)]
    limit: usize,
}

const fn fifty() -> usize {
    50
}

/// The latest events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamAnswer {
    success: bool,
    events: Vec<StreamEvent>,
    /// How many there are in this answer.
    total_count: usize,
    #[schema(value_type = String)]
    tenant_id: TenantId,
}

/// An event in brief.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamEvent {
    #[schema(value_type = String)]
    id: EventId,
    #[schema(value_type = String)]
    event_type: Text,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    status_code: Option<u16>,
    duration_ms: Option<f64>,
    #[schema(value_type = Option<String>)]
    source: Option<Text>,
    #[schema(value_type = Object)]
    payload: JsonObject,
    #[schema(value_type = Object)]
    event_metadata: JsonObject,
}

impl std::convert::From<Event> for StreamEvent {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            event_type: event.event_type,
            timestamp: event.timestamp,
            status_code: event.metrics.status_code,
            duration_ms: event.metrics.response_time_ms,
            source: event.source.service,
            payload: event.payload,
            event_metadata: event.metadata,
        }
    }
}

pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
) -> Answer<axum::Json<StreamAnswer>> {
    let tenant = caller.tenant();
    let events = latest_events(&app, tenant, app.page_limit(query.limit)?).await?;
    Ok(axum::Json(StreamAnswer { success: true, total_count: events.len(), events, tenant_id: tenant }))
}

/// Returns the latest events of a tenant.
pub(super) async fn latest_events(app: &App, tenant: TenantId, limit: usize) -> Answer<Vec<StreamEvent>> {
    let query = FindQuery { limit, ..FindQuery::default() };
    let page = app.ps.event_store().find(tenant, &query).await?;
    Ok(page.events.into_iter().map(StreamEvent::from).collect())
}

/// Alerts in brief.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertsAnswer {
    success: bool,
    data: AlertsSummary,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertsSummary {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    active_alerts_count: u64,
    /// How many active alerts have each severity.
    severity_distribution: BTreeMap<&'static str, u64>,
    total_rules: u64,
    recent_alerts: Vec<RecentAlert>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DashboardAlert)]
struct RecentAlert {
    #[schema(value_type = String)]
    id: AlertId,
    title: String,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    #[schema(value_type = String, format = DateTime)]
    triggered_at: Timestamp,
}

pub(super) async fn alerts(State(app): State<App>, caller: Caller) -> Answer<axum::Json<AlertsAnswer>> {
    Ok(axum::Json(AlertsAnswer { success: true, data: alerts_of(&app, caller.tenant()).await? }))
}

/// Sums the alerts of a tenant up.
pub(super) async fn alerts_of(app: &App, tenant: TenantId) -> Answer<AlertsSummary> {
    let counts = active_counts(app, tenant).await?;
    let recent = AlertQuery { limit: 10, ..AlertQuery::default() };
    let recent = app.ps.alert_store().alerts(tenant, &recent).await?.alerts;
    let mut severity_distribution: BTreeMap<_, _> =
        AlertSeverity::ALL.into_iter().map(|severity| (severity.as_str(), 0)).collect();
    for count in &counts {
        *severity_distribution.entry(count.severity.as_str()).or_default() += count.count;
    }
    Ok(AlertsSummary {
        tenant_id: tenant,
        active_alerts_count: counts.iter().map(|it| it.count).sum(),
        severity_distribution,
        total_rules: rule_count(app, tenant).await?,
        recent_alerts: recent
            .iter()
            .map(|alert| RecentAlert {
                id: alert.id,
                title: title(alert),
                severity: alert.severity,
                triggered_at: triggered_at(alert),
            })
            .collect(),
    })
}

/// Live connections of the tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionsAnswer {
    success: bool,
    data: Connections,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct Connections {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    /// On this node.
    total_connections: usize,
    max_connections: usize,
}

pub(super) async fn connections(State(app): State<App>, caller: Caller) -> axum::Json<ConnectionsAnswer> {
    axum::Json(ConnectionsAnswer {
        success: true,
        data: Connections {
            tenant_id: caller.tenant(),
            total_connections: app.live.of(caller.tenant()),
            max_connections: app.settings().http.max_live_connections_per_tenant,
        },
        timestamp: app.ps.env().now(),
    })
}
