//! Alerts: listing, resolving, counting.

use axum::extract::State;
use pulsestream_core::alerting::{Alert, AlertAction, AlertSeverity, AlertState};
use pulsestream_core::id::{AlertId, RuleId, TenantId};
use pulsestream_core::ports::alert_store::{AlertCount, AlertQuery, RuleQuery};
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::rule_in::AlertSeverityName;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};

/// The states of an alert that fires, whether it is suppressed or not.
const FIRING: [AlertState; 3] = [AlertState::Firing, AlertState::Recovering, AlertState::NoData];

/// The state of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlertStatus {
    Pending,
    Active,
    Resolved,
    Suppressed,
}

impl AlertStatus {
    /// Returns the question for alerts in this state.
    fn query(self) -> AlertQuery {
        let (states, suppressed) = match self {
            Self::Pending => (vec![AlertState::Pending], None),
            Self::Active => (FIRING.to_vec(), Some(false)),
            Self::Resolved => (vec![AlertState::Resolved], None),
            Self::Suppressed => (FIRING.to_vec(), Some(true)),
        };
        AlertQuery { states, suppressed, ..AlertQuery::default() }
    }
}

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertOut {
    #[schema(value_type = String)]
    id: AlertId,
    title: String,
    message: String,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    /// `pending`, `active`, `resolved` or `suppressed`.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    triggered_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
    duration_minutes: f64,
    #[schema(value_type = String)]
    alert_rule_id: RuleId,
    #[schema(value_type = String)]
    rule_name: Text,
    notifications_sent: u32,
    notification_failures: u32,
}

/// Returns the title of an alert.
pub(crate) fn title(alert: &Alert) -> String {
    alert
        .annotations
        .get("title")
        .map_or_else(|| alert.rule_name.as_str().to_owned(), |title| title.to_string())
}

/// Returns the text of an alert.
pub(crate) fn message(alert: &Alert) -> String {
    alert.annotations.get(super::rule_in::MESSAGE).unwrap_or(&alert.summary).to_string()
}

/// Returns when an alert fired, or started if it has not.
pub(crate) fn triggered_at(alert: &Alert) -> Timestamp {
    alert.fired_at.unwrap_or(alert.started_at)
}

impl AlertOut {
    pub(crate) fn new(alert: &Alert, now: Timestamp) -> Self {
        Self {
            id: alert.id,
            title: title(alert),
            message: message(alert),
            severity: alert.severity,
            status: alert.v1_status(),
            triggered_at: triggered_at(alert),
            resolved_at: alert.resolved_at,
            duration_minutes: alert.duration(now).as_secs_f64() / 60.0,
            alert_rule_id: alert.rule,
            rule_name: alert.rule_name.clone(),
            notifications_sent: alert.notifications_sent,
            notification_failures: alert.notification_failures,
        }
    }
}

/// Which alerts to list.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AlertsQuery {
    status_filter: Option<AlertStatus>,
    #[schema(value_type = Option<AlertSeverityName>)]
    severity_filter: Option<AlertSeverity>,
    #[serde(default = "hundred")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1000000000, default = 0)]
    offset: usize,
}

const fn hundred() -> usize {
    100
}

/// Alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    success: bool,
    alerts: Vec<AlertOut>,
    total_count: u64,
    #[schema(value_type = String)]
    tenant_id: TenantId,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<AlertsQuery>,
) -> Answer<axum::Json<AlertList>> {
    let (tenant, now) = (caller.tenant(), app.ps.env().now());
    let status = query.status_filter.unwrap_or(AlertStatus::Active);
    let question = AlertQuery {
        severities: query.severity_filter.into_iter().collect(),
        limit: query.limit,
        skip: query.offset,
        count_total: true,
        ..status.query()
    };
    let page = app.ps.alert_store().alerts(tenant, &question).await?;
    Ok(axum::Json(AlertList {
        success: true,
        alerts: page.alerts.iter().map(|alert| AlertOut::new(alert, now)).collect(),
        total_count: page.total.unwrap_or_default(),
        tenant_id: tenant,
    }))
}

/// An alert with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertFound {
    success: bool,
    alert: AlertDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct AlertDetail {
    #[serde(flatten)]
    alert: AlertOut,
    #[schema(value_type = Object)]
    trigger_data: Value,
    #[schema(value_type = Object)]
    alert_metadata: Value,
    #[schema(value_type = Option<String>)]
    resolved_by: Option<Text>,
    #[schema(value_type = Option<String>)]
    resolution_note: Option<Text>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<AlertFound>> {
    let id: AlertId = params.id("alert_id", unknown)?;
    let alert = app.ps.alert_store().alert(caller.tenant(), id).await?.ok_or_else(unknown)?;
    let by_hand = alert.resolved_by.as_ref();
    let detail = AlertDetail {
        trigger_data: json!({
            "value": alert.value, "summary": alert.summary, "reason": alert.reason, "rule_version": alert.rule_version,
        }),
        alert_metadata: json!({
            "labels": alert.labels, "annotations": alert.annotations, "suppressed_by": alert.suppressed_by,
            "acknowledgement": alert.acknowledgement,
        }),
        resolved_by: by_hand.map(|by| by.actor.clone()),
        resolution_note: by_hand.and_then(|by| by.note.clone()),
        created_at: alert.started_at,
        updated_at: alert.updated_at,
        alert: AlertOut::new(&alert, app.ps.env().now()),
    };
    Ok(axum::Json(AlertFound { success: true, alert: detail }))
}

/// Who resolves an alert, and why.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResolveIn {
    #[serde(default = "system")]
    #[schema(min_length = 1, max_length = 200, default = "system")]
    resolved_by: String,
    #[schema(max_length = 2000)]
    note: Option<String>,
}

fn system() -> String {
    "system".to_owned()
}

/// An alert that was resolved.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resolved {
    success: bool,
    message: &'static str,
    #[schema(value_type = String)]
    alert_id: AlertId,
    resolved_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    resolved_at: Option<Timestamp>,
}

pub(super) async fn resolve(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<ResolveIn>,
) -> Answer<axum::Json<Resolved>> {
    let id: AlertId = params.id("alert_id", unknown)?;
    let (actor, note) = (Text::from(body.resolved_by.as_str()), body.note.map(Text::from));
    let action = AlertAction::Resolve { actor, note };
    let alert = app.ps.alerting().act(caller.tenant(), id, &action).await?;
    Ok(axum::Json(Resolved {
        success: true,
        message: "the alert is resolved",
        alert_id: id,
        resolved_by: body.resolved_by,
        resolved_at: alert.resolved_at,
    }))
}

/// How many rules and alerts there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsAnswer {
    success: bool,
    stats: AlertStats,
    recent_alerts: Vec<RecentAlert>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AlertStats {
    total_alerts: u64,
    active_alerts: u64,
    resolved_alerts: u64,
    total_rules: u64,
    active_rules: u64,
    /// Percent of all alerts.
    alert_resolution_rate: f64,
}

/// A recent alert in brief.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecentAlert {
    #[schema(value_type = String)]
    id: AlertId,
    title: String,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    triggered_at: Timestamp,
}

#[allow(clippy::cast_precision_loss, reason = "counts of alerts fit a double")]
pub(super) async fn stats(State(app): State<App>, caller: Caller) -> Answer<axum::Json<StatsAnswer>> {
    let tenant = caller.tenant();
    let counts = app.ps.alert_store().alert_counts(tenant).await?;
    let count = |is_meant: fn(&AlertCount) -> bool| {
        counts.iter().filter(|it| is_meant(it)).map(|it| it.count).sum::<u64>()
    };
    // As in the list of active alerts: one that is suppressed is in another state there.
    let active = count(|it| FIRING.contains(&it.state) && !it.suppressed);
    let resolved = count(|it| it.state == AlertState::Resolved);
    let total = count(|_| true);
    let rules = |is_active| RuleQuery { is_active, limit: 1, ..RuleQuery::default() };
    let recent = AlertQuery { limit: 5, ..AlertQuery::default() };
    let recent = app.ps.alert_store().alerts(tenant, &recent).await?;
    Ok(axum::Json(StatsAnswer {
        success: true,
        stats: AlertStats {
            total_alerts: total,
            active_alerts: active,
            resolved_alerts: resolved,
            total_rules: app.ps.alert_store().rules(tenant, &rules(None)).await?.total,
            active_rules: app.ps.alert_store().rules(tenant, &rules(Some(true))).await?.total,
            alert_resolution_rate: if total == 0 { 0.0 } else { resolved as f64 * 100.0 / total as f64 },
        },
        recent_alerts: recent.alerts.iter().map(RecentAlert::new).collect(),
    }))
}

impl RecentAlert {
    fn new(alert: &Alert) -> Self {
        Self {
            id: alert.id,
            title: title(alert),
            severity: alert.severity,
            status: alert.v1_status(),
            triggered_at: triggered_at(alert),
        }
    }
}

fn unknown() -> Failure {
    Failure::not_found("alerts.get", "there is no such alert")
}
