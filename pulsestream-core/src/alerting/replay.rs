//! History through the rule engine: backtests and explanations.

use std::time::Duration;

use super::{Rule, RuleKind, Transition};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::{RuleId, TenantId};
use crate::ports::event_store::EventStore;
use crate::ports::rule_engine::{EvaluationCounters, RuleEngine, RuleEvaluation};
use crate::query::{FindQuery, Order};
use crate::time::{TimeRange, Timestamp};

/// Page of events read at once.
const PAGE: usize = 1_000;

/// What a backtest found.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    /// What would have happened in the range, in order.
    pub transitions: Vec<Transition>,
    /// What the engine counted.
    pub counters: EvaluationCounters,
}

/// Replays stored events of `range` through the engine as if each had been received when it happened, and returns the transitions
/// in the range. Windows are warm at the start of the range: the time before, as far as the rules look back, is replayed too.
///
/// # Errors
/// `TooLarge` when more than `max_events` match; those of the store and of the engine.
pub async fn backtest(
    events: &dyn EventStore,
    engine: &dyn RuleEngine,
    tenant: TenantId,
    rules: &[Rule],
    range: TimeRange,
    max_events: usize,
) -> Result<Backtest> {
    let (evaluation, mut transitions) = replay(events, engine, tenant, rules, range, max_events).await?;
    transitions.retain(|transition| range.contains(transition.at));
    Ok(Backtest { transitions, counters: evaluation.counters() })
}

/// Replays events up to the end of `range` and returns the evaluation as it stands then, with all transitions.
pub(super) async fn replay(
    events: &dyn EventStore,
    engine: &dyn RuleEngine,
    tenant: TenantId,
    rules: &[Rule],
    range: TimeRange,
    max_events: usize,
) -> Result<(Box<dyn RuleEvaluation>, Vec<Transition>)> {
    let rules: Vec<Rule> = rules.iter().map(historic).collect();
    for rule in &rules {
        engine.validate(rule)?;
    }
    let start = range.start.minus(lookback(&rules));
    let mut evaluation = engine.start(tenant, &rules, None)?;
    let mut transitions = evaluation.advance(start);
    let filter = match rules.as_slice() {
        [only] => Some(only.filter.clone()),
        _ => None,
    };
    let mut query = FindQuery {
        range: TimeRange::new(start, range.end),
        filter,
        order: Order::OldestFirst,
        limit: PAGE,
        ..FindQuery::default()
    };
    let mut seen = 0;
    loop {
        let page = events.find(tenant, &query).await?;
        seen += page.events.len();
        if seen > max_events {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "alerting.backtest",
                "too many events to replay; choose a shorter range or a narrower filter",
            )
            .with_context("max_events", max_events));
        }
        let batch: Vec<Event> = page
            .events
            .into_iter()
            .map(|mut event| {
                event.received_at = event.timestamp;
                event
            })
            .collect();
        transitions.extend(evaluation.observe(&batch));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    transitions.extend(evaluation.advance(range.end.plus(engine.settle())));
    Ok((evaluation, transitions))
}

/// Returns the rule as if it had always been there.
fn historic(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    rule.created_at = Timestamp::EPOCH;
    rule.updated_at = Timestamp::EPOCH;
    rule.is_active = true;
    rule
}

/// Returns how far back the state of rules reaches: that of a composite as far as its own and that of the rules that it names.
pub(super) fn lookback(rules: &[Rule]) -> Duration {
    let furthest = |is_composite: bool| {
        let wanted =
            rules.iter().filter(|rule| matches!(rule.kind, RuleKind::Composite { .. }) == is_composite);
        wanted.map(lookback_of).max().unwrap_or_default()
    };
    furthest(false) + furthest(true)
}

fn lookback_of(rule: &Rule) -> Duration {
    let own = match &rule.kind {
        RuleKind::Threshold { window, .. } | RuleKind::Absence { window } => *window,
        RuleKind::Change { window, offset, .. } => *window + offset.unwrap_or(*window),
        RuleKind::Anomaly { window, season, periods, .. } => {
            *window + season.unwrap_or(*window).saturating_mul(*periods)
        }
        RuleKind::Sequence { within, .. } => within.saturating_mul(2),
        RuleKind::Composite { .. } => Duration::ZERO,
    };
    own + rule.hold_for + rule.keep_firing_for + rule.evaluation_interval.saturating_mul(2)
}

/// Adds the rules that composite rules among `rules` name.
pub(super) fn with_named_rules(rule: &Rule, all: &[Rule]) -> Vec<Rule> {
    let mut rules = vec![rule.clone()];
    if let RuleKind::Composite { expression } = &rule.kind {
        let mut named: Vec<RuleId> = Vec::new();
        expression.for_each_rule(&mut |id| named.push(id));
        rules.extend(all.iter().filter(|other| named.contains(&other.id) && other.id != rule.id).cloned());
    }
    rules
}
