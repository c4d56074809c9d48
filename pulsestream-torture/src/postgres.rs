//! Stopping and killing PostgreSQL under load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulsestream::{PulseStream, Unlimited};
use pulsestream_core::env::{Clock, SystemClock};
use pulsestream_core::error::Retry;
use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome};
use pulsestream_core::testkit::Random;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_testtools::{POSTGRES, PostgresServer, StopMode, find_program};
use tokio::runtime::Runtime;

use crate::load::{self, NUMBERS_OF_A_CHILD, RUN};
use crate::redis::check::check;

const CLIENTS: u64 = 4;
/// How many events a batch has, in turn.
const BATCHES: [u64; 4] = [1, 3, 64, 17];
/// Acknowledged batches between two kills.
const PROGRESS: u64 = 40;
/// How soon after the server is back something must be acknowledged.
const BACK: Duration = Duration::from_secs(5);
/// How long something may take until it counts as stuck.
const LIMIT: Duration = Duration::from_secs(90);
/// Before a client sends again what was not acknowledged.
const PAUSE: Duration = Duration::from_millis(20);

/// What the clients share.
#[derive(Debug, Default)]
struct Ledger {
    acknowledged: Mutex<BTreeSet<u64>>,
    batches: AtomicU64,
    /// Batches whose outcome was not known at first.
    unknown: AtomicU64,
    ends: AtomicBool,
}

/// Ends the server in each cycle, in one of three ways, and starts it again; then checks the store.
pub(crate) fn run(cycles: u64, seed: u64) -> Result<()> {
    let Some(program) = find_program(&POSTGRES) else {
        return Err(Error::new(ErrorKind::Unsupported, "torture.postgres", "postgresql is needed"));
    };
    let mut server = PostgresServer::start(&program, &[]).map_err(failed)?;
    let runtime = Runtime::new().map_err(failed)?;
    let ps = runtime.block_on(open(&server.url()))?;
    let ledger = Arc::new(Ledger::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| runtime.spawn(work(ps.clone(), ledger.clone(), client * NUMBERS_OF_A_CHILD)))
        .collect();
    let (random, mut slowest) = (Random::new(seed), Duration::ZERO);
    for cycle in 0..cycles {
        ledger.wait_for(PROGRESS, LIMIT)?;
        wait(random.below(100));
        match cycle % 3 {
            0 => server.stop(StopMode::Fast),
            1 => server.stop(StopMode::Immediate),
            _ => server.kill(),
        }
        .map_err(failed)?;
        wait(random.below(300));
        server.restart().map_err(failed)?;
        slowest = slowest.max(ledger.wait_for(1, BACK)?);
    }
    ledger.wait_for(PROGRESS, LIMIT)?;
    ledger.ends.store(true, Ordering::Release);
    let present = runtime.block_on(async {
        for client in clients {
            client.await.map_err(|error| wrong("a client ended early").with_source(error))??;
        }
        let acknowledged = ledger.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let present = check(&ps, &acknowledged).await?;
        // Everything was sent until it was acknowledged, so anything more was never sent.
        if present != acknowledged.len() {
            return Err(wrong("there are events that nobody sent").with_context("present", present));
        }
        ps.close().await?;
        Ok(present)
    })?;
    println!(
        "{cycles} ends of the server (fast, immediate, kill -9); {present} events acknowledged and in the store, each once; \
         {} batches of unknown outcome; at most {:.2} s from the server's return to the next acknowledgement",
        ledger.unknown.load(Ordering::Relaxed),
        slowest.as_secs_f64()
    );
    Ok(())
}

async fn open(url: &str) -> Result<PulseStream> {
    let builder = PulseStream::builder().with_rate_limiter(Arc::new(Unlimited)).without_background();
    builder.open(url).await
}

/// Appends batches, each again until it is acknowledged.
async fn work(ps: PulseStream, ledger: Arc<Ledger>, start: u64) -> Result<()> {
    for round in 0.. {
        if ledger.ends.load(Ordering::Acquire) {
            break;
        }
        let first = start + round * RUN;
        let numbers = first..first + BATCHES[usize::try_from(round % 4).unwrap_or_default()];
        let (tenant, mut attempts) = (load::tenant(first), 0);
        loop {
            let events = numbers.clone().map(load::event).collect();
            attempts += 1;
            match ps.event_store().append(tenant, events, AppendOptions::default()).await {
                Ok(outcomes) => {
                    let is_right = |outcome: &AppendOutcome| match outcome {
                        AppendOutcome::Stored => true,
                        AppendOutcome::Duplicate => attempts > 1,
                        AppendOutcome::Refused(_) => false,
                    };
                    if !outcomes.iter().all(is_right) {
                        return Err(wrong("a batch has the wrong outcome").with_context("first", first));
                    }
                    break;
                }
                Err(error) if error.retry() == Retry::Never => return Err(error),
                Err(error) => {
                    if error.kind() == ErrorKind::OutcomeUnknown {
                        ledger.unknown.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        ledger.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).extend(numbers);
        ledger.batches.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

impl Ledger {
    /// Waits until so many more batches are acknowledged, and returns how long it took.
    fn wait_for(&self, more: u64, limit: Duration) -> Result<Duration> {
        let (before, clock) = (self.batches.load(Ordering::Acquire), SystemClock::default());
        loop {
            let took = clock.monotonic();
            if self.batches.load(Ordering::Acquire) >= before + more {
                return Ok(took);
            }
            if took > limit {
                return Err(
                    wrong("nothing was acknowledged in time").with_context("limit", format!("{limit:?}"))
                );
            }
            wait(2);
        }
    }
}

fn wrong(message: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "torture.postgres", message)
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "torture.postgres", "a process could not be handled")
        .with_source(error)
}

#[allow(clippy::disallowed_methods, reason = "the kill must come at a moment that nothing announces")]
fn wait(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
