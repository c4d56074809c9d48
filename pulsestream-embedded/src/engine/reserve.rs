//! Room on the disk that appends do not get, so that a full disk can be emptied.

use std::io;
use std::sync::{Arc, Mutex};

use super::{Engine, Leader, held};
use crate::error::FaultResult;
use crate::storage::{OpenMode, Storage};
use crate::wal::Group;

const NAME: &str = "reserve";
/// Enough to seal what is fresh and to store the manifest with what is deleted.
const RESERVE_BYTES: u64 = 8 << 20;
/// The file is filled in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

/// A file of zeros that is removed when a deletion needs its room.
#[derive(Debug)]
pub(super) struct Reserve {
    bytes: u64,
    is_held: Mutex<bool>,
}

impl Reserve {
    /// Finds the file, or makes it if there is room; for a store with small log files it is as small as one of them.
    pub(super) fn open(storage: &Arc<dyn Storage>, log_file_bytes: u64) -> Self {
        let reserve = Self { bytes: RESERVE_BYTES.min(log_file_bytes), is_held: Mutex::new(false) };
        let found = storage.open(NAME, OpenMode::Read).and_then(|file| file.bytes());
        if found.is_ok_and(|bytes| bytes >= reserve.bytes) {
            *held(&reserve.is_held) = true;
        } else {
            reserve.refill(storage);
        }
        reserve
    }

    /// Makes the file again if it is gone and there is room.
    pub(super) fn refill(&self, storage: &Arc<dyn Storage>) {
        let mut is_held = held(&self.is_held);
        if *is_held {
            return;
        }
        *is_held = self.fill(storage).is_ok();
        if !*is_held {
            let _ = storage.remove(NAME);
        }
    }

    /// Gives its room to whoever asks; returns whether there was any.
    fn release(&self, storage: &Arc<dyn Storage>) -> bool {
        let mut is_held = held(&self.is_held);
        let released = *is_held && storage.remove(NAME).is_ok();
        *is_held &= !released;
        released
    }

    fn fill(&self, storage: &Arc<dyn Storage>) -> io::Result<()> {
        match storage.remove(NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = storage.open(NAME, OpenMode::Create)?;
        let zeros = vec![0; usize::try_from(PIECE_BYTES.min(self.bytes)).unwrap_or(0)];
        let mut offset = 0;
        while offset < self.bytes {
            let part = usize::try_from(self.bytes - offset).unwrap_or(zeros.len()).min(zeros.len());
            file.write_at(&zeros[..part], offset)?;
            offset += part as u64;
        }
        Ok(())
    }
}

impl Engine {
    /// Does work that makes room; on a full disk it may use the reserve.
    pub(super) fn with_reserve<T>(&self, mut work: impl FnMut() -> FaultResult<T>) -> FaultResult<T> {
        match work() {
            Err(fault) if fault.is_full() && self.reserve.release(&self.storage) => work(),
            outcome => outcome,
        }
    }

    /// Seals everything acknowledged so that it can be deleted; on a full disk with the reserve, and with the room of log files that
    /// wait to be used again, which sealing itself adds to.
    pub(super) fn seal_with_reserve(&self, group: &Group<Leader>) -> FaultResult<()> {
        loop {
            let fault = match self.with_reserve(|| self.seal_now(group)) {
                Err(fault) if fault.is_full() => fault,
                outcome => return outcome,
            };
            let mut leader = group.leader();
            leader.catch_up();
            if !leader.wal.remove_spares() {
                return Err(fault);
            }
        }
    }
}
