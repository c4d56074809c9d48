//! Killing a child at random moments.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use pulsestream_core::testkit::Random;
use pulsestream_core::{Error, ErrorKind, Result};

use crate::check::check;
use crate::load::NUMBERS_OF_A_CHILD;

/// Cycles after which a new store is begun, so that a check stays short.
const CYCLES_OF_A_STORE: u64 = 25;

/// Runs so many cycles.
pub(crate) fn run(cycles: u64, seed: u64, folder: Option<PathBuf>) -> Result<()> {
    let temporary = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let place = folder.unwrap_or_else(|| temporary.path().to_path_buf());
    let random = Random::new(seed);
    let mut acknowledged = BTreeSet::new();
    let (mut total, mut twice) = (0, 0);
    for cycle in 0..cycles {
        let store = place.join(format!("store-{}", cycle / CYCLES_OF_A_STORE));
        if cycle % CYCLES_OF_A_STORE == 0 {
            acknowledged.clear();
        }
        let start = (cycle % CYCLES_OF_A_STORE) * NUMBERS_OF_A_CHILD;
        let before = acknowledged.len();
        append_and_kill(&store, start, Duration::from_micros(random.below(40_000)), &mut acknowledged)?;
        total += acknowledged.len() - before;
        if random.below(5) == 0 {
            twice += 1;
            let unused = start + NUMBERS_OF_A_CHILD / 2;
            let mut child = spawn(&store, unused)?;
            wait(Duration::from_micros(random.below(20_000)));
            let lines = kill(&mut child)?;
            acknowledged.extend(lines);
        }
        let present = check(&store, &acknowledged).map_err(|error| error.with_context("cycle", cycle))?;
        if cycle % 100 == 99 || cycle + 1 == cycles {
            println!(
                "{} cycles, {twice} killed in recovery, {total} acknowledged, {present} in the last store",
                cycle + 1
            );
        }
        if cycle % CYCLES_OF_A_STORE == CYCLES_OF_A_STORE - 1 {
            std::fs::remove_dir_all(&store).map_err(|error| failed("remove a folder", error))?;
        }
    }
    Ok(())
}

fn failed(what: &'static str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "torture.kill9", what).with_source(error)
}

fn spawn(store: &Path, start: u64) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| failed("find the program", error))?;
    let mut command = Command::new(program);
    command.arg("child").arg(store).arg(start.to_string()).stdout(Stdio::piped());
    command.spawn().map_err(|error| failed("start the child", error))
}

/// Lets a child append, and kills it some time after its first acknowledgement.
fn append_and_kill(
    store: &Path,
    start: u64,
    delay: Duration,
    acknowledged: &mut BTreeSet<u64>,
) -> Result<()> {
    let mut child = spawn(store, start)?;
    let output =
        child.stdout.take().ok_or_else(|| failed("read the child", std::io::ErrorKind::BrokenPipe.into()))?;
    let (first, started) = channel();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            let _ = first.send(());
            lines.push(line);
        }
        lines
    });
    // An error says that the child ended without an acknowledgement; the check will tell why.
    let _ = started.recv();
    wait(delay);
    child.kill().map_err(|error| failed("kill the child", error))?;
    child.wait().map_err(|error| failed("wait for the child", error))?;
    let lines = reader.join().unwrap_or_default();
    lines.iter().for_each(|line| acknowledged.extend(numbers(line)));
    Ok(())
}

fn kill(child: &mut Child) -> Result<Vec<u64>> {
    child.kill().map_err(|error| failed("kill the child", error))?;
    child.wait().map_err(|error| failed("wait for the child", error))?;
    let output = child.stdout.take();
    let lines =
        output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(std::io::Result::ok));
    Ok(lines.flat_map(|line| numbers(&line)).collect())
}

/// Reads `first count`.
fn numbers(line: &str) -> std::ops::Range<u64> {
    let mut words = line.split(' ').map_while(|word| word.parse().ok());
    match (words.next(), words.next()) {
        (Some(first), Some(count)) => first..first + count,
        _ => 0..0,
    }
}

#[allow(clippy::disallowed_methods, reason = "the kill must come at a moment that nothing announces")]
fn wait(delay: Duration) {
    std::thread::sleep(delay);
}
