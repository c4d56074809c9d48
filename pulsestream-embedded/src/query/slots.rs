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

/// Rows for each combination of codes from which on combinations are counted before groups are looked at.
const ROWS_PER_CODE: usize = 4;

/// Counts events and errors row by row.
fn count_each(columns: &Columns, rows: &Rows<'_>, slots: &[u32], groups: &mut Groups) {
    for slot in slots {
        groups.events[*slot as usize] += 1;
    }
    if let Some(errors) = &columns.errors {
        let mut slots = slots.iter();
        rows.for_each(|row| {
            if let Some(slot) = slots.next() {
                groups.errors[*slot as usize] += u64::from(errors[row]);
            }
        });
    }
}

/// Finds the slot of the codes of a row.
pub(super) struct SlotFinder {
    /// Number of codes of each column.
    widths: [usize; 3],
    table: Vec<u32>,
    touched: Vec<usize>,
    lanes: Vec<u32>,
    flagged: Vec<u32>,
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
        Self {
            widths,
            table,
            touched: Vec::new(),
            lanes: Vec::new(),
            flagged: Vec::new(),
            map: HashMap::default(),
        }
    }

    /// Forgets the slots: they belong to a bucket.
    pub(super) fn reset(&mut self) {
        for index in self.touched.drain(..) {
            self.table[index] = NO_SLOT;
        }
        self.map.clear();
    }

    /// Counts events and errors of the group of each row, and fills `slots` with the slots if they are needed.
    pub(super) fn find(
        &mut self,
        columns: &Columns,
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
        groups: &mut Groups,
        needs_slots: bool,
        slots: &mut Vec<u32>,
    ) -> FaultResult<()> {
        slots.clear();
        slots.resize(rows.len(), 0);
        if self.table.is_empty() {
            self.find_by_map(&columns.groups, bucket, rows, groups, slots)?;
            count_each(columns, rows, slots, groups);
            return Ok(());
        }
        let mut width = 1;
        for ((column, _), codes) in columns.groups.iter().zip(self.widths) {
            match rows {
                Rows::All(range) => kernels::add_codes(&column.codes, range.start, width, slots),
                Rows::Some(rows) => kernels::add_listed_codes(&column.codes, rows, width, slots),
            }
            width = width.wrapping_mul(u32::try_from(codes).unwrap_or(u32::MAX));
        }
        if self.table.len() * ROWS_PER_CODE <= rows.len() {
            return self.count_codes(columns, bucket, rows, groups, needs_slots, slots);
        }
        for slot in slots.iter_mut() {
            *slot = self.slot_of(&columns.groups, bucket, *slot as usize, groups)?;
        }
        count_each(columns, rows, slots, groups);
        Ok(())
    }

    /// Counts how often each combination of codes comes, which needs no look at a group for each row.
    fn count_codes(
        &mut self,
        columns: &Columns,
        bucket: Option<Timestamp>,
        rows: &Rows<'_>,
        groups: &mut Groups,
        needs_slots: bool,
        combined: &mut [u32],
    ) -> FaultResult<()> {
        let size = self.table.len();
        let mut lanes = std::mem::take(&mut self.lanes);
        match &columns.errors {
            None => kernels::histogram(combined, size, &mut lanes),
            Some(errors) => {
                // Whether a row is an error is one more code.
                self.flagged.clear();
                self.flagged.extend_from_slice(combined);
                let width = u32::try_from(size).unwrap_or(u32::MAX);
                match rows {
                    Rows::All(range) => kernels::add_all(&errors[range.clone()], width, &mut self.flagged),
                    Rows::Some(rows) => kernels::add_listed(errors, rows, width, &mut self.flagged),
                }
                kernels::histogram(&self.flagged, 2 * size, &mut lanes);
            }
        }
        for code in 0..size {
            let errors = lanes.get(size + code).copied().filter(|_| columns.errors.is_some()).unwrap_or(0);
            let events = lanes[code] + errors;
            if events > 0 {
                let slot = self.slot_of(&columns.groups, bucket, code, groups)? as usize;
                groups.events[slot] += u64::from(events);
                groups.errors[slot] += u64::from(errors);
            }
        }
        self.lanes = lanes;
        if needs_slots {
            combined.iter_mut().for_each(|code| *code = self.table[*code as usize]);
        }
        Ok(())
    }

    /// Returns the slot of a combination of codes.
    fn slot_of(
        &mut self,
        columns: &[GroupColumn],
        bucket: Option<Timestamp>,
        combined: usize,
        groups: &mut Groups,
    ) -> FaultResult<u32> {
        match self.table[combined] {
            NO_SLOT => self.add(columns, bucket, combined, groups),
            known => Ok(known),
        }
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
