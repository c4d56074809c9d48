//! Sealed segments: immutable columns in one file, sorted by (tenant, time, id).

mod format;
mod gather;
mod ids;
mod merge;
mod output;
mod reader;
mod shred;
mod text;
mod text_column;
mod writer;

pub(crate) use format::{ColumnMeta, Footer, TenantRange};
pub(crate) use ids::{IdHasher, IdIndex, IdOrder};
pub(crate) use merge::Merge;
pub(crate) use reader::{Segment, next_part_key};
pub(crate) use writer::{RestWriter, Row, SegmentOptions, SegmentWriter};

/// The sub-folder of the segments.
pub(crate) const DIRECTORY: &str = "segments";
