//! Why a rule fired at a time, or did not, and what kept it quiet.

use serde::Serialize;

use super::{AlertingService, Labels, Rule, Silence};
use crate::error::Result;
use crate::id::{RuleId, SilenceId, TenantId};
use crate::ports::rule_engine::Explanation;
use crate::time::Timestamp;

/// Why an instance of a rule is in its state, and what keeps its notifications back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleExplanation {
    /// What the engine says.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The silences that matched it at that time.
    pub silenced_by: Vec<SilenceId>,
}

impl AlertingService {
    /// Explains the instances of a rule at a time, from the stored events: the value, the threshold, the window, what is still
    /// to come, and the silences that muted it.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule; those of [`backtest`](super::backtest).
    pub async fn explain(
        &self,
        tenant: TenantId,
        id: RuleId,
        at: Option<Timestamp>,
    ) -> Result<Vec<RuleExplanation>> {
        let rule = self.rule(tenant, id).await?;
        let at = at.unwrap_or_else(|| self.now());
        let silences = self.store().silences(tenant, None).await?;
        let explained = self.explain_at(tenant, &rule, at).await?;
        Ok(explained
            .into_iter()
            .map(|explanation| with_silences(explanation, &rule, &silences, at))
            .collect())
    }
}

fn with_silences(
    mut explanation: Explanation,
    rule: &Rule,
    silences: &[Silence],
    at: Timestamp,
) -> RuleExplanation {
    let labels = labels_for_matchers(rule, &explanation.group);
    let silenced: Vec<_> = silences.iter().filter(|silence| silence.mutes(&labels, at)).collect();
    for silence in &silenced {
        let Silence { created_by, ends_at, comment, .. } = silence;
        let why = if comment.is_empty() { String::new() } else { format!(": {comment}") };
        explanation.text.push_str(&format!("; silenced by {created_by} until {ends_at}{why}"));
    }
    RuleExplanation { explanation, silenced_by: silenced.iter().map(|silence| silence.id).collect() }
}

/// Returns what matchers see of an alert of a rule: the labels of rule and group, and `rule`, `rule_id` and `severity`.
pub(super) fn labels_for_matchers(rule: &Rule, group: &Labels) -> Labels {
    let mut labels = rule.labels.clone();
    labels.extend(group.clone());
    labels.insert("rule".into(), rule.name.clone());
    labels.insert("rule_id".into(), rule.id.to_string().into());
    labels.insert("severity".into(), rule.severity.as_str().into());
    labels
}
