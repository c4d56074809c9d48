//! Evaluation in memory.

use std::collections::HashSet;
use std::str::FromStr;

use memchr::memmem::Finder;
use regex::Regex;

use super::check::{Problem, compile_regex};
use super::{CompareOp, Expr};
use crate::event::{Event, FieldPath, Severity, Value, ValueRef};
use crate::text::Text;

/// Lists longer than this are hashed; shorter ones are faster to walk.
const HASHED_LIST: usize = 8;

/// An expression prepared for evaluation: patterns compiled, lists hashed, cheap tests first.
#[derive(Debug, Clone)]
pub struct CompiledFilter(Node);

#[derive(Debug, Clone)]
enum Node {
    Always(bool),
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Not(Box<Self>),
    Test { field: FieldPath, test: Test },
    Search(CaselessFinder),
}

/// What is asked of the value of one field. A value of another type answers false.
#[derive(Debug, Clone)]
enum Test {
    Exists,
    Bool(bool),
    Number(Order, f64),
    Severity(Order, Severity),
    Text(Order, Text),
    /// Not `str::contains`, which prepares its search anew for every text and is several times slower on stack traces.
    Contains(Box<Finder<'static>>),
    StartsWith(Text),
    EndsWith(Text),
    Matches(Box<Regex>),
    OneOf(Box<[Value]>),
    OneOfMany(Box<Members>),
    OneSeverityOf(u8),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A long `in` list by type, so that a text is looked up without being copied.
#[derive(Debug, Clone, Default)]
struct Members {
    texts: HashSet<Text>,
    numbers: HashSet<u64>,
    booleans: [bool; 2],
}

impl CompiledFilter {
    pub(super) fn new(expr: &Expr) -> Result<Self, Problem> {
        Node::new(expr).map(Self)
    }

    pub(super) const fn all() -> Self {
        Self(Node::Always(true))
    }

    /// Returns whether the event matches.
    pub fn matches(&self, event: &Event) -> bool {
        self.0.holds(event)
    }
}

/// One leaf of an expression, prepared to be asked of values instead of events: for stores that hold columns.
#[derive(Debug, Clone)]
pub struct Predicate(Question);

#[derive(Debug, Clone)]
enum Question {
    Test { test: Test, negated: bool },
    Search(CaselessFinder),
}

impl Predicate {
    /// Prepares `expr`; `None` when it is no leaf. The leaf is true for an event when it [holds](Self::holds) for the value of its
    /// field, and [`Expr::Text`] when it holds for the title or for the message.
    ///
    /// # Errors
    /// `Invalid` when a regular expression does not compile, which those of a [`Filter`](super::Filter) do.
    pub fn new(expr: &Expr) -> Result<Option<Self>, crate::Error> {
        let refuse = |problem: Problem| {
            crate::Error::invalid("filter.predicate", "", problem.code, problem.message.into_owned())
        };
        let test = |test, negated| Some(Self(Question::Test { test, negated }));
        Ok(match expr {
            Expr::Compare { field, op: CompareOp::Ne, value } => {
                test(Test::compare(field, CompareOp::Eq, value).map_err(refuse)?, true)
            }
            Expr::Compare { field, op, value } => {
                test(Test::compare(field, *op, value).map_err(refuse)?, false)
            }
            Expr::In { field, values } => test(Test::one_of(field, values), false),
            Expr::Exists(_) => test(Test::Exists, false),
            Expr::Text(text) => Some(Self(Question::Search(CaselessFinder::new(text)))),
            Expr::True | Expr::And(_) | Expr::Or(_) | Expr::Not(_) => None,
        })
    }

    /// Returns whether it holds for a value.
    pub fn holds(&self, value: &ValueRef<'_>) -> bool {
        match (&self.0, value) {
            (Question::Test { test, negated }, value) => test.holds(value) != *negated,
            (Question::Search(finder), ValueRef::Text(text)) => finder.is_in(text),
            (Question::Search(_), _) => false,
        }
    }
}

impl Node {
    fn new(expr: &Expr) -> Result<Self, Problem> {
        Ok(match expr {
            Expr::True => Self::Always(true),
            Expr::And(parts) => Self::All(Self::cheapest_first(parts)?),
            Expr::Or(parts) => Self::Any(Self::cheapest_first(parts)?),
            Expr::Not(inner) => Self::Not(Box::new(Self::new(inner)?)),
            Expr::Compare { field, op: CompareOp::Ne, value } => {
                Self::Not(Box::new(Self::test(field, Test::compare(field, CompareOp::Eq, value)?)))
            }
            Expr::Compare { field, op, value } => Self::test(field, Test::compare(field, *op, value)?),
            Expr::In { field, values } => Self::test(field, Test::one_of(field, values)),
            Expr::Exists(field) => Self::test(field, Test::Exists),
            Expr::Text(text) => Self::Search(CaselessFinder::new(text)),
        })
    }

    fn test(field: &FieldPath, test: Test) -> Self {
        Self::Test { field: field.clone(), test }
    }

    /// Evaluation has no side effects, so the order of the parts is free.
    fn cheapest_first(parts: &[Expr]) -> Result<Box<[Self]>, Problem> {
        let mut nodes = parts.iter().map(Self::new).collect::<Result<Vec<_>, _>>()?;
        nodes.sort_by_key(Self::cost);
        Ok(nodes.into())
    }

    /// Relative cost of an evaluation.
    fn cost(&self) -> u32 {
        match self {
            Self::Always(_) => 0,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).sum(),
            Self::Not(inner) => inner.cost(),
            Self::Test { field, test } => field_cost(field) + test.cost(),
            Self::Search(_) => 40,
        }
    }

    fn holds(&self, event: &Event) -> bool {
        match self {
            Self::Always(answer) => *answer,
            Self::All(parts) => parts.iter().all(|part| part.holds(event)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(event)),
            Self::Not(inner) => !inner.holds(event),
            Self::Test { field, test } => test.holds(&field.value(event)),
            Self::Search(finder) => {
                [&event.title, &event.message].into_iter().flatten().any(|text| finder.is_in(text))
            }
        }
    }
}

fn field_cost(field: &FieldPath) -> u32 {
    match field {
        FieldPath::Payload(_) | FieldPath::Metadata(_) => 100,
        FieldPath::Tag(_) => 5,
        _ => 0,
    }
}

impl Test {
    fn compare(field: &FieldPath, op: CompareOp, value: &Value) -> Result<Self, Problem> {
        let order = match op {
            CompareOp::Eq | CompareOp::Ne => Order::Equal,
            CompareOp::Lt => Order::Less,
            CompareOp::Le => Order::LessOrEqual,
            CompareOp::Gt => Order::Greater,
            CompareOp::Ge => Order::GreaterOrEqual,
            CompareOp::Contains | CompareOp::StartsWith | CompareOp::EndsWith | CompareOp::Matches => {
                return Self::text_operator(op, value.as_text().unwrap_or_default());
            }
        };
        Ok(match value {
            Value::Text(name) if *field == FieldPath::Severity => match Severity::from_str(name) {
                Ok(severity) => Self::Severity(order, severity),
                Err(_) => Self::OneSeverityOf(0),
            },
            Value::Text(text) => Self::Text(order, text.clone()),
            Value::Number(number) => Self::Number(order, *number),
            Value::Bool(value) => Self::Bool(*value),
            Value::Missing => Self::OneOf(Box::default()),
        })
    }

    fn text_operator(op: CompareOp, text: &str) -> Result<Self, Problem> {
        Ok(match op {
            CompareOp::StartsWith => Self::StartsWith(Text::from(text)),
            CompareOp::EndsWith => Self::EndsWith(Text::from(text)),
            CompareOp::Matches => Self::Matches(Box::new(compile_regex(text)?)),
            _ => Self::Contains(Box::new(Finder::new(text).into_owned())),
        })
    }

    fn one_of(field: &FieldPath, values: &[Value]) -> Self {
        if *field == FieldPath::Severity {
            let names = values.iter().filter_map(Value::as_text);
            let ordinals = names.filter_map(|name| Severity::from_str(name).ok());
            return Self::OneSeverityOf(ordinals.fold(0, |set, severity| set | 1 << severity as u8));
        }
        if values.len() <= HASHED_LIST {
            return Self::OneOf(values.into());
        }
        let mut members = Members::default();
        for value in values {
            match value {
                Value::Missing => {}
                Value::Bool(value) => members.booleans[usize::from(*value)] = true,
                Value::Number(number) => {
                    members.numbers.insert(bits(*number));
                }
                Value::Text(text) => {
                    members.texts.insert(text.clone());
                }
            }
        }
        Self::OneOfMany(Box::new(members))
    }

    fn cost(&self) -> u32 {
        match self {
            Self::Exists | Self::Bool(_) | Self::Severity(..) | Self::OneSeverityOf(_) => 1,
            Self::Number(..) => 2,
            Self::Text(..) | Self::StartsWith(_) | Self::EndsWith(_) => 4,
            Self::OneOf(values) => 2 + 3 * u32::try_from(values.len()).unwrap_or(u32::MAX / 4),
            Self::OneOfMany(_) => 10,
            Self::Contains(_) => 20,
            Self::Matches(_) => 60,
        }
    }

    fn holds(&self, value: &ValueRef<'_>) -> bool {
        match (self, value) {
            (Self::Exists, value) => !matches!(value, ValueRef::Missing),
            (Self::Bool(wanted), ValueRef::Bool(found)) => wanted == found,
            (Self::Number(order, wanted), ValueRef::Number(found)) => order.holds(found, wanted),
            (Self::Severity(order, wanted), ValueRef::Severity(found)) => order.holds(found, wanted),
            (Self::Text(Order::Equal, wanted), ValueRef::Text(found)) => wanted.as_str() == found.as_ref(),
            (Self::Text(order, wanted), ValueRef::Text(found)) => {
                order.holds(found.as_ref(), wanted.as_str())
            }
            (Self::Contains(finder), ValueRef::Text(found)) => finder.find(found.as_bytes()).is_some(),
            (Self::StartsWith(prefix), ValueRef::Text(found)) => found.starts_with(prefix.as_str()),
            (Self::EndsWith(suffix), ValueRef::Text(found)) => found.ends_with(suffix.as_str()),
            (Self::Matches(regex), ValueRef::Text(found)) => regex.is_match(found),
            (Self::OneOf(wanted), found) => wanted.iter().any(|wanted| equals(wanted, found)),
            (Self::OneOfMany(members), found) => members.contains(found),
            (Self::OneSeverityOf(set), ValueRef::Severity(found)) => set & (1 << *found as u8) != 0,
            _ => false,
        }
    }
}

impl Order {
    fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

fn equals(wanted: &Value, found: &ValueRef<'_>) -> bool {
    match (wanted, found) {
        (Value::Bool(wanted), ValueRef::Bool(found)) => wanted == found,
        (Value::Number(wanted), ValueRef::Number(found)) => wanted == found,
        (Value::Text(wanted), ValueRef::Text(found)) => wanted.as_str() == found.as_ref(),
        _ => false,
    }
}

/// Zero of either sign is one value.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

impl Members {
    fn contains(&self, found: &ValueRef<'_>) -> bool {
        match found {
            ValueRef::Bool(value) => self.booleans[usize::from(*value)],
            ValueRef::Number(number) => self.numbers.contains(&bits(*number)),
            ValueRef::Text(text) => self.texts.contains(text.as_ref()),
            ValueRef::Missing | ValueRef::Severity(_) | ValueRef::Composite => false,
        }
    }
}

/// Finds a text ignoring the case of ASCII letters.
#[derive(Debug, Clone)]
struct CaselessFinder {
    needle: Box<[u8]>,
    /// Index of the needle byte that is looked for first: the one expected to be rarest.
    anchor: usize,
}

impl CaselessFinder {
    fn new(text: &str) -> Self {
        let needle: Box<[u8]> = text.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
        let anchor = (0..needle.len()).min_by_key(|index| frequency(needle[*index])).unwrap_or_default();
        Self { needle, anchor }
    }

    fn is_in(&self, haystack: &str) -> bool {
        let Some(anchor) = self.needle.get(self.anchor).copied() else { return true };
        let haystack = haystack.as_bytes();
        let Some(last_start) = haystack.len().checked_sub(self.needle.len()) else { return false };
        // Only places where the whole needle fits around its anchor.
        let window = &haystack[self.anchor..=last_start + self.anchor];
        let upper = anchor.to_ascii_uppercase();
        memchr::memchr2_iter(anchor, upper, window)
            .any(|start| haystack[start..start + self.needle.len()].eq_ignore_ascii_case(&self.needle))
    }
}

/// Rough rank of a lower-case byte in English text and identifiers; a high rank is a common byte.
fn frequency(byte: u8) -> usize {
    const COMMON: &[u8] = b"zqxjkvbpygfwmucldrhsnioate ";
    COMMON.iter().position(|common| *common == byte).map_or(0, |rank| rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caseless_search_folds_ascii_only() {
        let found = |needle: &str, text: &str| CaselessFinder::new(needle).is_in(text);
        assert!(found("TimeOut", "upstream tIMEoUT after 5 s"));
        assert!(found("", ""));
        assert!(found("end", "at the END"));
        assert!(found("Gr\u{fc}n", "gR\u{fc}N"));
        assert!(!found("GR\u{dc}N", "gr\u{fc}n"));
        assert!(!found("timeout", "time"));
        assert!(!found("[", "{"));
    }
}
