//! Writing.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use pulsestream_core::Result;
use pulsestream_core::event::Event;

use crate::columns::{COLUMNS, Cell, Column, Kind};
use crate::error::cannot_write;

/// Events of a row group: enough for readers to skip well, few enough to be held in memory.
const GROUP_EVENTS: usize = 65_536;

/// Writes events to a Parquet file, compressed with zstd.
#[derive(Debug)]
pub struct EventWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    pending: Vec<Event>,
}

impl<W: Write + Send + std::fmt::Debug> EventWriter<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// `StorageFull` and `Unavailable` when the output cannot be written.
    pub fn new(output: W) -> Result<Self> {
        let schema = parse_message_type(&schema()).map_err(cannot_write)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("pulsestream ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = SerializedFileWriter::new(output, Arc::new(schema), Arc::new(properties));
        Ok(Self { file: file.map_err(cannot_write)?, pending: Vec::new() })
    }

    /// Writes events; up to 65,536 of them wait in memory for their row group to be full.
    ///
    /// # Errors
    /// `StorageFull` and `Unavailable` when the output cannot be written.
    pub fn write(&mut self, events: Vec<Event>) -> Result<()> {
        self.pending.extend(events);
        while self.pending.len() >= GROUP_EVENTS {
            let rest = self.pending.split_off(GROUP_EVENTS);
            let group = std::mem::replace(&mut self.pending, rest);
            self.write_group(&group).map_err(cannot_write)?;
        }
        Ok(())
    }

    /// Writes what waits and the footer, without which nobody can read the file, and returns the output.
    ///
    /// # Errors
    /// `StorageFull` and `Unavailable` when the output cannot be written.
    pub fn finish(mut self) -> Result<W> {
        let group = std::mem::take(&mut self.pending);
        if !group.is_empty() {
            self.write_group(&group).map_err(cannot_write)?;
        }
        self.file.into_inner().map_err(cannot_write)
    }

    fn write_group(&mut self, events: &[Event]) -> ParquetResult<()> {
        let mut group = self.file.next_row_group()?;
        for column in COLUMNS {
            if let Some(mut writer) = group.next_column()? {
                write_column(writer.untyped(), column, events)?;
                writer.close()?;
            }
        }
        group.close().map(drop)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "columns of 32 bits hold at most 16")]
fn write_column(writer: &mut ColumnWriter<'_>, column: Column, events: &[Event]) -> ParquetResult<()> {
    let cells = || events.iter().map(column.get);
    let levels: Vec<i16> = cells().map(|cell| i16::from(cell != Cell::Null)).collect();
    let levels = (!column.is_required).then_some(levels.as_slice());
    let whole = |cell| match cell {
        Cell::Whole(value) => Some(value),
        _ => None,
    };
    match writer {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let text = |cell| match cell {
                Cell::Text(text) => Some(ByteArray::from(text.into_owned().into_bytes())),
                _ => None,
            };
            writer.write_batch(&cells().filter_map(text).collect::<Vec<_>>(), levels, None)
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            writer.write_batch(&cells().filter_map(whole).collect::<Vec<_>>(), levels, None)
        }
        ColumnWriter::Int32ColumnWriter(writer) => {
            let values = cells().filter_map(whole).map(|value| value as i32);
            writer.write_batch(&values.collect::<Vec<_>>(), levels, None)
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let number = |cell| match cell {
                Cell::Number(value) => Some(value),
                _ => None,
            };
            writer.write_batch(&cells().filter_map(number).collect::<Vec<_>>(), levels, None)
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let bool = |cell| match cell {
                Cell::Bool(value) => Some(value),
                _ => None,
            };
            writer.write_batch(&cells().filter_map(bool).collect::<Vec<_>>(), levels, None)
        }
        // The schema below has no other types.
        _ => Ok(0),
    }
    .map(drop)
}

/// Spells the schema.
fn schema() -> String {
    let mut schema = "message event {\n".to_owned();
    for Column { name, kind, is_required, .. } in COLUMNS {
        let repetition = if is_required { "REQUIRED" } else { "OPTIONAL" };
        let (physical, logical) = match kind {
            Kind::Text => ("BYTE_ARRAY", " (STRING)"),
            Kind::Instant => ("INT64", " (TIMESTAMP(MICROS,true))"),
            Kind::Number => ("DOUBLE", ""),
            Kind::Whole(16) => ("INT32", " (INTEGER(16,false))"),
            Kind::Whole(_) => ("INT64", ""),
            Kind::Bool => ("BOOLEAN", ""),
        };
        schema.push_str(&format!("  {repetition} {physical} {name}{logical};\n"));
    }
    schema.push('}');
    schema
}
