//! A full disk, no more file handles, a slow disk, and folders that several processes want.

use std::path::Path;
use std::time::Duration;

use pulsestream_core::env::{Clock, SystemClock};
use pulsestream_core::ports::event_store::{DeleteSelection, EventStore};
use pulsestream_core::query::FindQuery;
use pulsestream_core::testkit::block_on;
use pulsestream_core::time::TimeRange;
use pulsestream_core::{Error, ErrorKind, Result};

use crate::check::check;
use crate::child::{append, delete, retain};
use crate::ledger::{Ledger, Line};
use crate::load::{self, NUMBERS_OF_A_CHILD, RUN};
use crate::mount::Mounted;
use crate::process::{failed, not_run, pause, start, tool, without_tool};

/// How fast a second owner must be told who the first is.
const REFUSAL: Duration = Duration::from_millis(100);
/// Processes that want one folder.
const OWNERS: u64 = 4;

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "torture.limits", what)
}

/// Fills a small disk, deletes while it is full, frees some of it, and goes on.
pub(crate) fn full_disk() -> Result<()> {
    const PART: &str = "full disk";
    let disk = match Mounted::memory(8) {
        Ok(disk) => disk,
        Err(reason) => {
            not_run(PART, &reason);
            return Ok(());
        }
    };
    let folder = disk.path().join("store");
    let ballast = disk.path().join("ballast");
    let file = std::fs::File::create(&ballast).map_err(|error| failed("make a file", error))?;
    std::io::copy(&mut std::io::Read::take(std::io::repeat(7), 2 << 20), &mut &file)
        .map_err(|error| failed("fill a file", error))?;
    drop(file);
    let mut ledger = Ledger::default();
    start(&[], "fill", &folder, 0)?.finish_well(&mut ledger)?;
    if let Some(kind) = ledger.failures.iter().find(|kind| *kind != "storage_full") {
        return Err(broken("a full disk has another error").with_context("kind", kind));
    }
    let acknowledged = ledger.acknowledged.len();
    std::fs::remove_file(&ballast).map_err(|error| failed("remove a file", error))?;
    check(&folder, &mut ledger)?;
    println!("{PART}: {acknowledged} acknowledged, {} refused", ledger.failures.len());
    Ok(())
}

/// The child of [`full_disk`]: appends until the disk is full, then deletes, which must work, and appends until it is full again.
pub(crate) fn fill(folder: &Path) -> Result<()> {
    let store = load::open_with(folder, |config| config.log_file_bytes = 1 << 20)?;
    // Rules and accounts have their file before the disk is full.
    store.key_value()?;
    let first = load::BULKY / RUN;
    let mut run = first;
    let mut fill = |until: &str| {
        for _ in 0..10_000 {
            run += 1;
            if let Err(error) = append(&store, run * RUN..run * RUN + 8) {
                Line::Failed(error.kind().as_str().to_owned()).say();
                return Ok(run);
            }
        }
        Err(broken("the disk does not get full").with_context("until", until))
    };
    let last = fill("the first time")?;
    // Reading goes on, and what is deleted makes room.
    block_on(store.find(load::tenant(load::BULKY), &FindQuery::default()))?;
    retain(&store, last * RUN)?;
    for index in 0..load::TENANTS - 1 {
        for number in
            (load::BULKY..last * RUN).filter(|number| load::tenant(*number) == load::tenant_at(index))
        {
            Line::Deleting(number).announce()?;
        }
        let everything = DeleteSelection::Matching { range: TimeRange::ALL, filter: None };
        block_on(store.delete(load::tenant_at(index), &everything))?;
    }
    store.maintain()?;
    let again = fill("after a deletion")?;
    delete(&store, (again - 2) * RUN)?;
    if again - last < 16 {
        return Err(broken("a deletion made no room").with_context("runs", again - last));
    }
    let status = block_on(store.check())?;
    if !status.writable {
        return Err(broken("a full disk has made the store read-only"));
    }
    block_on(store.close())?;
    Line::Done.say();
    Ok(())
}

/// Gives a child few file handles: it must say so with typed errors, and lose nothing.
pub(crate) fn few_handles() -> Result<()> {
    const PART: &str = "few file handles";
    if let Err(reason) = tool(&["prlimit", "--nofile=32", "true"]) {
        return without_tool(PART, &reason);
    }
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let (mut runs, mut refused) = (0, 0);
    for handles in 4..=32 {
        let folder = place.path().join(handles.to_string());
        let mut ledger = Ledger::default();
        let limit = ["prlimit".to_owned(), format!("--nofile={handles}")];
        // With too few of them the program itself is not loaded.
        let status = start(&limit, "script", &folder, 0)?.finish(&mut ledger)?;
        if let Some(kind) =
            ledger.failures.iter().find(|kind| !matches!(kind.as_str(), "unavailable" | "closed"))
        {
            return Err(broken("missing handles have another error")
                .with_context("kind", kind)
                .with_context("handles", handles));
        }
        runs += u64::from(status.success());
        refused += ledger.failures.len();
        check(&folder, &mut ledger)?;
    }
    println!("{PART}: {runs} lives, {refused} refused calls");
    Ok(())
}

/// Makes every sync slow: appends wait or are refused, and nothing hangs.
pub(crate) fn slow_disk(delay: Duration) -> Result<()> {
    const PART: &str = "slow disk";
    if let Err(reason) = tool(&["strace", "-f", "-o", "/dev/null", "true"]) {
        return without_tool(PART, &reason);
    }
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let folder = place.path().join("store");
    let inject = format!("inject=fdatasync:delay_exit={}", delay.as_micros());
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
    let mut ledger = Ledger::default();
    let tracer: Vec<String> = words.map(str::to_owned).to_vec();
    start(&tracer, "crowd", &folder, 0)?.finish_well(&mut ledger)?;
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

/// Lets several processes want one folder; they open, append and close, or are killed while they have it.
pub(crate) fn owners(rounds: u64) -> Result<()> {
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let folder = place.path().join("store");
    let mut ledger = Ledger::default();
    for round in 0..rounds {
        let first = |owner| (round * OWNERS + owner) * NUMBERS_OF_A_CHILD;
        let mut running = Vec::new();
        for owner in 0..OWNERS {
            running.push(start(&[], "owner", &folder, first(owner))?);
        }
        pause(Duration::from_millis(30));
        for (owner, child) in running.into_iter().enumerate() {
            if (owner as u64 + round).is_multiple_of(2) {
                child.kill(&mut ledger)?;
            } else {
                child.finish_well(&mut ledger)?;
            }
        }
        check(&folder, &mut ledger).map_err(|error| error.with_context("round", round))?;
    }
    println!("owners: {rounds} rounds of {OWNERS}, {} acknowledged", ledger.acknowledged.len());
    Ok(())
}

/// The child of [`owners`]: has the folder several times, as soon as it can.
pub(crate) fn owner(folder: &Path, start: u64) -> Result<()> {
    let clock = SystemClock::new();
    let own = std::process::id();
    let mut turn = 0;
    while turn < 5 {
        let asked = clock.monotonic();
        let store = match load::open(folder) {
            Ok(store) => store,
            Err(error) if error.kind() == ErrorKind::StoreLocked => {
                let took = clock.monotonic() - asked;
                let pid = error.context().first().and_then(|(_, pid)| pid.parse::<u32>().ok());
                if took > REFUSAL || pid.is_none_or(|pid| pid == own) {
                    return Err(
                        broken("a refusal is late or names nobody").with_context("took_ms", took.as_millis())
                    );
                }
                pause(Duration::from_millis(1));
                continue;
            }
            Err(error) => return Err(error),
        };
        let first = start + turn * RUN;
        append(&store, first..first + 5)?;
        block_on(store.close())?;
        turn += 1;
    }
    Line::Done.say();
    Ok(())
}
