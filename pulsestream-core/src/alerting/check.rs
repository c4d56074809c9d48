//! What a rule may be.

use std::time::Duration;

use super::{Condition, Quantity, Rule, RuleExpr, RuleKind, Term};
use crate::error::{Error, FieldError, Result};
use crate::query::MAX_GROUP_PATHS;
use crate::time::format_duration;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// Shortest window.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Longest window, and longest `for`, `keep_firing_for` and `cooldown`.
pub const MAX_WINDOW: Duration = Duration::from_secs(31 * 86_400);
/// Largest `max_groups`.
pub const MAX_GROUPS: u32 = 10_000;
/// Most labels, and most annotations.
pub const MAX_LABELS: usize = 64;
/// Longest text of one annotation template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 16 * 1_024;
/// Most channels of one rule.
pub const MAX_CHANNELS: usize = 20;
/// How many windows back a change may look.
pub const MAX_CHANGE_WINDOWS: u32 = 336;
/// Most windows of a season.
pub const MAX_SEASON_WINDOWS: u32 = 2_016;
/// Most earlier seasons in a baseline.
pub const MAX_BASELINE_PERIODS: u32 = 30;
/// Most rules named by a composite.
pub const MAX_COMPOSITE_RULES: usize = 32;

#[derive(Default)]
struct Problems(Vec<FieldError>);

impl Problems {
    fn refuse(&mut self, pointer: impl Into<String>, code: &'static str, message: impl Into<String>) {
        self.0.push(FieldError::new(pointer, code, message));
    }

    fn duration(&mut self, pointer: &str, span: Duration, smallest: Duration) {
        if span < smallest || span > MAX_WINDOW || !span.subsec_nanos().is_multiple_of(1_000_000) {
            let (smallest, largest) = (format_duration(smallest), format_duration(MAX_WINDOW));
            self.refuse(
                pointer,
                "out_of_range",
                format!("must be {smallest} to {largest}, whole milliseconds"),
            );
        }
    }
}

impl Rule {
    /// Checks everything that can be checked without other rules.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong, pointers into the JSON form.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Problems::default();
        if self.name.trim().is_empty() || self.name.len() > MAX_NAME_BYTES {
            problems.refuse("/name", "length", format!("must have 1 to {MAX_NAME_BYTES} bytes"));
        }
        check_kind(&self.kind, self, &mut problems);
        if self.group_by.len() > MAX_GROUP_PATHS {
            problems.refuse("/group_by", "length", format!("must have at most {MAX_GROUP_PATHS} paths"));
        }
        for (index, path) in self.group_by.iter().enumerate() {
            if self.group_by[..index].contains(path) {
                problems.refuse(format!("/group_by/{index}"), "duplicate", "is there already");
            }
        }
        if self.max_groups == 0 || self.max_groups > MAX_GROUPS {
            problems.refuse("/max_groups", "out_of_range", format!("must be 1 to {MAX_GROUPS}"));
        }
        problems.duration("/for", self.hold_for, Duration::ZERO);
        problems.duration("/keep_firing_for", self.keep_firing_for, Duration::ZERO);
        problems.duration("/cooldown", self.cooldown, Duration::ZERO);
        problems.duration("/evaluation_interval", self.evaluation_interval, MIN_WINDOW);
        if self.max_alerts_per_hour.is_some_and(|limit| limit == 0 || limit > 10_000) {
            problems.refuse("/max_alerts_per_hour", "out_of_range", "must be 1 to 10000");
        }
        if self.channels.len() > MAX_CHANNELS {
            problems.refuse("/channels", "length", format!("must have at most {MAX_CHANNELS} channels"));
        }
        check_texts(self, &mut problems);
        if problems.0.is_empty() { Ok(()) } else { Err(Error::invalid_fields("rules.validate", problems.0)) }
    }
}

fn check_texts(rule: &Rule, problems: &mut Problems) {
    for (name, texts, longest) in
        [("labels", &rule.labels, 1_024), ("annotations", &rule.annotations, MAX_TEMPLATE_BYTES)]
    {
        if texts.len() > MAX_LABELS {
            problems.refuse(format!("/{name}"), "length", format!("must have at most {MAX_LABELS} entries"));
        }
        for (key, value) in texts {
            let is_name = !key.is_empty()
                && key.len() <= 128
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            let pointer = format!("/{name}/{}", key.replace('~', "~0").replace('/', "~1"));
            if !is_name {
                problems.refuse(
                    pointer.clone(),
                    "invalid_name",
                    "names have letters, digits, `_`, `-` and `.`, 1 to 128",
                );
            }
            if value.len() > longest {
                problems.refuse(pointer, "length", format!("must have at most {longest} bytes"));
            }
        }
    }
}

fn check_kind(kind: &RuleKind, rule: &Rule, problems: &mut Problems) {
    if let Some(window) = kind.window() {
        let name = if matches!(kind, RuleKind::Sequence { .. }) { "/kind/within" } else { "/kind/window" };
        problems.duration(name, window, MIN_WINDOW);
    }
    if let Some(condition) = kind.condition() {
        check_condition(condition, problems);
    }
    if let Some(Quantity::Ratio { numerator, denominator }) = kind.quantity() {
        check_term("numerator", numerator, rule, problems);
        check_term("denominator", denominator, rule, problems);
    }
    match kind {
        RuleKind::Threshold { .. } | RuleKind::Absence { .. } | RuleKind::Sequence { .. } => {}
        RuleKind::Change { window, offset, .. } => {
            let offset = offset.unwrap_or(*window);
            check_multiple("/kind/offset", offset, *window, MAX_CHANGE_WINDOWS, problems);
        }
        RuleKind::Anomaly { window, season, periods, score, .. } => {
            if let Some(season) = season {
                check_multiple("/kind/season", *season, *window, MAX_SEASON_WINDOWS, problems);
            }
            if !(3..=MAX_BASELINE_PERIODS).contains(periods) {
                let message = format!("must be 3 to {MAX_BASELINE_PERIODS}");
                problems.refuse("/kind/periods", "out_of_range", message);
            }
            if !score.is_finite() || *score <= 0.0 {
                problems.refuse("/kind/score", "out_of_range", "must be a positive number");
            }
        }
        RuleKind::Composite { expression } => check_composite(expression, rule, problems),
    }
}

fn check_condition(condition: &Condition, problems: &mut Problems) {
    if !condition.value.is_finite() {
        problems.refuse("/kind/condition/value", "out_of_range", "must be a finite number");
    }
    if condition.upto.is_some_and(|upto| !(upto >= condition.value && condition.op.is_upper())) {
        problems.refuse("/kind/condition/upto", "out_of_range", "must be at least the value of > or >=");
    }
    let Some(recovery) = condition.recovery else { return };
    let is_quiet = if condition.op.is_upper() {
        recovery <= condition.value
    } else {
        condition.op.is_lower() && recovery >= condition.value
    };
    if !is_quiet || !recovery.is_finite() {
        problems.refuse(
            "/kind/condition/recovery",
            "out_of_range",
            "must lie on the quiet side of the threshold of >, >=, < or <=",
        );
    }
}

fn check_term(side: &str, term: &Term, rule: &Rule, problems: &mut Problems) {
    if let Some(filter) = &term.filter
        && let Err(error) = rule.filter.and(filter)
    {
        problems.refuse(format!("/kind/quantity/{side}/filter"), "too_many", error.message().to_owned());
    }
}

fn check_multiple(pointer: &str, span: Duration, window: Duration, most: u32, problems: &mut Problems) {
    let (span, window) = (span.as_millis(), window.as_millis().max(1));
    if span == 0 || span % window != 0 || span / window > u128::from(most) {
        problems.refuse(pointer, "out_of_range", format!("must be 1 to {most} times the window"));
    }
}

fn check_composite(expression: &RuleExpr, rule: &Rule, problems: &mut Problems) {
    let mut rules = Vec::new();
    expression.for_each_rule(&mut |id| rules.push(id));
    if rules.is_empty() || rules.len() > MAX_COMPOSITE_RULES {
        let message = format!("must name 1 to {MAX_COMPOSITE_RULES} rules");
        problems.refuse("/kind/expression", "length", message);
    }
    if has_short_list(expression) {
        problems.refuse("/kind/expression", "length", "`all` and `any` must have at least two parts");
    }
    if rules.contains(&rule.id) {
        problems.refuse("/kind/expression", "self_reference", "must not name the rule itself");
    }
    if depth(expression) > 16 {
        problems.refuse("/kind/expression", "too_deep", "must be nested at most 16 levels");
    }
    if !rule.group_by.is_empty() {
        problems.refuse("/group_by", "not_allowed", "a composite rule has one instance");
    }
    if !rule.filter.is_all() {
        let message = "a composite rule looks at no events; put the filter into the rules that it names";
        problems.refuse("/filter", "not_allowed", message);
    }
}

fn has_short_list(expression: &RuleExpr) -> bool {
    match expression {
        RuleExpr::Rule(_) => false,
        RuleExpr::All(parts) | RuleExpr::Any(parts) => parts.len() < 2 || parts.iter().any(has_short_list),
        RuleExpr::Not(inner) => has_short_list(inner),
    }
}

fn depth(expression: &RuleExpr) -> usize {
    match expression {
        RuleExpr::Rule(_) => 1,
        RuleExpr::All(parts) | RuleExpr::Any(parts) => 1 + parts.iter().map(depth).max().unwrap_or(0),
        RuleExpr::Not(inner) => 1 + depth(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::ThresholdOp;
    use crate::id::RuleId;
    use crate::query::Measure;

    fn rule() -> Rule {
        let kind = RuleKind::Threshold {
            quantity: Quantity::Measure(Measure::Count),
            window: Duration::from_secs(300),
            condition: Condition::new(ThresholdOp::Above, 10.0),
        };
        Rule::new(RuleId::from_u128(1), "many errors", kind)
    }

    fn pointers(rule: &Rule) -> Vec<String> {
        match rule.validate() {
            Ok(()) => Vec::new(),
            Err(error) => error.fields().iter().map(|field| field.pointer.clone()).collect(),
        }
    }

    #[test]
    fn limits_at_the_edge() {
        let mut good = rule();
        good.name = "x".repeat(MAX_NAME_BYTES).into();
        good.max_groups = MAX_GROUPS;
        good.hold_for = MAX_WINDOW;
        assert_eq!(pointers(&good), Vec::<String>::new());
        let mut bad = rule();
        bad.name = "x".repeat(MAX_NAME_BYTES + 1).into();
        bad.max_groups = MAX_GROUPS + 1;
        bad.hold_for = MAX_WINDOW + Duration::from_millis(1);
        bad.labels.insert("a b".into(), "c".into());
        assert_eq!(pointers(&bad), ["/name", "/max_groups", "/for", "/labels/a b"]);
    }

    #[test]
    fn recovery_must_be_quieter() {
        let mut bad = rule();
        let condition = Condition { recovery: Some(20.0), ..Condition::new(ThresholdOp::Above, 10.0) };
        let quantity = Quantity::Measure(Measure::Count);
        bad.kind = RuleKind::Threshold { quantity, window: Duration::from_secs(60), condition };
        assert_eq!(pointers(&bad), ["/kind/condition/recovery"]);
    }

    #[test]
    fn composites_do_not_name_themselves() {
        let mut bad = rule();
        bad.kind = RuleKind::Composite { expression: RuleExpr::Not(Box::new(RuleExpr::Rule(bad.id))) };
        assert_eq!(pointers(&bad), ["/kind/expression"]);
        bad.kind = RuleKind::Composite { expression: RuleExpr::Rule(RuleId::from_u128(2)) };
        assert_eq!(pointers(&bad), Vec::<String>::new());
        let empty = vec![RuleExpr::Rule(RuleId::from_u128(2)), RuleExpr::Any(Vec::new())];
        bad.kind = RuleKind::Composite { expression: RuleExpr::All(empty) };
        assert_eq!(pointers(&bad), ["/kind/expression"]);
        bad.kind = RuleKind::Composite { expression: RuleExpr::Rule(RuleId::from_u128(2)) };
        bad.filter = "event_type = 'call'".parse().unwrap();
        bad.group_by = vec!["source.service".parse().unwrap()];
        assert_eq!(pointers(&bad), ["/group_by", "/filter"]);
    }
}
