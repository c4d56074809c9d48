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

/// The longest a worker sleeps without looking again: bounds what a lost wake-up or a clock that jumped can cost. Those of a process look
/// at the same time, so that what they ask of a server goes there in few statements.
const MAX_IDLE: Duration = Duration::from_secs(1);
/// How often in a row a worker may be woken for nothing before it rests. One wake-up too many is usual: who is told of work may find that
/// it was done in the step before. A rest after it would delay what comes next.
const PATIENCE: u32 = 8;
/// How long it rests then, and until it looks again at what is due and cannot be done yet, so that nothing makes it spin.
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

/// Returns for how long a worker may sleep.
fn idle_until(next_due: Option<Timestamp>, clock: &dyn Clock) -> Duration {
    let since_look = clock.monotonic().as_nanos() % MAX_IDLE.as_nanos();
    let until_look = MAX_IDLE - Duration::from_nanos(u64::try_from(since_look).unwrap_or_default());
    match next_due.map(|due| due.since(clock.now())) {
        None => until_look,
        Some(Duration::ZERO) => REST,
        Some(wait) => wait.min(until_look),
    }
}

async fn run(clock: Arc<dyn Clock>, worker: Arc<dyn Worker>, mut stopped: watch::Receiver<bool>) {
    let mut backoff = FIRST_BACKOFF;
    let (mut is_woken, mut in_vain) = (false, 0);
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
                (backoff, is_woken) = (FIRST_BACKOFF, false);
                tokio::task::yield_now().await;
            }
            Ok(Stepped { progressed, next_due, .. }) => {
                backoff = FIRST_BACKOFF;
                in_vain = if is_woken && !progressed { in_vain + 1 } else { 0 };
                if in_vain > PATIENCE {
                    tokio::time::sleep(REST).await;
                }
                is_woken = tokio::select! {
                    _ = stopped.changed() => false,
                    _ = worker.wait() => true,
                    () = tokio::time::sleep(idle_until(next_due, &*clock)) => false,
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use pulsestream_core::env::ManualClock;
    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// Progresses as often as it was told; its waits end at once, or when it is told.
    #[derive(Debug)]
    struct Counting {
        steps: AtomicU32,
        work: AtomicU32,
        wake: Option<Notify>,
        done: mpsc::UnboundedSender<tokio::time::Instant>,
    }

    #[async_trait]
    impl Worker for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        async fn step(&self) -> Result<Stepped> {
            self.steps.fetch_add(1, Ordering::Relaxed);
            let progressed = self.work.swap(0, Ordering::Relaxed) > 0;
            if progressed {
                self.done.send(tokio::time::Instant::now()).unwrap();
            }
            Ok(Stepped { progressed, ..Stepped::default() })
        }

        async fn wait(&self) -> Result<()> {
            match &self.wake {
                Some(wake) => wake.notified().await,
                None => tokio::task::yield_now().await,
            }
            Ok(())
        }

        async fn stop(&self) -> Result<()> {
            Ok(())
        }
    }

    fn started(
        wake: Option<Notify>,
    ) -> (Arc<Counting>, Background, mpsc::UnboundedReceiver<tokio::time::Instant>) {
        let (done, is_done) = mpsc::unbounded_channel();
        let worker = Arc::new(Counting { steps: AtomicU32::new(0), work: AtomicU32::new(0), wake, done });
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let background = Background::start(&clock, vec![worker.clone()]);
        (worker, background, is_done)
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_woken_all_the_time_does_not_spin() {
        let (worker, background, _done) = started(None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        background.stop().await;
        let steps = worker.steps.load(Ordering::Relaxed);
        assert!((50..=120).contains(&steps), "{steps}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_worker_looks_again_once_a_second() {
        let (worker, background, _done) = started(Some(Notify::new()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        background.stop().await;
        let steps = worker.steps.load(Ordering::Relaxed);
        assert!((10..=12).contains(&steps), "{steps}");
    }

    #[test]
    fn workers_of_a_process_look_at_the_same_time() {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let second = Duration::from_secs(1);
        assert_eq!(idle_until(None, &clock), second);
        clock.advance(Duration::from_millis(7_300));
        assert_eq!(idle_until(None, &clock), Duration::from_millis(700));
        assert_eq!(idle_until(Some(clock.now().plus(second)), &clock), Duration::from_millis(700));
        assert_eq!(
            idle_until(Some(clock.now().plus(REST * 2)), &clock),
            REST * 2,
            "what is due is not put off"
        );
        assert_eq!(idle_until(Some(clock.now()), &clock), REST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_in_vain_does_not_delay_what_comes_next() {
        let (worker, background, mut done) = started(Some(Notify::new()));
        let wake = worker.wake.as_ref().unwrap();
        for _ in 0..100 {
            wake.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let told_at = tokio::time::Instant::now();
            worker.work.store(1, Ordering::Relaxed);
            wake.notify_one();
            assert_eq!(done.recv().await.unwrap(), told_at, "it is done without time passing");
        }
        background.stop().await;
    }
}
