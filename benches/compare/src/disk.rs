//! What the disk takes alone: the floor that no store gets below.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use pulsestream_core::event::Event;

use crate::{Outcome, ours};

/// As large as a log file of the embedded store.
const FILE_BYTES: u64 = 16 << 20;

/// Writes so many bytes and syncs them, again and again, into a file that is there already; returns how often that can be done in a second.
pub(crate) fn syncs(path: &Path, bytes: u64, times: u64) -> Outcome<f64> {
    let file = File::create(path)?;
    file.write_all_at(&vec![0; usize::try_from(FILE_BYTES)?], 0)?;
    file.sync_all()?;
    let content = vec![7; usize::try_from(bytes)?];
    let places = (FILE_BYTES / bytes).max(1);
    let started = Instant::now();
    for number in 0..times {
        file.write_all_at(&content, number % places * bytes)?;
        file.sync_data()?;
    }
    Ok(times as f64 / started.elapsed().as_secs_f64())
}

/// Returns how many bytes the embedded store writes to its log for a batch.
pub(crate) fn log_bytes(folder: &Path, batch: &[Event]) -> Outcome<u64> {
    let store = ours::open(folder)?;
    ours::append(&store, batch.to_vec())?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder.join("wal"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            // Files of the log are full of zeros before they are used.
            let content = std::fs::read(path)?;
            bytes += content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        }
    }
    Ok(bytes)
}
