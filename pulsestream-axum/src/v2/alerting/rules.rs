//! `/api/v2/rules`.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use pulsestream_core::Error;
use pulsestream_core::alerting::{DEFAULT_MAX_GROUPS, Rule, RuleExpression, RuleKind};
use pulsestream_core::event::FieldPath;
use pulsestream_core::id::{RuleId, TenantId};
use pulsestream_core::ports::alert_store::{RuleActivity, RuleCursor, RuleQuery};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rule_in::RuleIn;
use super::shapes::RuleView;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::idempotency::{self, IdempotencyKey};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};
use crate::v2::etag::{change, versioned};

/// A rule, as shown.
#[derive(Debug, Serialize)]
struct RuleOut {
    #[serde(flatten)]
    rule: Rule,
    expression: String,
    #[serde(flatten)]
    activity: RuleActivity,
}

impl RuleOut {
    fn new(rule: Rule, activity: RuleActivity) -> Self {
        Self { expression: rule.expression(), rule, activity }
    }
}

/// Which rules to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleListQuery {
    /// Only those that are switched on, or off.
    is_active: Option<bool>,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// A page of rules.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RulePage)]
pub(super) struct RulePageOut {
    #[schema(value_type = Vec<RuleView>)]
    rules: Vec<RuleOut>,
    next_cursor: Option<String>,
    /// How many rules match on all pages.
    total: u64,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<RuleListQuery>,
) -> Answer<Response> {
    let tenant = caller.tenant();
    let pages = Pages::of(&app, tenant, "rules", &query.is_active);
    let after: Option<RuleCursor> = pages.read(query.cursor.as_deref())?;
    let asked = RuleQuery { is_active: query.is_active, limit: query.limit, skip: 0, after };
    let found = app.ps.alert_store().rules(tenant, &asked).await?;
    let ids: Vec<_> = found.rules.iter().map(|rule| rule.id).collect();
    let activity = app.ps.alert_store().rule_activity(tenant, &ids).await?;
    let rules = found.rules.into_iter().zip(activity);
    let next_cursor = found.next.map(|next| pages.write(&next)).transpose()?;
    let page = RulePageOut {
        rules: rules.map(|(rule, activity)| RuleOut::new(rule, activity)).collect(),
        next_cursor,
        total: found.total,
    };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    key: Option<Extension<IdempotencyKey>>,
    Json(body): Json<RuleIn>,
) -> Answer<Response> {
    let (tenant, key) = (caller.tenant(), key.map(|Extension(key)| key));
    let derived = key.map(|key| RuleId::from_u128(key.derive(tenant, 0)));
    let id = derived.map_or_else(|| app.ps.alerting().new_rule_id(), Ok)?;
    let rule = body.into_rule(id)?;
    let wanted = rule.clone();
    idempotency::make(
        key,
        || app.ps.alert_store().rule(tenant, id),
        |stored| {
            let (version, created_at, updated_at) = (stored.version, stored.created_at, stored.updated_at);
            // What is not said is what this server allows.
            let is_said = wanted.max_groups != DEFAULT_MAX_GROUPS;
            let max_groups = if is_said { wanted.max_groups } else { stored.max_groups };
            *stored == Rule { version, created_at, updated_at, max_groups, ..wanted.clone() }
        },
        app.alerting(&caller).create_rule(tenant, rule),
        |rule| versioned(StatusCode::CREATED, rule.version, &RuleOut::new(rule, RuleActivity::default())),
        |rule| rule.version,
    )
    .await
}

pub(super) async fn get(State(app): State<App>, caller: Caller, params: Params) -> Answer<Response> {
    let rule = stored(&app, caller.tenant(), &params).await?;
    show(&app, caller.tenant(), rule).await
}

pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
    Json(body): Json<RuleIn>,
) -> Answer<Response> {
    let (tenant, rules, body) = (caller.tenant(), &app.alerting(&caller), &body);
    let put = |old: Rule, version| async move {
        Ok(rules.update_rule(tenant, body.clone().into_rule(old.id)?, Some(version)).await?)
    };
    let rule = change(&headers, || stored(&app, tenant, &params), |rule| rule.version, put).await?;
    show(&app, tenant, rule).await
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Answer<StatusCode> {
    let (tenant, rules) = (caller.tenant(), &app.alerting(&caller));
    let delete =
        |rule: Rule, version| async move { Ok(rules.delete_rule(tenant, rule.id, Some(version)).await?) };
    change(&headers, || stored(&app, tenant, &params), |rule| rule.version, delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn enable(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Answer<Response> {
    switch(&app, &caller, &headers, &params, true).await
}

pub(super) async fn disable(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Answer<Response> {
    switch(&app, &caller, &headers, &params, false).await
}

async fn switch(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
    is_active: bool,
) -> Answer<Response> {
    let (tenant, rules) = (caller.tenant(), &app.alerting(caller));
    let switch = |rule: Rule, version| async move {
        Ok(rules.set_rule_active(tenant, rule.id, is_active, Some(version)).await?)
    };
    let rule = change(headers, || stored(app, tenant, params), |rule| rule.version, switch).await?;
    show(app, tenant, rule).await
}

async fn show(app: &App, tenant: TenantId, rule: Rule) -> Answer<Response> {
    let activity = app.ps.alert_store().rule_activity(tenant, &[rule.id]).await?.pop().unwrap_or_default();
    let version = rule.version;
    Ok(versioned(StatusCode::OK, version, &RuleOut::new(rule, activity)))
}

pub(super) async fn stored(app: &App, tenant: TenantId, params: &Params) -> Answer<Rule> {
    let id: RuleId = params.id("rule_id", unknown)?;
    app.ps.alert_store().rule(tenant, id).await?.ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::not_found("rules.get", "there is no such rule")
}

/// The text form of a rule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"expression": "count > 100 over 5m where severity >= 'error'"}))]
pub(super) struct ExplainIn {
    #[schema(min_length = 1)]
    expression: String,
}

/// What the text form of a rule means.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExplainOut {
    /// The canonical text.
    expression: String,
    #[schema(value_type = Object)]
    kind: RuleKind,
    /// The events that it looks at, in words.
    events: String,
    #[schema(value_type = Vec<String>)]
    group_by: Vec<FieldPath>,
    r#for: String,
    keep_firing_for: String,
    evaluation_interval: String,
}

pub(super) async fn explain(
    State(_): State<App>,
    _: Caller,
    Json(body): Json<ExplainIn>,
) -> Answer<axum::Json<ExplainOut>> {
    let wrong = |error: Error| Failure::invalid_body(vec![super::refusal(&error, "/expression")]);
    let expression: RuleExpression = body.expression.parse().map_err(wrong)?;
    let mut rule = Rule::new(RuleId::from_u128(0), "explained", expression.kind.clone());
    expression.apply_to(&mut rule);
    rule.validate().map_err(|error| {
        let detail =
            error.fields().iter().map(|it| format!("{}: {}", it.pointer, it.message)).collect::<Vec<_>>();
        let field = pulsestream_core::FieldError::new("/expression", "invalid", detail.join("; "));
        Failure::invalid_body(vec![field])
    })?;
    let text = pulsestream_core::time::format_duration;
    Ok(axum::Json(ExplainOut {
        expression: rule.expression(),
        events: rule.filter.explain(),
        r#for: text(rule.hold_for),
        keep_firing_for: text(rule.keep_firing_for),
        evaluation_interval: text(rule.evaluation_interval),
        kind: rule.kind,
        group_by: rule.group_by,
    }))
}
