//! What a filter may be: types, limits and the canonical tree.

use std::borrow::Cow;
use std::collections::HashSet;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};

use super::{CompareOp, Expr};
use crate::event::{FieldPath, FieldType, Severity, Value};

/// Most predicates of a filter: comparisons, `in`, `exists` and quoted texts.
pub const MAX_PREDICATES: usize = 64;
/// Deepest nesting of `and`, `or` and `not`.
pub const MAX_DEPTH: usize = 32;
/// Longest regular expression, in bytes.
pub const MAX_REGEX_BYTES: usize = 1024;
/// Most values of one `in` list.
pub const MAX_IN_VALUES: usize = 1_000;
/// Most memory of one compiled regular expression, in bytes; its search cache has the same bound again.
const MAX_REGEX_PROGRAM_BYTES: usize = 1 << 20;

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Checks the size of the tree and returns its canonical form: nested `and` and `or` are flat, groups of one are gone, empty
/// groups are [`Expr::True`] or its negation, `in` lists have each value once.
pub(super) fn canonical(expr: Expr) -> Result<Expr, Problem> {
    check_shape(&expr, 0, &mut 0)?;
    Ok(flatten(expr))
}

/// Counts before anything recurses without a bound.
fn check_shape(expr: &Expr, depth: usize, predicates: &mut usize) -> Result<(), Problem> {
    match expr {
        Expr::True => Ok(()),
        Expr::And(parts) | Expr::Or(parts) => {
            check_depth(depth + 1)?;
            parts.iter().try_for_each(|part| check_shape(part, depth + 1, predicates))
        }
        Expr::Not(inner) => {
            check_depth(depth + 1)?;
            check_shape(inner, depth + 1, predicates)
        }
        Expr::Compare { .. } | Expr::In { .. } | Expr::Exists(_) | Expr::Text(_) => {
            *predicates += 1;
            check_predicates(*predicates)
        }
    }
}

pub(super) fn check_depth(depth: usize) -> Result<(), Problem> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(Problem::new("too_deep", format!("nested too deep: at most {MAX_DEPTH} levels are allowed")))
}

pub(super) fn check_predicates(predicates: usize) -> Result<(), Problem> {
    if predicates <= MAX_PREDICATES {
        return Ok(());
    }
    Err(Problem::new("too_many", format!("too many predicates: at most {MAX_PREDICATES} are allowed")))
}

pub(super) fn check_in_length(values: usize) -> Result<(), Problem> {
    if values <= MAX_IN_VALUES {
        return Ok(());
    }
    Err(Problem::new("too_many", format!("too many values: `in` takes at most {MAX_IN_VALUES}")))
}

fn flatten(expr: Expr) -> Expr {
    match expr {
        Expr::And(parts) => {
            let mut flat = Vec::with_capacity(parts.len());
            for part in parts.into_iter().map(flatten) {
                match part {
                    Expr::And(inner) => flat.extend(inner),
                    other => flat.push(other),
                }
            }
            match flat.len() {
                0 => Expr::True,
                1 => flat.swap_remove(0),
                _ => Expr::And(flat),
            }
        }
        Expr::Or(parts) => {
            let mut flat = Vec::with_capacity(parts.len());
            for part in parts.into_iter().map(flatten) {
                match part {
                    Expr::Or(inner) => flat.extend(inner),
                    other => flat.push(other),
                }
            }
            match flat.len() {
                0 => Expr::Not(Box::new(Expr::True)),
                1 => flat.swap_remove(0),
                _ => Expr::Or(flat),
            }
        }
        Expr::Not(inner) => Expr::Not(Box::new(flatten(*inner))),
        Expr::Compare { field, op, value } => Expr::Compare { field, op, value: positive_zero(value) },
        Expr::In { field, values } => {
            let mut seen = HashSet::with_capacity(values.len());
            let mut values: Vec<Value> = values.into_iter().map(positive_zero).collect();
            values.retain(|value| seen.insert(value.clone()));
            Expr::In { field, values }
        }
        other @ (Expr::True | Expr::Exists(_) | Expr::Text(_)) => other,
    }
}

fn positive_zero(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(number + 0.0),
        other => other,
    }
}

/// Checks fields, operators and literals of a tree whose size is checked.
pub(super) fn check_leaves(expr: &Expr) -> Result<(), Problem> {
    match expr {
        Expr::True | Expr::Text(_) => Ok(()),
        Expr::And(parts) | Expr::Or(parts) => parts.iter().try_for_each(check_leaves),
        Expr::Not(inner) => check_leaves(inner),
        Expr::Exists(field) => check_field(field),
        Expr::Compare { field, op, value } => {
            check_field(field)?;
            check_operator(field, *op)?;
            check_value(field, Some(*op), value)
        }
        Expr::In { field, values } => {
            check_field(field)?;
            check_in_length(values.len())?;
            values.iter().try_for_each(|value| check_value(field, None, value))
        }
    }
}

/// A path built by hand is one that its own text names.
fn check_field(field: &FieldPath) -> Result<(), Problem> {
    match field {
        FieldPath::Tag(_) | FieldPath::Payload(_) | FieldPath::Metadata(_) => {
            match FieldPath::from_str(&field.to_string()) {
                Ok(parsed) if parsed == *field => Ok(()),
                _ => Err(Problem::new("unknown_field", format!("not a valid path: `{field}`"))),
            }
        }
        _ => Ok(()),
    }
}

/// Checks that the field's type has the operator.
pub(super) fn check_operator(field: &FieldPath, op: CompareOp) -> Result<(), Problem> {
    let (kind, operators) = match field.field_type() {
        FieldType::Number if op.is_text_only() => ("a number", "= != < <= > >= in exists"),
        FieldType::Severity if op.is_text_only() => ("a severity", "= != < <= > >= in exists"),
        FieldType::Bool if op.is_text_only() || op.is_ordering() => ("true or false", "= != in exists"),
        _ => return Ok(()),
    };
    let op = op.as_str();
    Err(Problem::new("wrong_type", format!("`{field}` is {kind} and has no `{op}`; it has {operators}")))
}

/// Checks that the field and the operator take the literal; `op` is `None` for a member of an `in` list.
pub(super) fn check_value(field: &FieldPath, op: Option<CompareOp>, value: &Value) -> Result<(), Problem> {
    match value {
        Value::Missing => {
            return Err(Problem::new(
                "wrong_type",
                format!("null cannot be compared; use `not exists({field})`"),
            ));
        }
        Value::Number(number) if !number.is_finite() => {
            return Err(Problem::new("wrong_type", "the number is not finite"));
        }
        _ => {}
    }
    let wanted = match (field.field_type(), value) {
        (FieldType::Severity, Value::Text(name)) => {
            return Severity::from_str(name).map(|_| ()).map_err(|_| unknown_severity(name));
        }
        (FieldType::Severity, _) => "one of 'info', 'warning', 'error', 'critical'",
        (FieldType::Text, Value::Bool(_) | Value::Number(_)) => "a text in quotes",
        (FieldType::Number, Value::Bool(_) | Value::Text(_)) => "a number",
        (FieldType::Bool, Value::Number(_) | Value::Text(_)) => "true or false",
        _ => return check_value_for_operator(op, value),
    };
    let found = type_name(value);
    Err(Problem::new("wrong_type", format!("`{field}` is compared with {wanted}, not with {found}")))
}

fn check_value_for_operator(op: Option<CompareOp>, value: &Value) -> Result<(), Problem> {
    let Some(op) = op else { return Ok(()) };
    match value {
        Value::Text(pattern) if op == CompareOp::Matches => compile_regex(pattern).map(|_| ()),
        Value::Text(_) => Ok(()),
        _ if op.is_text_only() => Err(Problem::new(
            "wrong_type",
            format!("`{}` takes a text in quotes, not {}", op.as_str(), type_name(value)),
        )),
        Value::Bool(_) if op.is_ordering() => {
            Err(Problem::new("wrong_type", "true and false are not ordered; they have = != in"))
        }
        _ => Ok(()),
    }
}

fn unknown_severity(name: &str) -> Problem {
    let mut message = format!("unknown severity '{}'", name.chars().take(40).collect::<String>());
    let names = Severity::ALL.iter().map(|severity| severity.as_str());
    if let Some(near) = crate::event::nearest_of(&name.to_ascii_lowercase(), names) {
        message.push_str(&format!("; did you mean '{near}'"));
    }
    message.push_str("; valid ones are 'info', 'warning', 'error', 'critical'");
    Problem::new("unknown_value", message)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Missing => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::Text(_) => "a text",
    }
}

/// Compiles a pattern within the limits of time and memory.
pub(super) fn compile_regex(pattern: &str) -> Result<Regex, Problem> {
    if pattern.len() > MAX_REGEX_BYTES {
        return Err(Problem::new(
            "regex",
            format!("the regular expression is longer than {MAX_REGEX_BYTES} bytes"),
        ));
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_PROGRAM_BYTES)
        .dfa_size_limit(MAX_REGEX_PROGRAM_BYTES)
        .build()
        .map_err(|error| Problem::new("regex", regex_message(&error)))
}

/// The crate's message spans lines with a caret of its own; only its last line says what is wrong.
fn regex_message(error: &regex::Error) -> String {
    match error {
        regex::Error::Syntax(text) => {
            let last = text.lines().last().unwrap_or_default();
            let reason = last.strip_prefix("error: ").unwrap_or(last);
            format!("not a regular expression: {reason}")
        }
        _ => format!("the regular expression needs more than {} KiB compiled", MAX_REGEX_PROGRAM_BYTES >> 10),
    }
}
