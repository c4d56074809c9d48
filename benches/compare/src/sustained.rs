//! Appends for so long that sealing and merging have to keep up.

use std::time::Instant;

use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::testkit::block_on;

use crate::rows::batches;
use crate::{Outcome, disk, events, ours};

const BATCH: u64 = 1_000;
/// The rate is told so many times.
const PARTS: usize = 10;

/// Prints the rate over the whole time and along the way, and what the disk alone takes. All events are there before the clock runs.
pub(crate) fn run() -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let batches = batches(21, events(), BATCH);
    let bytes = disk::log_bytes(&folder.path().join("bytes"), &batches[0])?;
    let floor = disk::syncs(&folder.path().join("floor"), bytes, 500)? * BATCH as f64;
    let store = ours::open(&folder.path().join("store"))?;
    let size = batches.len().div_ceil(PARTS);
    let (mut count, mut in_part) = (0, 0);
    let started = Instant::now();
    let mut part = Instant::now();
    for batch in batches {
        (count, in_part) = (count + 1, in_part + 1);
        ours::append(&store, batch)?;
        if in_part == size {
            let segments = block_on(store.check())?.details.into_iter().find(|(name, _)| *name == "segments");
            println!(
                "  after {:>5.1} M: {:>8.0} /s, {} segments",
                (count * BATCH) as f64 / 1e6,
                (in_part as u64 * BATCH) as f64 / part.elapsed().as_secs_f64(),
                segments.map(|(_, number)| number).unwrap_or_default()
            );
            (in_part, part) = (0, Instant::now());
        }
    }
    let rate = (count * BATCH) as f64 / started.elapsed().as_secs_f64();
    println!("{count} durable batches of {BATCH}, one client: {rate:.0} events/s");
    println!("the disk: the same bytes written in place and synced: {floor:.0} events/s");
    let started = Instant::now();
    store.maintain()?;
    println!("what was left to seal and merge took {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
