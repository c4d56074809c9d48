//! Killing a child at random moments.

use std::path::PathBuf;
use std::time::Duration;

use pulsestream_core::Result;
use pulsestream_core::testkit::Random;

use crate::check::check;
use crate::ledger::Ledger;
use crate::load::NUMBERS_OF_A_CHILD;
use crate::process::{failed, pause, start};

/// Cycles after which a new store is begun, so that a check stays short.
const CYCLES_OF_A_STORE: u64 = 10;

/// Runs so many cycles.
pub(crate) fn run(cycles: u64, seed: u64, folder: Option<PathBuf>) -> Result<()> {
    let temporary = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let place = folder.unwrap_or_else(|| temporary.path().to_path_buf());
    let random = Random::new(seed);
    let mut ledger = Ledger::default();
    let (mut total, mut twice) = (0, 0);
    for cycle in 0..cycles {
        let store = place.join(format!("store-{}", cycle / CYCLES_OF_A_STORE));
        if cycle % CYCLES_OF_A_STORE == 0 {
            ledger = Ledger::default();
        }
        let first = (cycle % CYCLES_OF_A_STORE) * NUMBERS_OF_A_CHILD;
        let before = ledger.acknowledged.len();
        let child = start(&[], "child", &store, first)?;
        child.wait_for_acknowledgement();
        pause(Duration::from_micros(random.below(40_000)));
        child.kill(&mut ledger)?;
        total += ledger.acknowledged.len() - before;
        if random.below(5) == 0 {
            twice += 1;
            let child = start(&[], "child", &store, first + NUMBERS_OF_A_CHILD / 2)?;
            pause(Duration::from_micros(random.below(20_000)));
            child.kill(&mut ledger)?;
        }
        let present = check(&store, &mut ledger).map_err(|error| error.with_context("cycle", cycle))?;
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
