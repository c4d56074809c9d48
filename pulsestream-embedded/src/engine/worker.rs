//! The threads of the store, and what wakes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::{Engine, Leader, held};
use crate::error::{Fault, FaultResult};
use crate::wal::Group;

/// After a failure, for example a full disk, the work is tried again this often.
const RETRY: Duration = Duration::from_millis(500);

/// Merging no longer waits for appends and sealing when there are so many segments.
const MANY_SEGMENTS: usize = 64;

/// Appends are busy while so many events come in this time.
const BUSY_EVENTS: u64 = 1_000;
const BUSY_TIME: Duration = Duration::from_millis(20);

/// How fast the log grows.
#[derive(Debug)]
pub(super) struct Pace {
    at: Duration,
    position: u64,
    is_busy: bool,
}

impl Pace {
    pub(super) fn start(engine: &Engine) -> Self {
        Self { at: engine.env.monotonic(), position: engine.view().end(), is_busy: false }
    }

    /// Returns whether many events came since the last look; looks in between get the same answer.
    fn is_busy(&mut self, now: Duration, position: u64) -> bool {
        let elapsed = now.saturating_sub(self.at);
        if elapsed >= BUSY_TIME {
            let came = u128::from(position.saturating_sub(self.position));
            self.is_busy = came * BUSY_TIME.as_micros() > u128::from(BUSY_EVENTS) * elapsed.as_micros();
            (self.at, self.position) = (now, position);
        }
        self.is_busy
    }
}

/// Threads that live as long as the store.
#[derive(Debug, Default)]
pub(crate) struct Workers(Mutex<Vec<JoinHandle<()>>>);

impl Workers {
    /// Starts the threads: one that commits what nobody leads, one that makes log files ahead, one that seals (with
    /// a second one for as long as that takes), one that compacts.
    ///
    /// # Errors
    /// `Io` when the operating system gives no thread.
    pub(crate) fn start(engine: &Arc<Engine>, group: &Group<Leader>) -> FaultResult<Self> {
        let workers = Self::default();
        let server = group.clone();
        workers.spawn("pulsestream-log", move || server.serve())?;
        let shared = Arc::clone(engine);
        workers.spawn("pulsestream-log-files", move || {
            shared.work_on(
                |work| std::mem::take(&mut work.prepare),
                || {
                    shared.prepare_log_files();
                    Ok(())
                },
            );
        })?;
        let (shared, sealer) = (Arc::clone(engine), group.clone());
        workers.spawn("pulsestream-seal", move || {
            shared.work_on(|work| std::mem::take(&mut work.seal), || shared.seal_all(&sealer));
        })?;
        let shared = Arc::clone(engine);
        workers.spawn("pulsestream-compact", move || {
            shared.work_on(|work| std::mem::take(&mut work.compact), || shared.compact_all());
        })?;
        Ok(workers)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> FaultResult<()> {
        let thread = Builder::new().name(name.to_owned()).spawn(run);
        held(&self.0).push(thread.map_err(|source| Fault::io("start a thread", name, source))?);
        Ok(())
    }

    /// Waits for the threads to end.
    pub(crate) fn join(&self) {
        for thread in std::mem::take(&mut *held(&self.0)) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Engine {
    /// Asks for sealing.
    pub(super) fn request_seal(&self) {
        held(&self.work).seal = true;
        self.work_changed.notify_all();
    }

    /// Asks for a look at what could be merged or erased.
    pub(crate) fn request_compaction(&self) {
        held(&self.work).compact = true;
        self.work_changed.notify_all();
    }

    /// Asks for log files to be made ahead of their use.
    pub(super) fn request_log_files(&self) {
        held(&self.work).prepare = true;
        self.work_changed.notify_all();
    }

    /// Without one the next append that needs a file makes it, and reports what fails.
    fn prepare_log_files(&self) {
        if !self.is_poisoned()
            && let Err(fault) = self.spares.prepare()
        {
            tracing::debug!(%fault, "no log file was made ahead");
        }
    }

    /// Tells waiting appends that a generation was sealed.
    pub(super) fn made_room(&self) {
        drop(held(&self.work));
        self.work_changed.notify_all();
    }

    /// Ends the threads after what they do now.
    pub(crate) fn stop(&self) {
        held(&self.work).stop = true;
        self.work_changed.notify_all();
    }

    /// Waits while many events come or wait for sealing, so that merging does not take the processor and the disk from them; returns
    /// whether the threads were told to end. Merging goes on when so many segments have gathered that questions get slow, and when
    /// sealing fails: it may make the room that sealing needs.
    pub(super) fn let_appends_go_first(&self, pace: &mut Pace) -> bool {
        let mut work = held(&self.work);
        loop {
            let view = self.view();
            let must = view.segments.len() >= MANY_SEGMENTS || work.last_error.is_some();
            let is_quiet = view.frozen() == 0 && !pace.is_busy(self.env.monotonic(), view.end());
            if work.stop || must || is_quiet || !self.background {
                return work.stop;
            }
            let waited = self.work_changed.wait_timeout(work, BUSY_TIME);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the threads were told to end.
    pub(super) fn is_stopping(&self) -> bool {
        held(&self.work).stop
    }

    fn work_on(
        &self,
        mut take: impl FnMut(&mut super::Work) -> bool,
        mut run: impl FnMut() -> FaultResult<()>,
    ) {
        let mut failed = false;
        loop {
            {
                let mut work = held(&self.work);
                while !take(&mut work) && !work.stop {
                    if failed {
                        let (woken, _) = self
                            .work_changed
                            .wait_timeout(work, RETRY)
                            .unwrap_or_else(PoisonError::into_inner);
                        work = woken;
                        break;
                    }
                    work = self.work_changed.wait(work).unwrap_or_else(PoisonError::into_inner);
                }
                if work.stop {
                    return;
                }
            }
            let outcome = run();
            let mut work = held(&self.work);
            match outcome {
                Ok(()) if failed => work.last_error = None,
                Ok(()) => {}
                Err(Fault::Closed) => return,
                Err(fault) => {
                    tracing::warn!(%fault, "maintenance of the store failed");
                    work.last_error = Some(fault);
                }
            }
            failed = work.last_error.is_some();
            drop(work);
            self.work_changed.notify_all();
        }
    }
}
