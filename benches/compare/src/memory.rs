//! What a store takes while it is idle, loaded and opened.

use std::time::Instant;

use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::testkit::{EventGenerator, block_on};

use crate::{Outcome, events, ours};

/// Loads events that are made one batch at a time, so that the memory is the store's.
pub(crate) fn run() -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let before = memory("VmRSS")?;
    let store = ours::open(folder.path())?;
    println!("idle: {:.1} MiB, {:.1} MiB of them before opening", memory("VmRSS")?, before);
    let mut generator = EventGenerator::new(1);
    for _ in 0..events() / 1_000 {
        ours::append(&store, (0..1_000).map(|_| generator.event()).collect())?;
    }
    println!("while loading {} events: {:.1} MiB at most", events(), memory("VmHWM")?);
    store.maintain()?;
    println!("after compaction: {:.1} MiB at most", memory("VmHWM")?);
    block_on(store.close())?;
    drop(store);
    let started = Instant::now();
    let store = ours::open(folder.path())?;
    println!("open: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    drop(store);
    Ok(())
}

/// Reads a number of `/proc/self/status`, in MiB.
fn memory(name: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib / 1024.0)
}
