//! Deleting rows: they are gone at once, and erased from the files soon after.

use std::ops::Range;

use super::{Engine, Leader, held};
use crate::error::FaultResult;
use crate::segment::Segment;
use crate::wal::Group;

impl Engine {
    /// Deletes the rows that `select` names in each segment, after everything acknowledged was sealed. Returns how many.
    ///
    /// # Errors
    /// Those of the disk and of `select`; then nothing is deleted.
    pub(crate) fn delete(
        &self,
        group: &Group<Leader>,
        erase: bool,
        mut select: impl FnMut(&Segment) -> FaultResult<Vec<u32>>,
    ) -> FaultResult<u64> {
        // Before sealing, so that no compaction moves rows between selection and deletion.
        let _rewriting = held(&self.rewriting);
        self.seal_with_reserve(group)?;
        let mut manifest = held(&self.manifest);
        let view = self.view();
        let mut next = manifest.clone();
        let mut deleted = 0;
        let mut changed = Vec::new();
        for segment in &view.segments {
            let rows = select(segment)?;
            if rows.is_empty() {
                continue;
            }
            deleted += rows.len() as u64;
            let dropped = add_rows(segment.dropped(), rows);
            if let Some(entry) = next.segments.iter_mut().find(|entry| entry.file() == segment.name()) {
                entry.dropped.clone_from(&dropped);
                entry.erase |= erase;
            }
            changed.push(segment.with_dropped(dropped));
        }
        if deleted == 0 {
            return Ok(0);
        }
        self.with_reserve(|| self.store_manifest(&mut manifest, next.clone()))?;
        self.change_view(|view| {
            for segment in &mut view.segments {
                if let Some(with_dropped) = changed.iter().find(|changed| changed.name() == segment.name()) {
                    *segment = with_dropped.clone();
                }
            }
        });
        drop(manifest);
        self.request_compaction();
        Ok(deleted)
    }
}

/// Adds rows to ranges of rows.
fn add_rows(ranges: &[Range<u32>], rows: Vec<u32>) -> Vec<Range<u32>> {
    let mut all: Vec<Range<u32>> = ranges.to_vec();
    all.extend(rows.into_iter().map(|row| row..row + 1));
    all.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u32>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join() {
        assert_eq!(add_rows(&[], vec![3, 4, 5, 9]), [3..6, 9..10]);
        assert_eq!(add_rows(&[0..2, 8..10], vec![2, 10, 5]), [0..3, 5..6, 8..11]);
    }
}
