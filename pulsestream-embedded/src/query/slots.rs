//! Which group a row belongs to.

use std::collections::HashMap;

use pulsestream_core::time::Timestamp;

use super::accumulate::{Groups, IntegerHash};
use super::columns::{Columns, GroupColumn, Rows};
use super::kernels;
use crate::error::FaultResult;

/// Combinations of codes up to which a table finds the slot of a group; above it a hash map does.
const MAX_TABLE: usize = 1 << 18;
const NO_SLOT: u32 = u32::MAX;

/// Finds the slot of the codes of a row.
pub(super) struct SlotFinder {
    /// Number of codes of each column.
    widths: [usize; 3],
    table: Vec<u32>,
    touched: Vec<usize>,
    map: HashMap<u64, u32, IntegerHash>,
}

impl SlotFinder {
    /// Prepares for the columns of a part.
    pub(super) fn new(columns: &Columns) -> Self {
        let mut widths = [1; 3];
        for (width, (column, _)) in widths.iter_mut().zip(&columns.groups) {
            *width = column.dictionary.codes();
        }
        let size = widths.iter().try_fold(1_usize, |size, width| size.checked_mul(*width));
        let table = match size {
            Some(size) if size <= MAX_TABLE => vec![NO_SLOT; size],
            _ => Vec::new(),
        };
        Self { widths, table, touched: Vec::new(), map: HashMap::default() }
    }

    /// Forgets the slots: they belong to a bucket.
    pub(super) fn reset(&mut self) {
        for index in self.touched.drain(..) {
            self.table[index] = NO_SLOT;
        }
        self.map.clear();
    }

    /// Fills `slots` with the slot of each row.
    pub(super) fn find(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
        groups: &mut Groups,
        slots: &mut Vec<u32>,
    ) -> FaultResult<()> {
        slots.clear();
        slots.resize(rows.len(), 0);
        if self.table.is_empty() {
            return self.find_by_map(columns, bucket, rows, groups, slots);
        }
        let mut width = 1;
        for ((column, _), codes) in columns.iter().zip(self.widths) {
            match rows {
                Rows::All(range) => kernels::add_codes(&column.codes, range.start, width, slots),
                Rows::Some(rows) => kernels::add_listed_codes(&column.codes, rows, width, slots),
            }
            width = width.wrapping_mul(u32::try_from(codes).unwrap_or(u32::MAX));
        }
        for slot in slots.iter_mut() {
            let combined = *slot as usize;
            let known = self.table[combined];
            *slot = if known == NO_SLOT { self.add(columns, bucket, combined, groups)? } else { known };
        }
        Ok(())
    }

    /// Gives a combination of codes its slot.
    fn add(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        combined: usize,
        groups: &mut Groups,
    ) -> FaultResult<u32> {
        let mut numbers = [0; 3];
        let mut rest = combined;
        for (index, (_, interned)) in columns.iter().enumerate() {
            numbers[index] = interned[rest % self.widths[index]];
            rest /= self.widths[index];
        }
        let slot = groups.slot((bucket, numbers))?;
        self.table[combined] = slot;
        self.touched.push(combined);
        Ok(slot)
    }

    fn find_by_map(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
        groups: &mut Groups,
        slots: &mut [u32],
    ) -> FaultResult<()> {
        let mut outcome = Ok(());
        let mut at = 0;
        rows.for_each(|row| {
            let (mut combined, mut numbers) = (0_u64, [0; 3]);
            for (index, (column, interned)) in columns.iter().enumerate() {
                let code = column.codes.get(row);
                combined = combined * self.widths[index] as u64 + u64::from(code);
                numbers[index] = interned[code as usize];
            }
            slots[at] = match self.map.get(&combined) {
                Some(slot) => *slot,
                None => match groups.slot((bucket, numbers)) {
                    Ok(slot) => {
                        self.map.insert(combined, slot);
                        slot
                    }
                    Err(fault) => {
                        outcome = Err(fault);
                        0
                    }
                },
            };
            at += 1;
        });
        outcome
    }
}
