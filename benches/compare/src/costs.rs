//! What an event costs on its way through the store: time of the processor, which other programs disturb less than that of a clock,
//! with files in memory.

use std::path::Path;
use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::testkit::{EventGenerator, block_on};
use pulsestream_embedded::storage::Folder;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::{Outcome, ours};

const SEGMENT: u64 = 50_000;
const SEGMENTS: u64 = 4;

/// Prints nanoseconds an event for each stage: encode and append, seal, merge in order of time, merge interleaved.
pub(crate) fn run() -> Outcome<()> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory } else { Path::new(".") };
    for (title, overlapping) in [("segments that follow each other", false), ("segments that overlap", true)]
    {
        let folder = tempfile::tempdir_in(place)?;
        let (mut append, mut seal) = (0.0, 0.0);
        let store = open(folder.path(), SEGMENT)?;
        let mut generator = EventGenerator::new(1);
        for number in 0..SEGMENTS {
            if overlapping {
                generator = EventGenerator::new(number);
            }
            let batches: Vec<Vec<Event>> =
                (0..SEGMENT / 1_000).map(|_| (0..1_000).map(|_| generator.event()).collect()).collect();
            append += timed(|| batches.into_iter().try_for_each(|batch| ours::append(&store, batch)))?;
            seal += timed(|| Ok(store.maintain()?))?;
        }
        block_on(store.close())?;
        drop(store);
        let store = open(folder.path(), SEGMENT * SEGMENTS)?;
        let merge = timed(|| Ok(store.maintain()?))?;
        let bytes: u64 = store.verify()?.segments.iter().map(|segment| segment.bytes).sum();
        let events = (SEGMENT * SEGMENTS) as f64;
        println!(
            "{title}: append {:.0} ns, seal {:.0} ns, merge {:.0} ns; {:.1} bytes",
            append / events,
            seal / events,
            merge / events,
            bytes as f64 / events
        );
    }
    Ok(())
}

/// Opens a store that seals and merges only when it is told to, and merges up to so many events.
fn open(path: &Path, segment_events: u64) -> Outcome<EmbeddedStore> {
    let config = EmbeddedConfig {
        seal_events: SEGMENT as usize,
        segment_events: segment_events as usize,
        ..EmbeddedConfig::default()
    };
    Ok(EmbeddedStore::open_storage(Arc::new(Folder::new(path)), config, Env::system(), false)?)
}

/// Returns the nanoseconds of this process on a processor, which are counted in hundredths of a second.
fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let before = ticks()?;
    work()?;
    Ok((ticks()? - before) as f64 * 1e7)
}

fn ticks() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let number =
        |index: usize| fields.get(index).ok_or("a field is missing")?.parse::<u64>().map_err(|_| "no number");
    Ok(number(11)? + number(12)?)
}
