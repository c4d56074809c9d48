//! The state of an open store and the threads that maintain it.

mod append;
mod backup;
mod compact;
mod delete;
mod lost;
mod open;
mod reserve;
mod seal;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{Impairment, PARTITIONS, Partition};

pub(crate) use append::{Job, Leader};
pub(crate) use lost::Lost;
pub(crate) use open::open;
pub(crate) use worker::Workers;

use self::reserve::Reserve;
use crate::cache::{Cache, FILTERS_DO_NOT_FIT, RAISE_CACHE_BYTES};
use crate::config::EmbeddedConfig;
use crate::error::{Fault, FaultResult};
use crate::hot::Generation;
use crate::manifest::Manifest;
use crate::part::Part;
use crate::question::Question;
use crate::segment::{IdHasher, Segment};
use crate::signal::Signal;
use crate::storage::Storage;
use crate::wal::Spares;

/// Generations that may wait to be sealed before appends wait too.
const MAX_FROZEN: usize = 2;

/// For how long it is said that appends read fingerprints from the disk after the last one did.
const SLOW_APPENDS_SHOWN: Duration = Duration::from_secs(300);

/// An open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) config: EmbeddedConfig,
    pub(crate) env: Env,
    pub(crate) cache: Arc<Cache>,
    pub(crate) hasher: IdHasher,
    /// Bytes of a torn tail that recovery cut.
    pub(crate) truncated_bytes: u64,
    view: RwLock<Arc<View>>,
    manifest: Mutex<Manifest>,
    /// Everything before this position is in segments.
    sealed: AtomicU64,
    reserve: Reserve,
    /// Log files that wait to be used.
    spares: Arc<Spares>,
    /// Whoever rewrites or deletes rows of segments holds it; sealing does not.
    rewriting: Mutex<()>,
    /// Position after the last visible event of each partition.
    ends: [AtomicU64; PARTITIONS as usize],
    pub(crate) arrivals: [Signal; PARTITIONS as usize],
    work: Mutex<Work>,
    work_changed: Condvar,
    closed: AtomicBool,
    poisoned: AtomicBool,
    /// When an append last read fingerprints that the cache cannot keep.
    slow_append_at: Mutex<Option<Duration>>,
    /// Whether threads of the store maintain it; tests maintain it themselves.
    background: bool,
    lock: Mutex<Option<Box<dyn std::fmt::Debug + Send + Sync>>>,
}

/// What queries read: consistent, and unchanged while they hold it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// In the order of their positions.
    pub(crate) segments: Vec<Segment>,
    /// Segments that exist and cannot be opened.
    pub(crate) lost: Vec<Arc<Lost>>,
    /// Oldest first; the last one takes appends.
    pub(crate) generations: Vec<Arc<Generation>>,
}

/// What the threads of the store have to do.
#[derive(Debug, Default)]
struct Work {
    seal: bool,
    compact: bool,
    /// Whether log files are to be made ahead of their use.
    prepare: bool,
    stop: bool,
    last_error: Option<Fault>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Returns what is there now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns all parts that hold events now, to be read for a question.
    pub(crate) fn parts(&self, question: &Arc<Question>) -> Vec<Part> {
        self.view().parts(&self.cache, question)
    }

    /// Refuses work on a closed store.
    pub(crate) fn ensure_open(&self) -> FaultResult<()> {
        if self.closed.load(Ordering::Acquire) { Err(Fault::Closed) } else { Ok(()) }
    }

    /// Closes the store for new work; returns whether it was open.
    pub(crate) fn close(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::AcqRel);
        self.arrivals.iter().for_each(Signal::notify);
        was_open
    }

    /// Lets another process open the folder.
    pub(crate) fn unlock(&self) {
        held(&self.lock).take();
    }

    /// Returns whether a failed write made the store read-only.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Returns the last failure of the store's own threads, until they succeed again.
    pub(crate) fn maintenance_error(&self) -> Option<String> {
        held(&self.work).last_error.as_ref().map(ToString::to_string)
    }

    /// Returns what is slow or missing now.
    pub(crate) fn impairments(&self) -> Vec<Impairment> {
        let lost = self.view().lost.clone().into_iter().map(|lost| Impairment {
            code: "segment_lost",
            cause: format!(
                "the segment {} cannot be opened, and questions that need it are refused",
                lost.file
            ),
            remedy: "restore a snapshot, or go on without it: pulsestream doctor --set-aside".to_owned(),
        });
        let failing = self.maintenance_error().map(|error| Impairment {
            code: "maintenance_fails",
            cause: format!("events are not sealed and merged: {error}"),
            remedy: "free the disk, or see to what the cause names; the store tries again".to_owned(),
        });
        let last = *held(&self.slow_append_at);
        let is_slow = last.is_some_and(|at| self.env.monotonic().saturating_sub(at) < SLOW_APPENDS_SHOWN);
        let slow = is_slow.then(|| Impairment {
            code: "fingerprints_do_not_fit",
            cause: FILTERS_DO_NOT_FIT.to_owned(),
            remedy: RAISE_CACHE_BYTES.to_owned(),
        });
        lost.chain(failing).chain(slow).collect()
    }

    /// Remembers that an append read fingerprints which the cache cannot keep.
    fn note_slow_append(&self) {
        *held(&self.slow_append_at) = Some(self.env.monotonic());
    }

    /// Returns the position after the last visible event of a partition.
    pub(crate) fn end_of(&self, partition: Partition) -> u64 {
        self.ends[usize::from(partition.number())].load(Ordering::Acquire)
    }

    fn set_end(&self, partition: Partition, end: u64) {
        self.ends[usize::from(partition.number())].store(end, Ordering::Release);
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Refuses changes after a failed sync.
    fn ensure_writable(&self) -> FaultResult<()> {
        if self.is_poisoned() { Err(Fault::Poisoned) } else { Ok(()) }
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = View::clone(&view);
        change(&mut next);
        *view = Arc::new(next);
    }

    /// Stores a changed manifest; a failed sync poisons the store.
    fn store_manifest(&self, current: &mut Manifest, next: Manifest) -> FaultResult<()> {
        self.ensure_writable()?;
        let stored = next.store(&self.storage);
        if let Err(Fault::SyncFailed { .. }) = &stored {
            self.poison();
        }
        stored?;
        *current = next;
        Ok(())
    }

    /// Removes a file that the manifest does not name; a failure leaves it to the next opening.
    fn remove_file(&self, name: &str) {
        if let Err(error) = self.storage.remove(name) {
            tracing::warn!(file = name, %error, "cannot remove an obsolete file");
        }
    }
}

impl View {
    /// Returns all parts.
    pub(crate) fn parts(&self, cache: &Arc<Cache>, question: &Arc<Question>) -> Vec<Part> {
        let mut parts = Vec::with_capacity(self.segments.len() + 4);
        let part = |rows| Part { rows, cache: Arc::clone(cache), question: Arc::clone(question) };
        for segment in &self.segments {
            parts.push(part(Arc::new(segment.clone())));
        }
        for generation in &self.generations {
            parts.extend(generation.runs(cache).into_iter().map(|run| part(run)));
        }
        parts
    }

    /// Returns about how many events of a tenant there are; fresh ones count for all tenants.
    pub(crate) fn rows_of(&self, tenant: TenantId) -> usize {
        let sealed = self.segments.iter().filter_map(|segment| segment.footer().tenant(tenant));
        let fresh = self.generations.iter().map(|generation| generation.rows());
        sealed.map(|range| range.rows.len()).sum::<usize>() + fresh.sum::<usize>()
    }

    /// Returns the number of events.
    pub(crate) fn events(&self) -> u64 {
        let sealed: u64 = self.segments.iter().map(Segment::live_count).sum();
        let fresh: usize = self.generations.iter().map(|generation| generation.rows()).sum();
        sealed + fresh as u64
    }

    /// Returns the position after the last event.
    fn end(&self) -> u64 {
        self.generations.last().map_or(0, |active| active.end())
    }

    fn frozen(&self) -> usize {
        self.generations.len().saturating_sub(1)
    }
}

/// Says which partition a tenant belongs to, as an index.
fn partition_index(tenant: TenantId) -> usize {
    usize::from(Partition::of(tenant).number())
}
