//! The store as applications hold it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pulsestream_core::Result;
use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::key_value::KeyValue;

use crate::config::EmbeddedConfig;
use crate::engine::{self, Engine, Leader, Workers};
use crate::error::FaultResult;
use crate::key_value::EmbeddedKeyValue;
use crate::manifest;
use crate::pool::Pool;
use crate::query::Interners;
use crate::question::{Desk, Question, Size};
use crate::segment;
use crate::storage::{Folder, Storage};
use crate::wal::{self, Group};

/// Questions about fewer rows than this are answered on the caller's thread: handing them over would take longer.
const SMALL_QUESTION_ROWS: usize = 32_768;

/// Deletions that may wait before more are refused.
const MAX_WAITING_DELETIONS: usize = 1_024;

/// A durable event store in a folder; see the documentation of the crate.
///
/// ```
/// use pulsestream_core::env::Env;
/// use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};
///
/// let folder = tempfile::tempdir()?;
/// let store = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Env::system())?;
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EmbeddedStore {
    pub(crate) engine: Arc<Engine>,
    pub(crate) group: Group<Leader>,
    pub(crate) interners: Arc<Interners>,
    workers: Workers,
    pub(crate) desk: Arc<Desk>,
    /// For deletions: they rewrite files, and wait for no question.
    deletions: Pool,
    pub(crate) key_value: Mutex<Option<Arc<EmbeddedKeyValue>>>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, or creates it there. The folder belongs to this process until the store is closed or dropped.
    ///
    /// # Errors
    /// `StoreLocked` when another process has it open, `Corrupt` when durable data is damaged, `Unsupported` when a newer version
    /// wrote it, `Invalid` for settings out of range, and those of the disk.
    pub fn open(path: impl Into<PathBuf>, config: EmbeddedConfig, env: Env) -> Result<Self> {
        Self::open_in(Arc::new(Folder::new(path)), config, env, true)
            .map_err(|fault| fault.during("embedded.open"))
    }

    /// Returns whether a folder holds a store, for programs that only look into one: opening makes a store where there is none.
    pub fn exists(folder: &Path) -> bool {
        // A store that has lost its manifest has a log or segments: opening it says so.
        [manifest::NAME, wal::DIRECTORY, segment::DIRECTORY].iter().any(|part| folder.join(part).exists())
    }

    /// Opens the store in any storage. Without background threads, sealing and compaction happen in
    /// [`maintain`](Self::maintain) only, so that a test repeats exactly.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    #[cfg(any(test, feature = "sim"))]
    pub fn open_storage(
        storage: Arc<dyn Storage>,
        config: EmbeddedConfig,
        env: Env,
        background: bool,
    ) -> Result<Self> {
        Self::open_in(storage, config, env, background).map_err(|fault| fault.during("embedded.open"))
    }

    fn open_in(
        storage: Arc<dyn Storage>,
        config: EmbeddedConfig,
        env: Env,
        background: bool,
    ) -> FaultResult<Self> {
        let (engine, group) = engine::open(storage, config, env, background)?;
        let workers = if background { Workers::start(&engine, &group)? } else { Workers::default() };
        let desk = Desk::new(engine.env.clone(), &engine.config);
        let deletions = Pool::new("deletions", 1, MAX_WAITING_DELETIONS);
        let key_value = Mutex::new(None);
        Ok(Self { engine, group, interners: Arc::default(), workers, desk, deletions, key_value })
    }

    /// Returns the key-value store for rules, accounts and leases, which lives in the same folder and is closed with this store.
    ///
    /// # Errors
    /// `Corrupt` when its file is damaged, `Closed`, and those of the disk.
    pub fn key_value(&self) -> Result<Arc<dyn KeyValue>> {
        let opened = self.open_key_value().map_err(|fault| fault.during("embedded.key_value"))?;
        Ok(opened)
    }

    pub(crate) fn open_key_value(&self) -> FaultResult<Arc<EmbeddedKeyValue>> {
        let mut key_value = self.key_value.lock().unwrap_or_else(PoisonError::into_inner);
        self.engine.ensure_open()?;
        Ok(match &*key_value {
            Some(store) => Arc::clone(store),
            None => Arc::clone(key_value.insert(Arc::new(EmbeddedKeyValue::open(&self.engine.storage)?))),
        })
    }

    /// Seals everything acknowledged into segments, and merges segments as far as it is worth it.
    ///
    /// # Errors
    /// Those of the disk; nothing acknowledged is lost.
    pub fn maintain(&self) -> Result<()> {
        let run = || {
            self.engine.ensure_open()?;
            self.engine.seal_now(&self.group)?;
            self.engine.compact_all()
        };
        run().map_err(|fault| fault.during("embedded.maintain"))
    }

    /// Goes on without a segment that cannot be opened, which [`verify`](Self::verify) names: questions that needed it are answered
    /// without its events from now on. The file stays under the name that is returned, for whoever can mend it.
    ///
    /// # Errors
    /// `NotFound` when no such segment is lost, and those of the disk.
    pub fn set_aside(&self, file: &str) -> Result<String> {
        let run = || {
            self.engine.ensure_open()?;
            self.engine.set_aside(file)
        };
        run().map_err(|fault| fault.during("embedded.set_aside"))
    }

    /// Returns how many bytes of unacknowledged writes, torn by a power loss, were cut off when the store was opened.
    pub fn recovered_truncated_bytes(&self) -> u64 {
        self.engine.truncated_bytes
    }

    /// Answers a question about a tenant: at once when there is little to look at, else on a thread of the store.
    pub(crate) async fn answer<T: Send + 'static>(
        &self,
        tenant: TenantId,
        otherwise: Size,
        job: impl FnOnce(&Engine, &Arc<Question>) -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<T> {
        self.engine.ensure_open()?;
        let engine = Arc::clone(&self.engine);
        self.desk.answer(self.size_of(tenant, otherwise), move |question| job(&engine, question)).await
    }

    /// Returns the size of a question about a tenant: small when there is little to look at.
    pub(crate) fn size_of(&self, tenant: TenantId, otherwise: Size) -> Size {
        if self.engine.view().rows_of(tenant) <= SMALL_QUESTION_ROWS { Size::Small } else { otherwise }
    }

    /// Deletes on a thread of the store. Dropping the future does not stop it.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &Group<Leader>) -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<T> {
        self.engine.ensure_open()?;
        let (engine, group) = (Arc::clone(&self.engine), self.group.clone());
        self.deletions.run(move || work(&engine, &group))?.await
    }

    /// Ends everything; the first call does, later ones find nothing to do.
    pub(crate) fn shut_down(&self) -> FaultResult<()> {
        self.desk.end_questions();
        if !self.engine.close() {
            return Ok(());
        }
        self.engine.stop();
        self.group.close();
        self.workers.join();
        self.desk.close();
        self.deletions.close();
        if let Some(key_value) = self.key_value.lock().unwrap_or_else(PoisonError::into_inner).take() {
            key_value.shut_down();
        }
        let outcome = if self.engine.is_poisoned() { Ok(()) } else { self.group.leader().wal.mark() };
        self.engine.unlock();
        outcome
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Err(fault) = self.shut_down() {
            tracing::error!(%fault, "closing the store failed");
        }
    }
}
