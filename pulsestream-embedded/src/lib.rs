//! Durable event store in a folder: a write-ahead log, columnar segments, no server.
//!
//! The folder belongs to one process at a time. `docs/embedded-format.md` describes every file in it.
#![forbid(unsafe_code)]

mod bytes;
mod cache;
mod column;
mod error;
mod field;
mod hot;
mod pack;
mod part;
mod record;
mod segment;
pub mod storage;
mod wal;
