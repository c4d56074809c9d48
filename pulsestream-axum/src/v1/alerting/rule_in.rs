//! Rules as clients send them.

use std::time::Duration;

use pulsestream_core::FieldError;
use pulsestream_core::Filter;
use pulsestream_core::alerting::{AlertSeverity, Rule, RuleKind};
use pulsestream_core::event::{FieldPath, Value as FieldValue};
use pulsestream_core::filter::{CompareOp, Expr};
use pulsestream_core::id::RuleId;
use pulsestream_core::text::Text;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::channels::{self, Wanted};
use super::condition::{self, Stated};

/// The annotation that holds the notification template.
pub(super) const MESSAGE: &str = "message";

/// How serious the alerts of a rule are.
#[derive(Debug, ToSchema)]
#[schema(as = AlertSeverity, rename_all = "snake_case")]
#[allow(dead_code, reason = "a schema")]
pub(crate) enum AlertSeverityName {
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
pub(crate) enum TimeWindow {
    #[serde(rename = "1m")]
    OneMinute,
    #[serde(rename = "5m")]
    FiveMinutes,
    #[serde(rename = "15m")]
    QuarterHour,
    #[serde(rename = "1h")]
    OneHour,
    #[serde(rename = "6h")]
    SixHours,
    #[serde(rename = "24h")]
    OneDay,
    #[serde(rename = "7d")]
    OneWeek,
}

impl TimeWindow {
    const ALL: [(Self, &'static str, u64); 7] = [
        (Self::OneMinute, "1m", 60),
        (Self::FiveMinutes, "5m", 300),
        (Self::QuarterHour, "15m", 900),
        (Self::OneHour, "1h", 3_600),
        (Self::SixHours, "6h", 21_600),
        (Self::OneDay, "24h", 86_400),
        (Self::OneWeek, "7d", 604_800),
    ];

    const fn span(self) -> Duration {
        Duration::from_secs(Self::ALL[self as usize].2)
    }

    /// Returns the name of a span.
    pub(super) fn name_of(span: Duration) -> String {
        let known = Self::ALL.iter().find(|(_, _, seconds)| Duration::from_secs(*seconds) == span);
        known.map_or_else(|| pulsestream_core::time::format_duration(span), |(_, name, _)| (*name).to_owned())
    }
}

const fn five_minutes() -> TimeWindow {
    TimeWindow::FiveMinutes
}

const fn sixty() -> u64 {
    60
}

const fn yes() -> bool {
    true
}

const fn five() -> u64 {
    5
}

const fn ten() -> u32 {
    10
}

/// A new rule.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "Many events", "severity": "high", "condition": {"type": "count", "min_count": 1}, "time_window": "5m",
    "notification_channels": ["log"]
}))]
pub(crate) struct RuleIn {
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    #[schema(max_length = 2000)]
    description: Option<String>,
    /// `{type: count, min_count | max_count}`, `{type: threshold, metric_field}` or `{type: pattern, pattern}`.
    condition: Map<String, Value>,
    #[schema(value_type = AlertSeverityName)]
    severity: AlertSeverity,
    #[schema(min_length = 1, max_length = 100)]
    event_type: Option<String>,
    threshold_value: Option<f64>,
    /// One of `>`, `<`, `>=`, `<=`, `==`, `!=`.
    threshold_operator: Option<String>,
    #[serde(default = "five_minutes")]
    #[schema(default = "5m")]
    time_window: TimeWindow,
    /// Seconds.
    #[serde(default = "sixty")]
    #[schema(minimum = 1, maximum = 86400, default = 60)]
    evaluation_interval: u64,
    /// Names of channels, or an object of channels with their settings.
    notification_channels: Option<Value>,
    #[schema(max_length = 4096)]
    notification_template: Option<String>,
    #[serde(default = "yes")]
    #[schema(default = true)]
    is_active: bool,
    #[serde(default = "five")]
    #[schema(minimum = 0, maximum = 10080, default = 5)]
    cooldown_minutes: u64,
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 10000, default = 10)]
    max_alerts_per_hour: u32,
}

impl RuleIn {
    /// Returns the rule, without its channels, and the channels it wants.
    pub(super) fn into_rule(self, id: RuleId) -> Result<(Rule, Wanted), Vec<FieldError>> {
        let stated = Stated {
            condition: &self.condition,
            threshold_value: self.threshold_value,
            threshold_operator: self.threshold_operator.as_deref(),
            window: self.time_window.span(),
        };
        let (kind, channels) = (stated.kind(), channels::read(self.notification_channels.as_ref()));
        let filter = type_filter(self.event_type.as_deref());
        let (kind, channels, filter) = match (kind, channels, filter) {
            (Ok(kind), Ok(channels), Ok(filter)) => (kind, channels, filter),
            (kind, channels, filter) => {
                return Err([kind.err(), channels.err(), filter.err()].into_iter().flatten().collect());
            }
        };
        let mut rule = Rule::new(id, self.name, kind);
        rule.description = self.description.map(Text::from);
        rule.filter = filter;
        rule.severity = self.severity;
        rule.evaluation_interval = Duration::from_secs(self.evaluation_interval);
        rule.is_active = self.is_active;
        rule.cooldown = Duration::from_secs(self.cooldown_minutes * 60);
        rule.max_alerts_per_hour = Some(self.max_alerts_per_hour);
        rule.notify_at_once = true;
        set_template(&mut rule, self.notification_template);
        Ok((rule, channels))
    }
}

/// Changes to a rule; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RuleChange {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(max_length = 2000)]
    description: Option<String>,
    condition: Option<Map<String, Value>>,
    #[schema(value_type = Option<AlertSeverityName>)]
    severity: Option<AlertSeverity>,
    #[schema(min_length = 1, max_length = 100)]
    event_type: Option<String>,
    threshold_value: Option<f64>,
    threshold_operator: Option<String>,
    time_window: Option<TimeWindow>,
    #[schema(minimum = 1, maximum = 86400)]
    evaluation_interval: Option<u64>,
    notification_channels: Option<Value>,
    #[schema(max_length = 4096)]
    notification_template: Option<String>,
    is_active: Option<bool>,
    #[schema(minimum = 0, maximum = 10080)]
    cooldown_minutes: Option<u64>,
    #[schema(minimum = 1, maximum = 10000)]
    max_alerts_per_hour: Option<u32>,
}

impl RuleChange {
    /// Changes a rule, and returns the channels it wants when they change.
    pub(super) fn apply(self, rule: &mut Rule) -> Result<Option<Wanted>, Vec<FieldError>> {
        self.apply_kind(rule).map_err(|field| vec![field])?;
        if let Some(event_type) = &self.event_type {
            rule.filter = type_filter(Some(event_type)).map_err(|field| vec![field])?;
        }
        let channels = match &self.notification_channels {
            Some(channels) => Some(channels::read(Some(channels)).map_err(|field| vec![field])?),
            None => None,
        };
        if let Some(name) = self.name {
            rule.name = Text::from(name);
        }
        if let Some(description) = self.description {
            rule.description = Some(Text::from(description));
        }
        rule.severity = self.severity.unwrap_or(rule.severity);
        rule.is_active = self.is_active.unwrap_or(rule.is_active);
        if let Some(seconds) = self.evaluation_interval {
            rule.evaluation_interval = Duration::from_secs(seconds);
        }
        if let Some(minutes) = self.cooldown_minutes {
            rule.cooldown = Duration::from_secs(minutes * 60);
        }
        rule.max_alerts_per_hour = self.max_alerts_per_hour.or(rule.max_alerts_per_hour);
        if self.notification_template.is_some() {
            set_template(rule, self.notification_template);
        }
        Ok(channels)
    }

    fn apply_kind(&self, rule: &mut Rule) -> Result<(), FieldError> {
        let touches = self.condition.is_some()
            || self.threshold_value.is_some()
            || self.threshold_operator.is_some()
            || self.time_window.is_some();
        if !touches {
            return Ok(());
        }
        let window = self.time_window.map(TimeWindow::span).or(rule.kind.window());
        if self.condition.is_none() && self.threshold_value.is_none() && self.threshold_operator.is_none() {
            // Only the window changes, whatever the kind.
            if let (RuleKind::Threshold { window: old, .. }, Some(new)) = (&mut rule.kind, window) {
                *old = new;
            }
            return Ok(());
        }
        let shown = condition::shown(&rule.kind);
        let condition = match (&self.condition, shown.as_object()) {
            (Some(new), _) => new,
            (None, Some(old)) => old,
            (None, None) => return Ok(()),
        };
        let old = condition::threshold(&rule.kind);
        let stated = Stated {
            condition,
            threshold_value: self.threshold_value.or(old.map(|(value, _)| value)),
            threshold_operator: self.threshold_operator.as_deref().or(old.map(|(_, operator)| operator)),
            window: window.unwrap_or(TimeWindow::FiveMinutes.span()),
        };
        rule.kind = stated.kind()?;
        Ok(())
    }
}

fn set_template(rule: &mut Rule, template: Option<String>) {
    match template.filter(|template| !template.is_empty()) {
        Some(template) => drop(rule.annotations.insert(Text::from(MESSAGE), Text::from(template))),
        None => drop(rule.annotations.remove(MESSAGE)),
    }
}

fn type_filter(event_type: Option<&str>) -> Result<Filter, FieldError> {
    let Some(event_type) = event_type else { return Ok(Filter::all()) };
    let expr = Expr::compare(FieldPath::EventType, CompareOp::Eq, FieldValue::from(event_type));
    Filter::new(expr).map_err(|error| FieldError::new("/event_type", "invalid", error.message().to_owned()))
}

/// Returns the event type that a filter asks for, when it asks for one.
pub(super) fn event_type_of(filter: &Filter) -> Option<String> {
    match filter.expr() {
        Expr::Compare { field: FieldPath::EventType, op: CompareOp::Eq, value } => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsestream_core::time::parse_duration;

    #[test]
    fn windows_have_the_lengths_that_their_names_say() {
        for (index, (window, name, seconds)) in TimeWindow::ALL.into_iter().enumerate() {
            assert_eq!((window as usize, window.span()), (index, Duration::from_secs(seconds)));
            assert_eq!(parse_duration(name).unwrap(), Duration::from_secs(seconds));
            assert_eq!(TimeWindow::name_of(window.span()), name);
        }
    }
}
