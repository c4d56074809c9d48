//! Rules as text.

use std::fmt::Write;

use super::super::{AnomalyDirection, ChangeMode, Condition, NoDataPolicy, Rule, RuleExpr, RuleKind};
use crate::time::format_duration;

impl Rule {
    /// Returns the text form: what is measured, the condition, the window, and how long it must last. Name, severity, labels,
    /// annotations, channels and limits of notifications are not part of it.
    pub fn expression(&self) -> String {
        let mut text = kind_text(&self.kind);
        let mut add = |word: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = write!(text, " {word} {value}");
        };
        if !self.filter.is_all() {
            add("where", self.filter.to_string());
        }
        if !self.group_by.is_empty() {
            let paths: Vec<String> = self.group_by.iter().map(ToString::to_string).collect();
            add("by", paths.join(", "));
        }
        if !self.hold_for.is_zero() {
            add("for", format_duration(self.hold_for));
        }
        if !self.keep_firing_for.is_zero() {
            add("keep", format_duration(self.keep_firing_for));
        }
        if self.evaluation_interval != super::super::DEFAULT_EVALUATION_INTERVAL {
            add("every", format_duration(self.evaluation_interval));
        }
        if self.no_data != NoDataPolicy::Ok {
            add("no_data", no_data_name(self.no_data).to_owned());
        }
        text
    }
}

/// Returns the name of the policy in text and JSON.
pub(super) const fn no_data_name(policy: NoDataPolicy) -> &'static str {
    match policy {
        NoDataPolicy::NoData => "no_data",
        NoDataPolicy::Ok => "ok",
        NoDataPolicy::Firing => "firing",
        NoDataPolicy::KeepLast => "keep_last",
    }
}

fn kind_text(kind: &RuleKind) -> String {
    match kind {
        RuleKind::Threshold { quantity, window, condition } => {
            format!("{quantity} {condition} over {}", format_duration(*window))
        }
        RuleKind::Absence { window } => format!("absent over {}", format_duration(*window)),
        RuleKind::Change { quantity, window, offset, mode, condition } => {
            let unit = if *mode == ChangeMode::Percent { "%" } else { "" };
            let offset = offset.map(|offset| format!(" offset {}", format_duration(offset)));
            let Condition { op, value, recovery, upto } = condition;
            let upto = upto.map(|upto| format!(" upto {upto}{unit}")).unwrap_or_default();
            let recovery = recovery.map(|recovery| format!(" recover {recovery}{unit}"));
            format!(
                "change({quantity}) {op} {value}{unit}{upto}{} over {}{}",
                recovery.unwrap_or_default(),
                format_duration(*window),
                offset.unwrap_or_default()
            )
        }
        RuleKind::Anomaly { quantity, window, season, periods, score, direction } => {
            let op = match direction {
                AnomalyDirection::Above => ">=",
                AnomalyDirection::Below => "<=",
                AnomalyDirection::Both => "beyond",
            };
            let score = if *direction == AnomalyDirection::Below { -score } else { *score };
            let season = season.map(|season| format!(" season {}", format_duration(season)));
            format!(
                "anomaly({quantity}) {op} {score} over {}{} periods {periods}",
                format_duration(*window),
                season.unwrap_or_default()
            )
        }
        RuleKind::Sequence { first, then, within, by, condition } => {
            format!("sequence({first}; {then}; {by}) {condition} within {}", format_duration(*within))
        }
        RuleKind::Composite { expression } => format!("rules({})", expression_text(expression, 0)),
    }
}

/// Strength: 0 or, 1 and, 2 not.
fn expression_text(expression: &RuleExpr, around: u8) -> String {
    let (own, text) = match expression {
        RuleExpr::Rule(id) => (3, id.to_string()),
        RuleExpr::Not(inner) => (2, format!("not {}", expression_text(inner, 2))),
        RuleExpr::All(parts) => (1, join(parts, " and ", 2)),
        RuleExpr::Any(parts) => (0, join(parts, " or ", 1)),
    };
    let is_group = matches!(expression, RuleExpr::All(parts) | RuleExpr::Any(parts) if parts.len() == 1);
    if own < around || is_group { format!("({text})") } else { text }
}

fn join(parts: &[RuleExpr], separator: &str, around: u8) -> String {
    parts.iter().map(|part| expression_text(part, around)).collect::<Vec<_>>().join(separator)
}
