//! Evaluating rules now.
//!
//! The engine judges every event as it comes and every window as it ends, so that asking now finds the verdict made. What is
//! left is to wait, a moment at most, until the engine has taken in what was sent just before.

use std::time::Duration;

use axum::extract::State;
use pulsestream_core::alerting::{Alert, AlertSeverity, AlertState, Quantity, Rule, RuleKind};
use pulsestream_core::filter::Filter;
use pulsestream_core::id::{AlertId, TenantId};
use pulsestream_core::ports::alert_store::{AlertQuery, RuleQuery};
use pulsestream_core::query::{AggregateQuery, Measure};
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::alerts::{title, triggered_at};
use super::rule_in::AlertSeverityName;
use super::rules::stored;
use crate::access::Caller;
use crate::app::App;
use crate::failure::Answer;
use crate::input::Params;

/// How often, and after which pauses, the alert of a condition that holds is looked for.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// Rules evaluated by one call.
const MAX_RULES: usize = 1_000;

/// What a rule says now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tested {
    success: bool,
    message: &'static str,
    #[schema(value_type = Option<String>)]
    alert_id: Option<AlertId>,
    alert_title: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    triggered_at: Option<Timestamp>,
}

pub(super) async fn test(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<Tested>> {
    let tenant = caller.tenant();
    let rule = stored(&app, tenant, &params).await?;
    let holds = holds(&app, tenant, &rule).await?;
    let alert = open_alert(&app, tenant, &rule, holds == Some(true)).await?;
    let message = match (&alert, holds) {
        (Some(_), _) => "the condition is met",
        (None, Some(true)) => "the condition is met; no alert is open for it",
        (None, _) => "the condition is not met",
    };
    Ok(axum::Json(Tested {
        success: true,
        message,
        alert_id: alert.as_ref().map(|alert| alert.id),
        alert_title: alert.as_ref().map(title),
        triggered_at: alert.as_ref().map(triggered_at),
    }))
}

/// What all rules say now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Evaluated {
    success: bool,
    message: String,
    total_rules_evaluated: usize,
    alerts_triggered: usize,
    alerts: Vec<TriggeredAlert>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TriggeredAlert {
    #[schema(value_type = String)]
    id: AlertId,
    title: String,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    #[schema(value_type = String, format = DateTime)]
    triggered_at: Timestamp,
}

pub(super) async fn all(State(app): State<App>, caller: Caller) -> Answer<axum::Json<Evaluated>> {
    let (rules, open) = alerts_of_all(&app, caller.tenant()).await?;
    let triggered = |alert: &Alert| TriggeredAlert {
        id: alert.id,
        title: title(alert),
        severity: alert.severity,
        triggered_at: triggered_at(alert),
    };
    Ok(axum::Json(Evaluated {
        success: true,
        message: format!("{rules} rules are evaluated"),
        total_rules_evaluated: rules,
        alerts_triggered: open.len(),
        alerts: open.iter().map(triggered).collect(),
    }))
}

/// Evaluates all active rules of a tenant; returns how many they are, and their open alerts.
pub(crate) async fn alerts_of_all(app: &App, tenant: TenantId) -> Answer<(usize, Vec<Alert>)> {
    let query = RuleQuery { is_active: Some(true), limit: MAX_RULES, ..RuleQuery::default() };
    let rules = app.ps.alert_store().rules(tenant, &query).await?.rules;
    let mut open = Vec::new();
    for rule in &rules {
        let holds = holds(app, tenant, rule).await?;
        open.extend(open_alert(app, tenant, rule, holds == Some(true)).await?);
    }
    Ok((rules.len(), open))
}

/// Returns whether the condition of a rule holds now; `None` for kinds that only the engine can judge.
async fn holds(app: &App, tenant: TenantId, rule: &Rule) -> Answer<Option<bool>> {
    let RuleKind::Threshold { quantity, window, condition } = &rule.kind else { return Ok(None) };
    if !rule.is_active || !rule.group_by.is_empty() {
        return Ok(None);
    }
    let range = app.last(*window);
    let value = match quantity {
        Quantity::Measure(measure) => measured(app, tenant, range, measure, rule.filter.clone()).await?,
        Quantity::Ratio { numerator, denominator } => {
            let mut sides = [None, None];
            for (side, term) in sides.iter_mut().zip([numerator, denominator]) {
                let filter = match &term.filter {
                    Some(filter) => rule.filter.and(filter)?,
                    None => rule.filter.clone(),
                };
                *side = measured(app, tenant, range, &term.measure, filter).await?;
            }
            match sides {
                [Some(above), Some(below)] if below != 0.0 => Some(above / below),
                _ => None,
            }
        }
    };
    Ok(value.map(|value| condition.is_breached(value, false)))
}

async fn measured(
    app: &App,
    tenant: TenantId,
    range: TimeRange,
    measure: &Measure,
    filter: Filter,
) -> Answer<Option<f64>> {
    let query = AggregateQuery {
        range,
        filter: Some(filter),
        measures: vec![measure.clone()],
        ..AggregateQuery::default()
    };
    let table = app.ps.event_store().aggregate(tenant, &query).await?;
    Ok(table.rows.first().and_then(|row| row.values.first().copied().flatten()))
}

/// Returns the open alert of a rule; when there should be one, waits a moment for the engine.
async fn open_alert(app: &App, tenant: TenantId, rule: &Rule, expected: bool) -> Answer<Option<Alert>> {
    let query = AlertQuery {
        states: vec![AlertState::Firing, AlertState::Recovering, AlertState::NoData],
        rule: Some(rule.id),
        limit: 1,
        ..AlertQuery::default()
    };
    for look in 0..LOOKS {
        let found = app.ps.alert_store().alerts(tenant, &query).await?.alerts.pop();
        if found.is_some() || !expected || look + 1 == LOOKS {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(None)
}
