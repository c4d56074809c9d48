//! A snapshot of an open store in another folder.

use std::sync::Arc;

use super::{Engine, held};
use crate::error::{Fault, FaultResult};
use crate::hot::{Batch, Run};
use crate::manifest::{Manifest, SegmentEntry, file_of};
use crate::segment::{self, Segment};
use crate::storage::{OpenMode, Storage};

/// Stands in the folder while a snapshot is made; a folder that has it is not opened.
pub(super) const UNFINISHED: &str = "backup.unfinished";

/// Events and bytes of a snapshot.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Copied {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// Events from one moment: the rows of segments that are gone at that moment, and the batches that are in no segment.
struct Moment {
    manifest: Manifest,
    segments: Vec<Segment>,
    fresh: Vec<Vec<Arc<Batch>>>,
}

impl Engine {
    /// Takes the lock of an empty folder and marks it, so that what is there until [`Self::finish_backup`] is not mistaken for a store.
    ///
    /// # Errors
    /// `Locked`, and those of the disk.
    pub(crate) fn begin_backup(target: &Arc<dyn Storage>) -> FaultResult<super::open::Guard> {
        let guard = super::open::lock(target)?;
        let marker = target.open(UNFINISHED, OpenMode::Create);
        marker.and_then(|file| file.sync_data()).map_err(|source| Fault::io("create", UNFINISHED, source))?;
        target.sync_dir("").map_err(|source| Fault::io("sync", "", source))?;
        super::open::create_directories(target)?;
        Ok(guard)
    }

    /// Copies every event that is visible now. The store itself is only read, so it works after a failed sync and on a full disk.
    ///
    /// # Errors
    /// `Corrupt` when an event to be copied is damaged, and those of either disk.
    pub(crate) fn copy_events(
        &self,
        target: &Arc<dyn Storage>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> FaultResult<Copied> {
        // A copy without some of the events would look whole.
        self.ensure_whole()?;
        let Moment { mut manifest, segments, fresh } = self.moment();
        let fresh_bytes: usize = fresh.iter().flatten().map(|batch| batch.heap_bytes()).sum();
        let total = segments.iter().map(Segment::bytes).sum::<u64>() + fresh_bytes as u64;
        let mut done = 0;
        let mut copied = Copied::default();
        let mut copies = Vec::with_capacity(segments.len());
        for segment in &segments {
            segment.copy_to(target, &mut |bytes| {
                done += bytes;
                progress(done, total.max(done));
            })?;
            copies.push(Segment::open(target, segment.name(), segment.dropped().to_vec())?);
        }
        for batches in fresh {
            let (Some(first), Some(last)) = (batches.first(), batches.last()) else { continue };
            let positions = first.position..last.position + last.len() as u64;
            let number = manifest.next_segment;
            done += batches.iter().map(|batch| batch.heap_bytes() as u64).sum::<u64>();
            manifest.next_segment += 1;
            manifest.sealed = positions.end;
            self.write_segment(
                target,
                &Run::new(batches),
                positions,
                &file_of(number),
                self.config.compression_level,
            )?;
            let segment = Segment::open(target, &file_of(number), Vec::new())?;
            manifest.segments.push(SegmentEntry::new(number, segment.footer()));
            copies.push(segment);
            progress(done, total.max(done));
        }
        target
            .sync_dir(segment::DIRECTORY)
            .map_err(|source| Fault::io("sync", segment::DIRECTORY, source))?;
        for copy in copies {
            // What arrived, not what was read: a copy nobody can restore is worse than an error.
            copy.verify()?;
            copied.events += copy.live_count();
            copied.bytes += copy.bytes();
        }
        manifest.store(target)?;
        Ok(copied)
    }

    /// Says that the folder is whole now.
    ///
    /// # Errors
    /// Those of the disk; then the folder still counts as unfinished.
    pub(crate) fn finish_backup(target: &Arc<dyn Storage>) -> FaultResult<()> {
        target.remove(UNFINISHED).map_err(|source| Fault::io("remove", UNFINISHED, source))?;
        target.sync_dir("").map_err(|source| Fault::io("sync", "", source))
    }

    fn moment(&self) -> Moment {
        // Segments and the rows that are gone change under this lock only. Batches that appear meanwhile were appended before
        // any later deletion, so the snapshot is the store as it was at one moment.
        let manifest = held(&self.manifest);
        let view = self.view();
        let fresh = view.generations.iter().map(|generation| generation.batches_from(0)).collect();
        Moment { manifest: manifest.clone(), segments: view.segments.clone(), fresh }
    }
}
