//! Turning generations into segments.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;

use super::{Engine, Leader, held};
use crate::error::{Fault, FaultResult};
use crate::hot::{Generation, Run};
use crate::manifest::{SegmentEntry, file_of};
use crate::part::Rows;
use crate::segment::{self, RestWriter, Row, Segment, SegmentOptions, SegmentWriter};
use crate::storage::Storage;
use crate::wal::Group;

/// Level of the compression of what will be merged soon: sealing must keep up with the callers.
const FRESH_LEVEL: i32 = 1;

/// Rows that are read together while a segment is written: few enough to stay in the processor's cache with all their texts.
const LOT_ROWS: usize = 256;

/// Fewer rows are not worth a second thread.
const ROWS_OF_TWO_THREADS: usize = 16_384;

impl Engine {
    /// Seals every generation that takes no more appends.
    ///
    /// # Errors
    /// Those of the disk; what could not be sealed stays in the log and in memory.
    pub(crate) fn seal_all(&self, group: &Group<Leader>) -> FaultResult<()> {
        while self.seal_oldest()? {
            if let Some(mut leader) = group.try_leader() {
                leader.catch_up();
            }
            self.request_compaction();
        }
        Ok(())
    }

    /// Seals everything that was acknowledged before the call.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn seal_now(&self, group: &Group<Leader>) -> FaultResult<()> {
        group.leader().freeze();
        self.seal_all(group)
    }

    /// Seals the oldest frozen generation; returns whether there was one.
    pub(super) fn seal_oldest(&self) -> FaultResult<bool> {
        let mut manifest = held(&self.manifest);
        self.ensure_writable()?;
        let view = self.view();
        let [generation, _, ..] = view.generations.as_slice() else { return Ok(false) };
        let number = manifest.next_segment;
        manifest.next_segment += 1;
        let name = file_of(number);
        let written = self.write_generation(generation, &name);
        let sealed = written.and_then(|segment| {
            let mut next = manifest.clone();
            next.sealed = generation.end();
            next.segments.push(SegmentEntry::new(number, segment.footer()));
            self.store_manifest(&mut manifest, next)?;
            Ok(segment)
        });
        let segment = match sealed {
            Ok(segment) => segment,
            Err(fault) => {
                // After a failed sync the stored manifest may name the file.
                if !self.is_poisoned() {
                    self.remove_file(&name);
                }
                return Err(fault);
            }
        };
        self.change_view(|view| {
            view.generations.retain(|other| !Arc::ptr_eq(other, generation));
            view.segments.push(segment);
        });
        // After the view, so that a leader who forgets the ids finds the segment.
        self.sealed.store(generation.end(), Ordering::Release);
        drop(manifest);
        generation.forget(&self.cache);
        self.made_room();
        Ok(true)
    }

    fn write_generation(&self, generation: &Generation, name: &str) -> FaultResult<Segment> {
        let positions = generation.start()..generation.end();
        let level = self.config.compression_level.min(FRESH_LEVEL);
        self.write_segment(&self.storage, &generation.sorted(), positions, name, level)?;
        self.sync_segments()?;
        Segment::open(&self.storage, name, Vec::new())
    }

    /// Writes a segment file; its name is not durable yet.
    pub(super) fn write_segment(
        &self,
        storage: &Arc<dyn Storage>,
        run: &Run,
        positions: Range<u64>,
        name: &str,
        compression_level: i32,
    ) -> FaultResult<()> {
        let options = SegmentOptions { compression_level };
        let mut writer = SegmentWriter::create(storage, name.to_owned(), options, self.hasher)?;
        push_run(&mut writer, run, self.background)?;
        writer.finish(positions).map(drop)
    }

    /// Makes the names of new segment files durable.
    pub(super) fn sync_segments(&self) -> FaultResult<()> {
        let synced = self.storage.sync_dir(segment::DIRECTORY);
        synced.map_err(|source| Fault::io("sync", segment::DIRECTORY, source))
    }
}

/// Gives a writer all rows: the texts on this thread, the rest on another one meanwhile, unless the store has no threads.
fn push_run(writer: &mut SegmentWriter, run: &Run, may_use_threads: bool) -> FaultResult<()> {
    let (texts, rest) = writer.parts();
    let push_rest = |rest: &mut RestWriter| {
        for_each_lot(run, |rows| {
            rest.push(rows);
            Ok(())
        })
    };
    if may_use_threads && run.rows() >= ROWS_OF_TWO_THREADS {
        let together = std::thread::scope(|scope| {
            let other = Builder::new().name("pulsestream-seal-rest".to_owned());
            let other = other.spawn_scoped(scope, || push_rest(rest)).ok()?;
            let pushed = for_each_lot(run, |rows| texts.push(rows));
            Some(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(pushed))
        });
        // Where the system has no thread to give, one does it all.
        if let Some(outcome) = together {
            return outcome;
        }
    }
    for_each_lot(run, |rows| texts.push(rows))?;
    push_rest(rest)
}

fn for_each_lot(run: &Run, mut push: impl FnMut(&[Row<'_>]) -> FaultResult<()>) -> FaultResult<()> {
    let mut rows = Vec::with_capacity(LOT_ROWS);
    for range in run.tenants() {
        for row in range.rows.start as usize..range.rows.end as usize {
            rows.push(Row { tenant: range.tenant, position: run.position(row), record: run.record(row) });
            if rows.len() == LOT_ROWS {
                push(&rows)?;
                rows.clear();
            }
        }
    }
    push(&rows)
}
