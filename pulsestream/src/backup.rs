//! Snapshots of a folder while it is in use.

use std::path::PathBuf;

use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_embedded::{Backup, BackupProgress};

use crate::PulseStream;

const OPERATION: &str = "pulsestream.backup";

impl PulseStream {
    /// Copies everything in the store's folder, as it is now, to another folder that can be opened like any other, while this one
    /// goes on working; see [`EmbeddedStore::backup`](pulsestream_embedded::EmbeddedStore::backup).
    ///
    /// # Errors
    /// `Unsupported` when the events are not in a folder: a server's own tools copy its data. `Conflict` when the target is not
    /// empty, and those of the disks.
    pub async fn backup(
        &self,
        target: impl Into<PathBuf>,
        progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<Backup> {
        let Some(store) = self.0.stores.embedded.clone() else {
            let message = "only a store in a folder is copied this way: use the tools of the server, for example pg_dump";
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, message));
        };
        let target = target.into();
        let copied = tokio::task::spawn_blocking(move || store.backup(target, progress)).await;
        copied.map_err(|error| {
            Error::new(ErrorKind::Internal, OPERATION, "copying panicked").with_source(error)
        })?
    }
}
