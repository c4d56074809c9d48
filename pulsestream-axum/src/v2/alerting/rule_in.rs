//! Rules, as sent.

use std::collections::BTreeMap;
use std::time::Duration;

use pulsestream_core::alerting::{
    AlertSeverity, ChannelRef, DEFAULT_EVALUATION_INTERVAL, DEFAULT_MAX_GROUPS, Labels, NoDataPolicy, Rule,
    RuleExpression, RuleKind,
};
use pulsestream_core::event::FieldPath;
use pulsestream_core::id::RuleId;
use pulsestream_core::time::parse_duration;
use pulsestream_core::{FieldError, Filter};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::shapes::{AlertSeverityName, NoDataName};
use super::{part, refusal};
use crate::failure::{Answer, Failure};

/// A rule. What it measures is said by `expression`, or by `kind` with `filter`, `group_by`, `for`, `keep_firing_for`,
/// `evaluation_interval` and `no_data`. Durations are texts such as `5m`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Slow checkout", "severity": "high",
    "expression": "p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' for 2m"
}))]
pub(super) struct RuleIn {
    /// Unique within the tenant.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(max_length = 10000)]
    description: Option<String>,
    /// The text form, such as `p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' for 2m`.
    #[schema(min_length = 1)]
    expression: Option<String>,
    /// What makes it fire, such as `{"type": "absence", "window": "15m"}`.
    #[schema(value_type = Option<Object>)]
    kind: Option<Value>,
    /// Which events it looks at: text, or the JSON form of a filter.
    filter: Option<Value>,
    /// At most 3 paths.
    group_by: Option<Vec<String>>,
    r#for: Option<String>,
    keep_firing_for: Option<String>,
    evaluation_interval: Option<String>,
    #[schema(value_type = Option<NoDataName>)]
    no_data: Option<NoDataPolicy>,
    #[schema(minimum = 1, maximum = 10000)]
    max_groups: Option<u32>,
    #[schema(value_type = Option<AlertSeverityName>)]
    severity: Option<AlertSeverity>,
    labels: Option<BTreeMap<String, String>>,
    /// Templates of texts for people, such as `title` and `message`.
    annotations: Option<BTreeMap<String, String>>,
    /// Ids or names of channels; empty: where the routes of the tenant say.
    channels: Option<Vec<String>>,
    cooldown: Option<String>,
    #[schema(minimum = 1, maximum = 10000)]
    max_alerts_per_hour: Option<u32>,
    notify_at_once: Option<bool>,
    is_active: Option<bool>,
}

/// Names of what an expression says.
const OF_EXPRESSION: [&str; 7] =
    ["kind", "filter", "group_by", "for", "keep_firing_for", "evaluation_interval", "no_data"];

impl RuleIn {
    /// Makes the rule, or tells everything that is wrong with it.
    pub(super) fn into_rule(self, id: RuleId) -> Answer<Rule> {
        let mut refusals = Vec::new();
        let has_expression = self.expression.is_some();
        let (rule, measured) = self.read(id, &mut refusals);
        if measured && let Err(error) = rule.validate() {
            // What is wrong with something that the expression says is at the expression.
            refusals.extend(error.fields().iter().map(|field| {
                let name = field.pointer.split('/').nth(1).unwrap_or_default();
                let is_said = has_expression && OF_EXPRESSION.contains(&name);
                let pointer = if is_said { "/expression" } else { field.pointer.as_str() };
                FieldError::new(pointer, field.code.clone(), field.message.clone())
            }));
        }
        if refusals.is_empty() { Ok(rule) } else { Err(Failure::invalid_body(refusals)) }
    }

    /// Reads all parts; returns besides whether it is known what the rule measures.
    fn read(self, id: RuleId, refusals: &mut Vec<FieldError>) -> (Rule, bool) {
        let placeholder = RuleKind::Absence { window: Duration::from_secs(60) };
        let mut rule = Rule::new(id, self.name, placeholder);
        let mut measured = false;
        if let Some(text) = &self.expression {
            let given: [bool; 7] = [
                self.kind.is_some(),
                self.filter.is_some(),
                self.group_by.is_some(),
                self.r#for.is_some(),
                self.keep_firing_for.is_some(),
                self.evaluation_interval.is_some(),
                self.no_data.is_some(),
            ];
            for (name, _) in OF_EXPRESSION.iter().zip(given).filter(|(_, given)| *given) {
                let message = "is said by expression already";
                refusals.push(FieldError::new(format!("/{name}"), "not_allowed", message));
            }
            match text.parse::<RuleExpression>() {
                Ok(expression) => {
                    expression.apply_to(&mut rule);
                    measured = true;
                }
                Err(error) => refusals.push(refusal(&error, "/expression")),
            }
        } else {
            match self.kind.map(|kind| part::<RuleKind>(kind, "/kind")) {
                Some(Ok(kind)) => {
                    rule.kind = kind;
                    measured = true;
                }
                Some(Err(field)) => refusals.push(field),
                None => {
                    let message = "say what the rule measures with expression or with kind";
                    refusals.push(FieldError::new("/expression", "required", message));
                }
            }
            if let Some(filter) = &self.filter {
                match Filter::from_json(filter) {
                    Ok(filter) => rule.filter = filter,
                    Err(error) => {
                        let inside = error.fields().first().map_or("", |field| field.pointer.as_str());
                        refusals.push(refusal(&error, &format!("/filter{inside}")));
                    }
                }
            }
            for (index, path) in self.group_by.unwrap_or_default().iter().enumerate() {
                match path.parse::<FieldPath>() {
                    Ok(path) => rule.group_by.push(path),
                    Err(error) => refusals.push(refusal(&error, &format!("/group_by/{index}"))),
                }
            }
            let mut span = |text: Option<String>, pointer: &str, default: Duration| {
                let read = text.map_or(Ok(default), |text| parse_duration(&text));
                read.unwrap_or_else(|error| {
                    refusals.push(refusal(&error, pointer));
                    default
                })
            };
            rule.hold_for = span(self.r#for, "/for", Duration::ZERO);
            rule.keep_firing_for = span(self.keep_firing_for, "/keep_firing_for", Duration::ZERO);
            let interval = (self.evaluation_interval, DEFAULT_EVALUATION_INTERVAL);
            rule.evaluation_interval = span(interval.0, "/evaluation_interval", interval.1);
            rule.no_data = self.no_data.unwrap_or_default();
        }
        if let Some(cooldown) = self.cooldown {
            match parse_duration(&cooldown) {
                Ok(cooldown) => rule.cooldown = cooldown,
                Err(error) => refusals.push(refusal(&error, "/cooldown")),
            }
        }
        rule.description = self.description.map(Into::into);
        rule.max_groups = self.max_groups.unwrap_or(DEFAULT_MAX_GROUPS);
        rule.severity = self.severity.unwrap_or_default();
        rule.labels = labels(self.labels);
        rule.annotations = labels(self.annotations);
        rule.channels = self.channels.unwrap_or_default().into_iter().map(ChannelRef::new).collect();
        rule.max_alerts_per_hour = self.max_alerts_per_hour;
        rule.notify_at_once = self.notify_at_once.unwrap_or_default();
        rule.is_active = self.is_active.unwrap_or(true);
        (rule, measured)
    }
}

fn labels(given: Option<BTreeMap<String, String>>) -> Labels {
    given.unwrap_or_default().into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
