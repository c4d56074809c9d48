//! The canonical text of an expression.

use std::fmt::{self, Write};

use super::Expr;
use crate::event::Value;

/// Binding strength, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    Or,
    And,
    Not,
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, self, Strength::Or)
    }
}

fn write_expr(f: &mut fmt::Formatter<'_>, expr: &Expr, around: Strength) -> fmt::Result {
    match expr {
        Expr::True => f.write_str("true"),
        Expr::And(parts) if parts.is_empty() => f.write_str("true"),
        Expr::Or(parts) if parts.is_empty() => f.write_str("not true"),
        Expr::And(parts) => write_group(f, parts, " and ", Strength::And, around),
        Expr::Or(parts) => write_group(f, parts, " or ", Strength::Or, around),
        Expr::Not(inner) => {
            f.write_str("not ")?;
            write_expr(f, inner, Strength::Not)
        }
        Expr::Compare { field, op, value } => {
            write!(f, "{field} {} {}", op.as_str(), Literal(value))
        }
        Expr::In { field, values } => {
            write!(f, "{field} in [")?;
            for (index, value) in values.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                write!(f, "{separator}{}", Literal(value))?;
            }
            f.write_char(']')
        }
        Expr::Exists(field) => write!(f, "exists({field})"),
        Expr::Text(text) => write!(f, "{}", Quoted(text)),
    }
}

fn write_group(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expr],
    separator: &str,
    own: Strength,
    around: Strength,
) -> fmt::Result {
    let parenthesised = own < around;
    if parenthesised {
        f.write_char('(')?;
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write_expr(f, part, own)?;
    }
    if parenthesised {
        f.write_char(')')?;
    }
    Ok(())
}

/// A literal as the parser reads it.
pub(super) struct Literal<'a>(pub(super) &'a Value);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Text(text) => Quoted(text).fmt(f),
            other => other.fmt(f),
        }
    }
}

/// A text in single quotes with backslash escapes.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        for character in self.0.chars() {
            match character {
                '\'' => f.write_str("\\'")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                control if control.is_control() => write!(f, "\\u{{{:x}}}", u32::from(control))?,
                other => f.write_char(other)?,
            }
        }
        f.write_char('\'')
    }
}
