//! The process that is killed.

use std::io::Write;
use std::path::Path;

use pulsestream_core::Result;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::testkit::block_on;

use crate::load;

/// Threads that append.
const CLIENTS: u64 = 4;

/// Appends until it is killed, and prints what was acknowledged: first number and how many.
pub(crate) fn run(folder: &Path, start: u64) -> Result<()> {
    let store = load::open(folder)?;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let store = &store;
                    move || {
                        // Each client has its own numbers, in runs of 64 of one tenant.
                        for run in 0.. {
                            let first = start + (run * CLIENTS + client) * 64;
                            let count = [1, 3, 64, 17][usize::try_from(run % 4).unwrap_or(0)];
                            let events = (first..first + count).map(load::event).collect();
                            block_on(store.append(load::tenant(first), events, AppendOptions::default()))?;
                            // One write of a short line: the parent sees all of it or nothing.
                            let line = format!("{first} {count}\n");
                            let _ = std::io::stdout().lock().write_all(line.as_bytes());
                        }
                        Ok(())
                    }
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or(Ok(())))
    })
}
