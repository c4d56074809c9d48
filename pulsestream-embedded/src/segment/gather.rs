//! Reading a few whole rows of a segment.

use std::ops::Range;

use super::Segment;
use crate::cache::Cache;
use crate::error::FaultResult;
use crate::field::{IntField, NUMBER_FIELDS, NumberField, TEXT_FIELDS, TextField};
use crate::part::{Rows, Texts};
use crate::record::Record;

/// Rows put together, whose texts stand in one buffer.
struct Gathered {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

/// A row whose texts are places in the buffer.
#[derive(Default)]
struct Row {
    id: Range<usize>,
    timestamp: i64,
    received_at: i64,
    severity: i64,
    texts: [Option<Range<usize>>; TEXT_FIELDS],
    numbers: [f64; NUMBER_FIELDS],
}

/// Reads rows one column after the other, and hands each over with its place.
pub(super) fn gather(
    segment: &Segment,
    rows: &[usize],
    cache: &Cache,
    visit: &mut dyn FnMut(usize, &Record<'_>) -> FaultResult<()>,
) -> FaultResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut gathered = Gathered { bytes: Vec::new(), rows: Vec::new() };
    gathered.rows.resize_with(rows.len(), Row::default);
    gathered.texts(&mut *segment.ids(cache)?, rows, |row, text| row.id = text.unwrap_or_default())?;
    for field in [IntField::Timestamp, IntField::ReceivedAt, IntField::Severity] {
        let values = segment.cached_ints(field, cache)?;
        for (row, from) in gathered.rows.iter_mut().zip(rows) {
            let value = values[*from];
            match field {
                IntField::Timestamp => row.timestamp = value,
                IntField::ReceivedAt => row.received_at = value,
                _ => row.severity = value,
            }
        }
    }
    for field in NumberField::ALL {
        let values = segment.cached_numbers(field, cache)?;
        for (row, from) in gathered.rows.iter_mut().zip(rows) {
            row.numbers[field.index()] = values[*from];
        }
    }
    for field in TextField::ALL {
        let mut texts = segment.texts(field, cache)?;
        gathered.texts(&mut *texts, rows, |row, text| row.texts[field.index()] = text)?;
    }
    let Gathered { bytes, rows } = gathered;
    for (place, row) in rows.into_iter().enumerate() {
        let record = Record {
            id: &bytes[row.id],
            timestamp: row.timestamp,
            received_at: row.received_at,
            severity: u8::try_from(row.severity).unwrap_or(0),
            texts: row.texts.map(|text| text.map(|text| &bytes[text])),
            numbers: row.numbers,
        };
        visit(place, &record)?;
    }
    Ok(())
}

impl Gathered {
    /// Copies the texts of a column.
    fn texts(
        &mut self,
        texts: &mut dyn Texts,
        rows: &[usize],
        set: impl Fn(&mut Row, Option<Range<usize>>),
    ) -> FaultResult<()> {
        for (row, from) in self.rows.iter_mut().zip(rows) {
            let start = self.bytes.len();
            let text = texts.get(*from)?;
            self.bytes.extend_from_slice(text.unwrap_or_default());
            set(row, text.map(|text| start..start + text.len()));
        }
        Ok(())
    }
}
