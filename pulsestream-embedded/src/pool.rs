//! A few threads that answer large questions, so that they do not block the caller's executor.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{Builder, JoinHandle};

use pulsestream_core::{Error, ErrorKind};

use crate::crew::Crew;
use crate::error::{Fault, FaultResult};
use crate::question::Question;

/// Threads that start with the first job, and the jobs that wait for them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    /// What the queue is called in errors, and the setting that bounds it.
    queue: &'static str,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of a pool share.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    max_waiting: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Threads with nothing to do.
    idle: usize,
    is_started: bool,
    is_closed: bool,
}

struct Job {
    /// Whoever gives up waiting makes room for others.
    question: Option<Arc<Question>>,
    run: Box<dyn FnOnce() + Send>,
}

impl Job {
    fn is_given_up(&self) -> bool {
        self.question.as_ref().is_some_and(|question| question.is_given_up())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("queue", &self.queue)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Creates a pool of so many threads, for which up to `max_waiting` jobs may wait. `queue` names the setting of that limit, or
    /// the queue where there is none.
    pub(crate) fn new(queue: &'static str, threads: usize, max_waiting: usize) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self {
            shared: Arc::new(Shared { state, changed, max_waiting }),
            threads,
            queue,
            handles: Mutex::default(),
        }
    }

    /// Runs `job` on a thread of the pool. Dropping the future does not stop the job.
    ///
    /// # Errors
    /// `Full` when too many wait, `Closed`, and those of starting threads.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<Answer<T>> {
        self.submit(None, job)
    }

    /// Answers a question on a thread of the pool. Dropping the future gives the question up: a job that waits leaves the queue, one
    /// that runs ends at its next block.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: Arc<Question>,
        job: impl FnOnce() -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<Answer<T>> {
        let asked = Arc::clone(&question);
        self.submit(Some(question), move || asked.proceed().and_then(|()| job()))
    }

    fn submit<T: Send + 'static>(
        &self,
        question: Option<Arc<Question>>,
        job: impl FnOnce() -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<Answer<T>> {
        let slot = Arc::new(Mutex::new(Slot { outcome: None, waker: None }));
        let filler = Filler(Arc::clone(&slot));
        let run: Box<dyn FnOnce() + Send> = Box::new(move || {
            let outcome = job();
            filler.fill(outcome);
        });
        let mut state = held(&self.shared.state);
        if state.is_closed {
            return Err(Fault::Closed);
        }
        if !state.is_started {
            self.start()?;
            state.is_started = true;
        }
        let mut given_up = VecDeque::new();
        if state.waiting.len() >= self.shared.max_waiting {
            let (gone, waiting) = state.waiting.drain(..).partition(Job::is_given_up);
            (given_up, state.waiting) = (gone, waiting);
        }
        let is_full = state.waiting.len() >= self.shared.max_waiting;
        if !is_full {
            state.waiting.push_back(Job { question: question.clone(), run });
        }
        drop(state);
        drop(given_up);
        if is_full {
            return Err(Fault::Full { queue: self.queue });
        }
        self.shared.changed.notify_one();
        Ok(Answer { slot, question })
    }

    /// Returns the threads of the pool as a crew for one question.
    pub(crate) fn crew(&self) -> Crew {
        Crew::of(Arc::downgrade(&self.shared), self.threads)
    }

    /// Returns how many jobs wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        held(&self.shared.state).waiting.len()
    }

    /// Waits until so many threads have nothing to do.
    #[cfg(test)]
    pub(crate) fn wait_until_idle(&self, threads: usize) {
        while held(&self.shared.state).idle < threads {
            std::thread::yield_now();
        }
    }

    /// Ends the threads after the jobs that wait.
    pub(crate) fn close(&self) {
        held(&self.shared.state).is_closed = true;
        self.shared.changed.notify_all();
        let handles = std::mem::take(&mut *held(&self.handles));
        for thread in handles {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }

    fn start(&self) -> FaultResult<()> {
        let mut handles = held(&self.handles);
        // What an earlier attempt could start is kept.
        while handles.len() < self.threads {
            let shared = Arc::clone(&self.shared);
            let thread = Builder::new().name("pulsestream-query".to_owned()).spawn(move || shared.serve());
            handles.push(thread.map_err(|source| Fault::io("start a thread", "pulsestream-query", source))?);
        }
        Ok(())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("max_waiting", &self.max_waiting).finish_non_exhaustive()
    }
}

impl Shared {
    /// Gives work to idle threads, as many as there are and at most `most`: before the jobs that wait, for a question that has begun.
    pub(crate) fn help(&self, most: usize, mut work: impl FnMut() -> Box<dyn FnOnce() + Send>) {
        let mut state = held(&self.state);
        let free = state.idle.saturating_sub(state.waiting.len()).min(most);
        for _ in 0..free {
            state.waiting.push_front(Job { question: None, run: work() });
        }
        drop(state);
        for _ in 0..free {
            self.changed.notify_one();
        }
    }

    fn serve(&self) {
        while let Some(job) = self.next() {
            // A panic ends the question, not the thread; its filler tells the caller.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job.run)).is_err() {
                tracing::error!("a question panicked");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = held(&self.state);
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    outcome: Option<FaultResult<T>>,
    waker: Option<Waker>,
}

/// Gives the answer, also when the job panicked.
struct Filler<T>(Arc<Mutex<Slot<T>>>);

impl<T> Filler<T> {
    fn fill(&self, outcome: FaultResult<T>) {
        let waker = {
            let mut slot = held(&self.0);
            if slot.outcome.is_some() {
                return;
            }
            slot.outcome = Some(outcome);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        let slot = held(&self.0);
        let is_filled = slot.outcome.is_some() || Arc::strong_count(&self.0) == 1;
        drop(slot);
        if !is_filled {
            self.fill(Err(Error::new(
                ErrorKind::Internal,
                "embedded.query",
                "the query stopped unexpectedly",
            )
            .into()));
        }
    }
}

/// Resolves to the outcome of a job.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    slot: Arc<Mutex<Slot<T>>>,
    question: Option<Arc<Question>>,
}

impl<T> Future for Answer<T> {
    type Output = FaultResult<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = held(&self.slot);
        match slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(question) = &self.question {
            question.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use pulsestream_core::env::Env;
    use pulsestream_core::testkit::block_on;

    use super::*;
    use crate::config::EmbeddedConfig;
    use crate::question::Desk;

    /// A pool whose only thread is busy until the sender is dropped.
    fn busy(max_waiting: usize) -> (Pool, std::sync::mpsc::Sender<()>) {
        let pool = Pool::new("query_queue", 1, max_waiting);
        let (release, released) = channel::<()>();
        let (started, has_started) = channel();
        drop(pool.run(move || {
            started.send(()).ok();
            released.recv().ok();
            Ok(())
        }));
        has_started.recv().unwrap();
        (pool, release)
    }

    #[test]
    fn a_full_queue_refuses_and_every_accepted_job_is_answered() {
        let (pool, release) = busy(2);
        let accepted = [pool.run(|| Ok(1)).unwrap(), pool.run(|| Ok(2)).unwrap()];
        assert!(matches!(pool.run(|| Ok(3)), Err(Fault::Full { queue: "query_queue" })));
        assert_eq!(pool.waiting(), 2);
        drop(release);
        assert_eq!(accepted.map(|answer| block_on(answer).unwrap()), [1, 2]);
        assert_eq!(block_on(pool.run(|| Ok(3)).unwrap()).unwrap(), 3);
        pool.close();
        assert!(matches!(pool.run(|| Ok(4)), Err(Fault::Closed)));
    }

    #[test]
    fn given_up_questions_make_room_and_are_never_begun() {
        let desk = Desk::new(Env::system(), &EmbeddedConfig::default());
        let (pool, release) = busy(1);
        let (began, has_begun) = channel();
        let given_up = pool.ask(desk.take(), move || {
            began.send(()).ok();
            Ok(())
        });
        drop(given_up.unwrap());
        let next = pool.ask(desk.take(), || Ok(5)).unwrap();
        drop(release);
        assert_eq!(block_on(next).unwrap(), 5);
        assert!(has_begun.recv().is_err());
        pool.close();
    }

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let pool = Pool::new("query_queue", 1, 8);
        let panicking = pool.run(|| -> FaultResult<()> { panic!("as a test") }).unwrap();
        assert!(block_on(panicking).is_err());
        assert_eq!(block_on(pool.run(|| Ok(6)).unwrap()).unwrap(), 6);
        pool.close();
    }
}
