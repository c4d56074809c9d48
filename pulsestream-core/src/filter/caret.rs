//! Errors that point at the place in the text.

use super::lex::Fault;
use crate::error::{Error, ErrorKind, FieldError};

/// Characters shown before and after the place in a long line.
const SHOWN_AROUND: usize = 60;

/// Turns a fault into an error whose message shows the line with a caret under the column; columns and lines count from 1,
/// columns in characters.
pub(super) fn error(source: &str, fault: Fault) -> Error {
    let offset = fault.offset.min(source.len());
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line_end = source[offset..].find('\n').map_or(source.len(), |end| offset + end);
    let column = source[line_start..offset].chars().count() + 1;
    let line_number = before.matches('\n').count() + 1;

    let mut message = fault.problem.message.clone().into_owned();
    let line = &source[line_start..line_end];
    if !line.trim().is_empty() {
        let (shown, caret) = excerpt(line, column - 1);
        message.push_str(&format!("\n  {shown}\n  {}^", " ".repeat(caret)));
    }
    let field = FieldError::new("", fault.problem.code, message.clone());
    let error = Error::new(ErrorKind::Invalid, "filter.parse", message)
        .with_field(field)
        .with_context("column", column);
    if line_number > 1 { error.with_context("line", line_number) } else { error }
}

/// Returns the part of the line around `index` (in characters), on one screen line, and where `index` is in it.
fn excerpt(line: &str, index: usize) -> (String, usize) {
    let from = index.saturating_sub(SHOWN_AROUND);
    let mut shown = String::new();
    if from > 0 {
        shown.push_str("...");
    }
    let caret = shown.len() + index - from;
    let mut rest = line.trim_end().chars().skip(from);
    let visible = rest.by_ref().take(2 * SHOWN_AROUND);
    shown.extend(visible.map(|character| if character.is_control() { ' ' } else { character }));
    if rest.next().is_some() {
        shown.push_str("...");
    }
    (shown, caret)
}
