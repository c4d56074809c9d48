//! The parser of rules.

use std::str::FromStr;
use std::time::Duration;

use super::super::{
    AnomalyDirection, ChangeMode, Condition, DEFAULT_EVALUATION_INTERVAL, NoDataPolicy, Quantity, Rule,
    RuleExpr, RuleKind, Term, ThresholdOp,
};
use super::clauses::{Clauses, Part, find_outside, unknown_clause};
use super::fault::Fault;
use crate::error::{Error, Result};
use crate::event::{FieldPath, nearest_of};
use crate::filter::Filter;
use crate::id::RuleId;
use crate::query::Measure;
use crate::time::parse_duration;

/// Longest text of a rule, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1_024;

/// What the text of a rule says; the rest of a [`Rule`] is set by its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleExpression {
    /// What makes it fire.
    pub kind: RuleKind,
    /// Which events it looks at.
    pub filter: Filter,
    /// What its instances are.
    pub group_by: Vec<FieldPath>,
    /// How long a breach must last.
    pub hold_for: Duration,
    /// How long it must be over.
    pub keep_firing_for: Duration,
    /// How often windows are evaluated as time passes.
    pub evaluation_interval: Duration,
    /// What a window without a value means.
    pub no_data: NoDataPolicy,
}

impl RuleExpression {
    /// Sets what the text says on a rule.
    pub fn apply_to(self, rule: &mut Rule) {
        rule.kind = self.kind;
        rule.filter = self.filter;
        rule.group_by = self.group_by;
        rule.hold_for = self.hold_for;
        rule.keep_firing_for = self.keep_firing_for;
        rule.evaluation_interval = self.evaluation_interval;
        rule.no_data = self.no_data;
    }
}

impl FromStr for RuleExpression {
    type Err = Error;

    /// Reads the text form, see [`Rule::expression`].
    fn from_str(source: &str) -> Result<Self> {
        if source.len() > MAX_EXPRESSION_BYTES {
            let message = format!("a rule must have at most {MAX_EXPRESSION_BYTES} bytes");
            return Err(Error::invalid("rule.parse", "/expression", "length", message));
        }
        parse(source).map_err(|fault| fault.into_error(source))
    }
}

fn parse(source: &str) -> Result<RuleExpression, Fault> {
    let mut clauses = Clauses::cut(source)?;
    let kind = kind(&mut clauses)?;
    let filter = clauses.take("where").map_or_else(|| Ok(Filter::all()), filter)?;
    let group_by = clauses.take("by").map_or_else(|| Ok(Vec::new()), paths)?;
    let hold_for = clauses.take("for").map_or(Ok(Duration::ZERO), duration)?;
    let keep_firing_for = clauses.take("keep").map_or(Ok(Duration::ZERO), duration)?;
    let evaluation_interval = clauses.take("every").map_or(Ok(DEFAULT_EVALUATION_INTERVAL), duration)?;
    let no_data = clauses.take("no_data").map_or(Ok(NoDataPolicy::Ok), policy)?;
    clauses.finish()?;
    Ok(RuleExpression { kind, filter, group_by, hold_for, keep_firing_for, evaluation_interval, no_data })
}

fn kind(clauses: &mut Clauses<'_>) -> Result<RuleKind, Fault> {
    let head = clauses.head;
    if head.text.is_empty() {
        let message = "a rule starts with what it measures, for example `count > 100 over 5m`";
        return Err(head.fault("incomplete", message));
    }
    let word = head.text.split(|character: char| !is_name(character)).next().unwrap_or_default();
    let argument = call_argument(head, word);
    match (word, argument) {
        ("absent", None) => {
            let rest = head.slice(word.len(), head.text.len());
            if !rest.text.is_empty() {
                return Err(unknown_clause(rest));
            }
            Ok(RuleKind::Absence { window: window(clauses)? })
        }
        ("change", Some((inside, rest))) => {
            let quantity = quantity(inside)?;
            let mode = if rest.text.contains('%') { ChangeMode::Percent } else { ChangeMode::Absolute };
            let condition = condition(rest)?;
            let window = window(clauses)?;
            let offset = clauses.take("offset").map(duration).transpose()?;
            Ok(RuleKind::Change { quantity, window, offset, mode, condition })
        }
        ("anomaly", Some((inside, rest))) => {
            let quantity = quantity(inside)?;
            let (direction, score) = anomaly_score(rest)?;
            let window = window(clauses)?;
            let season = clauses.take("season").map(duration).transpose()?;
            let periods = clauses.take("periods").map_or(Ok(7), |part| {
                let word = part.one_word("a number such as 7")?;
                word.text
                    .parse()
                    .map_err(|_| word.fault("invalid_number", "must be a whole number such as 7"))
            })?;
            Ok(RuleKind::Anomaly { quantity, window, season, periods, score, direction })
        }
        ("sequence", Some((inside, rest))) => {
            let parts = split(inside, ";");
            let [first, then, by] = parts.as_slice() else {
                let message = "a sequence is written `sequence(FILTER; FILTER; FIELD)`";
                return Err(inside.fault("invalid_sequence", message));
            };
            let (first, then, by) = (filter(*first)?, filter(*then)?, path(*by)?);
            let condition = if rest.text.is_empty() {
                Condition::new(ThresholdOp::AtLeast, 1.0)
            } else {
                condition(rest)?
            };
            let within = duration(clauses.require("within", "10m")?)?;
            Ok(RuleKind::Sequence { first, then, within, by, condition })
        }
        ("rules", Some((inside, rest))) => {
            if !rest.text.is_empty() {
                return Err(unknown_clause(rest));
            }
            Ok(RuleKind::Composite { expression: rule_expression(inside)? })
        }
        _ => {
            let Some(at) = find_outside(head.text, "<>=!") else {
                return Err(Fault::new(
                    head.start + head.text.len(),
                    "incomplete",
                    "expected a condition such as `> 100` after what is measured",
                ));
            };
            let quantity = quantity(head.slice(0, at))?;
            let condition = condition(head.slice(at, head.text.len()))?;
            Ok(RuleKind::Threshold { quantity, window: window(clauses)?, condition })
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Splits `word(ARGUMENT) REST`.
fn call_argument<'a>(head: Part<'a>, word: &str) -> Option<(Part<'a>, Part<'a>)> {
    let tail = head.slice(word.len(), head.text.len());
    let inner = tail.text.strip_prefix('(')?;
    let at = find_outside(inner, ")")?;
    Some((tail.slice(1, 1 + at), tail.slice(at + 2, tail.text.len())))
}

fn split<'a>(part: Part<'a>, separator: &str) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(found) = find_outside(&part.text[from..], separator) {
        parts.push(part.slice(from, from + found));
        from += found + 1;
    }
    parts.push(part.slice(from, part.text.len()));
    parts
}

fn filter(part: Part<'_>) -> Result<Filter, Fault> {
    part.text.parse().map_err(|error: Error| Fault::within(part.text, part.start, &error))
}

fn path(part: Part<'_>) -> Result<FieldPath, Fault> {
    part.text.parse().map_err(|error: Error| Fault::within(part.text, part.start, &error))
}

fn paths(part: Part<'_>) -> Result<Vec<FieldPath>, Fault> {
    split(part, ",")
        .into_iter()
        .map(|part| match find_outside(part.text, " ") {
            Some(space) => Err(unknown_clause(part.slice(space, part.text.len()))),
            None => path(part),
        })
        .collect()
}

fn duration(part: Part<'_>) -> Result<Duration, Fault> {
    let word = part.one_word("a duration such as 5m")?;
    parse_duration(word.text).map_err(|error| word.fault("invalid_duration", error.message()))
}

fn window(clauses: &mut Clauses<'_>) -> Result<Duration, Fault> {
    duration(clauses.require("over", "5m")?)
}

fn policy(part: Part<'_>) -> Result<NoDataPolicy, Fault> {
    let all = [NoDataPolicy::NoData, NoDataPolicy::Ok, NoDataPolicy::Firing, NoDataPolicy::KeepLast];
    let word = part.one_word("no_data, ok, firing or keep_last")?;
    let named = |policy: &NoDataPolicy| super::display::no_data_name(*policy) == word.text;
    all.into_iter().find(named).ok_or_else(|| {
        let names = all.map(super::display::no_data_name);
        let hint = nearest_of(word.text, names.into_iter());
        let hint = hint.map(|near| format!("did you mean `{near}`; ")).unwrap_or_default();
        word.fault("unknown_value", format!("{hint}valid are {}", names.join(", ")))
    })
}

fn quantity(part: Part<'_>) -> Result<Quantity, Fault> {
    match split(part, "/").as_slice() {
        [numerator, denominator] => {
            Ok(Quantity::Ratio { numerator: term(*numerator)?, denominator: term(*denominator)? })
        }
        [only] => match term(*only)? {
            Term { measure, filter: None } => Ok(Quantity::Measure(measure)),
            Term { .. } => {
                let message = "a filter in brackets belongs to a ratio; use `where`";
                Err(part.fault("not_allowed", message))
            }
        },
        _ => Err(part.fault("invalid_ratio", "a ratio has one `/`")),
    }
}

fn term(part: Part<'_>) -> Result<Term, Fault> {
    let measure = |part: Part<'_>| {
        part.text.parse::<Measure>().map_err(|error| part.fault("unknown_measure", error.message()))
    };
    let Some(open) = find_outside(part.text, "[") else { return Ok(Term::new(measure(part)?)) };
    if !part.text.ends_with(']') {
        return Err(part.fault("invalid_measure", "a measure is written `count` or `count[FILTER]`"));
    }
    let inside = part.slice(open + 1, part.text.len() - 1);
    Ok(Term { measure: measure(part.slice(0, open))?, filter: Some(filter(inside)?) })
}

fn operator(part: Part<'_>) -> Result<(ThresholdOp, Part<'_>), Fault> {
    let end = part.text.find(|character| !"<>=!".contains(character)).unwrap_or(part.text.len());
    let op =
        part.text[..end].parse().map_err(|error: Error| part.fault("unknown_operator", error.message()))?;
    Ok((op, part.slice(end, part.text.len())))
}

fn number(part: Part<'_>) -> Result<f64, Fault> {
    let digits = part.text.strip_suffix('%').unwrap_or(part.text);
    let number = digits.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| part.fault("invalid_number", "expected a number such as 100 or 0.5"))
}

fn condition(part: Part<'_>) -> Result<Condition, Fault> {
    let (op, rest) = operator(part)?;
    let mut words = rest.text.split_whitespace().map(|word| {
        let start = word.as_ptr() as usize - rest.text.as_ptr() as usize;
        rest.slice(start, start + word.len())
    });
    let end = Part { text: "", start: rest.start + rest.text.len() };
    let mut condition = Condition::new(op, number(words.next().unwrap_or(end))?);
    while let Some(word) = words.next() {
        let place = match word.text {
            "recover" => &mut condition.recovery,
            "upto" => &mut condition.upto,
            _ => return Err(unknown_clause(word)),
        };
        if place.replace(number(words.next().unwrap_or(end))?).is_some() {
            return Err(word.fault("duplicate", format!("`{}` is there already", word.text)));
        }
    }
    Ok(condition)
}

fn anomaly_score(part: Part<'_>) -> Result<(AnomalyDirection, f64), Fault> {
    if let Some(rest) = part.text.strip_prefix("beyond") {
        let rest = Part::new(rest, part.start + "beyond".len());
        return Ok((AnomalyDirection::Both, number(rest.one_word("a score such as 3.5")?)?));
    }
    if part.text.is_empty() {
        return Ok((AnomalyDirection::Both, 3.5));
    }
    match condition(part)? {
        Condition { op: ThresholdOp::AtLeast, value, recovery: None, upto: None } => {
            Ok((AnomalyDirection::Above, value))
        }
        Condition { op: ThresholdOp::AtMost, value, recovery: None, upto: None } => {
            Ok((AnomalyDirection::Below, -value))
        }
        _ => Err(part.fault(
            "invalid_anomaly",
            "the score of an anomaly is compared with `>= 3.5`, `<= -3.5` or `beyond 3.5`",
        )),
    }
}

/// `or` of `and` of `not` of ids and parentheses.
fn rule_expression(part: Part<'_>) -> Result<RuleExpr, Fault> {
    let spaced = part.text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Rules { words: &words, part, depth: 0 };
    let expression = reader.any()?;
    match reader.words {
        [] => Ok(expression),
        [word, ..] => Err(part.fault("invalid_rules", format!("expected `and` or `or`, found `{word}`"))),
    }
}

struct Rules<'a> {
    words: &'a [&'a str],
    part: Part<'a>,
    depth: usize,
}

impl Rules<'_> {
    fn take(&mut self, word: &str) -> bool {
        match self.words {
            [first, rest @ ..] if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> Result<RuleExpr, Fault> {
        let mut parts = vec![self.all()?];
        while self.take("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { RuleExpr::Any(parts) })
    }

    fn all(&mut self) -> Result<RuleExpr, Fault> {
        let mut parts = vec![self.one()?];
        while self.take("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { RuleExpr::All(parts) })
    }

    fn one(&mut self) -> Result<RuleExpr, Fault> {
        self.depth += 1;
        if self.depth > 16 {
            return Err(self.part.fault("too_deep", "must be nested at most 16 levels"));
        }
        let expression = if self.take("not") {
            RuleExpr::Not(Box::new(self.one()?))
        } else if self.take("(") {
            let inside = self.any()?;
            if !self.take(")") {
                return Err(self.part.fault("unbalanced", "a parenthesis is not closed"));
            }
            inside
        } else {
            let word = self.words.first().copied().unwrap_or_default();
            let id = word.parse::<RuleId>().map_err(|_| {
                let word: String = word.chars().take(40).collect();
                self.part.fault("invalid_rules", format!("expected the id of a rule, found `{word}`"))
            })?;
            self.words = &self.words[1..];
            RuleExpr::Rule(id)
        };
        self.depth -= 1;
        Ok(expression)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text is canonical: it comes back as it was.
    #[test]
    fn texts_round_trip() {
        for text in [
            "p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' by source.endpoint for 2m",
            "count >= 10 recover 5 over 1m where message contains 'over by for' by source.service, payload.by keep 1m every 30s no_data keep_last",
            "error_rate > 0.05 over 1h30m",
            "count >= 5 upto 10 recover 3 over 1m",
            "count[metrics.status_code >= 500] / count > 0.1 over 5m by context.tags.\"a b\"",
            "max(payload.total) > 1 over 5m every 30s no_data no_data",
            "absent over 15m where event_type = 'heartbeat' by source.service",
            "change(count) < -50% recover -10% over 1h offset 1d",
            "change(sum(payload.total)) > 1000 over 1h",
            "anomaly(count) beyond 3.5 over 5m season 1d periods 7",
            "anomaly(p99(metrics.response_time_ms)) >= 4 over 5m periods 12",
            "anomaly(rate) <= -3 over 1h season 7d periods 4",
            "sequence(event_type = 'order'; event_type in ['paid', 'it;s']; payload.order) >= 1 within 10m where source.service = 'shop'",
            "rules(00000000-0000-0000-0000-000000000001 and (not 00000000-0000-0000-0000-000000000002 or 00000000-0000-0000-0000-000000000003)) for 5m",
        ] {
            let expression: RuleExpression = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let mut rule = Rule::new(RuleId::from_u128(9), "r", RuleKind::Absence { window: Duration::ZERO });
            expression.clone().apply_to(&mut rule);
            assert_eq!(rule.expression(), text);
            rule.validate().unwrap_or_else(|error| panic!("{text}: {error}"));
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule, "{text}");
        }
    }

    #[test]
    fn errors_point_at_the_place_and_help() {
        for (text, column, help) in [
            ("", 1, "a rule starts with what it measures"),
            ("count > 5", 10, "`over 5m` is missing"),
            ("cuont > 5 over 5m", 1, "did you mean `count`"),
            ("count > x over 5m", 9, "expected a number"),
            ("count > 5 ovr 5m", 11, "did you mean `over`"),
            ("count > 5 over 5m wher severity = 'error'", 19, "did you mean `where`"),
            ("count > 5 over 5 m", 18, "is no clause"),
            ("count > 5 over 5m where source.servise = 'a'", 25, "did you mean `source.service`"),
            ("count > 5 over 5m by source.service for 2m for 3m", 44, "is there already"),
            ("count > 5 over 5m no_data fire", 27, "valid are"),
            ("count > 5 over 5m no_data for 5m", 27, "expected no_data, ok"),
            ("count > 5 over 5m no_data no_data no_data ok", 35, "is there already"),
            ("count > 5 over 5m season 1d", 26, "has no `season`"),
            ("avg(metrics.response_time_ms > 5 over 5m", 4, "is not closed"),
            ("count >> 5 over 5m", 7, "must be one of"),
            ("sequence(event_type = 'a'; event_type = 'b') within 1m", 10, "sequence(FILTER; FILTER; FIELD)"),
            ("rules(1 and 2)", 7, "expected the id of a rule"),
            ("count over 5m", 6, "expected a condition"),
        ] {
            let error = text.parse::<RuleExpression>().unwrap_err();
            assert!(error.message().contains(help), "{text}: {error}");
            let found = error.context().iter().find(|(key, _)| *key == "column").unwrap();
            assert_eq!(found.1, column.to_string(), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in r"([a-z0-9.()\[\]'/%<>=; -]|count|over |where |by |5m|rules|sequence|\PC){0,40}") {
            let _ = text.parse::<RuleExpression>();
        }
    }
}
