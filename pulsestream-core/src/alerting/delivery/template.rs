//! Templates of annotations: Jinja syntax with limits, so that no text of a rule can stop or fill the server.

use std::collections::BTreeMap;
use std::io;

use minijinja::{Environment, UndefinedBehavior, Value, context};

use crate::alerting::{AlertChange, AlertState, Fingerprint, Labels, Rule, Transition, TransitionReason};
use crate::error::{Error, Result};
use crate::id::AlertId;
use crate::text::Text;
use crate::time::Timestamp;

/// Largest output of one template, in bytes, unless the settings say otherwise.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1_024;
/// How many steps one template may take, see [`minijinja::Environment::set_fuel`].
pub const TEMPLATE_FUEL: u64 = 20_000;
/// Longest reason of a failure that is shown, in characters.
const MAX_REASON_CHARS: usize = 300;

/// Refuses what exceeds the limit.
#[derive(Debug)]
struct Limited {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::other(format!("the output is larger than {} bytes", self.most)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks whether a text that is a template can be read as one. What it refers to is known when it is rendered only.
///
/// # Errors
/// `Invalid` with the reason.
pub(in crate::alerting) fn check(text: &str) -> Result<()> {
    if !is_template(text) {
        return Ok(());
    }
    let read = Environment::new().template_from_str(text).map(drop);
    read.map_err(|error| Error::invalid("template.check", "", "invalid_template", reason(&error)))
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// Renders one template with what is known of a change: `rule`, `rule_id`, `severity`, `labels`, `group`, `value`, `state`,
/// `summary`, `alert_id`, `started_at` and `fired_at`.
///
/// # Errors
/// `Invalid` with the reason: syntax, an unknown name, too many steps, or more than `max_output_bytes`.
pub fn render(template: &str, change: &AlertChange, max_output_bytes: usize) -> Result<Text> {
    let refuse = |reason: String| Err(Error::invalid("template.render", "", "invalid_template", reason));
    if !is_template(template) {
        return Ok(Text::from(template));
    }
    let mut environment = Environment::new();
    environment.set_fuel(Some(TEMPLATE_FUEL));
    environment.set_recursion_limit(50);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let transition = &change.transition;
    let known = context! {
        rule => change.rule_name.as_str(),
        rule_id => transition.rule.to_string(),
        severity => change.severity.as_str(),
        labels => plain(&change.labels),
        group => plain(&transition.group),
        value => transition.value,
        state => transition.to.as_str(),
        summary => change.summary.as_str(),
        alert_id => transition.alert.to_string(),
        started_at => transition.started_at.to_string(),
        fired_at => transition.fired_at.map(|at| at.to_string()),
    };
    let template = match environment.template_from_str(template) {
        Ok(template) => template,
        Err(error) => return refuse(reason(&error)),
    };
    let mut output = Limited { bytes: Vec::new(), most: max_output_bytes };
    if let Err(error) = template.render_captured_to(known, &mut output) {
        return refuse(reason(&error));
    }
    match String::from_utf8(output.bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => refuse("the output is not text".to_owned()),
    }
}

fn plain(labels: &Labels) -> Value {
    Value::from_pairs(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn reason(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_REASON_CHARS).collect()
}

/// Renders the annotations of a change in place, each with at most `max_output_bytes`. A template that fails is replaced by a text that holds the facts, and says so.
pub fn render_annotations(change: &mut AlertChange, max_output_bytes: usize) {
    if !change.annotations.values().any(|text| is_template(text)) {
        return;
    }
    let rendered = change.annotations.iter().map(|(name, template)| {
        let text =
            render(template, change, max_output_bytes).unwrap_or_else(|error| fallback(name, change, &error));
        (name.clone(), text)
    });
    change.annotations = rendered.collect();
}

fn fallback(name: &str, change: &AlertChange, error: &Error) -> Text {
    tracing::warn!(rule = %change.transition.rule, annotation = name, %error, "a template could not be rendered");
    let (rule, state) = (&change.rule_name, change.transition.to);
    if name == "title" {
        return Text::from(format!("{rule}: {state} (the template of the title failed)"));
    }
    let value = change.transition.value.map(|value| format!(", value {value}")).unwrap_or_default();
    let reason =
        error.fields().first().map_or_else(|| error.message().to_owned(), |field| field.message.to_string());
    Text::from(format!("{}{value}\n(the template `{name}` failed: {reason})", change.summary))
}

/// Shows what the annotations of a rule would say for an example alert: value 1, and `example` for every label of the group.
pub fn preview(rule: &Rule, now: Timestamp, max_output_bytes: usize) -> BTreeMap<Text, Result<Text>> {
    let change = example(rule, now);
    let rendered = change.annotations.iter();
    rendered.map(|(name, template)| (name.clone(), render(template, &change, max_output_bytes))).collect()
}

fn example(rule: &Rule, now: Timestamp) -> AlertChange {
    let group: Labels =
        rule.group_by.iter().map(|path| (path.to_string().into(), "example".into())).collect();
    let transition = Transition {
        alert: AlertId::from_u128(0),
        sequence: 1,
        rule: rule.id,
        rule_version: rule.version,
        fingerprint: Fingerprint::of(&group),
        group,
        from: None,
        to: AlertState::Firing,
        at: now,
        started_at: now,
        fired_at: Some(now),
        value: Some(1.0),
        reason: TransitionReason::Condition,
        muted: None,
    };
    AlertChange::new(transition, rule, rule.expression())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::RuleExpression;
    use crate::alerting::RuleKind;
    use crate::id::RuleId;

    fn rule(message: &str) -> Rule {
        let kind = RuleKind::Absence { window: std::time::Duration::from_secs(60) };
        let mut rule = Rule::new(RuleId::from_u128(1), "slow", kind);
        let expression: RuleExpression = "count > 3 over 5m by source.service".parse().unwrap();
        expression.apply_to(&mut rule);
        rule.annotations.insert("message".into(), message.into());
        rule
    }

    fn shown(message: &str) -> Result<Text> {
        preview(&rule(message), Timestamp::EPOCH, MAX_OUTPUT_BYTES).remove("message").unwrap()
    }

    #[test]
    fn the_output_has_the_limit_that_was_set() {
        let with_limit =
            |limit| preview(&rule("{{ 'xxxx' }}"), Timestamp::EPOCH, limit).remove("message").unwrap();
        assert_eq!(with_limit(4).unwrap(), Text::from("xxxx"));
        let error = with_limit(3).unwrap_err();
        assert!(error.fields()[0].message.contains("larger than 3 bytes"), "{error:?}");
        let mut change = example(&rule("{{ 'xxxx' }}"), Timestamp::EPOCH);
        render_annotations(&mut change, 3);
        assert!(change.annotations["message"].contains("larger than 3 bytes"));
    }

    #[test]
    fn templates_see_the_alert() {
        let text = shown(
            "{{ labels['source.service'] }} is {{ state }} at {{ value|round(1) }}{% if severity == 'medium' %}!{% endif %}",
        );
        assert_eq!(text.unwrap(), Text::from("example is firing at 1.0!"));
        assert_eq!(shown("no template { here }").unwrap(), Text::from("no template { here }"));
    }

    #[test]
    fn limits_hold() {
        for (template, word) in [
            ("{{ nothing }}", "undefined"),
            ("{{ labels.nothing }}", "undefined"),
            ("{{", "syntax"),
            ("{% for i in range(100000) %}{{ i }}{% endfor %}", "fuel"),
            ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "fuel"),
            ("{{ 'x' * 70000 }}", "65536 bytes"),
            ("{% include 'secret' %}", ""),
            ("{{ rule.__class__ }}", ""),
        ] {
            let error = shown(template).unwrap_err();
            let text = error.fields()[0].message.to_string();
            assert!(text.contains(word), "{template}: {text}");
        }
        assert_eq!(
            shown(&format!("{}{{{{ '' }}}}", "y".repeat(MAX_OUTPUT_BYTES))).unwrap().len(),
            MAX_OUTPUT_BYTES
        );
        assert!(shown(&format!("{}{{{{ 'z' }}}}", "y".repeat(MAX_OUTPUT_BYTES))).is_err());
    }

    #[test]
    fn what_is_no_template_is_refused_before_it_is_needed() {
        for good in ["{{ nothing }}", "no template {", "{% if value > 3 %}many{% endif %}"] {
            check(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for (bad, word) in [
            ("{{ value", "unexpected end"),
            ("{% if value %}", "end of input"),
            ("{{ value|nofilter( }}", ""),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.fields()[0].message.contains(word), "{bad}: {error:?}");
        }
    }

    #[test]
    fn a_failure_is_said_and_the_facts_stay() {
        let mut rule = rule("{{ nothing }}");
        rule.annotations.insert("title".into(), "{{ nothing }}".into());
        let mut change = example(&rule, Timestamp::EPOCH);
        render_annotations(&mut change, MAX_OUTPUT_BYTES);
        assert_eq!(
            change.annotations["title"],
            Text::from("slow: firing (the template of the title failed)")
        );
        let message = &change.annotations["message"];
        assert!(message.contains(", value 1\n(the template `message` failed: undefined"), "{message}");
    }
}
