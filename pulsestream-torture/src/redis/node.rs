//! A node: accepts events into the queue, stores what is in it, and says what was accepted.

use std::io::{Read, Write};
use std::time::Duration;

use pulsestream::PulseStream;
use pulsestream_core::ingest::IngestOptions;
use pulsestream_core::{Error, ErrorKind, Result, Retry};

use super::open;
use crate::load;

/// Callers that send at once, each its own numbers.
const CALLERS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(5);

/// Runs until it is killed, or whoever started it is gone. Prints the number of each event that was acknowledged.
pub(crate) fn run(postgres: &str, redis: &str, start: u64) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let ps = loop {
            // The servers may be down just now.
            match open(postgres, redis).await {
                Err(error) if error.retry() != Retry::Never => tokio::time::sleep(PAUSE).await,
                opened => break opened?,
            }
        };
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| tokio::spawn(call(ps.clone(), start + caller))).collect();
        for caller in callers {
            caller.await.map_err(|error| {
                Error::new(ErrorKind::Internal, "torture.node", "a caller panicked").with_source(error)
            })??;
        }
        Ok(())
    })
}

/// Sends each event until it is acknowledged, as a caller that retries does.
async fn call(ps: PulseStream, start: u64) -> Result<()> {
    for number in (start..).step_by(usize::try_from(CALLERS).unwrap_or(1)) {
        let (tenant, event) = (load::tenant(number), load::event(number));
        while let Err(error) = ps.ingest().ingest(tenant, event.clone(), IngestOptions::default()).await {
            if error.retry() == Retry::Never {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        // One write of a short line: the parent sees all of it or nothing.
        let _ = std::io::stdout().lock().write_all(format!("{number}\n").as_bytes());
    }
    Ok(())
}
