//! What a filter says about titles and messages, as patterns for the text index.

use pulsestream_core::event::{FieldPath, Value};
use pulsestream_core::filter::{CompareOp, Expr, Filter};

/// Letters and digits in a row that the index needs to narrow a search: it holds groups of three.
const MIN_RUN: usize = 3;

/// Most patterns of one search.
const MAX_PATTERNS: usize = 16;

/// Returns patterns for `like`, of which the lower-case title and message of every match hold at least one; `None` when the filter
/// says nothing about them that the index can use.
pub(crate) fn text_patterns(filter: &Filter) -> Option<Vec<String>> {
    patterns(filter.expr()).filter(|patterns| patterns.len() <= MAX_PATTERNS)
}

fn patterns(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Text(text) => pattern(text).map(|pattern| vec![pattern]),
        Expr::Compare { field: FieldPath::Title | FieldPath::Message, op, value: Value::Text(text) } => {
            let implies_a_part = matches!(
                op,
                CompareOp::Eq | CompareOp::Contains | CompareOp::StartsWith | CompareOp::EndsWith
            );
            pattern(text).filter(|_| implies_a_part).map(|pattern| vec![pattern])
        }
        // One part is enough: the one whose shortest pattern is the longest selects the least.
        Expr::And(parts) => {
            parts.iter().filter_map(patterns).max_by_key(|found| found.iter().map(String::len).min())
        }
        Expr::Or(parts) if !parts.is_empty() => {
            parts.iter().map(patterns).collect::<Option<Vec<_>>>().map(|found| found.concat())
        }
        _ => None,
    }
}

/// What is not ASCII stands as a wildcard: how the extension folds it depends on the database.
fn pattern(text: &str) -> Option<String> {
    let longest_run = text.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::len).max();
    if text.contains('\0') || longest_run.unwrap_or_default() < MIN_RUN {
        return None;
    }
    let mut pattern = String::from("%");
    for letter in text.chars() {
        match letter {
            '%' | '_' | '\\' => pattern.extend(['\\', letter]),
            _ if letter.is_ascii() => pattern.push(letter.to_ascii_lowercase()),
            _ => pattern.push('%'),
        }
    }
    pattern.push('%');
    Some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filter: &str) -> Option<Vec<String>> {
        text_patterns(&filter.parse().unwrap())
    }

    #[test]
    fn patterns_are_implied_by_the_filter() {
        let one = |pattern: &str| Some(vec![pattern.to_owned()]);
        assert_eq!(of("'Time Out'"), one("%time out%"));
        assert_eq!(of("message contains '100%_\\\\x abc'"), one("%100\\%\\_\\\\x abc%"));
        assert_eq!(of("'für dich'"), one("%f%r dich%"));
        assert_eq!(
            of("severity = 'error' and 'abc' and title starts_with 'GET /orders'"),
            one("%get /orders%")
        );
        assert_eq!(of("'refused' or title = 'Reset'"), Some(vec!["%refused%".into(), "%reset%".into()]));
    }

    #[test]
    fn what_the_index_cannot_narrow_has_none() {
        for filter in [
            "'ab'",
            "'-- ab -- cd'",
            "'äöü'",
            "not 'timeout'",
            "'timeout' or severity = 'error'",
            "title != 'timeout'",
            "title > 'timeout'",
            "message matches 'timeout'",
            "source.service contains 'timeout'",
        ] {
            assert_eq!(of(filter), None, "{filter}");
        }
    }
}
