//! The columns of a part that an aggregate reads.

use std::ops::Range;
use std::sync::Arc;

use super::aggregate::Plan;
use crate::column::DictColumn;
use crate::error::FaultResult;
use crate::field::IntField;
use crate::part::Part;

/// The columns of a part that a question reads.
pub(super) struct Columns {
    pub(super) times: Option<Arc<Vec<i64>>>,
    pub(super) groups: Vec<GroupColumn>,
    pub(super) errors: Option<Arc<Vec<u8>>>,
    pub(super) numbers: Vec<Option<Arc<Vec<f64>>>>,
    pub(super) distinct: Vec<Option<DistinctColumn>>,
}

impl Columns {
    /// Loads what a plan needs.
    pub(super) fn load(plan: &Plan, part: &Part) -> FaultResult<Self> {
        let mut groups = Vec::new();
        for (path, interner) in plan.query.group_by.iter().zip(&plan.group_interners) {
            let column = part.dict(path)?;
            let numbers = interner.numbers_of(part, path, &column)?;
            groups.push((column, numbers));
        }
        let (mut numbers, mut distinct) = (Vec::new(), Vec::new());
        for (measured, interner) in plan.measured.iter().zip(&plan.distinct_interners) {
            numbers.push(if measured.reads_numbers() { Some(part.numbers(&measured.path)?) } else { None });
            distinct.push(match interner {
                Some(interner) => {
                    let column = part.dict(&measured.path)?;
                    let numbers = interner.numbers_of(part, &measured.path, &column)?;
                    Some((column, numbers, interner.numbers()))
                }
                None => None,
            });
        }
        Ok(Self {
            times: if plan.query.bucket.is_some() { Some(part.ints(IntField::Timestamp)?) } else { None },
            groups,
            errors: if plan.counts_errors { Some(part.errors()?) } else { None },
            numbers,
            distinct,
        })
    }

    /// Returns the bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        let dict = |column: &DictColumn, numbers: &[u32]| column.heap_bytes() + numbers.len() * 4;
        self.times.as_ref().map_or(0, |times| times.len() * 8)
            + self.errors.as_ref().map_or(0, |errors| errors.len())
            + self.groups.iter().map(|(column, numbers)| dict(column, numbers)).sum::<usize>()
            + self.numbers.iter().flatten().map(|values| values.len() * 8).sum::<usize>()
            + self.distinct.iter().flatten().map(|(column, numbers, _)| dict(column, numbers)).sum::<usize>()
    }
}

/// Codes and their numbers.
pub(super) type GroupColumn = (Arc<DictColumn>, Arc<Vec<u32>>);

/// Codes, their numbers, and how many numbers there are.
pub(super) type DistinctColumn = (Arc<DictColumn>, Arc<Vec<u32>>, usize);

/// Rows of a block that match.
pub(super) enum Rows<'a> {
    All(Range<usize>),
    Some(&'a [u32]),
}

impl Rows<'_> {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::All(range) => range.len(),
            Self::Some(rows) => rows.len(),
        }
    }

    /// Hands each row to `visit`, ascending.
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize)) {
        match self {
            Self::All(range) => range.clone().for_each(visit),
            Self::Some(rows) => rows.iter().for_each(|row| visit(*row as usize)),
        }
    }
}
