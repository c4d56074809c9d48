//! `/api/v2/rules/...`: what a rule would have done, why it does what it does, and what it would say.

use std::collections::BTreeMap;

use axum::extract::State;
use pulsestream_core::FieldError;
use pulsestream_core::alerting::delivery::preview;
use pulsestream_core::alerting::{Backtest, Rule, RuleExplanation, Transition};
use pulsestream_core::id::RuleId;
use pulsestream_core::ports::rule_engine::EvaluationCounters;
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::rule_in::RuleIn;
use super::rules::stored;
use super::shapes::AlertStateName;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};

/// Most transitions of an answer.
const MAX_TRANSITIONS: usize = 1_000;

/// The past over which a rule is tried.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from": "2026-01-15T00:00:00Z"}))]
pub(super) struct BacktestRange {
    /// The first instant inside.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first instant after; now, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// A rule that need not be stored, and the past over which it is tried.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "rule": {"name": "Many errors", "expression": "count > 100 over 5m where severity >= 'error'"},
    "from": "2026-01-15T00:00:00Z"
}))]
pub(super) struct BacktestIn {
    rule: RuleIn,
    /// The first instant inside.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first instant after; now, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// What a rule would have done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BacktestResult)]
pub(super) struct BacktestOut {
    /// The changes of its alerts in the range, in order; at most 1,000.
    #[schema(value_type = Vec<TransitionView>)]
    transitions: Vec<Transition>,
    /// How many more there were.
    omitted: usize,
    /// How many episodes fired.
    fired: usize,
    /// What the engine counted.
    #[schema(value_type = CountersView)]
    counters: EvaluationCounters,
}

/// A change of an alert.
#[derive(Debug, ToSchema)]
#[schema(as = Transition)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct TransitionView {
    /// The alert, as it would be called.
    alert: String,
    /// Number of the change within the alert, from 1.
    sequence: u32,
    rule: String,
    rule_version: u64,
    fingerprint: String,
    group: Map<String, Value>,
    from: Option<AlertStateName>,
    to: AlertStateName,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    fired_at: Option<Timestamp>,
    value: Option<f64>,
    /// Such as `condition`, `correction`, `no_data` or `stale`.
    reason: String,
    /// Why nobody would be told: `cooldown` or `hourly_cap`.
    muted: Option<String>,
}

/// What the engine counted.
#[derive(Debug, ToSchema)]
#[schema(as = EvaluationCounters)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct CountersView {
    events: u64,
    matches: u64,
    too_old: u64,
    late: u64,
    overflowed: u64,
    instances: u64,
}

impl From<Backtest> for BacktestOut {
    fn from(mut backtest: Backtest) -> Self {
        let omitted = backtest.transitions.len().saturating_sub(MAX_TRANSITIONS);
        let fires = |it: &&Transition| it.fired_at == Some(it.at) && it.to.is_active();
        let fired = backtest.transitions.iter().filter(fires).count();
        backtest.transitions.truncate(MAX_TRANSITIONS);
        Self { transitions: backtest.transitions, omitted, fired, counters: backtest.counters }
    }
}

/// Moves what is wrong with a rule to its place in the body.
fn in_rule(failure: &Failure) -> Failure {
    let moved = failure.error().fields().iter().map(|field| {
        FieldError::new(format!("/rule{}", field.pointer), field.code.clone(), field.message.clone())
    });
    Failure::invalid_body(moved.collect())
}

async fn run(
    app: &App,
    caller: &Caller,
    rule: &Rule,
    from: Timestamp,
    to: Option<Timestamp>,
) -> Answer<axum::Json<BacktestOut>> {
    let to = to.unwrap_or_else(|| app.ps.env().now());
    if to <= from {
        return Err(Failure::invalid_body(vec![FieldError::new(
            "/to",
            "out_of_range",
            "must be after from",
        )]));
    }
    let found = app.ps.alerting().backtest(caller.tenant(), rule, TimeRange::new(from, to)).await?;
    Ok(axum::Json(found.into()))
}

pub(super) async fn backtest(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<BacktestIn>,
) -> Answer<axum::Json<BacktestOut>> {
    let rule = body
        .rule
        .into_rule(RuleId::from_u128(app.ps.env().uuid_v7()?))
        .map_err(|failure| in_rule(&failure))?;
    run(&app, &caller, &rule, body.from, body.to).await
}

pub(super) async fn backtest_stored(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<BacktestRange>,
) -> Answer<axum::Json<BacktestOut>> {
    let rule = stored(&app, caller.tenant(), &params).await?;
    run(&app, &caller, &rule, body.from, body.to).await
}

/// When to explain a rule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// Now, when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// Why a rule fires, or does not.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RuleExplanations)]
pub(super) struct ExplanationsOut {
    /// One for each instance, at most 1,000.
    #[schema(value_type = Vec<ExplanationView>)]
    instances: Vec<RuleExplanation>,
}

/// Why an instance of a rule is in its state.
#[derive(Debug, ToSchema)]
#[schema(as = RuleExplanation)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct ExplanationView {
    rule: String,
    fingerprint: String,
    group: Map<String, Value>,
    state: Option<AlertStateName>,
    alert: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    evaluated_at: Option<Timestamp>,
    /// Start and end of the window of the value.
    window: Option<Value>,
    value: Option<f64>,
    /// What is measured and the threshold, in words.
    summary: String,
    breached: bool,
    /// When the state changes if nothing else happens.
    #[schema(value_type = Option<String>, format = DateTime)]
    changes_at: Option<Timestamp>,
    /// The verdict in words.
    text: String,
    /// Ids of the silences that matched it at that time.
    silenced_by: Vec<String>,
}

pub(super) async fn explain(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Query(query): Query<ExplainQuery>,
) -> Answer<axum::Json<ExplanationsOut>> {
    let rule = stored(&app, caller.tenant(), &params).await?;
    let instances = app.ps.alerting().explain(caller.tenant(), rule.id, query.at).await?;
    Ok(axum::Json(ExplanationsOut { instances }))
}

/// What the texts of a rule would say for an example alert.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RulePreview)]
pub(super) struct PreviewOut {
    /// By the name of the annotation.
    texts: BTreeMap<String, PreviewText>,
}

/// A text, or why it cannot be written.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewText {
    text: Option<String>,
    error: Option<String>,
}

pub(super) async fn preview_texts(
    State(app): State<App>,
    _: Caller,
    Json(body): Json<RuleIn>,
) -> Answer<axum::Json<PreviewOut>> {
    let rule = body.into_rule(RuleId::from_u128(app.ps.env().uuid_v7()?))?;
    let texts = preview(&rule, app.ps.env().now(), app.ps.settings().alerting.max_template_output_bytes)
        .into_iter()
        .map(|(name, text)| {
            let shown = match text {
                Ok(text) => PreviewText { text: Some(text.to_string()), error: None },
                Err(error) => {
                    let reason = error.fields().first().map(|field| field.message.to_string());
                    PreviewText { text: None, error: reason.or_else(|| Some(error.message().to_owned())) }
                }
            };
            (name.to_string(), shown)
        });
    Ok(axum::Json(PreviewOut { texts: texts.collect() }))
}
