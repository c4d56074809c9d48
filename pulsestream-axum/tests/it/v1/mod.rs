//! The contract of `/api/v1`, line by line.

mod accounts;
mod alerting;
mod dashboard;
mod ingestion;

use serde_json::Value;

/// Returns the names of an object, in the order of the alphabet.
fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Asserts that an object has exactly these names.
#[track_caller]
fn has_exactly(value: &Value, expected: &str) {
    let mut expected: Vec<_> = expected.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(names(value), expected, "{value}");
}
