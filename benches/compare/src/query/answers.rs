//! Whether two answers are the same.

use std::cmp::Ordering;

use serde_json::Value;

use super::questions::{Ask, Question};
use crate::Outcome;

/// Rows of one tenant.
pub(crate) type Answer = Vec<Vec<Value>>;

/// Relative difference of numbers that the order of addition may make.
const TOLERANCE: f64 = 1e-9;

/// Compares the answers for each tenant; the order of rows counts where the question has one.
pub(crate) fn compare(question: &Question, ours: &[Answer], theirs: &[Answer]) -> Outcome<()> {
    if ours.len() != theirs.len() {
        return Err(format!("{}: {} answers, not {}", question.name, ours.len(), theirs.len()).into());
    }
    for (tenant, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
        if matches!(question.ask, Ask::Aggregate(_) | Ask::Small(_)) {
            for rows in [&mut ours, &mut theirs] {
                rows.sort_by(|left, right| by_keys(&left[..question.keys], &right[..question.keys]));
            }
        }
        let are_same = ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(left, right)| {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
            });
        if !are_same {
            let first = ours.iter().zip(&theirs).find(|(left, right)| left != right);
            let (left, right) = (ours.len(), theirs.len());
            return Err(format!(
                "{}: tenant {tenant}: {left} and {right} rows differ, first {first:?}",
                question.name
            )
            .into());
        }
    }
    Ok(())
}

fn by_keys(left: &[Value], right: &[Value]) -> Ordering {
    let text = |values: &[Value]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
    text(left).cmp(&text(right))
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() <= TOLERANCE * left.abs().max(right.abs()),
        _ => left == right,
    }
}
