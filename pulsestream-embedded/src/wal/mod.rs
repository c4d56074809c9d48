//! The write-ahead log: preallocated, recycled files of checksummed frames.
//!
//! A frame holds one batch and the position of its first event; positions follow each other without a gap. Every file says at
//! which position it starts, and was synced as a whole before the next file was begun. So an end that is followed by another
//! file is proven whole or damaged, and only the end of the last file can be torn by a power loss.

mod frame;
mod group;
mod log;
mod recover;
mod spares;
#[cfg(test)]
mod tests;

pub(crate) use frame::FRAME_HEADER_BYTES;
pub(crate) use group::{Group, Lead};
pub(crate) use log::{Wal, WalOptions, frame_bytes};
#[cfg(test)]
use recover::Recovered;
pub(crate) use recover::recover;
pub(crate) use spares::Spares;

/// The sub-folder of the log.
pub(crate) const DIRECTORY: &str = "wal";
