//! A few threads that answer large questions, so that they do not block the caller's executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{Builder, JoinHandle};

use pulsestream_core::{Error, ErrorKind};

use crate::error::{Fault, FaultResult};

type Job = Box<dyn FnOnce() + Send>;

/// Threads that start with the first job.
pub(crate) struct Pool {
    threads: usize,
    state: Mutex<Option<Running>>,
}

struct Running {
    jobs: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads).finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Creates a pool of so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, state: Mutex::new(None) }
    }

    /// Runs `job` on a thread of the pool. Dropping the future does not stop the job.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<Answer<T>> {
        let slot = Arc::new(Mutex::new(Slot { outcome: None, waker: None }));
        let filler = Filler(Arc::clone(&slot));
        let mut state = held(&self.state);
        if state.is_none() {
            *state = Some(self.start()?);
        }
        let Some(running) = state.as_ref() else { return Err(Fault::Closed) };
        let run: Job = Box::new(move || {
            let outcome = job();
            filler.fill(outcome);
        });
        running.jobs.send(run).map_err(|_| Fault::Closed)?;
        Ok(Answer(slot))
    }

    /// Ends the threads after the jobs that wait.
    pub(crate) fn close(&self) {
        let running = held(&self.state).take();
        let Some(Running { jobs, threads }) = running else { return };
        drop(jobs);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a query thread panicked");
            }
        }
    }

    fn start(&self) -> FaultResult<Running> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::with_capacity(self.threads);
        for _ in 0..self.threads {
            let queue = Arc::clone(&queue);
            let thread = Builder::new().name("pulsestream-query".to_owned()).spawn(move || serve(&queue));
            threads.push(thread.map_err(|source| Fault::io("start a thread", "pulsestream-query", source))?);
        }
        Ok(Running { jobs, threads })
    }
}

fn serve(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = held(queue).recv();
        let Ok(job) = job else { return };
        // A panic ends the question, not the thread; its filler tells the caller.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!("a question panicked");
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
pub(crate) struct Answer<T>(Arc<Mutex<Slot<T>>>);

impl<T> Future for Answer<T> {
    type Output = FaultResult<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = held(&self.0);
        match slot.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
