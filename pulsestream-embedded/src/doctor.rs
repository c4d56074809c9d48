//! Looking at a folder and at what is in it, for `doctor`.

use std::collections::BTreeMap;

use pulsestream_core::id::TenantId;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, Result};

use crate::error::Fault;
use crate::key_value::EmbeddedKeyValue;
use crate::part::Rows;
use crate::segment::{ColumnMeta, Footer, TenantRange};
use crate::store::EmbeddedStore;

/// What `doctor` found.
#[derive(Debug)]
pub struct Report {
    /// The segments in the order of the log.
    pub segments: Vec<SegmentReport>,
    /// Bytes of each column over all segments, largest first.
    pub columns: Vec<(String, u64)>,
    /// The tenants, largest first.
    pub tenants: Vec<TenantReport>,
    /// Events that are in the log and in no segment yet.
    pub fresh_events: u64,
    /// Size of the file of rules and accounts, 0 if there is none.
    pub entries_bytes: u64,
    /// Damage of that file.
    pub entries_damage: Option<Error>,
    /// Bytes of a torn tail that the opening cut.
    pub truncated_bytes: u64,
}

impl Report {
    /// Returns whether no damage was found.
    pub fn is_healthy(&self) -> bool {
        self.entries_damage.is_none() && self.segments.iter().all(|segment| segment.damage.is_none())
    }
}

/// What a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantReport {
    /// Whose events.
    pub tenant: TenantId,
    /// Events that are there.
    pub events: u64,
    /// Events of them that are in no segment yet.
    pub fresh_events: u64,
    /// Bytes in segments; a block with rows of several tenants counts for each by its share of the rows.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Share {
    events: u64,
    fresh_events: u64,
    bytes: f64,
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
        let mut tenants: BTreeMap<TenantId, Share> = BTreeMap::new();
        let mut segments = Vec::with_capacity(view.segments.len());
        for segment in &view.segments {
            let footer = segment.footer();
            for column in &footer.columns {
                let bytes: u64 = column.blocks.iter().map(|block| u64::from(block.bytes)).sum();
                *columns.entry(column.name.to_string()).or_default() += bytes;
            }
            for range in &footer.tenants {
                let live: usize = segment.live_rows(range.tenant).iter().map(ExactSizeIterator::len).sum();
                let share = tenants.entry(range.tenant).or_default();
                share.events += live as u64;
                share.bytes +=
                    footer.columns.iter().map(|column| share_of(column, footer, range)).sum::<f64>();
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
        for lost in &view.lost {
            segments.push(SegmentReport {
                file: lost.file.clone(),
                bytes: 0,
                rows: 0,
                deleted_rows: 0,
                first: None,
                last: None,
                damage: Some(lost.fault.share().during(OPERATION)),
            });
        }
        let mut fresh_events = 0;
        for batch in view.generations.iter().flat_map(|generation| generation.batches_from(0)) {
            let share = tenants.entry(batch.tenant).or_default();
            share.events += batch.len() as u64;
            share.fresh_events += batch.len() as u64;
            fresh_events += batch.len() as u64;
        }
        let mut columns: Vec<_> = columns.into_iter().collect();
        columns.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let (entries_bytes, entries_damage) = self.verify_entries();
        let truncated_bytes = self.engine.truncated_bytes;
        Ok(Report {
            segments,
            columns,
            tenants: largest_first(tenants),
            fresh_events,
            entries_bytes,
            entries_damage: entries_damage.map(|fault| fault.during(OPERATION)),
            truncated_bytes,
        })
    }
    fn verify_entries(&self) -> (u64, Option<Fault>) {
        let verify = || {
            let exists = EmbeddedKeyValue::exists(&self.engine.storage)?;
            if exists { self.open_key_value()?.verify(&self.engine.storage) } else { Ok(0) }
        };
        match verify() {
            Ok(bytes) => (bytes, None),
            Err(fault) => (0, Some(fault)),
        }
    }
}

/// Returns the bytes of a column that belong to the rows of a tenant.
fn share_of(column: &ColumnMeta, footer: &Footer, range: &TenantRange) -> f64 {
    let mut bytes = 0.0;
    for (index, block) in column.blocks.iter().enumerate() {
        // Blocks of runs of rows follow each other; any other block is about all rows.
        let next = column.blocks.get(index + 1).map(|next| next.first_row);
        let end = next.filter(|next| *next > block.first_row).unwrap_or(footer.rows);
        let overlap = range.rows.end.min(end).saturating_sub(range.rows.start.max(block.first_row));
        let rows = end.saturating_sub(block.first_row).max(1);
        bytes += f64::from(block.bytes) * f64::from(overlap) / f64::from(rows);
    }
    bytes
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes of files are far below 2^53"
)]
fn largest_first(tenants: BTreeMap<TenantId, Share>) -> Vec<TenantReport> {
    let report = |(tenant, Share { events, fresh_events, bytes })| TenantReport {
        tenant,
        events,
        fresh_events,
        bytes: bytes.round() as u64,
    };
    let mut tenants: Vec<TenantReport> = tenants.into_iter().map(report).collect();
    tenants.sort_by_key(|tenant| std::cmp::Reverse((tenant.bytes, tenant.events)));
    tenants
}
