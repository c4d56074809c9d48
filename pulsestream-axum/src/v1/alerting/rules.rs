//! Making, listing and changing rules.

use axum::extract::State;
use axum::http::StatusCode;
use pulsestream_core::FieldError;
use pulsestream_core::alerting::{AlertSeverity, AlertingService, Rule, rules_evaluated_at};
use pulsestream_core::id::{RuleId, TenantId};
use pulsestream_core::ports::alert_store::{RuleActivity, RuleQuery};
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::rule_in::{AlertSeverityName, MESSAGE, RuleChange, RuleIn, TimeWindow, event_type_of};
use super::{channels, condition};
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};

/// A rule that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleMade {
    success: bool,
    #[schema(value_type = String)]
    rule_id: RuleId,
    message: &'static str,
    rule: RuleBrief,
}

#[derive(Debug, Serialize, ToSchema)]
struct RuleBrief {
    #[schema(value_type = String)]
    id: RuleId,
    #[schema(value_type = String)]
    name: Text,
    #[schema(value_type = Option<String>)]
    description: Option<Text>,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    is_active: bool,
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    body: crate::body::JsonBytes,
) -> Answer<axum::Json<RuleMade>> {
    let tenant = caller.tenant();
    let read: Result<RuleIn, _> = app.shapes.read_json(&body);
    let id = RuleId::from_u128(app.ps.env().uuid_v7()?);
    let (mut rule, wanted) = read.and_then(|rule| rule.into_rule(id)).map_err(refused)?;
    rule.validate()?;
    rule.channels = wanted.put(&app, &caller, id).await?;
    let rule = rules_of(&app, &caller).create_rule(tenant, rule).await?;
    Ok(axum::Json(RuleMade {
        success: true,
        rule_id: rule.id,
        message: "the rule is made",
        rule: RuleBrief {
            id: rule.id,
            name: rule.name,
            description: rule.description,
            severity: rule.severity,
            is_active: rule.is_active,
        },
    }))
}

/// A rule without something that it needs is a bad request; a rule with something wrong does not validate.
fn refused(fields: Vec<FieldError>) -> Failure {
    let lacks = fields.iter().any(|field| field.code == "required");
    let failure = Failure::invalid_body(fields);
    if lacks { failure.invalid_as(StatusCode::BAD_REQUEST) } else { failure }
}

/// Which rules to list.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RulesQuery {
    #[serde(default = "yes")]
    #[schema(default = true)]
    active_only: bool,
    #[serde(default = "hundred")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1000000000, default = 0)]
    offset: usize,
}

const fn yes() -> bool {
    true
}

const fn hundred() -> usize {
    100
}

/// Rules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleList {
    success: bool,
    rules: Vec<RuleOut>,
    total_count: u64,
    #[schema(value_type = String)]
    tenant_id: TenantId,
}

#[derive(Debug, Serialize, ToSchema)]
struct RuleOut {
    #[schema(value_type = String)]
    id: RuleId,
    #[schema(value_type = String)]
    name: Text,
    #[schema(value_type = Option<String>)]
    description: Option<Text>,
    event_type: Option<String>,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    is_active: bool,
    time_window: Option<String>,
    evaluation_interval: u64,
    cooldown_minutes: u64,
    max_alerts_per_hour: Option<u32>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_evaluated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_triggered_at: Option<Timestamp>,
    total_triggers: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl RuleOut {
    fn new(rule: &Rule, activity: RuleActivity, evaluated_at: Option<Timestamp>) -> Self {
        Self {
            id: rule.id,
            name: rule.name.clone(),
            description: rule.description.clone(),
            event_type: event_type_of(&rule.filter),
            severity: rule.severity,
            is_active: rule.is_active,
            time_window: rule.kind.window().map(TimeWindow::name_of),
            evaluation_interval: rule.evaluation_interval.as_secs(),
            cooldown_minutes: rule.cooldown.as_secs() / 60,
            max_alerts_per_hour: rule.max_alerts_per_hour,
            last_evaluated_at: evaluated_at.filter(|at| rule.is_active && *at > rule.updated_at),
            last_triggered_at: activity.last_fired_at,
            total_triggers: activity.total_fired,
            created_at: rule.created_at,
        }
    }
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RulesQuery>,
) -> Answer<axum::Json<RuleList>> {
    let tenant = caller.tenant();
    let query = RuleQuery {
        is_active: query.active_only.then_some(true),
        limit: query.limit,
        skip: query.offset,
        after: None,
    };
    let page = app.ps.alert_store().rules(tenant, &query).await?;
    let evaluated_at = evaluated_at(&app, tenant).await?;
    let ids: Vec<_> = page.rules.iter().map(|rule| rule.id).collect();
    let activity = app.ps.alert_store().rule_activity(tenant, &ids).await?;
    let rules =
        page.rules.iter().zip(activity).map(|(rule, activity)| RuleOut::new(rule, activity, evaluated_at));
    Ok(axum::Json(RuleList {
        success: true,
        rules: rules.collect(),
        total_count: page.total,
        tenant_id: tenant,
    }))
}

/// A rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleFound {
    success: bool,
    rule: RuleDetail,
}

#[derive(Debug, Serialize, ToSchema)]
struct RuleDetail {
    #[serde(flatten)]
    rule: RuleOut,
    #[schema(value_type = Object)]
    condition: Value,
    threshold_value: Option<f64>,
    threshold_operator: Option<&'static str>,
    /// Names, or an object of channels with masked settings.
    notification_channels: Value,
    #[schema(value_type = Option<String>)]
    notification_template: Option<Text>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<RuleFound>> {
    let tenant = caller.tenant();
    let rule = stored(&app, tenant, &params).await?;
    let activity = app.ps.alert_store().rule_activity(tenant, &[rule.id]).await?.pop().unwrap_or_default();
    let threshold = condition::threshold(&rule.kind);
    let detail = RuleDetail {
        condition: condition::shown(&rule.kind),
        threshold_value: threshold.map(|(value, _)| value),
        threshold_operator: threshold.map(|(_, operator)| operator),
        notification_channels: channels::shown(&app, tenant, &rule).await?,
        notification_template: rule.annotations.get(MESSAGE).cloned(),
        updated_at: rule.updated_at,
        rule: RuleOut::new(&rule, activity, evaluated_at(&app, tenant).await?),
    };
    Ok(axum::Json(RuleFound { success: true, rule: detail }))
}

/// What was done to a rule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleDone {
    success: bool,
    message: &'static str,
    #[schema(value_type = String)]
    rule_id: RuleId,
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(change): Json<RuleChange>,
) -> Answer<axum::Json<RuleDone>> {
    let tenant = caller.tenant();
    let mut rule = stored(&app, tenant, &params).await?;
    let (id, version) = (rule.id, rule.version);
    let wanted = change.apply(&mut rule).map_err(Failure::invalid_body)?;
    rule.validate()?;
    if let Some(wanted) = wanted {
        rule.channels = wanted.put(&app, &caller, id).await?;
    }
    let rule = rules_of(&app, &caller).update_rule(tenant, rule, Some(version)).await?;
    channels::drop_unused(&app, &caller, id, &rule.channels).await?;
    Ok(axum::Json(RuleDone { success: true, message: "the rule is changed", rule_id: id }))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<RuleDone>> {
    let id = stored(&app, caller.tenant(), &params).await?.id;
    rules_of(&app, &caller).delete_rule(caller.tenant(), id, None).await?;
    channels::drop_unused(&app, &caller, id, &[]).await?;
    Ok(axum::Json(RuleDone { success: true, message: "the rule is deleted", rule_id: id }))
}

/// Returns when the rules of a tenant were evaluated last. A rule that is off, or was changed since, was not evaluated as it is.
async fn evaluated_at(app: &App, tenant: TenantId) -> Answer<Option<Timestamp>> {
    let ttl = app.settings().alerting.lease_ttl;
    Ok(rules_evaluated_at(&**app.ps.coordinator(), tenant, ttl).await?)
}

/// Returns the service of rules: in this version a rule may name a channel before somebody configures it.
fn rules_of(app: &App, caller: &Caller) -> AlertingService {
    app.alerting(caller).naming_later_channels()
}

/// Returns the rule that the path names.
pub(super) async fn stored(app: &App, tenant: TenantId, params: &Params) -> Answer<Rule> {
    let id: RuleId = params.id("rule_id", unknown)?;
    app.ps.alert_store().rule(tenant, id).await?.ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::not_found("rules.get", "there is no such rule")
}
