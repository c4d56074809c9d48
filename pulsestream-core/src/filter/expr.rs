//! The expression tree of a filter.

use crate::event::{FieldPath, Value};
use crate::text::Text;

/// A condition on one event.
///
/// This is the contract of every back end (memory, SQL, columnar): the same expression selects the same events everywhere.
///
/// # Contract
/// - Every expression is true or false for an event; there is no third value.
/// - A comparison, `in` or text operator is false when the field is missing (absent or JSON null), is an array or an object,
///   or has another type than the literal. There are no conversions: the text `'5'` is not the number `5`.
/// - `a != x` is exactly `not (a = x)`, so it is true when `a` is missing or has another type.
/// - Numbers compare as IEEE 754 doubles; `-0` equals `0`.
/// - Text compares byte by byte and case-sensitively, for `=`, `<`, `<=`, `>`, `>=`, `contains`, `starts_with` and `ends_with`
///   alike. No normalisation and no collation.
/// - Booleans have `=`, `!=` and `in` only.
/// - `severity` compares by rank: info, warning, error, critical. Its literals are those four names.
/// - `in` is true when one of the listed values equals the field; `in []` is false.
/// - `exists` is true when there is a value and it is not JSON null; arrays and objects exist, and so does the empty text.
/// - [`Expr::Text`] is true when `title` or `message` contains the text, ignoring the case of ASCII letters only.
/// - `matches` is an unanchored search of the regular expression dialect of the `regex` crate, Unicode on, in time linear in the
///   text.
/// - An empty [`Expr::And`] is true, an empty [`Expr::Or`] is false.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// True for every event.
    True,
    /// All of them hold.
    And(Vec<Self>),
    /// At least one of them holds.
    Or(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// A field compared with a literal.
    Compare {
        /// The field.
        field: FieldPath,
        /// The operator.
        op: CompareOp,
        /// The literal, never missing.
        value: Value,
    },
    /// A field equals one of the literals.
    In {
        /// The field.
        field: FieldPath,
        /// The literals, none of them missing.
        values: Vec<Value>,
    },
    /// The field has a value.
    Exists(FieldPath),
    /// Title or message contains the text, ignoring ASCII case.
    Text(Text),
}

/// How a field is compared with a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Not equal: exactly the negation of [`CompareOp::Eq`].
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Text contains the literal.
    Contains,
    /// Text starts with the literal.
    StartsWith,
    /// Text ends with the literal.
    EndsWith,
    /// Text matches the regular expression somewhere.
    Matches,
}

impl CompareOp {
    /// All operators.
    pub const ALL: [Self; 10] = [
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Gt,
        Self::Ge,
        Self::Contains,
        Self::StartsWith,
        Self::EndsWith,
        Self::Matches,
    ];

    /// Returns the operator as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Contains => "contains",
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
            Self::Matches => "matches",
        }
    }

    /// Returns whether it is one of `contains`, `starts_with`, `ends_with` and `matches`.
    pub const fn is_text_only(self) -> bool {
        matches!(self, Self::Contains | Self::StartsWith | Self::EndsWith | Self::Matches)
    }

    /// Returns whether it is one of `<`, `<=`, `>` and `>=`.
    pub const fn is_ordering(self) -> bool {
        matches!(self, Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }
}

impl Expr {
    /// Compares `field` with `value`.
    pub fn compare(field: FieldPath, op: CompareOp, value: impl Into<Value>) -> Self {
        Self::Compare { field, op, value: value.into() }
    }

    /// Calls `visit` for every field that the expression reads; [`Expr::Text`] reads title and message.
    pub fn for_each_field<'a>(&'a self, visit: &mut dyn FnMut(&'a FieldPath)) {
        match self {
            Self::True => {}
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.for_each_field(visit)),
            Self::Not(inner) => inner.for_each_field(visit),
            Self::Compare { field, .. } | Self::In { field, .. } | Self::Exists(field) => visit(field),
            Self::Text(_) => {
                visit(&FieldPath::Title);
                visit(&FieldPath::Message);
            }
        }
    }
}
