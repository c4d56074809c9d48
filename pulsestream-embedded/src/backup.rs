//! Snapshots of a running store.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use pulsestream_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::error::FaultResult;
use crate::key_value::EmbeddedKeyValue;
use crate::storage::{Folder, Storage};
use crate::store::EmbeddedStore;

const OPERATION: &str = "embedded.backup";

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes of events copied so far.
    pub copied_bytes: u64,
    /// Bytes of events to copy.
    pub total_bytes: u64,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Events of all tenants.
    pub events: u64,
    /// Bytes of their segments.
    pub bytes: u64,
}

impl EmbeddedStore {
    /// Copies the store as it is now to another folder, while it goes on working: events, rules, accounts, everything. Everything
    /// acknowledged before the call is in the copy, and of what is appended meanwhile a prefix. The copy is a store like any other,
    /// durable and with every checksum verified when the call returns.
    ///
    /// The store is only read, so this works too when its disk is full or failed to sync. A process that ends in the middle leaves a
    /// folder that cannot be opened, and says why.
    ///
    /// This blocks for as long as copying takes; `progress` is called after each piece.
    ///
    /// # Errors
    /// `Conflict` when the target is there and not an empty folder, `Invalid` when it is inside the store, `Corrupt` when stored data is
    /// damaged, `StorageFull`, and those of either disk.
    pub fn backup(&self, target: impl AsRef<Path>, progress: impl FnMut(BackupProgress)) -> Result<Backup> {
        let target = target.as_ref();
        let refuse = |kind, message: &'static str| {
            Err(Error::new(kind, OPERATION, message).with_context("target", target.display()))
        };
        match std::fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return refuse(ErrorKind::Conflict, "the target is not empty: give a new folder");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return refuse(ErrorKind::Conflict, "the target is no folder that can be read")
                    .map_err(|refused| refused.with_source(error));
            }
        }
        if let Some(place) = self.engine.storage.place()
            && is_inside(target, place)
        {
            return refuse(ErrorKind::Invalid, "the target is inside the store: give another folder");
        }
        self.backup_into(Arc::new(Folder::new(target)), progress)
    }

    /// The same into any empty storage.
    ///
    /// # Errors
    /// Those of [`Self::backup`] that are about data and disks.
    #[cfg(any(test, feature = "sim"))]
    pub fn backup_storage(
        &self,
        target: Arc<dyn Storage>,
        progress: impl FnMut(BackupProgress),
    ) -> Result<Backup> {
        self.backup_into(target, progress)
    }

    fn backup_into(
        &self,
        target: Arc<dyn Storage>,
        mut progress: impl FnMut(BackupProgress),
    ) -> Result<Backup> {
        let mut run = || -> FaultResult<Backup> {
            self.engine.ensure_open()?;
            let _guard = Engine::begin_backup(&target)?;
            // First: a checkpoint of a processor must not be ahead of the events.
            self.copy_entries(&target)?;
            let copied = self.engine.copy_events(&target, &mut |copied_bytes, total_bytes| {
                progress(BackupProgress { copied_bytes, total_bytes });
            })?;
            Engine::finish_backup(&target)?;
            Ok(Backup { events: copied.events, bytes: copied.bytes })
        };
        run().map_err(|fault| fault.during(OPERATION))
    }

    /// Copies rules, accounts and leases, if there are any.
    fn copy_entries(&self, target: &Arc<dyn Storage>) -> FaultResult<()> {
        let is_open = self.key_value.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !is_open && !EmbeddedKeyValue::exists(&self.engine.storage)? {
            return Ok(());
        }
        self.open_key_value()?.copy_to(target)
    }
}

/// Whether `target`, which may not be there yet, is `place` or inside it.
fn is_inside(target: &Path, place: &Path) -> bool {
    let Ok(place) = place.canonicalize() else { return false };
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
    let existing = absolute.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    existing.is_some_and(|existing| existing.starts_with(place))
}
