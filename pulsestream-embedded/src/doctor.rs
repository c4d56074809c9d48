//! Looking at a folder and at what is in it, for `doctor`.

use std::collections::BTreeMap;

use pulsestream_core::id::TenantId;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, Result};

use crate::store::EmbeddedStore;

/// What `doctor` found.
#[derive(Debug)]
pub struct Report {
    /// The segments in the order of the log.
    pub segments: Vec<SegmentReport>,
    /// Bytes of each column over all segments, largest first.
    pub columns: Vec<(String, u64)>,
    /// Events in segments of each tenant.
    pub tenants: Vec<(TenantId, u64)>,
    /// Events that are in the log and in no segment yet.
    pub fresh_events: u64,
    /// Bytes of a torn tail that the opening cut.
    pub truncated_bytes: u64,
}

impl Report {
    /// Returns whether no damage was found.
    pub fn is_healthy(&self) -> bool {
        self.segments.iter().all(|segment| segment.damage.is_none())
    }
}

/// One segment.
#[derive(Debug)]
pub struct SegmentReport {
    /// Name of the file inside the folder.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Rows of them that are deleted and not erased yet.
    pub deleted_rows: u64,
    /// The earliest event.
    pub first: Option<Timestamp>,
    /// The latest event.
    pub last: Option<Timestamp>,
    /// The first damage, with file and offset.
    pub damage: Option<Error>,
}

impl EmbeddedStore {
    /// Reads every block of every segment and verifies its checksum.
    ///
    /// # Errors
    /// `Closed`. Damage is part of the report.
    pub fn verify(&self) -> Result<Report> {
        const OPERATION: &str = "embedded.verify";
        self.engine.ensure_open().map_err(|fault| fault.during(OPERATION))?;
        let view = self.engine.view();
        let mut columns: BTreeMap<String, u64> = BTreeMap::new();
        let mut tenants: BTreeMap<TenantId, u64> = BTreeMap::new();
        let mut segments = Vec::with_capacity(view.segments.len());
        for segment in &view.segments {
            let footer = segment.footer();
            for column in &footer.columns {
                let bytes: u64 = column.blocks.iter().map(|block| u64::from(block.bytes)).sum();
                *columns.entry(column.name.to_string()).or_default() += bytes;
            }
            for range in &footer.tenants {
                *tenants.entry(range.tenant).or_default() += range.rows.len() as u64;
            }
            let times = || footer.tenants.iter().map(|range| (range.min_time, range.max_time));
            segments.push(SegmentReport {
                file: segment.name().to_owned(),
                bytes: segment.bytes(),
                rows: u64::from(footer.rows),
                deleted_rows: u64::from(footer.rows) - segment.live_count(),
                first: times().map(|(min, _)| Timestamp::from_micros(min)).min(),
                last: times().map(|(_, max)| Timestamp::from_micros(max)).max(),
                damage: segment.verify().err().map(|fault| fault.during(OPERATION)),
            });
        }
        let mut columns: Vec<_> = columns.into_iter().collect();
        columns.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let fresh_events = view.generations.iter().map(|generation| generation.rows() as u64).sum();
        let truncated_bytes = self.engine.truncated_bytes;
        Ok(Report {
            segments,
            columns,
            tenants: tenants.into_iter().collect(),
            fresh_events,
            truncated_bytes,
        })
    }
}
