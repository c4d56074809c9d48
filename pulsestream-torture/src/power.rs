//! Losing power: the file system stops at once, without writing what was not synced.

use std::time::Duration;

use pulsestream_core::testkit::Random;
use pulsestream_core::{Error, ErrorKind, Result};

use crate::check::check;
use crate::ledger::Ledger;
use crate::load::NUMBERS_OF_A_CHILD;
use crate::mount::Mounted;
use crate::process::{failed, not_run, pause, start, tool};

const PART: &str = "power loss";
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, from linux/fs/ext4/ext4.h.
const SHUT_DOWN: &str = r#"open(my $file, "<", $ARGV[0]) or die $!; my $how = pack("I", 2); ioctl($file, 0x8004587d, $how) or die $!;"#;
/// Cycles after which a new file system is made.
const CYCLES_OF_A_STORE: u64 = 10;

/// Cuts the power under a child so many times.
pub(crate) fn run(cycles: u64, seed: u64) -> Result<()> {
    let random = Random::new(seed);
    let mut total = 0;
    for round in 0..cycles.div_ceil(CYCLES_OF_A_STORE) {
        let disk = match Mounted::ext4(256) {
            Ok(disk) => disk,
            Err(reason) => {
                not_run(PART, &reason);
                return Ok(());
            }
        };
        let store = disk.path().join("store");
        let mut ledger = Ledger::default();
        for cycle in 0..CYCLES_OF_A_STORE.min(cycles - round * CYCLES_OF_A_STORE) {
            let child = start(&[], "child", &store, cycle * NUMBERS_OF_A_CHILD)?;
            child.wait_for_acknowledgement();
            pause(Duration::from_micros(random.below(60_000)));
            // Bytes that nobody synced: they must be gone, else the power was not cut.
            let unsynced = disk.path().join(format!("unsynced-{cycle}"));
            std::fs::write(&unsynced, [7; 4_096]).map_err(|error| failed("make a file", error))?;
            let lock = store.join("lock").display().to_string();
            tool(&["perl", "-e", SHUT_DOWN, &lock])?;
            child.kill(&mut ledger)?;
            disk.remount_image()?;
            if unsynced.metadata().is_ok_and(|metadata| metadata.len() > 0) {
                return Err(Error::new(ErrorKind::Internal, "torture.power", "what was not synced is there"));
            }
            check(&store, &mut ledger).map_err(|error| {
                error.with_context("cycle", round * CYCLES_OF_A_STORE + cycle).with_context("seed", seed)
            })?;
        }
        total += ledger.acknowledged.len();
    }
    println!("{PART}: {cycles} cycles, {total} acknowledged");
    Ok(())
}
