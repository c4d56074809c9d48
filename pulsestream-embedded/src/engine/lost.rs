//! Segments that cannot be opened: questions that need them say so, and everything else goes on.

use std::io;
use std::sync::Arc;

use pulsestream_core::id::TenantId;
use pulsestream_core::time::TimeRange;
use pulsestream_core::{Error, ErrorKind};

use super::{Engine, held};
use crate::error::{Fault, FaultResult};
use crate::manifest::{SegmentEntry, Summary};
use crate::segment::Segment;
use crate::storage::Storage;

/// A segment whose file is missing, cut, or damaged where it says what it holds.
#[derive(Debug)]
pub(crate) struct Lost {
    /// Name of the file.
    pub(crate) file: String,
    /// The damage, with its offset.
    pub(crate) fault: Fault,
    summary: Option<Summary>,
}

impl Lost {
    fn needed_for(&self, tenant: TenantId, range: TimeRange) -> bool {
        let end = range.end.as_micros().saturating_sub(1);
        self.summary.as_ref().is_none_or(|summary| summary.may_hold(tenant, range.start.as_micros(), end))
    }

    /// Returns the position after its last event.
    fn end(&self) -> u64 {
        self.summary.as_ref().map_or(u64::MAX, |summary| summary.positions.end)
    }
}

/// Opens the segments of a manifest.
///
/// # Errors
/// `Newer`, and those of a disk that may answer later.
pub(super) fn open_segments(
    storage: &Arc<dyn Storage>,
    entries: &mut [SegmentEntry],
) -> FaultResult<(Vec<Segment>, Vec<Arc<Lost>>)> {
    let (mut segments, mut lost) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        let file = entry.file();
        let fault = match Segment::open(storage, &file, entry.dropped.clone()) {
            Ok(segment) => {
                entry.summary.get_or_insert_with(|| Summary::of(segment.footer()));
                segments.push(segment);
                continue;
            }
            Err(fault @ Fault::Corrupt { .. }) => fault,
            Err(Fault::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Fault::corrupt(&file, 0, "the segment is missing")
            }
            Err(fault) => return Err(fault),
        };
        tracing::error!(%fault, "a segment cannot be opened; questions that need it will say so");
        lost.push(Arc::new(Lost { file, fault, summary: entry.summary.clone() }));
    }
    Ok((segments, lost))
}

impl Engine {
    /// Refuses a question that needs a segment which cannot be opened.
    pub(crate) fn ensure_readable(&self, tenant: TenantId, range: TimeRange) -> FaultResult<()> {
        self.refuse_lost(|lost| lost.needed_for(tenant, range))
    }

    /// Refuses to read the log from a position when a segment that holds a part of it cannot be opened.
    pub(crate) fn ensure_readable_from(&self, position: u64) -> FaultResult<()> {
        self.refuse_lost(|lost| position < lost.end())
    }

    /// Refuses what needs every segment.
    pub(crate) fn ensure_whole(&self) -> FaultResult<()> {
        self.refuse_lost(|_| true)
    }

    fn refuse_lost(&self, needed: impl Fn(&Lost) -> bool) -> FaultResult<()> {
        match self.view().lost.iter().find(|lost| needed(lost)) {
            Some(lost) => Err(lost.fault.share()),
            None => Ok(()),
        }
    }

    /// Goes on without a segment that cannot be opened; its file is kept under another name.
    ///
    /// # Errors
    /// `NotFound` when no such segment is lost, and those of the disk.
    pub(crate) fn set_aside(&self, file: &str) -> FaultResult<String> {
        let mut manifest = held(&self.manifest);
        if !self.view().lost.iter().any(|lost| lost.file == file) {
            let unknown = Error::new(ErrorKind::NotFound, "embedded.set_aside", "no such segment is lost");
            return Err(Fault::Core(unknown.with_context("file", file)));
        }
        // Before the manifest forgets it, or the next opening would remove it.
        let kept = file.replace(".seg", ".lost");
        match self.storage.rename(file, &kept) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|source| Fault::io("rename", file, source))?,
        }
        self.sync_segments()?;
        let mut next = manifest.clone();
        next.segments.retain(|entry| entry.file() != file);
        self.store_manifest(&mut manifest, next)?;
        self.change_view(|view| view.lost.retain(|lost| lost.file != file));
        Ok(kept)
    }
}
