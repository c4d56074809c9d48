//! A full disk, no more file handles, and folders that several processes want.

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

/// Opens folders that belong to somebody else or must not be written: the error says so, and nothing is changed.
pub(crate) fn foreign_folder() -> Result<()> {
    const PART: &str = "foreign folder";
    const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    // Nobody must be able to read this program itself, which stands in a folder of its builder.
    let place = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let program = place.path().join("program");
    let own = std::env::current_exe().map_err(|error| failed("find the program", error))?;
    std::fs::copy(own, &program).map_err(|error| failed("copy the program", error))?;
    open_to_all(place.path(), 0o755)?;
    if let Err(reason) = tool(&[&NOBODY[..], &["true"]].concat()) {
        not_run(PART, &reason);
        return Ok(());
    }
    let mut ledger = Ledger::default();
    let folder = place.path().join("store");
    start(&[], "visit", &folder, 0)?.finish_well(&mut ledger)?;
    let before = listing(&folder)?;
    // Closed to others, open to read, and open to read with everything inside.
    for (mode, inside) in [(0o700, 0o600), (0o755, 0o600), (0o755, 0o644)] {
        open_to_all(&folder, mode)?;
        for name in before.keys() {
            let path = folder.join(name);
            open_to_all(&path, if path.is_dir() { inside | 0o111 } else { inside })?;
        }
        let folder_text = folder.display().to_string();
        let program_text = program.display().to_string();
        let words = [&NOBODY[..], &[program_text.as_str(), "visit", folder_text.as_str(), "0"]].concat();
        let Err(refused) = tool(&words) else {
            return Err(broken("a folder of somebody else is opened").with_context("mode", mode));
        };
        if !refused.to_string().contains("the operating system refuses access to the folder") {
            return Err(broken("the refusal does not say why").with_context("refusal", refused));
        }
        if listing(&folder)? != before {
            return Err(broken("a refused folder is changed").with_context("mode", mode));
        }
    }
    check(&folder, &mut ledger)?;
    println!("{PART}: refused with the reason, and left alone");
    Ok(())
}

fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| failed("change who may read", error))
}

/// Returns the names in a folder and its sub-folders with the length of each file.
fn listing(folder: &Path) -> Result<std::collections::BTreeMap<std::path::PathBuf, u64>> {
    let mut names = std::collections::BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).map_err(|error| failed("list a folder", error))? {
            let path = entry.map_err(|error| failed("list a folder", error))?.path();
            let bytes = path.metadata().map_err(|error| failed("look at a file", error))?.len();
            let is_folder = path.is_dir();
            names.insert(
                path.strip_prefix(folder).unwrap_or(&path).to_owned(),
                if is_folder { 0 } else { bytes },
            );
            if is_folder {
                waiting.push(path);
            }
        }
    }
    Ok(names)
}

/// The child of [`foreign_folder`].
pub(crate) fn visit(folder: &Path) -> Result<()> {
    let store = load::open(folder)?;
    append(&store, 0..3)?;
    block_on(store.close())?;
    Line::Done.say();
    Ok(())
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
