//! The tasks that call `step` on everything that works in the background.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::env::Clock;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The longest a worker sleeps without looking again: bounds what a lost wake-up or a clock that jumped can cost.
const MAX_IDLE: Duration = Duration::from_secs(1);
/// How long a worker rests that was woken for nothing, so that a store that wakes too often does not make it spin.
const REST: Duration = Duration::from_millis(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// Whether anything was done.
    pub progressed: bool,
    /// Whether there may be more to do at once.
    pub has_more: bool,
    /// When there is something to do next, by the clock.
    pub next_due: Option<Timestamp>,
}

/// Something that works in the background, one step at a time.
#[async_trait]
pub(crate) trait Worker: fmt::Debug + Send + Sync + 'static {
    /// A name for logs.
    fn name(&self) -> &str;

    /// Does what is due.
    async fn step(&self) -> Result<Stepped>;

    /// Completes when there may be something to do; too early is fine.
    async fn wait(&self) -> Result<()>;

    /// Gives back what it holds, so that another node can take over at once.
    async fn stop(&self) -> Result<()>;
}

/// Owns the tasks; stopping waits for each to finish its step.
#[derive(Debug)]
pub(crate) struct Background {
    stop: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Background {
    /// Spawns a task for each worker on the current tokio runtime.
    pub(crate) fn start(clock: &Arc<dyn Clock>, workers: Vec<Arc<dyn Worker>>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(run(clock.clone(), worker, stopped.clone()));
        }
        Self { stop, tasks: tokio::sync::Mutex::new(tasks) }
    }

    /// Stops all tasks, each after the step it is in.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}

async fn run(clock: Arc<dyn Clock>, worker: Arc<dyn Worker>, mut stopped: watch::Receiver<bool>) {
    let mut backoff = FIRST_BACKOFF;
    let mut woken = false;
    while !*stopped.borrow() {
        // A panic in a rule, a template or a custom backend ends this step, not the worker.
        let step = {
            let worker = worker.clone();
            tokio::spawn(async move { worker.step().await })
        };
        let outcome = step.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "background.step", "a step panicked").with_source(error))
        });
        match outcome {
            Ok(Stepped { has_more: true, .. }) => {
                backoff = FIRST_BACKOFF;
                tokio::task::yield_now().await;
            }
            Ok(Stepped { progressed, next_due, .. }) => {
                backoff = FIRST_BACKOFF;
                if woken && !progressed {
                    tokio::time::sleep(REST).await;
                }
                let idle = next_due.map_or(MAX_IDLE, |due| due.since(clock.now()).clamp(REST, MAX_IDLE));
                woken = tokio::select! {
                    _ = stopped.changed() => false,
                    _ = worker.wait() => true,
                    () = tokio::time::sleep(idle) => false,
                };
            }
            Err(error) if error.kind() == ErrorKind::Closed => break,
            Err(error) => {
                let pause = error.retry_after().unwrap_or(backoff).min(MAX_BACKOFF);
                tracing::warn!(worker = worker.name(), %error, pause_ms = pause.as_millis(), "background step failed");
                backoff = (backoff * 2).min(MAX_BACKOFF);
                tokio::select! {
                    _ = stopped.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
    if let Err(error) = worker.stop().await
        && error.kind() != ErrorKind::Closed
    {
        tracing::warn!(worker = worker.name(), %error, "worker did not stop cleanly");
    }
}
