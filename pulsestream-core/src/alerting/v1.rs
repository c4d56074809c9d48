//! The rules of `/api/v1/alerting` as rules of this crate, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AlertSeverity, Channel, ChannelConfig, ChannelRef, Condition, Quantity, Rule, RuleKind, SecretText, Term,
    ThresholdOp,
};
use crate::error::{Error, FieldError, Result};
use crate::event::{FieldPath, Value};
use crate::filter::{CompareOp, Expr, Filter};
use crate::id::{ChannelId, RuleId, derive_uuid};
use crate::query::Measure;
use crate::text::Text;
use crate::time::{format_duration, parse_duration};

/// The windows that v1 knows.
const WINDOWS: [&str; 7] = ["1m", "5m", "15m", "1h", "6h", "24h", "7d"];

/// When a v1 rule fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum V1Condition {
    /// The number of events lies between the two, at least one of which is given.
    Count {
        /// At least so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_count: Option<u64>,
        /// At most so many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_count: Option<u64>,
    },
    /// The average of a metric is compared with `threshold_value` by `threshold_operator`.
    Threshold {
        /// The metric.
        metric_field: V1Metric,
    },
    /// A named pattern.
    Pattern {
        /// The pattern.
        pattern: V1Pattern,
    },
    /// A rule that was made elsewhere and has no v1 form, in the text form; answers only.
    Expression {
        /// The text form.
        expression: String,
    },
}

/// What a v1 threshold looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum V1Metric {
    /// Mean HTTP status code.
    StatusCode,
    /// Mean response time in milliseconds.
    DurationMs,
    /// Number of events.
    Count,
}

/// A v1 pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum V1Pattern {
    /// The share of events with a status of 400 or more is above a limit.
    ErrorRate {
        /// The limit, 0 to 1.
        #[serde(default = "default_error_rate")]
        max_error_rate: f64,
    },
    /// The mean response time is above a limit.
    ResponseTime {
        /// The limit in milliseconds.
        #[serde(default = "default_response_time")]
        max_avg_response_time: f64,
    },
}

fn default_error_rate() -> f64 {
    0.1
}

fn default_response_time() -> f64 {
    1_000.0
}

fn default_window() -> String {
    "5m".to_owned()
}

fn default_interval() -> u64 {
    60
}

fn default_true() -> bool {
    true
}

fn default_cooldown() -> u64 {
    5
}

fn default_cap() -> u32 {
    10
}

/// Where the notifications of a v1 rule go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum V1Channels {
    /// Channels by name.
    Names(Vec<Text>),
    /// Channels with their settings, by kind.
    Configured(BTreeMap<Text, V1ChannelConfig>),
}

/// The settings of a channel of a v1 rule; which of them count depends on its kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V1ChannelConfig {
    /// Address of a webhook or of Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretText>,
    /// Signing secret of a webhook, `whsec_...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// Headers of a webhook.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Text, SecretText>,
    /// Receivers of an e-mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Text>,
}

/// A rule as `/api/v1/alerting/rules` takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct V1Rule {
    /// Name.
    pub name: Text,
    /// When it fires.
    pub condition: V1Condition,
    /// Severity.
    pub severity: AlertSeverity,
    /// What it is for.
    #[serde(default)]
    pub description: Option<Text>,
    /// Which events it looks at; `None`: all.
    #[serde(default)]
    pub event_type: Option<Text>,
    /// Threshold of a `threshold` condition.
    #[serde(default)]
    pub threshold_value: Option<f64>,
    /// Operator of a `threshold` condition.
    #[serde(default)]
    pub threshold_operator: Option<String>,
    /// Over how long it measures.
    #[serde(default = "default_window")]
    pub time_window: String,
    /// How often it is evaluated besides, in seconds.
    #[serde(default = "default_interval")]
    pub evaluation_interval: u64,
    /// Where its notifications go.
    #[serde(default)]
    pub notification_channels: Option<V1Channels>,
    /// Template of the message.
    #[serde(default)]
    pub notification_template: Option<Text>,
    /// Whether it is evaluated.
    #[serde(default = "default_true")]
    pub is_active: bool,
    /// Minutes without a further notification of an instance.
    #[serde(default = "default_cooldown")]
    pub cooldown_minutes: u64,
    /// Notifications in any hour.
    #[serde(default = "default_cap")]
    pub max_alerts_per_hour: u32,
}

impl V1Rule {
    /// Returns the rule with this id, and the channels that its settings describe, to be put before it.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    pub fn into_rule(self, id: RuleId) -> Result<(Rule, Vec<Channel>)> {
        let mut fields = Vec::new();
        if !WINDOWS.contains(&self.time_window.as_str()) {
            let message = format!("must be one of {}", WINDOWS.join(", "));
            fields.push(FieldError::new("/time_window", "unknown_value", message));
        }
        let window = parse_duration(&self.time_window).unwrap_or(Duration::from_secs(300));
        let measured = self.measured(&mut fields);
        let (channels, references) = self.channels(id, &mut fields);
        if self.max_alerts_per_hour == 0 {
            fields.push(FieldError::new("/max_alerts_per_hour", "out_of_range", "must be at least 1"));
        }
        let (Some((quantity, condition)), true) = (measured, fields.is_empty()) else {
            return Err(Error::invalid_fields("rules.from_v1", fields));
        };
        let mut rule = Rule::new(id, self.name, RuleKind::Threshold { quantity, window, condition });
        rule.description = self.description;
        rule.severity = self.severity;
        rule.filter = match self.event_type {
            Some(event_type) => {
                Filter::new(Expr::compare(FieldPath::EventType, CompareOp::Eq, event_type.as_str()))?
            }
            None => Filter::all(),
        };
        rule.evaluation_interval = Duration::from_secs(self.evaluation_interval);
        rule.cooldown = Duration::from_secs(self.cooldown_minutes.saturating_mul(60));
        rule.max_alerts_per_hour = Some(self.max_alerts_per_hour);
        rule.is_active = self.is_active;
        rule.channels = references;
        rule.notify_at_once = true;
        if let Some(template) = self.notification_template {
            rule.annotations.insert("message".into(), template);
        }
        Ok((rule, channels))
    }

    fn measured(&self, fields: &mut Vec<FieldError>) -> Option<(Quantity, Condition)> {
        let mut refuse = |pointer: &str, code: &'static str, message: &str| {
            fields.push(FieldError::new(pointer, code, message));
        };
        let above = |limit: f64| Condition::new(ThresholdOp::Above, limit);
        #[allow(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not arise")]
        let number = |count: u64| count as f64;
        match &self.condition {
            V1Condition::Count { min_count, max_count } => {
                let condition = match (min_count, max_count) {
                    (None, None) => {
                        refuse("/condition", "required", "needs min_count or max_count");
                        return None;
                    }
                    (None, Some(most)) => Condition::new(ThresholdOp::AtMost, number(*most)),
                    (Some(least), most) => Condition {
                        upto: most.map(number),
                        ..Condition::new(ThresholdOp::AtLeast, number(*least))
                    },
                };
                if max_count.is_some_and(|most| min_count.is_some_and(|least| least > most)) {
                    refuse("/condition/max_count", "out_of_range", "must not be below min_count");
                }
                Some((Quantity::Measure(Measure::Count), condition))
            }
            V1Condition::Threshold { metric_field } => {
                let op = self.threshold_operator.as_deref().map(str::parse::<ThresholdOp>);
                let op = match op {
                    Some(Ok(op)) => Some(op),
                    Some(Err(error)) => {
                        refuse("/threshold_operator", "unknown_value", error.message());
                        None
                    }
                    None => {
                        refuse("/threshold_operator", "required", "a threshold condition needs it");
                        None
                    }
                };
                let value = self.threshold_value.filter(|value| value.is_finite());
                if value.is_none() {
                    refuse("/threshold_value", "required", "a threshold condition needs a finite number");
                }
                let measure = match metric_field {
                    V1Metric::StatusCode => Measure::Avg(FieldPath::StatusCode),
                    V1Metric::DurationMs => Measure::Avg(FieldPath::ResponseTimeMs),
                    V1Metric::Count => Measure::Count,
                };
                Some((Quantity::Measure(measure), Condition::new(op?, value?)))
            }
            V1Condition::Pattern { pattern: V1Pattern::ErrorRate { max_error_rate } } => {
                if !(0.0..=1.0).contains(max_error_rate) {
                    refuse("/condition/pattern/max_error_rate", "out_of_range", "must be 0 to 1");
                }
                Some((error_ratio()?, above(*max_error_rate)))
            }
            V1Condition::Pattern { pattern: V1Pattern::ResponseTime { max_avg_response_time } } => {
                let measure = Measure::Avg(FieldPath::ResponseTimeMs);
                Some((Quantity::Measure(measure), above(*max_avg_response_time)))
            }
            V1Condition::Expression { .. } => {
                refuse("/condition/type", "unknown_value", "must be one of count, threshold, pattern");
                None
            }
        }
    }

    fn channels(&self, rule: RuleId, fields: &mut Vec<FieldError>) -> (Vec<Channel>, Vec<ChannelRef>) {
        let configured = match &self.notification_channels {
            None => return (Vec::new(), Vec::new()),
            Some(V1Channels::Names(names)) => {
                return (Vec::new(), names.iter().cloned().map(ChannelRef::new).collect());
            }
            Some(V1Channels::Configured(configured)) => configured,
        };
        let mut channels = Vec::new();
        for (kind, settings) in configured {
            let url = || settings.url.clone().unwrap_or_default();
            let config = match kind.as_str() {
                "webhook" => ChannelConfig::Webhook {
                    url: Text::from(url().expose()),
                    secrets: settings.secret.clone().into_iter().collect(),
                    headers: settings.headers.clone().into_iter().collect(),
                },
                "slack" => ChannelConfig::Slack { url: url() },
                "email" => ChannelConfig::Email { to: settings.to.clone() },
                "log" => ChannelConfig::Log {},
                _ => {
                    fields.push(FieldError::new(
                        format!("/notification_channels/{kind}"),
                        "unknown_value",
                        "must be one of webhook, slack, email, log",
                    ));
                    continue;
                }
            };
            // The same rule and kind is the same channel, so that an update replaces its settings.
            let id = derive_uuid(b"pulsestream.v1.channel", format!("{rule}/{kind}").as_bytes());
            let channel = Channel::new(ChannelId::from_u128(id), format!("{kind} of {rule}"), config);
            if let Err(error) = channel.validate() {
                fields.extend(error.fields().iter().map(|field| {
                    let pointer =
                        field.pointer.replacen("/config", &format!("/notification_channels/{kind}"), 1);
                    FieldError::new(pointer, field.code.clone(), field.message.clone())
                }));
            }
            channels.push(channel);
        }
        let references = channels.iter().map(|channel| ChannelRef::new(channel.id.to_string())).collect();
        (channels, references)
    }

    /// Returns a rule as v1 shows it; channels appear by the references that the rule has.
    pub fn from_rule(rule: &Rule) -> Self {
        let (condition, threshold) = v1_condition(rule);
        let names: Vec<Text> = rule.channels.iter().map(|channel| Text::from(channel.as_str())).collect();
        Self {
            name: rule.name.clone(),
            condition,
            severity: rule.severity,
            description: rule.description.clone(),
            event_type: event_type(&rule.filter),
            threshold_value: threshold.map(|(_, value)| value),
            threshold_operator: threshold.map(|(op, _)| match op {
                ThresholdOp::Equal => "==".to_owned(),
                other => other.as_str().to_owned(),
            }),
            time_window: rule.kind.window().map(v1_window).unwrap_or_default(),
            evaluation_interval: rule.evaluation_interval.as_secs(),
            notification_channels: (!names.is_empty()).then_some(V1Channels::Names(names)),
            notification_template: rule.annotations.get("message").cloned(),
            is_active: rule.is_active,
            cooldown_minutes: rule.cooldown.as_secs() / 60,
            max_alerts_per_hour: rule.max_alerts_per_hour.unwrap_or(default_cap()),
        }
    }
}

fn v1_window(window: Duration) -> String {
    match window.as_secs() {
        86_400 => "24h".to_owned(),
        _ => format_duration(window),
    }
}

/// The share of events with a status of 400 or more.
fn error_ratio() -> Option<Quantity> {
    let filter = Filter::new(Expr::compare(FieldPath::StatusCode, CompareOp::Ge, 400.0)).ok()?;
    let numerator = Term { measure: Measure::Count, filter: Some(filter) };
    Some(Quantity::Ratio { numerator, denominator: Term::new(Measure::Count) })
}

fn event_type(filter: &Filter) -> Option<Text> {
    match filter.expr() {
        Expr::Compare { field: FieldPath::EventType, op: CompareOp::Eq, value: Value::Text(text) } => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// Returns the v1 condition of a rule, and the threshold that v1 keeps beside it.
fn v1_condition(rule: &Rule) -> (V1Condition, Option<(ThresholdOp, f64)>) {
    let expression = || (V1Condition::Expression { expression: rule.expression() }, None);
    let has_v1_filter = rule.filter.is_all() || event_type(&rule.filter).is_some();
    let is_plain = rule.group_by.is_empty()
        && rule.hold_for.is_zero()
        && rule.keep_firing_for.is_zero()
        && has_v1_filter;
    let RuleKind::Threshold { quantity, condition, .. } = &rule.kind else { return expression() };
    if !is_plain || condition.recovery.is_some() {
        return expression();
    }
    let Condition { op, value, upto, .. } = *condition;
    let threshold = |metric_field| (V1Condition::Threshold { metric_field }, Some((op, value)));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the caller checks the range")]
    let count = |number: f64| Some(number as u64);
    let is_count = |number: f64| number.fract() == 0.0 && (0.0..9e15).contains(&number);
    match quantity {
        Quantity::Measure(Measure::Count) if is_count(value) && upto.is_none_or(is_count) => match op {
            ThresholdOp::AtLeast => {
                let max_count = upto.and_then(count);
                (V1Condition::Count { min_count: count(value), max_count }, None)
            }
            ThresholdOp::AtMost => (V1Condition::Count { min_count: None, max_count: count(value) }, None),
            _ if upto.is_none() => threshold(V1Metric::Count),
            _ => expression(),
        },
        _ if upto.is_some() => expression(),
        Quantity::Measure(Measure::Count) => threshold(V1Metric::Count),
        Quantity::Measure(Measure::Avg(FieldPath::StatusCode)) => threshold(V1Metric::StatusCode),
        Quantity::Measure(Measure::Avg(FieldPath::ResponseTimeMs)) => threshold(V1Metric::DurationMs),
        quantity if Some(quantity) == error_ratio().as_ref() && op == ThresholdOp::Above => {
            (V1Condition::Pattern { pattern: V1Pattern::ErrorRate { max_error_rate: value } }, None)
        }
        _ => expression(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(condition: &str, more: &str) -> V1Rule {
        let text = format!(r#"{{"name":"n","severity":"high","condition":{condition}{more}}}"#);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn conditions_become_expressions_and_come_back() {
        for (condition, more, expression) in [
            (r#"{"type":"count","min_count":5}"#, "", "count >= 5 over 5m every 1m"),
            (r#"{"type":"count","max_count":5}"#, r#","time_window":"24h""#, "count <= 5 over 1d every 1m"),
            (r#"{"type":"count","min_count":2,"max_count":5}"#, "", "count >= 2 upto 5 over 5m every 1m"),
            (
                r#"{"type":"threshold","metric_field":"duration_ms"}"#,
                r#","threshold_value":250.5,"threshold_operator":">=","event_type":"api_call""#,
                "avg(metrics.response_time_ms) >= 250.5 over 5m where event_type = 'api_call' every 1m",
            ),
            (
                r#"{"type":"threshold","metric_field":"count"}"#,
                r#","threshold_value":3,"threshold_operator":"==""#,
                "count = 3 over 5m every 1m",
            ),
            (
                r#"{"type":"pattern","pattern":{"type":"error_rate"}}"#,
                r#","evaluation_interval":10"#,
                "count[metrics.status_code >= 400] / count > 0.1 over 5m",
            ),
        ] {
            let v1 = read(condition, more);
            let (rule, channels) = v1.clone().into_rule(RuleId::from_u128(1)).unwrap();
            assert_eq!(rule.expression(), expression);
            rule.validate().unwrap();
            assert!(channels.is_empty());
            assert_eq!(V1Rule::from_rule(&rule), v1, "{condition}");
        }
        let slow = read(r#"{"type":"pattern","pattern":{"type":"response_time"}}"#, "");
        let (rule, _) = slow.into_rule(RuleId::from_u128(1)).unwrap();
        assert_eq!(rule.expression(), "avg(metrics.response_time_ms) > 1000 over 5m every 1m");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let v1 = read(
            r#"{"type":"threshold","metric_field":"count"}"#,
            r#","time_window":"2m","notification_channels":{"webhook":{"url":"nope"},"fax":{}}"#,
        );
        let error = v1.into_rule(RuleId::from_u128(1)).unwrap_err();
        let pointers: Vec<_> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/time_window",
                "/threshold_operator",
                "/threshold_value",
                "/notification_channels/fax",
                "/notification_channels/webhook/url"
            ]
        );
    }

    #[test]
    fn configured_channels_are_made_once() {
        let channels = r#","notification_channels":{"email":{"to":["ann@example.com"]}}"#;
        let rule =
            || read(r#"{"type":"count","min_count":1}"#, channels).into_rule(RuleId::from_u128(1)).unwrap();
        let (rule_one, channels_one) = rule();
        let (_, channels_two) = rule();
        assert_eq!(channels_one, channels_two);
        assert!(channels_one[0].is_called(&rule_one.channels[0]));
    }
}
