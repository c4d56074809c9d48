//! Writing a segment row by row.

use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::id::TenantId;

use super::format::{ColumnName, Footer, TenantRange};
use super::ids::{IdHasher, Ids};
use super::output::Output;
use super::shred::Shredder;
use super::text_column::TextColumn;
use crate::error::FaultResult;
use crate::field::{IntField, NumberField, TEXT_FIELDS, TextField};
use crate::record::Record;
use crate::storage::Storage;

/// How segments are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentOptions {
    /// Level of zstd.
    pub(crate) compression_level: i32,
}

/// A row on its way into a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) position: u64,
    pub(crate) record: Record<'a>,
}

/// Takes rows in the order (tenant, time, id) and writes them as a segment.
pub(crate) struct SegmentWriter {
    texts: TextWriter,
    rest: RestWriter,
}

/// The columns of texts, which are written while rows come.
pub(crate) struct TextWriter {
    out: Output,
    columns: Vec<TextColumn>,
}

/// All that is kept in memory until the end.
pub(crate) struct RestWriter {
    tenants: Vec<TenantRange>,
    rows: u32,
    ints: [Vec<i64>; 4],
    numbers: [Vec<f64>; NumberField::ALL.len()],
    ids: Ids,
    hashes: Vec<u64>,
    shredder: Shredder,
    hasher: IdHasher,
}

impl SegmentWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        name: String,
        options: SegmentOptions,
        hasher: IdHasher,
    ) -> FaultResult<Self> {
        let columns = TextField::ALL.into_iter().map(TextColumn::new).collect();
        let texts = TextWriter { out: Output::create(storage, name, options)?, columns };
        let rest = RestWriter {
            tenants: Vec::new(),
            rows: 0,
            ints: Default::default(),
            numbers: Default::default(),
            ids: Ids::new(),
            hashes: Vec::new(),
            shredder: Shredder::default(),
            hasher,
        };
        Ok(Self { texts, rest })
    }

    /// Returns the two parts, each of which must be given every row, perhaps at the same time.
    pub(crate) fn parts(&mut self) -> (&mut TextWriter, &mut RestWriter) {
        (&mut self.texts, &mut self.rest)
    }

    /// Writes the rest and makes the file durable. `positions` is what the segment stands for in the log.
    ///
    /// # Errors
    /// `Io`, and `SyncFailed`.
    pub(crate) fn finish(self, positions: Range<u64>) -> FaultResult<(Footer, u64)> {
        let Self { texts: TextWriter { mut out, columns }, rest } = self;
        let RestWriter { tenants, rows, ints, numbers, ids, hashes, shredder, .. } = rest;
        for (field, column) in TextField::ALL.into_iter().zip(columns) {
            column.finish(field, &mut out)?;
        }
        for (path, values) in shredder.finish() {
            out.add_dynamic(ColumnName::Dynamic(path), &values)?;
        }
        for (field, values) in NumberField::ALL.into_iter().zip(&numbers) {
            out.add_numbers(field, values)?;
        }
        for (field, values) in IntField::ALL.into_iter().zip(&ints) {
            out.add_ints(field, values)?;
        }
        out.add_ids(&ids, &hashes, &tenants)?;
        let max_received = ints[IntField::ReceivedAt as usize].iter().copied().max().unwrap_or(i64::MIN);
        out.finish(rows, positions, max_received, tenants)
    }
}

impl TextWriter {
    /// Adds the next rows, one column after the other: what a column has seen so far stays close to the processor meanwhile.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn push(&mut self, rows: &[Row<'_>]) -> FaultResult<()> {
        for (field, column) in TextField::ALL.into_iter().zip(&mut self.columns) {
            column.push_all(field, rows.iter().map(|row| row.record.texts[field.index()]), &mut self.out)?;
        }
        Ok(())
    }
}

impl RestWriter {
    /// Adds the next rows.
    #[allow(clippy::cast_possible_wrap, reason = "positions stay below 2^63")]
    pub(crate) fn push(&mut self, rows: &[Row<'_>]) {
        for Row { tenant, record, .. } in rows {
            match self.tenants.last_mut() {
                Some(range) if range.tenant == *tenant => {
                    range.rows.end += 1;
                    range.max_time = record.timestamp;
                }
                _ => self.tenants.push(TenantRange {
                    tenant: *tenant,
                    rows: self.rows..self.rows + 1,
                    min_time: record.timestamp,
                    max_time: record.timestamp,
                }),
            }
            self.rows += 1;
        }
        for field in IntField::ALL {
            let value = |row: &Row<'_>| match field {
                IntField::Timestamp => row.record.timestamp,
                IntField::ReceivedAt => row.record.received_at,
                IntField::Position => row.position as i64,
                IntField::Severity => i64::from(row.record.severity),
            };
            self.ints[field as usize].extend(rows.iter().map(value));
        }
        for (index, column) in self.numbers.iter_mut().enumerate() {
            column.extend(rows.iter().map(|row| row.record.numbers[index]));
        }
        for Row { tenant, record, .. } in rows {
            self.ids.push(record.id);
            self.hashes.push(self.hasher.hash(*tenant, record.id));
        }
        for Row { record, .. } in rows {
            let [tags, payload, metadata] = [TextField::Tags, TextField::Payload, TextField::Metadata]
                .map(|field| record.texts[field.index()]);
            self.shredder.push(tags, payload, metadata);
        }
    }
}

const _: () = assert!(TextField::ALL.len() == TEXT_FIELDS);
