//! Reading.

use std::fs::File;

use bytes::Bytes;
use parquet::basic::{LogicalType, TimeUnit, TimestampType, Type as PhysicalType};
use parquet::column::reader::ColumnReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use pulsestream_core::event::Event;
use pulsestream_core::id::EventId;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, Result};

use crate::columns::{COLUMNS, Cell, Column};
use crate::error::cannot_read;

/// Rows that are read at once.
const BATCH_ROWS: usize = 2_000;

/// Reads events from a Parquet file: one that was written here, or any other with columns of these names. Columns of other names are
/// passed over; `id`, `event_type` and `timestamp` must be there.
pub struct EventReader {
    file: Box<dyn FileReader>,
    columns: Vec<Found>,
    next_group: usize,
    open: Vec<Option<ColumnReader>>,
    rows_left: usize,
}

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReader").field("next_group", &self.next_group).finish_non_exhaustive()
    }
}

/// A column of the file that is one of ours.
#[derive(Debug, Clone, Copy)]
struct Found {
    column: Column,
    /// Its place in the file.
    index: usize,
    /// Whether rows may lack it.
    is_nullable: bool,
    /// What its whole numbers are multiplied with, and divided by, to be microseconds.
    scale: (i64, i64),
}

impl EventReader {
    /// Opens a file.
    ///
    /// # Errors
    /// `Invalid` when it is no Parquet file, a column is missing, or one has a type that no event field can have.
    pub fn open(file: File) -> Result<Self> {
        Self::new(Box::new(SerializedFileReader::new(file).map_err(cannot_read)?))
    }

    /// Opens a file in memory.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn from_bytes(file: Vec<u8>) -> Result<Self> {
        Self::new(Box::new(SerializedFileReader::new(Bytes::from(file)).map_err(cannot_read)?))
    }

    fn new(file: Box<dyn FileReader>) -> Result<Self> {
        let schema = file.metadata().file_metadata().schema_descr();
        let mut columns = Vec::new();
        for column in COLUMNS {
            let index =
                (0..schema.num_columns()).find(|index| schema.column(*index).path().string() == column.name);
            match index {
                Some(index) => columns.push(Found::new(column, index, &schema.column(index))?),
                None if column.is_required => {
                    let message =
                        format!("the file has no column `{}`, which every event needs", column.name);
                    return Err(Error::invalid(
                        "parquet.read",
                        format!("/{}", column.name),
                        "required",
                        message,
                    ));
                }
                None => {}
            }
        }
        Ok(Self { file, columns, next_group: 0, open: Vec::new(), rows_left: 0 })
    }

    /// Returns how many rows the file has.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Returns the next rows, each an event or what is wrong with it; `None` after the last.
    ///
    /// # Errors
    /// `Invalid` when the file is damaged.
    pub fn next_batch(&mut self) -> Result<Option<Vec<Result<Event>>>> {
        self.read_batch().map_err(cannot_read)
    }

    fn read_batch(&mut self) -> ParquetResult<Option<Vec<Result<Event>>>> {
        while self.rows_left == 0 {
            if self.next_group >= self.file.num_row_groups() {
                return Ok(None);
            }
            let group = self.file.get_row_group(self.next_group)?;
            self.open = self
                .columns
                .iter()
                .map(|found| group.get_column_reader(found.index).map(Some))
                .collect::<ParquetResult<_>>()?;
            self.rows_left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
            self.next_group += 1;
        }
        let rows = self.rows_left.min(BATCH_ROWS);
        self.rows_left -= rows;
        let id = EventId::from_u128(0);
        let mut events: Vec<Result<Event>> =
            (0..rows).map(|_| Ok(Event::new(id.clone(), "", Timestamp::EPOCH))).collect();
        for (found, reader) in self.columns.iter().zip(&mut self.open) {
            let Some(reader) = reader else { continue };
            let mut row = 0;
            found.read(reader, rows, &mut |cell| {
                let slot = &mut events[row];
                row += 1;
                if let Ok(event) = slot
                    && let Err(error) = found.put(event, cell)
                {
                    *slot = Err(error);
                }
            })?;
            if row != rows {
                return Err(ParquetError::EOF(format!("column {} ends early", found.column.name)));
            }
        }
        Ok(Some(events))
    }
}

impl Found {
    fn new(column: Column, index: usize, descriptor: &ColumnDescriptor) -> Result<Self> {
        let refuse = |message: &str| {
            Err(Error::invalid("parquet.read", format!("/{}", column.name), "wrong_type", message.to_owned()))
        };
        if descriptor.max_rep_level() > 0 || descriptor.max_def_level() > 1 {
            return refuse("must be a plain column, not a list or a structure");
        }
        if matches!(descriptor.physical_type(), PhysicalType::INT96 | PhysicalType::FIXED_LEN_BYTE_ARRAY) {
            return refuse("has a type that no field of an event can have");
        }
        let scale = match descriptor.logical_type_ref() {
            Some(LogicalType::Timestamp(TimestampType { unit: TimeUnit::MILLIS, .. })) => (1_000, 1),
            Some(LogicalType::Timestamp(TimestampType { unit: TimeUnit::NANOS, .. })) => (1, 1_000),
            _ => (1, 1),
        };
        Ok(Self { column, index, is_nullable: descriptor.max_def_level() > 0, scale })
    }

    fn put(&self, event: &mut Event, cell: Cell<'_>) -> Result<()> {
        match cell {
            Cell::Null if self.column.is_required => Err(Error::invalid(
                "parquet.read",
                format!("/{}", self.column.name),
                "required",
                "must not be null".to_owned(),
            )),
            Cell::Null => Ok(()),
            Cell::Whole(value) => {
                let (times, by) = self.scale;
                (self.column.put)(event, Cell::Whole(value.saturating_mul(times).div_euclid(by)))
            }
            cell => (self.column.put)(event, cell),
        }
    }

    /// Reads so many rows of the column and hands them over one by one.
    fn read(
        &self,
        reader: &mut ColumnReader,
        rows: usize,
        visit: &mut dyn FnMut(Cell<'_>),
    ) -> ParquetResult<()> {
        /// Reads values of one type; missing ones are not among them, which the levels tell.
        macro_rules! values {
            ($reader:expr, $cell:expr) => {{
                let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
                let mut read = 0;
                while read < rows {
                    let (records, _, _) =
                        $reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
                    if records == 0 {
                        break;
                    }
                    read += records;
                }
                let mut values = values.iter();
                for row in 0..read {
                    let is_null = self.is_nullable && levels.get(row) == Some(&0);
                    let value = if is_null { None } else { values.next() };
                    visit(value.map_or(Cell::Null, $cell));
                }
            }};
        }
        match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                values!(reader, |value| Cell::Text(String::from_utf8_lossy(value.data())));
            }
            ColumnReader::Int64ColumnReader(reader) => values!(reader, |value| Cell::Whole(*value)),
            ColumnReader::Int32ColumnReader(reader) => {
                values!(reader, |value| Cell::Whole(i64::from(*value)))
            }
            ColumnReader::DoubleColumnReader(reader) => values!(reader, |value| Cell::Number(*value)),
            ColumnReader::FloatColumnReader(reader) => {
                values!(reader, |value| Cell::Number(f64::from(*value)));
            }
            ColumnReader::BoolColumnReader(reader) => values!(reader, |value| Cell::Bool(*value)),
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
