//! A slow disk and little memory: appends wait or are refused, and nothing is lost.

use std::path::Path;
use std::time::Duration;

use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::testkit::block_on;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_embedded::EmbeddedConfig;

use crate::check::check;
use crate::child::append;
use crate::ledger::{Ledger, Line};
use crate::load::{self, RUN};
use crate::process::{failed, start, tool, without_tool};

/// Clients that append large events to a slow disk, and how often each of them does.
const HOARDERS: u64 = 64;
const HOARDS: u64 = 24;

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "torture.memory", what)
}

/// Runs a child of which every sync takes so much longer, and returns what it said.
fn with_slow_syncs(child: &str, folder: &Path, delay: Duration) -> Result<Ledger> {
    let inject = format!("inject=fdatasync:delay_exit={}", delay.as_micros());
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
    let tracer: Vec<String> = words.map(str::to_owned).to_vec();
    let mut ledger = Ledger::default();
    start(&tracer, child, folder, 0)?.finish_well(&mut ledger)?;
    Ok(ledger)
}

/// Makes every sync slow: appends wait or are refused, and nothing hangs.
pub(crate) fn slow_disk(delay: Duration) -> Result<()> {
    const PART: &str = "slow disk";
    if let Err(reason) = tool(&["strace", "-f", "-o", "/dev/null", "true"]) {
        return without_tool(PART, &reason);
    }
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let folder = place.path().join("store");
    let mut ledger = with_slow_syncs("crowd", &folder, delay)?;
    if let Some(kind) = ledger.failures.iter().find(|kind| *kind != "unavailable") {
        return Err(broken("a full queue has another error").with_context("kind", kind));
    }
    if ledger.acknowledged.is_empty() || ledger.failures.is_empty() {
        return Err(broken("the queue was never full, or nothing got through")
            .with_context("acknowledged", ledger.acknowledged.len()));
    }
    check(&folder, &mut ledger)?;
    let (acknowledged, refused) = (ledger.acknowledged.len(), ledger.failures.len());
    println!("{PART}: {acknowledged} acknowledged, {refused} appends refused because the queue was full");
    Ok(())
}

/// The child of [`slow_disk`]: far more appends at once than its queue holds.
pub(crate) fn crowd(folder: &Path) -> Result<()> {
    let store = load::open_with(folder, |config| config.queue_bytes = 64 << 10)?;
    std::thread::scope(|scope| {
        for client in 0..32 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..4 {
                    if let Err(error) = append(store, client_numbers(client, round)) {
                        Line::Failed(error.kind().as_str().to_owned()).say();
                    }
                }
            });
        }
    });
    block_on(store.close())?;
    Line::Done.say();
    Ok(())
}

fn client_numbers(client: u64, round: u64) -> std::ops::Range<u64> {
    let first = (round * 32 + client) * RUN;
    first..first + 8
}

/// Makes every sync slow while much more is appended than the store may hold in memory: it stays within what its settings say, and a
/// tenth.
pub(crate) fn slow_disk_memory(delay: Duration) -> Result<()> {
    const PART: &str = "memory with a slow disk";
    if let Err(reason) = tool(&["strace", "-f", "-o", "/dev/null", "true"]) {
        return without_tool(PART, &reason);
    }
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let folder = place.path().join("store");
    let mut ledger = with_slow_syncs("hoard", &folder, delay)?;
    if let Some(kind) = ledger.failures.iter().find(|kind| *kind != "unavailable") {
        return Err(broken("held back appends have another error").with_context("kind", kind));
    }
    let peak = ledger.memory_bytes;
    let limit = small().memory_bytes() as u64 / 10 * 11;
    let appended = (ledger.acknowledged.len() + ledger.failures.len() * 8) as u64 * (8 << 10);
    if peak > limit || appended < 2 * limit {
        return Err(broken("the store takes more memory than its settings say, or too little was appended")
            .with_context("bytes", peak)
            .with_context("limit", limit)
            .with_context("appended", appended));
    }
    check(&folder, &mut ledger)?;
    println!(
        "{PART}: {} MiB at most, of {} MiB that the settings allow; {} acknowledged, {} refused",
        peak >> 20,
        limit >> 20,
        ledger.acknowledged.len(),
        ledger.failures.len()
    );
    Ok(())
}

/// Settings that allow little memory.
fn small() -> EmbeddedConfig {
    EmbeddedConfig {
        cache_bytes: 4 << 20,
        seal_bytes: 4 << 20,
        seal_events: 2_000,
        segment_events: 8_000,
        log_file_bytes: 1 << 20,
        queue_bytes: 2 << 20,
        ..EmbeddedConfig::default()
    }
}

/// The child of [`slow_disk_memory`] and [`little_memory`].
pub(crate) fn hoard(folder: &Path) -> Result<()> {
    let before = peak_bytes()?;
    let store = load::open_with(folder, |config| *config = small())?;
    std::thread::scope(|scope| {
        for client in 0..HOARDERS {
            let store = &store;
            scope.spawn(move || {
                for round in 0..HOARDS {
                    let first = load::BULKY + (round * HOARDERS + client) * RUN;
                    if let Err(error) = append(store, first..first + 8) {
                        Line::Failed(error.kind().as_str().to_owned()).say();
                    }
                }
            });
        }
    });
    block_on(store.close())?;
    // What the clients have themselves: the events of an append, whose texts grew by doubling, and their encoding, which did too.
    let own = HOARDERS * 8 * (32 << 10);
    Line::Memory(peak_bytes()?.saturating_sub(before + own)).say();
    Line::Done.say();
    Ok(())
}

/// Returns the largest memory of this process so far.
#[allow(clippy::disallowed_methods, reason = "the kernel writes a page")]
fn peak_bytes() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").map_err(|error| failed("read the memory", error))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok());
    kib.map(|kib| kib * 1_024).ok_or_else(|| broken("the memory is not known"))
}

/// Gives a child less and less memory: where it gets none it ends, as if it were killed, and loses nothing.
pub(crate) fn little_memory() -> Result<()> {
    const PART: &str = "little memory";
    if let Err(reason) = tool(&["prlimit", "--as=1000000000", "true"]) {
        return without_tool(PART, &reason);
    }
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let (mut ended, mut acknowledged, mut died) = (0, 0, 0);
    // Of the address space, of which threads and their heaps reserve much more than they use.
    for mib in [16, 64, 128, 256, 384, 512, 768, 8_192_u64] {
        let folder = place.path().join(mib.to_string());
        let mut ledger = Ledger::default();
        let limit = ["prlimit".to_owned(), format!("--as={}", mib << 20)];
        match start(&limit, "hoard", &folder, 0)?.finish(&mut ledger) {
            Ok(status) if status.success() => ended += 1,
            Ok(_) => died += 1,
            // Without memory for another thread the program panics.
            Err(error) if error.kind() == ErrorKind::Internal => died += 1,
            Err(error) => return Err(error),
        }
        acknowledged += ledger.acknowledged.len();
        check(&folder, &mut ledger).map_err(|error| error.with_context("limit_mib", mib))?;
    }
    if ended == 0 || died == 0 {
        return Err(broken("no child died for want of memory, or all did").with_context("ended", ended));
    }
    println!("{PART}: {died} lives cut short and {ended} whole, {acknowledged} acknowledged");
    Ok(())
}
