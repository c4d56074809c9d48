//! Events as Parquet files, for DuckDB, Polars, Spark and back.
//!
//! One row is one event, one column one field: names as people write them (`service`, `status_code`), instants as UTC timestamps with
//! microseconds, tags, payload and metadata as JSON in text. A field that an event does not have is null. What is written reads back
//! as the same events, byte for byte of their payloads. So does a file that another program has read and written again, for example
//! `duckdb -c "COPY (FROM 'events.parquet') TO 'again.parquet' (COMPRESSION zstd)"`.
//!
//! ```
//! use pulsestream_core::event::Event;
//! use pulsestream_core::id::EventId;
//! use pulsestream_core::time::Timestamp;
//! use pulsestream_parquet::{EventReader, EventWriter};
//!
//! let event = Event::new(EventId::new("order-1")?, "order_placed", Timestamp::from_seconds(1_800_000_000));
//! let mut writer = EventWriter::new(Vec::new())?;
//! writer.write(vec![event.clone()])?;
//! let file = writer.finish()?;
//!
//! let mut reader = EventReader::from_bytes(file)?;
//! let rows = reader.next_batch()?.expect("there is one event");
//! assert_eq!(rows.into_iter().collect::<pulsestream_core::Result<Vec<_>>>()?, [event]);
//! # Ok::<(), pulsestream_core::Error>(())
//! ```
//!
//! The columns are written and read without Arrow: its crates would make up most of a build, and each event is a row in memory anyway.
#![forbid(unsafe_code)]

mod columns;
mod error;
mod read;
mod write;

pub use read::EventReader;
pub use write::EventWriter;
