//! Opening a folder: lock, manifest, segments, log.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use pulsestream_core::env::Env;

use super::backup::UNFINISHED;
use super::lost::open_segments;
use super::reserve::Reserve;
use super::{Engine, Leader, View, Work};
use crate::cache::Cache;
use crate::config::EmbeddedConfig;
use crate::error::{Fault, FaultResult};
use crate::hot::{Batch, Generation};
use crate::manifest::{self, Manifest};
use crate::segment::{self, IdHasher};
use crate::signal::Signal;
use crate::storage::{Lock, OpenMode, Storage};
use crate::wal::{self, Group, WalOptions};

const LOCK: &str = "lock";
/// Log files of former lives that are kept for reuse.
const MAX_SPARE_FILES: usize = 4;
/// Groups of commits that a log file has room for, at least: larger ones would leave much of it empty, and more memory would wait for
/// one sync.
const FILE_GROUPS: u64 = 2;
/// A log of more files than this is sealed at once, so that opening often does not let it grow.
const MANY_LOG_FILES: usize = 4;

/// Opens the store in a folder, or creates it.
///
/// # Errors
/// `Locked`, `Newer`, `Corrupt`, `Io`.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    config: EmbeddedConfig,
    env: Env,
    background: bool,
) -> FaultResult<(Arc<Engine>, Group<Leader>)> {
    config.validate()?;
    let lock = lock(&storage)?;
    refuse_unfinished_backup(&storage)?;
    let mut manifest = match Manifest::load(&storage)? {
        Some(manifest) => manifest,
        None => create(&storage, &env)?,
    };
    create_directories(&storage)?;
    let (segments, lost) = open_segments(&storage, &mut manifest.segments)?;
    let options = WalOptions { file_bytes: config.log_file_bytes, max_spares: MAX_SPARE_FILES };
    let mut generations = vec![Arc::new(Generation::new(manifest.sealed))];
    let recovered = wal::recover(&storage, options, manifest.sealed, |position, payload| {
        let batch = Batch::read(payload, position);
        let batch = batch.ok_or_else(|| Fault::corrupt(wal::DIRECTORY, position, "a batch of the log"))?;
        let full = generations
            .last()
            .filter(|active| active.rows() >= config.seal_events || active.bytes() >= config.seal_bytes);
        if full.is_some() {
            generations.push(Arc::new(Generation::new(position)));
        }
        if let Some(active) = generations.last() {
            active.publish(vec![batch]);
        }
        Ok(())
    })?;
    remove_orphans(&storage, &manifest)?;

    let end = recovered.wal.position();
    let hasher = IdHasher::new(manifest.hash_key);
    let engine = Arc::new(Engine {
        cache: Arc::new(Cache::new(config.cache_bytes)),
        spares: recovered.wal.spares(),
        reserve: Reserve::open(&storage, config.log_file_bytes),
        storage,
        config,
        env,
        hasher,
        truncated_bytes: recovered.truncated_bytes,
        slow_append_at: Mutex::new(None),
        view: RwLock::new(Arc::new(View { segments, lost, generations })),
        sealed: AtomicU64::new(manifest.sealed),
        manifest: Mutex::new(manifest),
        rewriting: Mutex::new(()),
        ends: std::array::from_fn(|_| AtomicU64::new(end)),
        arrivals: std::array::from_fn(|_| Signal::default()),
        work: Mutex::new(Work { seal: true, compact: true, prepare: true, ..Work::default() }),
        work_changed: Condvar::new(),
        closed: AtomicBool::new(false),
        poisoned: AtomicBool::new(false),
        background,
        lock: Mutex::new(Some(lock)),
    });
    let queue_bytes = engine.config.queue_bytes;
    let group_bytes = usize::try_from(engine.config.log_file_bytes / FILE_GROUPS).unwrap_or(usize::MAX);
    let mut leader = Leader::new(Arc::clone(&engine), recovered.wal);
    if leader.wal.files() > MANY_LOG_FILES {
        leader.freeze();
    }
    Ok((engine, Group::new(leader, queue_bytes, group_bytes)))
}

/// Keeps other processes out of a folder.
pub(super) type Guard = Box<dyn std::fmt::Debug + Send + Sync>;

/// Makes the folder unless it is there, and takes its lock.
pub(super) fn lock(storage: &Arc<dyn Storage>) -> FaultResult<Guard> {
    storage.create_dir("").map_err(|source| Fault::io("create", "", source))?;
    match storage.lock(LOCK).map_err(|source| Fault::io("lock", LOCK, source))? {
        Lock::Held(guard) => Ok(guard),
        Lock::Taken(pid) => Err(Fault::Locked { pid }),
    }
}

/// Makes the sub-folders.
pub(super) fn create_directories(storage: &Arc<dyn Storage>) -> FaultResult<()> {
    for directory in [wal::DIRECTORY, segment::DIRECTORY] {
        storage.create_dir(directory).map_err(|source| Fault::io("create", directory, source))?;
    }
    Ok(())
}

fn refuse_unfinished_backup(storage: &Arc<dyn Storage>) -> FaultResult<()> {
    match storage.open(UNFINISHED, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io("open", UNFINISHED, error)),
        Ok(_) => Err(Fault::corrupt(
            UNFINISHED,
            0,
            "the folder holds a backup that was not finished: remove it and make it again",
        )),
    }
}

fn create(storage: &Arc<dyn Storage>, env: &Env) -> FaultResult<Manifest> {
    // A log or a segment without a manifest was not left by a crash: the manifest comes first. It must not be taken for an orphan.
    for (directory, ending) in [(wal::DIRECTORY, ".wal"), (segment::DIRECTORY, ".seg")] {
        if storage.list(directory).is_ok_and(|names| names.iter().any(|name| name.ends_with(ending))) {
            let missing = "the manifest is missing: restore it, or the whole folder, from a backup";
            return Err(Fault::corrupt(manifest::NAME, 0, missing));
        }
    }
    let manifest = Manifest::new(env.random_bytes()?);
    manifest.store(storage)?;
    Ok(manifest)
}

/// Removes segment files that no manifest names: a crash left them before they existed.
fn remove_orphans(storage: &Arc<dyn Storage>, manifest: &Manifest) -> FaultResult<()> {
    let listed = storage.list(segment::DIRECTORY);
    for name in listed.map_err(|source| Fault::io("list", segment::DIRECTORY, source))? {
        let path = format!("{}/{name}", segment::DIRECTORY);
        if name.ends_with(".seg") && !manifest.segments.iter().any(|entry| entry.file() == path) {
            storage.remove(&path).map_err(|source| Fault::io("remove", &path, source))?;
        }
    }
    Ok(())
}
