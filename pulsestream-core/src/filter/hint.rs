//! Words of the language, and what to say when a wrong one stands in a place.

use std::str::FromStr;

use super::check::Problem;
use super::lex::{Fault, Token, shortened};
use super::parse::Operator;
use super::{CompareOp, Expr};
use crate::event::{FieldPath, FieldType, nearest_of};

const OPERATORS: &str = "= != < <= > >= in contains starts_with ends_with matches exists";
const OPERATOR_WORDS: [&str; 6] = ["in", "contains", "starts_with", "ends_with", "matches", "exists"];
const KEYWORDS: [&str; 10] =
    ["and", "or", "not", "true", "false", "in", "contains", "starts_with", "ends_with", "matches"];

/// Returns whether the word can never be a field.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Returns the operator that is written as this word.
pub(super) fn operator_word(word: &str) -> Option<Operator> {
    let index = OPERATOR_WORDS.iter().position(|operator| operator.eq_ignore_ascii_case(word))?;
    Some(match index {
        0 => Operator::In,
        1 => Operator::Compare(CompareOp::Contains),
        2 => Operator::Compare(CompareOp::StartsWith),
        3 => Operator::Compare(CompareOp::EndsWith),
        4 => Operator::Compare(CompareOp::Matches),
        _ => Operator::Exists,
    })
}

/// Reads a path, or says which one is near.
pub(super) fn field(word: &str, at: usize) -> Result<FieldPath, Fault> {
    FieldPath::from_str(word).map_err(|_| Fault::new(at, unknown_field(word)))
}

/// Says what is wrong with a path that names no field.
pub(super) fn unknown_field(word: &str) -> Problem {
    let names = || FieldPath::FIXED.iter().map(FieldPath::base_name);
    let shown = shortened(word);
    let trimmed = word.trim_end_matches('.');
    let message = match trimmed {
        "payload" | "metadata" => format!("`{trimmed}` needs a name after it, such as {trimmed}.plan"),
        "context.tags" => "`context.tags` needs one name after it, such as context.tags.region".into(),
        "timestamp" | "received_at" | "time" => {
            format!("`{trimmed}` is not part of a filter: the time range of the query selects by time")
        }
        _ => {
            let lower = word.to_ascii_lowercase();
            let near = FieldPath::nearest(word)
                .or_else(|| FieldPath::nearest(&lower))
                .or_else(|| names().find(|name| name.rsplit('.').next() == Some(&lower)));
            let hint = near.map(|near| format!("; did you mean `{near}`")).unwrap_or_default();
            let prefix = format!("{}.", lower.trim_end_matches('.'));
            let mut valid: Vec<&str> = names().filter(|name| name.starts_with(&prefix)).collect();
            if valid.is_empty() {
                valid = names().collect();
            }
            if prefix == "context." || !valid.iter().all(|name| name.starts_with(&prefix)) {
                valid.push("context.tags.*");
            }
            if !valid.iter().all(|name| name.starts_with(&prefix)) {
                valid.extend(["payload.*", "metadata.*"]);
            }
            format!("unknown field `{shown}`{hint}; valid fields are {}", valid.join(", "))
        }
    };
    Problem::new("unknown_field", message)
}

/// A condition should start here.
pub(super) fn no_condition(at: usize, found: &Token<'_>) -> Fault {
    let hint = match found {
        Token::Foreign(sign, here) if *here == "not" => format!("; `{sign}` is written `not`"),
        Token::Word(word) if word.eq_ignore_ascii_case("false") => "; write `not true`".into(),
        Token::Number(_) => "; the field stands on the left: metrics.status_code = 500".into(),
        Token::CloseParenthesis => "; a group needs a condition inside".into(),
        _ => ", such as severity = 'error' or a text in quotes".into(),
    };
    Fault::syntax(at, format!("expected a condition, found {}{hint}", found.describe()))
}

/// `and`, `or` or `end` should stand here, after `before`.
pub(super) fn no_connective(at: usize, found: &Token<'_>, before: &Expr, end: &str) -> Fault {
    let is_operator = match found {
        Token::Sign(_) => true,
        Token::Foreign(_, here) => !matches!(*here, "and" | "or" | "not"),
        Token::Word(word) => operator_word(word).is_some(),
        _ => false,
    };
    let after_text = match before {
        Expr::And(parts) | Expr::Or(parts) => matches!(parts.last(), Some(Expr::Text(_))),
        other => matches!(other, Expr::Text(_)),
    };
    let hint = match found {
        _ if is_operator && after_text => {
            "; a comparison starts with a field, and a text alone searches title and message".into()
        }
        Token::Foreign(sign, here) => format!("; `{sign}` is written `{here}`"),
        Token::Comma => "; conditions are joined by `and` or `or`".into(),
        Token::Word(word) => nearest_of(&word.to_ascii_lowercase(), ["and", "or"].into_iter())
            .map(|near| format!("; did you mean `{near}`"))
            .unwrap_or_default(),
        _ => String::new(),
    };
    Fault::syntax(at, format!("expected `and`, `or` or {end}, found {}{hint}", found.describe()))
}

/// An operator should stand here, after `field`.
pub(super) fn no_operator(at: usize, found: &Token<'_>, field: &FieldPath, negated: bool) -> Fault {
    if negated {
        let words = OPERATOR_WORDS.join(" ");
        let message = format!(
            "expected an operator after `not`, found {}; after a field `not` takes {words}",
            found.describe()
        );
        return Fault::syntax(at, message);
    }
    let instead = match found {
        Token::Foreign(_, "and" | "or" | "not") => None,
        Token::Foreign(sign, here) => Some(not_an_operator(sign, Some((*here).to_owned()))),
        Token::Word(word) if word.eq_ignore_ascii_case("between") => {
            Some(not_an_operator(word, Some(format!("{field} >= 1 and {field} <= 2"))))
        }
        Token::Word(word) if !is_keyword(word) => Some(unknown_operator(word)),
        _ => None,
    };
    let problem = instead.unwrap_or_else(|| {
        let found = found.describe();
        let example = match field.field_type() {
            FieldType::Bool => format!("{field} = true"),
            _ => format!("{field} exists"),
        };
        let message = format!(
            "expected an operator after `{field}`, found {found}; write for example `{example}`; \
             valid operators are {OPERATORS}"
        );
        Problem::new("syntax", message)
    });
    Fault::new(at, problem)
}

/// Says what is wrong with an operator that the language does not have.
pub(super) fn unknown_operator(name: &str) -> Problem {
    not_an_operator(name, instead_of_operator(&name.to_ascii_lowercase()))
}

fn not_an_operator(name: &str, instead: Option<String>) -> Problem {
    let hint = instead.map(|instead| format!("; did you mean `{instead}`")).unwrap_or_default();
    let name = shortened(name);
    Problem::new(
        "unknown_operator",
        format!("unknown operator `{name}`{hint}; valid operators are {OPERATORS}"),
    )
}

/// What an operator of another language, or a slip, is called here.
fn instead_of_operator(name: &str) -> Option<String> {
    let instead = match name {
        "==" | "eq" | "equals" | "is" => "=",
        "<>" | "ne" | "neq" => "!=",
        "lt" => "<",
        "le" | "lte" => "<=",
        "gt" => ">",
        "ge" | "gte" => ">=",
        "like" | "ilike" | "has" | "includes" => "contains",
        "regex" | "regexp" | "rlike" | "=~" => "matches",
        _ => nearest_of(name, OPERATOR_WORDS.into_iter())?,
    };
    Some(instead.to_owned())
}

/// A literal should stand here.
pub(super) fn no_literal(at: usize, found: &Token<'_>, field: &FieldPath, op: Option<CompareOp>) -> Fault {
    let hint = match found {
        Token::Word(word) if ["null", "none", "nil"].iter().any(|null| null.eq_ignore_ascii_case(word)) => {
            format!("; a missing value is found with `not exists({field})`")
        }
        Token::Word(word) if FieldPath::from_str(word).is_ok() => {
            "; a field is compared with a literal, not with another field".into()
        }
        Token::Word(word) if !is_keyword(word) => {
            format!("; text is written in quotes: '{}'", shortened(word))
        }
        Token::OpenBracket if op.is_some() => "; a list follows `in`".into(),
        Token::Foreign(..) | Token::Sign(_) => "; an operator stands there once".into(),
        _ => ", such as 'text', 500 or true".into(),
    };
    Fault::syntax(at, format!("expected a value, found {}{hint}", found.describe()))
}
