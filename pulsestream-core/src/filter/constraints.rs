//! Conditions that every matching event fulfils.

use super::{CompareOp, Expr};
use crate::event::{FieldPath, Value};

pub(super) fn equality_constraints(expr: &Expr) -> Vec<(FieldPath, Vec<Value>)> {
    match expr {
        Expr::And(parts) => parts.iter().filter_map(single).collect(),
        other => single(other).into_iter().collect(),
    }
}

/// The constraint of one conjunct; alternatives count when all of them constrain the same field.
fn single(expr: &Expr) -> Option<(FieldPath, Vec<Value>)> {
    match expr {
        Expr::Compare { field, op: CompareOp::Eq, value } => Some((field.clone(), vec![value.clone()])),
        Expr::In { field, values } => Some((field.clone(), values.clone())),
        Expr::Or(parts) => {
            let mut alternatives = parts.iter().map(single);
            let (field, mut values) = alternatives.next()??;
            for alternative in alternatives {
                let (other, more) = alternative?;
                if other != field {
                    return None;
                }
                values.extend(more);
            }
            values.sort();
            values.dedup();
            Some((field, values))
        }
        _ => None,
    }
}
