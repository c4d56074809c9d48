//! The filter language: one expression tree, one parser, one JSON form, evaluation in memory and an explanation in words.
//!
//! ```text
//! source.service = 'shop' and metrics.status_code >= 500 and not payload.plan in ['free'] and message contains 'timeout'
//! ```
//! What an expression means is the contract of [`Expr`].

mod caret;
mod check;
mod compile;
mod constraints;
mod display;
mod explain;
mod expr;
mod hint;
mod json;
mod lex;
mod parse;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

pub use check::{MAX_DEPTH, MAX_IN_VALUES, MAX_PREDICATES, MAX_REGEX_BYTES};
pub use compile::{CompiledFilter, Predicate};
pub use expr::{CompareOp, Expr};

use crate::error::{Error, ErrorKind, FieldError, Result};
use crate::event::{Event, FieldPath, Value};

/// A checked, compiled condition on events; a clone is a reference count.
///
/// Equality and hash are those of the canonical expression, and [`Display`](fmt::Display) writes the canonical text.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    expr: Expr,
    compiled: CompiledFilter,
}

impl Filter {
    /// Reads a filter in its text form.
    ///
    /// # Errors
    /// `Invalid` for anything that is not a filter or exceeds a limit of [`Filter::new`]. The message shows the line with a
    /// caret under the place, and the context has its `column` (and `line`, when there are several), counted from 1 in
    /// characters.
    ///
    /// # Examples
    /// ```
    /// # use pulsestream_core::Filter;
    /// let filter = Filter::parse("metrics.status_code >= 500 and not message contains 'timeout'")?;
    /// assert_eq!(filter.to_string(), "metrics.status_code >= 500 and not message contains 'timeout'");
    ///
    /// let error = Filter::parse("severty = 'error'").unwrap_err();
    /// assert!(error.message().starts_with("unknown field `severty`; did you mean `severity`"));
    /// # Ok::<(), pulsestream_core::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        parse::parse(text)
            .and_then(|expr| Self::with_checked_leaves(expr).map_err(|problem| lex::Fault::new(0, problem)))
            .map_err(|fault| caret::error(text, fault))
    }

    /// Checks and compiles an expression.
    ///
    /// The canonical expression is kept: nested `and` and `or` are flat, groups of one are gone, empty groups are
    /// [`Expr::True`] or its negation, and `in` lists have each value once.
    ///
    /// # Errors
    /// `Invalid` when there are more than [`MAX_PREDICATES`] predicates, more than [`MAX_DEPTH`] levels, more than
    /// [`MAX_IN_VALUES`] values in a list, a literal or an operator that the field's type does not have, or a regular
    /// expression that is wrong, longer than [`MAX_REGEX_BYTES`] or too big when compiled.
    pub fn new(expr: Expr) -> Result<Self> {
        let checked = check::canonical(expr).and_then(|expr| {
            check::check_leaves(&expr)?;
            Self::compile(expr)
        });
        checked.map_err(|problem| {
            let message = problem.message.clone().into_owned();
            Error::new(ErrorKind::Invalid, "filter.new", problem.message).with_field(FieldError::new(
                "",
                problem.code,
                message,
            ))
        })
    }

    /// Makes a filter of an expression whose leaves are checked.
    fn with_checked_leaves(expr: Expr) -> Result<Self, check::Problem> {
        Self::compile(check::canonical(expr)?)
    }

    fn compile(expr: Expr) -> Result<Self, check::Problem> {
        let compiled = CompiledFilter::new(&expr)?;
        Ok(Self(Arc::new(Inner { expr, compiled })))
    }

    /// Returns the filter that every event matches; its text is `true`.
    pub fn all() -> Self {
        Self(Arc::new(Inner { expr: Expr::True, compiled: CompiledFilter::all() }))
    }

    /// Returns whether every event matches because there is no condition at all.
    pub fn is_all(&self) -> bool {
        self.0.expr == Expr::True
    }

    /// Returns the canonical expression.
    pub fn expr(&self) -> &Expr {
        &self.0.expr
    }

    /// Returns the form that evaluates fast.
    pub fn compiled(&self) -> &CompiledFilter {
        &self.0.compiled
    }

    /// Returns whether the event matches.
    pub fn matches(&self, event: &Event) -> bool {
        self.0.compiled.matches(event)
    }

    /// Describes in words the events that match, for example `events where the service is 'shop'`.
    pub fn explain(&self) -> String {
        explain::explain(&self.0.expr)
    }

    /// Returns conditions that every matching event fulfils: the field equals one of the values.
    ///
    /// They are necessary, not sufficient, and serve to index rules and to skip stored data. A field may appear more than
    /// once; an empty list of values says that nothing matches. Severities appear by name.
    pub fn equality_constraints(&self) -> Vec<(FieldPath, Vec<Value>)> {
        constraints::equality_constraints(&self.0.expr)
    }

    /// Returns the filter that both match.
    ///
    /// # Errors
    /// `Invalid` when the two together exceed a limit of [`Filter::new`].
    pub fn and(&self, other: &Self) -> Result<Self> {
        if self.is_all() {
            return Ok(other.clone());
        }
        if other.is_all() {
            return Ok(self.clone());
        }
        Self::new(Expr::And(vec![self.0.expr.clone(), other.0.expr.clone()]))
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self::all()
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<Expr> for Filter {
    type Error = Error;

    fn try_from(expr: Expr) -> Result<Self> {
        Self::new(expr)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.expr == other.0.expr
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.expr.hash(state);
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expr.fmt(f)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({})", self.0.expr)
    }
}
