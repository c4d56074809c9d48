//! What rules say about stored events: now, at another time, or over a range.

use std::time::Duration;

use serde::Serialize;

use super::AlertingService;
use crate::alerting::replay::{backtest, replay, with_named_rules};
use crate::alerting::{AlertState, Backtest, Labels, NoDataPolicy, Quantity, Rule, RuleKind, Term};
use crate::error::Result;
use crate::filter::Filter;
use crate::id::{AlertId, RuleId, TenantId};
use crate::ports::alert_store::AlertQuery;
use crate::ports::rule_engine::Explanation;
use crate::query::AggregateQuery;
use crate::text::Text;
use crate::time::{TimeRange, Timestamp};

/// Most events that a backtest or an explanation replays.
const MAX_REPLAY_EVENTS: usize = 1_000_000;

/// One group of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluatedGroup {
    /// The labels of the group.
    pub group: Labels,
    /// The value, `None` when there is none.
    pub value: Option<f64>,
    /// Whether it is a breach.
    pub breached: bool,
}

/// What a rule says right now, whatever its `for`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluated {
    /// The rule.
    pub rule: RuleId,
    /// When it was evaluated.
    pub at: Timestamp,
    /// The groups; one without labels for a rule without groups.
    pub groups: Vec<EvaluatedGroup>,
    /// The alerts of the rule that are open.
    pub open_alerts: Vec<AlertId>,
}

impl Evaluated {
    /// Returns whether at least one group is in breach.
    pub fn is_breached(&self) -> bool {
        self.groups.iter().any(|group| group.breached)
    }
}

impl From<Explanation> for EvaluatedGroup {
    fn from(explanation: Explanation) -> Self {
        Self { group: explanation.group, value: explanation.value, breached: explanation.breached }
    }
}

impl AlertingService {
    /// Evaluates a rule over the stored events, now, whatever its `for`; nothing is changed.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule; those of the stores.
    pub async fn evaluate(&self, tenant: TenantId, id: RuleId) -> Result<Evaluated> {
        let rule = self.rule(tenant, id).await?;
        let at = self.env.now();
        let groups = match &rule.kind {
            RuleKind::Threshold { .. } => self.evaluate_threshold(tenant, &rule, at).await?,
            _ => self.explain_at(tenant, &rule, at).await?.into_iter().map(EvaluatedGroup::from).collect(),
        };
        let states = AlertState::ALL.into_iter().filter(|state| state.is_open()).collect();
        let query = AlertQuery { states, rule: Some(id), limit: 1_000, ..AlertQuery::default() };
        let open = self.alerts.alerts(tenant, &query).await?.alerts;
        Ok(Evaluated { rule: id, at, groups, open_alerts: open.iter().map(|alert| alert.id).collect() })
    }

    /// Evaluates all active rules, by id.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn evaluate_all(&self, tenant: TenantId) -> Result<Vec<Evaluated>> {
        let mut evaluated = Vec::new();
        for rule in self.all_rules(tenant).await?.into_iter().filter(|rule| rule.is_active) {
            evaluated.push(self.evaluate(tenant, rule.id).await?);
        }
        Ok(evaluated)
    }

    /// Replays stored events through the engine: what would this rule have done? A rule over others is replayed with them, and only what
    /// it does itself is returned.
    ///
    /// # Errors
    /// Those of [`backtest`].
    pub async fn backtest(&self, tenant: TenantId, rule: &Rule, range: TimeRange) -> Result<Backtest> {
        let rules = with_named_rules(rule, &self.all_rules(tenant).await?);
        let mut backtest =
            backtest(&*self.events, &*self.engine, tenant, &rules, range, MAX_REPLAY_EVENTS).await?;
        backtest.transitions.retain(|transition| transition.rule == rule.id);
        Ok(backtest)
    }

    pub(in crate::alerting) fn now(&self) -> Timestamp {
        self.env.now()
    }

    pub(in crate::alerting) async fn explain_at(
        &self,
        tenant: TenantId,
        rule: &Rule,
        at: Timestamp,
    ) -> Result<Vec<Explanation>> {
        let rules = with_named_rules(rule, &self.all_rules(tenant).await?);
        let range = TimeRange::new(at, at.plus(Duration::from_micros(1)));
        let (evaluation, _) =
            replay(&*self.events, &*self.engine, tenant, &rules, range, MAX_REPLAY_EVENTS).await?;
        Ok(evaluation.explain(rule.id, None, 1_000))
    }

    async fn evaluate_threshold(
        &self,
        tenant: TenantId,
        rule: &Rule,
        at: Timestamp,
    ) -> Result<Vec<EvaluatedGroup>> {
        let RuleKind::Threshold { quantity, window, condition } = &rule.kind else { return Ok(Vec::new()) };
        // The window ends with the present instant, which it holds.
        let range = TimeRange::last(*window, at.plus(Duration::from_micros(1)));
        let mut groups: Vec<(Labels, Vec<Option<f64>>)> = Vec::new();
        for (index, term) in quantity.terms().iter().enumerate() {
            for (labels, value) in self.measure(tenant, rule, term, range).await? {
                match groups.iter_mut().find(|(known, _)| *known == labels) {
                    Some((_, values)) => values.push(value),
                    None => groups.push((labels, [vec![None; index], vec![value]].concat())),
                }
            }
            groups.iter_mut().for_each(|(_, values)| values.resize(index + 1, None));
        }
        let is_ratio = matches!(quantity, Quantity::Ratio { .. });
        let judged = groups.into_iter().map(|(group, values)| {
            let value = match values.as_slice() {
                // A group that one side did not see counted nothing there.
                [first, second] if is_ratio => {
                    second.filter(|divisor| *divisor != 0.0).map(|divisor| first.unwrap_or(0.0) / divisor)
                }
                [first, ..] => *first,
                [] => None,
            };
            let breached = match value {
                Some(value) => condition.is_breached(value, false),
                None => rule.no_data == NoDataPolicy::Firing,
            };
            EvaluatedGroup { group, value, breached }
        });
        Ok(judged.collect())
    }

    async fn measure(
        &self,
        tenant: TenantId,
        rule: &Rule,
        term: &Term,
        range: TimeRange,
    ) -> Result<Vec<(Labels, Option<f64>)>> {
        let filter = match &term.filter {
            Some(filter) => rule.filter.and(filter)?,
            None => rule.filter.clone(),
        };
        let query = AggregateQuery {
            range,
            filter: Some(filter).filter(|filter: &Filter| !filter.is_all()),
            group_by: rule.group_by.clone(),
            measures: vec![term.measure.clone()],
            ..AggregateQuery::default()
        };
        let table = self.events.aggregate(tenant, &query).await?;
        let labelled = table.rows.into_iter().map(|row| {
            let values = row.group.iter().map(|value| match value {
                crate::event::Value::Missing => Text::default(),
                other => Text::from(other.to_string()),
            });
            let labels =
                rule.group_by.iter().map(|path| Text::from(path.to_string())).zip(values).collect::<Labels>();
            (labels, row.values.first().copied().flatten())
        });
        Ok(labelled.collect())
    }
}
