//! `/api/v2/alerts`.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use pulsestream_core::alerting::{Alert, AlertAction, AlertSeverity, AlertState, TimelineEntry};
use pulsestream_core::id::{AlertId, RuleId};
use pulsestream_core::ports::alert_store::{AlertCursor, AlertQuery};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{ErrorKind, FieldError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor;
use super::shapes::{AlertSeverityName, AlertStateName, AlertView};
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};

/// Which alerts to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertListQuery {
    /// States, separated by commas.
    #[serde(default)]
    #[schema(value_type = Vec<AlertStateName>)]
    state: Vec<AlertState>,
    /// Severities, separated by commas.
    #[serde(default)]
    #[schema(value_type = Vec<AlertSeverityName>)]
    severity: Vec<AlertSeverity>,
    /// Only those whose notifications are kept back, or not.
    suppressed: Option<bool>,
    rule_id: Option<String>,
    /// When they started: the first instant inside.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// The first instant after.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Whether resolved episodes that never fired appear too.
    #[serde(default)]
    include_unfired: bool,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
    /// Whether to count all matches.
    #[serde(default)]
    count: bool,
}

/// A page of alerts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertPage)]
pub(super) struct AlertPageOut {
    #[schema(value_type = Vec<AlertView>)]
    alerts: Vec<Alert>,
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<AlertListQuery>,
) -> Answer<Response> {
    let rule = query.rule_id.as_deref().map(str::parse::<RuleId>).transpose().map_err(|_| {
        Failure::invalid_query(vec![FieldError::new("/rule_id", "invalid_id", "must be the id of a rule")])
    })?;
    let range = (query.from.is_some() || query.to.is_some())
        .then(|| TimeRange::new(query.from.unwrap_or(Timestamp::MIN), query.to.unwrap_or(Timestamp::MAX)));
    let mut asked = AlertQuery {
        states: query.state,
        severities: query.severity,
        suppressed: query.suppressed,
        rule,
        range,
        include_unfired: query.include_unfired,
        ..AlertQuery::default()
    };
    let pages = Pages::of(&app, caller.tenant(), "alerts", &asked);
    let after: Option<AlertCursor> = pages.read(query.cursor.as_deref())?;
    asked.limit = query.limit;
    asked.count_total = query.count;
    asked.after = after;
    let found = app.ps.alert_store().alerts(caller.tenant(), &asked).await?;
    let next_cursor = found.next.map(|next| pages.write(&next)).transpose()?;
    let page = AlertPageOut { alerts: found.alerts, next_cursor, total: found.total };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

/// An alert with what happened to it.
#[derive(Debug, Serialize)]
pub(super) struct AlertOut {
    #[serde(flatten)]
    alert: Alert,
    timeline: Vec<TimelineEntry>,
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<AlertOut>> {
    let id: AlertId = params.id("alert_id", unknown)?;
    let store = app.ps.alert_store();
    let alert = store.alert(caller.tenant(), id).await?.ok_or_else(unknown)?;
    let timeline = store.timeline(caller.tenant(), id).await?;
    Ok(axum::Json(AlertOut { alert, timeline }))
}

/// Who takes care says why and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcknowledgeIn {
    #[schema(max_length = 2000)]
    note: Option<String>,
    /// When the acknowledgement ends by itself; with the alert, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Says why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoteIn {
    #[schema(max_length = 2000)]
    note: Option<String>,
}

/// A comment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommentIn {
    #[schema(min_length = 1, max_length = 2000)]
    note: String,
}

pub(super) async fn acknowledge(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<AcknowledgeIn>,
) -> Answer<axum::Json<Alert>> {
    let (actor, note) = (actor(&caller), body.note.map(Into::into));
    act(&app, &caller, &params, AlertAction::Acknowledge { actor, note, expires_at: body.expires_at }).await
}

pub(super) async fn unacknowledge(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<Alert>> {
    act(&app, &caller, &params, AlertAction::Unacknowledge { actor: actor(&caller) }).await
}

pub(super) async fn resolve(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<NoteIn>,
) -> Answer<axum::Json<Alert>> {
    let (actor, note) = (actor(&caller), body.note.map(Into::into));
    act(&app, &caller, &params, AlertAction::Resolve { actor, note }).await
}

pub(super) async fn comment(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<CommentIn>,
) -> Answer<axum::Json<Alert>> {
    let (actor, note) = (actor(&caller), body.note.into());
    act(&app, &caller, &params, AlertAction::Comment { actor, note }).await
}

async fn act(app: &App, caller: &Caller, params: &Params, action: AlertAction) -> Answer<axum::Json<Alert>> {
    let id: AlertId = params.id("alert_id", unknown)?;
    let done = app.ps.alerting().act(caller.tenant(), id, &action).await;
    done.map(axum::Json).map_err(|error| match error.kind() {
        ErrorKind::NotFound => unknown(),
        _ => error.into(),
    })
}

fn unknown() -> Failure {
    Failure::not_found("alerts.get", "there is no such alert")
}
