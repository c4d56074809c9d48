//! Comparing answers: exact, but for the last bits of floating-point numbers.

use crate::query::{AggregateRow, AggregateTable};

/// By how much two numbers may differ, relative to the larger: the order of addition is open.
pub const RELATIVE_TOLERANCE: f64 = 1e-9;

/// Returns whether two numbers are equal within [`RELATIVE_TOLERANCE`].
pub fn numbers_agree(left: f64, right: f64) -> bool {
    left == right || (left - right).abs() <= RELATIVE_TOLERANCE * left.abs().max(right.abs())
}

/// Checks that two tables have the same rows in the same order, with numbers that agree.
///
/// # Errors
/// A text that shows the first difference.
pub fn compare_tables(found: &AggregateTable, expected: &AggregateTable) -> Result<(), String> {
    if found.total_rows != expected.total_rows || found.rows.len() != expected.rows.len() {
        return Err(format!(
            "{} of {} rows instead of {} of {}:\n{}\ninstead of\n{}",
            found.rows.len(),
            found.total_rows,
            expected.rows.len(),
            expected.total_rows,
            render(found).join("\n"),
            render(expected).join("\n"),
        ));
    }
    for (index, (left, right)) in found.rows.iter().zip(&expected.rows).enumerate() {
        if !rows_agree(left, right) {
            return Err(format!("row {index} is {left:?} instead of {right:?}"));
        }
    }
    Ok(())
}

fn rows_agree(left: &AggregateRow, right: &AggregateRow) -> bool {
    let values = left.values.iter().zip(&right.values);
    left.bucket == right.bucket
        && left.group == right.group
        && left.values.len() == right.values.len()
        && values.into_iter().all(|pair| match pair {
            (Some(left), Some(right)) => numbers_agree(*left, *right),
            (left, right) => left.is_none() && right.is_none(),
        })
}

/// Writes each row as one line: bucket, group in brackets, measures; numbers with at most nine decimals.
pub(super) fn render(table: &AggregateTable) -> Vec<String> {
    let number = |value: &Option<f64>| match value {
        None => "null".to_owned(),
        Some(value) => {
            let text = format!("{value:.9}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    let line = |row: &AggregateRow| {
        let mut words: Vec<String> = row.bucket.iter().map(ToString::to_string).collect();
        if !row.group.is_empty() {
            words.push(
                format!("{:?}", row.group.iter().map(ToString::to_string).collect::<Vec<_>>())
                    .replace('"', ""),
            );
        }
        words.extend(row.values.iter().map(number));
        words.join(" ")
    };
    table.rows.iter().map(line).collect()
}
