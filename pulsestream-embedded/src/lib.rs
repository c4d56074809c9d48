//! Durable event store in a folder: a write-ahead log, columnar segments, no server.
//!
//! The folder belongs to one process at a time. `docs/embedded-format.md` describes every file in it.
//!
//! An append goes to the write-ahead log, where everybody who waits at the same time shares one sync, and is acknowledged when
//! it is as durable as asked. Events stay in memory, in the bytes of the log, until enough have come; then they are sorted by
//! tenant and time and sealed into a segment of compressed columns. Questions read segments and fresh events alike.
//!
//! **Invariant:** the crate has no runtime. Its futures complete on any executor, and its threads are its own.
#![forbid(unsafe_code)]

mod backup;
mod bytes;
mod cache;
mod column;
mod config;
mod crew;
mod doctor;
mod engine;
mod error;
mod event_store;
mod field;
mod hash;
mod hot;
mod key_value;
mod manifest;
mod pack;
mod part;
mod pool;
mod query;
mod question;
mod record;
mod segment;
mod signal;
pub mod storage;
mod store;
mod tail;
mod wal;

pub use backup::{Backup, BackupProgress};
pub use config::EmbeddedConfig;
pub use doctor::{Report, SegmentReport, TenantReport};
pub use store::EmbeddedStore;
