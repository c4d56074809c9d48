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
        // Appends and sealing go on meanwhile, and add segments of later events; whoever changes these ones waits.
        let mut deleted = 0;
        let mut changed = Vec::new();
        for segment in &self.view().segments {
            let rows = select(segment)?;
            if !rows.is_empty() {
                deleted += rows.len() as u64;
                changed.push(segment.with_dropped(add_rows(segment.dropped(), rows)));
            }
        }
        if changed.is_empty() {
            return Ok(0);
        }
        let mut manifest = held(&self.manifest);
        let mut next = manifest.clone();
        for segment in &changed {
            if let Some(entry) = next.segments.iter_mut().find(|entry| entry.file() == segment.name()) {
                entry.dropped = segment.dropped().to_vec();
                entry.erase |= erase;
            }
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
    use std::sync::Arc;

    use pulsestream_core::env::Env;
    use pulsestream_core::id::TenantId;
    use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
    use pulsestream_core::testkit::{EventGenerator, block_on};

    use super::*;
    use crate::storage::SimFs;
    use crate::{EmbeddedConfig, EmbeddedStore};

    #[test]
    fn appends_and_sealing_go_on_while_rows_are_selected() {
        let (config, env) = (EmbeddedConfig::default(), Env::system());
        let store = EmbeddedStore::open_storage(Arc::new(SimFs::new()), config, env, false).unwrap();
        let mut generator = EventGenerator::new(1);
        let mut append = |count: usize| {
            let events = generator.by_ref().take(count).collect();
            block_on(store.append(TenantId::from_name("a"), events, AppendOptions::default())).unwrap();
        };
        append(3);
        let deleted = store.engine.delete(&store.group, false, |_| {
            // A lock that is held would make the next line wait forever.
            assert!(store.engine.manifest.try_lock().is_ok());
            append(2);
            store.engine.seal_now(&store.group)?;
            Ok(vec![1])
        });
        assert_eq!(deleted.unwrap(), 1);
        let live: Vec<u64> = store.engine.view().segments.iter().map(Segment::live_count).collect();
        assert_eq!(live, [2, 2]);
    }

    #[test]
    fn neighbours_join() {
        assert_eq!(add_rows(&[], vec![3, 4, 5, 9]), [3..6, 9..10]);
        assert_eq!(add_rows(&[0..2, 8..10], vec![2, 10, 5]), [0..3, 5..6, 8..11]);
    }
}
