//! `pulsestream backup`: a snapshot of a folder, also while a server has it open.

mod control;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pulsestream::{Backup, BackupProgress, PrimaryStore, StoreUrl};
use pulsestream_core::env::Env;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::args::BackupArgs;
use crate::open;
pub(crate) use control::Control;

const OPERATION: &str = "backup";

/// Copies the store and prints what the copy holds.
pub(crate) async fn run(args: BackupArgs) -> Result<ExitCode> {
    let url: StoreUrl = args.store.parse()?;
    let PrimaryStore::Folder(folder) = url.primary else {
        let message =
            "only a store in a folder is copied this way: use the tools of the server, for example pg_dump";
        return Err(Error::new(ErrorKind::Unsupported, OPERATION, message));
    };
    open::require_store(OPERATION, &folder)?;
    let target = std::path::absolute(&args.to).map_err(|error| {
        Error::new(ErrorKind::Invalid, OPERATION, "the target has no absolute path").with_source(error)
    })?;
    let bar = progress_bar();
    let backup = copy(&folder, target, bar.clone()).await;
    bar.finish_and_clear();
    let backup = backup?;
    say!("{} events, {} in {}", backup.events, HumanBytes(backup.bytes), args.to.display());
    Ok(ExitCode::SUCCESS)
}

async fn copy(folder: &Path, target: PathBuf, bar: ProgressBar) -> Result<Backup> {
    let show = move |progress: BackupProgress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.copied_bytes);
    };
    match EmbeddedStore::open(folder, EmbeddedConfig::default(), Env::system()) {
        Ok(store) => {
            let copied = tokio::task::spawn_blocking(move || store.backup(target, show)).await;
            copied.map_err(|error| {
                Error::new(ErrorKind::Internal, OPERATION, "copying panicked").with_source(error)
            })?
        }
        // The process that has it open makes the copy.
        Err(locked) if locked.kind() == ErrorKind::StoreLocked => {
            control::ask(folder, &target, show, locked).await
        }
        Err(error) => Err(error),
    }
}

/// A bar over the bytes on a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}")
    {
        bar.set_style(style);
    }
    bar
}
