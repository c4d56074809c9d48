//! Errors that point at the place in the text of a rule.

use crate::error::{Error, FieldError};

/// What is wrong, and where: an offset in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(offset: usize, code: &'static str, message: impl Into<String>) -> Self {
        Self { offset, code, message: message.into() }
    }

    /// Takes over an error about `part`, which starts at `start`; one with a column points into the part.
    pub(super) fn within(part: &str, start: usize, error: &Error) -> Self {
        let column = error.context().iter().find(|(key, _)| *key == "column");
        let skipped =
            column.and_then(|(_, column)| column.parse::<usize>().ok()).unwrap_or(1).saturating_sub(1);
        let inside = part.char_indices().nth(skipped).map_or(part.len(), |(at, _)| at);
        // The part shows its own caret below the message; the whole text shows another one.
        let message = error.message().split("\n  ").next().unwrap_or_default();
        Self::new(start + inside, "invalid_rule", message)
    }

    /// Makes the error, whose message shows the text with a caret under the place.
    pub(super) fn into_error(self, source: &str) -> Error {
        const AROUND: usize = 60;
        let offset = (0..=self.offset.min(source.len())).rev().find(|at| source.is_char_boundary(*at));
        let column = source[..offset.unwrap_or(0)].chars().count();
        let from = column.saturating_sub(AROUND);
        let visible = source.chars().skip(from).take(2 * AROUND);
        let shown: String =
            visible.map(|character| if character.is_control() { ' ' } else { character }).collect();
        let message = format!("{}\n  {shown}\n  {}^", self.message, " ".repeat(column - from));
        let field = FieldError::new("/expression", self.code, message.clone());
        Error::new(crate::ErrorKind::Invalid, "rule.parse", message)
            .with_field(field)
            .with_context("column", column + 1)
    }
}
