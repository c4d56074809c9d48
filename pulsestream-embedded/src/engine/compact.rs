//! Merging segments, and erasing deleted rows from their files.

use std::ops::Range;

use super::worker::Pace;
use super::{Engine, held};
use crate::error::{Fault, FaultResult};
use crate::manifest::{Manifest, SegmentEntry, file_of};
use crate::part::Rows;
use crate::segment::{Merge, Segment, SegmentOptions};

/// Segments that are merged at once, at least.
const FAN_IN: usize = 4;
/// A segment is rewritten alone when one row in so many is gone.
const GONE: u64 = 4;

impl Engine {
    /// Merges and erases until nothing is worth it.
    ///
    /// # Errors
    /// Those of the disk; the segments stay as they were.
    pub(crate) fn compact_all(&self) -> FaultResult<()> {
        while !self.is_stopping() && self.compact_once()? {}
        self.reserve.refill(&self.storage);
        Ok(())
    }

    fn compact_once(&self) -> FaultResult<bool> {
        let rewriting = held(&self.rewriting);
        self.ensure_writable()?;
        let (inputs, number) = {
            let mut manifest = held(&self.manifest);
            let segments = &self.view().segments;
            let Some(chosen) = choose(segments, &manifest, self.config.segment_events as u64) else {
                return Ok(false);
            };
            let number = manifest.next_segment;
            manifest.next_segment += 1;
            (segments[chosen].to_vec(), number)
        };
        match inputs.as_slice() {
            // Only this kind of rewriting makes room for certain.
            [_] => self.with_reserve(|| self.rewrite(&inputs, number))?,
            _ => self.rewrite(&inputs, number)?,
        }
        drop(rewriting);
        Ok(true)
    }

    /// Replaces neighbouring segments by one file with their live rows.
    fn rewrite(&self, inputs: &[Segment], number: u64) -> FaultResult<()> {
        let name = file_of(number);
        let merged = self.write_merged(inputs, &name);
        let merged = match merged {
            Ok(merged) => merged,
            Err(fault) => {
                self.remove_file(&name);
                return Err(fault);
            }
        };
        let mut manifest = held(&self.manifest);
        let mut next = manifest.clone();
        let is_input = |entry: &SegmentEntry| inputs.iter().any(|input| input.name() == entry.file());
        let at = next.segments.iter().position(is_input).unwrap_or(0);
        next.segments.retain(|entry| !is_input(entry));
        if let Some(merged) = &merged {
            next.segments.insert(at, SegmentEntry::new(number, merged.footer()));
        }
        if let Err(fault) = self.store_manifest(&mut manifest, next) {
            if !self.is_poisoned() {
                self.remove_file(&name);
            }
            return Err(fault);
        }
        self.change_view(|view| {
            let is_input = |segment: &Segment| inputs.iter().any(|input| input.key() == segment.key());
            let at = view.segments.iter().position(is_input).unwrap_or(0);
            view.segments.retain(|segment| !is_input(segment));
            view.segments.splice(at..at, merged);
        });
        drop(manifest);
        for input in inputs {
            self.cache.forget(input.key());
            // Queries that still read it have it open.
            self.remove_file(input.name());
        }
        Ok(())
    }

    /// Writes the live rows of all inputs; `None` if there are none.
    fn write_merged(&self, inputs: &[Segment], name: &str) -> FaultResult<Option<Segment>> {
        let mut pace = Pace::start(self);
        let mut pause = || if self.let_appends_go_first(&mut pace) { Err(Fault::Closed) } else { Ok(()) };
        let Some(merge) = Merge::plan(inputs, &mut pause)? else { return Ok(None) };
        let options = SegmentOptions { compression_level: self.config.compression_level };
        merge.write(&self.storage, name, options, self.hasher, &mut pause)?;
        self.sync_segments()?;
        Segment::open(&self.storage, name, Vec::new()).map(Some)
    }
}

/// Chooses neighbours to be merged, or one segment to be rewritten. A segment that cannot be opened is in the manifest only, and is no
/// neighbour.
fn choose(segments: &[Segment], manifest: &Manifest, max_rows: u64) -> Option<Range<usize>> {
    let place = |segment: &Segment| {
        let place = manifest.segments.iter().position(|entry| entry.file() == segment.name());
        place.unwrap_or(usize::MAX)
    };
    let places: Vec<usize> = segments.iter().map(place).collect();
    let to_erase = segments.iter().zip(&places).position(|(segment, place)| {
        let rows = u64::from(segment.footer().rows);
        let erase = manifest.segments.get(*place).is_some_and(|entry| entry.erase);
        erase || (rows - segment.live_count()) * GONE > rows
    });
    if let Some(index) = to_erase {
        return Some(index..index + 1);
    }
    // Each of the merged is at most half of the result, so that a row is rewritten a logarithmic number of times.
    let mut start = 0;
    while start + FAN_IN <= segments.len() {
        let (mut total, mut largest, mut end) = (0, 0, start);
        while end < segments.len()
            && total + segments[end].live_count() <= max_rows
            && places[end] == places[start] + (end - start)
        {
            total += segments[end].live_count();
            largest = largest.max(segments[end].live_count());
            end += 1;
        }
        if end - start >= FAN_IN && largest * 2 <= total {
            return Some(start..end);
        }
        start += 1;
    }
    None
}
