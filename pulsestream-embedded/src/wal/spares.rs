//! Log files that wait to be used, so that an append does not wait for the disk to allocate one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DIRECTORY;
use crate::error::{Fault, FaultResult};
use crate::storage::{File, OpenMode, Storage};

/// Files that are made ahead of their use.
const READY: usize = 1;
/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;

/// Files of former lives, and files made ahead.
#[derive(Debug)]
pub(crate) struct Spares {
    storage: Arc<dyn Storage>,
    file_bytes: u64,
    names: Mutex<Vec<String>>,
}

impl Spares {
    pub(super) fn new(storage: Arc<dyn Storage>, file_bytes: u64, names: Vec<String>) -> Self {
        Self { storage, file_bytes, names: Mutex::new(names) }
    }

    /// Makes files until enough wait; for a thread of the store.
    ///
    /// # Errors
    /// `Io`: nothing is lost, the next append that needs a file makes it itself.
    pub(crate) fn prepare(&self) -> FaultResult<()> {
        while self.len() < READY {
            self.prepare_one()?;
        }
        Ok(())
    }

    fn prepare_one(&self) -> FaultResult<()> {
        let mut number = 0;
        let (ready, file, name) = loop {
            let ready = format!("{DIRECTORY}/ahead-{number}.spare");
            let name = format!("{DIRECTORY}/ahead-{number}.new");
            number += 1;
            match self.storage.open(&ready, OpenMode::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Fault::io("open", &ready, source)),
                Ok(_) => continue,
            }
            break (ready, allocate(&self.storage, &name, self.file_bytes)?, name);
        };
        // Nothing stands in the file yet, so that a failure loses nothing: the file is not used.
        let finished = file.sync_data().and_then(|()| self.storage.rename(&name, &ready));
        if let Err(source) = finished {
            let _ = self.storage.remove(&name);
            return Err(Fault::io("preallocate", &name, source));
        }
        self.names().push(ready);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.names().len()
    }

    pub(super) fn add(&self, mut names: Vec<String>) {
        self.names().append(&mut names);
    }

    pub(super) fn take(&self) -> Option<String> {
        self.names().pop()
    }

    pub(super) fn take_all(&self) -> Vec<String> {
        std::mem::take(&mut *self.names())
    }

    fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a file, or takes over what a failure left, and fills it with zeros: they are written, not only reserved, because a commit
/// into written blocks needs no change of the file's map.
pub(super) fn allocate(storage: &Arc<dyn Storage>, name: &str, bytes: u64) -> FaultResult<Arc<dyn File>> {
    let opened = match storage.open(name, OpenMode::Create) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => storage.open(name, OpenMode::Write),
        other => other,
    };
    let file = opened.map_err(|source| Fault::io("create", name, source))?;
    let zeros = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let part = (bytes - offset).min(zeros.len() as u64);
        if let Err(source) = file.write_at(&zeros[..part as usize], offset) {
            // Give the room back: a deletion may need it to free more.
            drop(file);
            let _ = storage.remove(name);
            return Err(Fault::io("preallocate", name, source));
        }
        offset += part;
    }
    Ok(file)
}
