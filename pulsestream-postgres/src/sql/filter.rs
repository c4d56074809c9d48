//! Filters as SQL conditions.
//!
//! An expression of the filter language is true or false, one of SQL may also be null. Null is harmless where only "true"
//! counts, so comparisons of missing fields stay null, and every `not` becomes `is not true`.
//!
//! What SQL does not express is approximated from the right side: the condition then selects at least what the filter
//! selects, and the filter itself is evaluated over the rows that come. That is the case of `matches`, whose dialect and
//! whose linear time PostgreSQL does not have, and whose patterns are the tenant's.

use std::str::FromStr;

use pulsestream_core::event::{FieldPath, Severity, Value};
use pulsestream_core::filter::{CompareOp, Expr, Filter};

use super::Params;
use super::field::{Field, Json, field};
use crate::wire::Param;

/// A condition, and whether it says all that the filter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterSql {
    pub(crate) condition: String,
    /// Otherwise the filter must be evaluated over the selected rows.
    pub(crate) exact: bool,
}

/// Compiles a filter.
pub(crate) fn filter(filter: &Filter, params: &mut Params) -> FilterSql {
    let mut compiler = Compiler { params, exact: true };
    let condition = compiler.expr(filter.expr(), Bound::Upper);
    FilterSql { condition, exact: compiler.exact }
}

/// From which side an inexact condition may err.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// It is true at least where the expression is.
    Upper,
    /// It is true at most where the expression is.
    Lower,
}

impl Bound {
    fn flipped(self) -> Self {
        match self {
            Self::Upper => Self::Lower,
            Self::Lower => Self::Upper,
        }
    }
}

struct Compiler<'p> {
    params: &'p mut Params,
    exact: bool,
}

const NEVER: &str = "false";

impl Compiler<'_> {
    fn expr(&mut self, expr: &Expr, bound: Bound) -> String {
        match expr {
            Expr::True => "true".to_owned(),
            Expr::And(parts) => self.joined(parts, " and ", "true", bound),
            Expr::Or(parts) => self.joined(parts, " or ", NEVER, bound),
            Expr::Not(inner) => format!("({}) is not true", self.expr(inner, bound.flipped())),
            Expr::Compare { field, op: CompareOp::Ne, value } => {
                format!("({}) is not true", self.compare(field, CompareOp::Eq, value, bound.flipped()))
            }
            Expr::Compare { field, op, value } => self.compare(field, *op, value, bound),
            Expr::In { field, values } => self.one_of(field, values, bound),
            Expr::Exists(path) => self.exists(path, bound),
            Expr::Text(text) => self.search(text),
        }
    }

    fn joined(&mut self, parts: &[Expr], operator: &str, empty: &str, bound: Bound) -> String {
        if parts.is_empty() {
            return empty.to_owned();
        }
        let parts: Vec<String> = parts.iter().map(|part| self.expr(part, bound)).collect();
        format!("({})", parts.join(operator))
    }

    /// Stands for a condition that SQL does not express.
    fn unknown(&mut self, bound: Bound) -> String {
        self.exact = false;
        match bound {
            Bound::Upper => "true".to_owned(),
            Bound::Lower => NEVER.to_owned(),
        }
    }

    fn compare(&mut self, path: &FieldPath, op: CompareOp, value: &Value, bound: Bound) -> String {
        let Some(field) = field(path, self.params) else { return self.unknown(bound) };
        match (field, value) {
            (Field::Severity, Value::Text(name)) => match (Severity::from_str(name), comparison(op)) {
                (Ok(severity), Some(operator)) => {
                    let ordinal = self.params.bind(Param::int2(i16::from(severity as u8)));
                    format!("e.severity {operator} {ordinal}")
                }
                _ => NEVER.to_owned(),
            },
            (Field::Text(text), Value::Text(wanted)) => self.compare_text(&text, op, wanted, bound),
            (Field::Json(json), Value::Text(wanted)) => {
                if op == CompareOp::Eq && !wanted.contains('\0') {
                    return format!(
                        "{} = to_jsonb({}::text)",
                        json.value(),
                        self.params.bind(Param::text(wanted))
                    );
                }
                self.compare_text(&json.text(), op, wanted, bound)
            }
            (Field::Number(number), Value::Number(wanted)) => self.compare_number(&number, op, *wanted),
            (Field::Json(json), Value::Number(wanted)) => self.compare_number(&json.number(), op, *wanted),
            (Field::Bool(flag), Value::Bool(wanted)) if op == CompareOp::Eq => {
                format!("{flag} = {}", self.params.bind(Param::bool(*wanted)))
            }
            (Field::Json(json), Value::Bool(wanted)) if op == CompareOp::Eq => {
                format!("{} = to_jsonb({}::boolean)", json.value(), self.params.bind(Param::bool(*wanted)))
            }
            _ => NEVER.to_owned(),
        }
    }

    fn compare_number(&mut self, number: &str, op: CompareOp, wanted: f64) -> String {
        comparison(op).map_or_else(
            || NEVER.to_owned(),
            |operator| format!("{number} {operator} {}", self.params.bind(Param::float8(wanted))),
        )
    }

    fn compare_text(&mut self, text: &str, op: CompareOp, wanted: &str, bound: Bound) -> String {
        if op == CompareOp::Matches {
            return self.matches(text, bound);
        }
        // A stored text has no NUL. So none equals or contains a literal that has one, and an order is decided by what
        // stands before it.
        let (wanted, op) = match wanted.split_once('\0') {
            None => (wanted, op),
            Some((before, _)) => match op {
                CompareOp::Lt | CompareOp::Le => (before, CompareOp::Le),
                CompareOp::Gt | CompareOp::Ge => (before, CompareOp::Gt),
                _ => return NEVER.to_owned(),
            },
        };
        let wanted = self.params.bind(Param::text(wanted));
        match (op, comparison(op)) {
            (CompareOp::Contains, _) => format!("strpos({text}, {wanted}) > 0"),
            (CompareOp::StartsWith, _) => format!("starts_with({text}, {wanted})"),
            (CompareOp::EndsWith, _) => format!("right({text}, char_length({wanted})) = {wanted}"),
            (_, Some(operator)) => format!("{text} {operator} {wanted}"),
            (_, None) => NEVER.to_owned(),
        }
    }

    fn matches(&mut self, text: &str, bound: Bound) -> String {
        self.exact = false;
        match bound {
            Bound::Upper => format!("{text} is not null"),
            Bound::Lower => NEVER.to_owned(),
        }
    }

    fn one_of(&mut self, path: &FieldPath, values: &[Value], bound: Bound) -> String {
        let Some(field) = field(path, self.params) else { return self.unknown(bound) };
        let texts: Vec<&str> =
            values.iter().filter_map(Value::as_text).filter(|text| !text.contains('\0')).collect();
        let numbers: Vec<f64> = values.iter().filter_map(Value::as_number).collect();
        let flags: Vec<bool> = values
            .iter()
            .filter_map(|value| if let Value::Bool(flag) = value { Some(*flag) } else { None })
            .collect();
        match field {
            Field::Severity => {
                let severities = texts.iter().filter_map(|name| Severity::from_str(name).ok());
                let ordinals = Param::int2s(severities.map(|severity| i16::from(severity as u8)));
                format!("e.severity = any({})", self.params.bind(ordinals))
            }
            Field::Text(text) => format!("{text} = any({})", self.params.bind(Param::texts(texts))),
            Field::Number(number) => format!("{number} = any({})", self.params.bind(Param::float8s(numbers))),
            Field::Bool(flag) => {
                let alternatives: Vec<String> =
                    flags.iter().map(|wanted| format!("{flag} = {wanted}")).collect();
                any_of(alternatives)
            }
            Field::Json(json) => self.json_one_of(&json, texts, numbers, &flags),
        }
    }

    fn json_one_of(&mut self, json: &Json, texts: Vec<&str>, numbers: Vec<f64>, flags: &[bool]) -> String {
        let mut alternatives = Vec::new();
        if !texts.is_empty() {
            alternatives.push(format!("{} = any({})", json.text(), self.params.bind(Param::texts(texts))));
        }
        if !numbers.is_empty() {
            alternatives.push(format!(
                "{} = any({})",
                json.number(),
                self.params.bind(Param::float8s(numbers))
            ));
        }
        for flag in flags {
            alternatives.push(format!("{} = to_jsonb({flag})", json.value()));
        }
        any_of(alternatives)
    }

    fn exists(&mut self, path: &FieldPath, bound: Bound) -> String {
        match field(path, self.params) {
            None => self.unknown(bound),
            Some(Field::Severity) => "true".to_owned(),
            Some(Field::Text(value) | Field::Number(value) | Field::Bool(value)) => {
                format!("{value} is not null")
            }
            Some(Field::Json(json)) => format!("jsonb_typeof({}) <> 'null'", json.value()),
        }
    }

    /// The columns are in the collation "C", in which `lower` folds ASCII letters only.
    fn search(&mut self, text: &str) -> String {
        if text.contains('\0') {
            return NEVER.to_owned();
        }
        let wanted = self.params.bind(Param::text(&text.to_ascii_lowercase()));
        format!("(strpos(lower(e.title), {wanted}) > 0 or strpos(lower(e.message), {wanted}) > 0)")
    }
}

fn any_of(alternatives: Vec<String>) -> String {
    if alternatives.is_empty() { NEVER.to_owned() } else { format!("({})", alternatives.join(" or ")) }
}

fn comparison(op: CompareOp) -> Option<&'static str> {
    match op {
        CompareOp::Eq => Some("="),
        CompareOp::Lt => Some("<"),
        CompareOp::Le => Some("<="),
        CompareOp::Gt => Some(">"),
        CompareOp::Ge => Some(">="),
        CompareOp::Ne
        | CompareOp::Contains
        | CompareOp::StartsWith
        | CompareOp::EndsWith
        | CompareOp::Matches => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(text: &str) -> FilterSql {
        filter(&text.parse().unwrap(), &mut Params::default())
    }

    #[test]
    fn negation_turns_null_into_true() {
        assert_eq!(compiled("title != 'x'").condition, "(e.title = $1) is not true");
        assert_eq!(compiled("not title exists").condition, "(e.title is not null) is not true");
    }

    #[test]
    fn nothing_of_the_tenant_is_in_the_text() {
        let sql =
            compiled("payload.\"o'hara\" = 'x'' or 1=1' and context.tags.\"a;b\" contains '%_'").condition;
        assert!(
            !sql.contains("hara") && !sql.contains("1=1") && !sql.contains("a;b") && !sql.contains('%'),
            "{sql}"
        );
    }

    #[test]
    fn patterns_never_reach_the_server() {
        let upper = compiled("title matches '(a+)+$' and severity = 'error'");
        assert_eq!(upper.condition, "(e.title is not null and e.severity = $1)");
        assert!(!upper.exact);
        let lower = compiled("not title matches '(a+)+$'");
        assert_eq!(lower.condition, "(false) is not true");
        assert!(!lower.exact);
    }
}
