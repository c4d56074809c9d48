//! Work that would block an async thread, handed to threads of the host's choice.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, ErrorKind, Result};

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads that may block: tokio's `spawn_blocking`, a host's pool, or [`OwnThreads`].
///
/// # Contract
/// - Runs the job on another thread than the caller's, or refuses it: it never runs it in place.
/// - A job that panics takes nothing else down.
pub trait BlockingPool: fmt::Debug + Send + Sync + 'static {
    /// Runs `job` soon.
    ///
    /// # Errors
    /// `Unavailable` when no thread can take it; the job is dropped.
    fn run(&self, job: Job) -> Result<()>;
}

/// A new thread per job; callers bound how many jobs they start, as the password hasher does.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnThreads;

impl BlockingPool for OwnThreads {
    fn run(&self, job: Job) -> Result<()> {
        std::thread::Builder::new().name("pulsestream-hash".to_owned()).spawn(job).map(drop).map_err(
            |error| {
                Error::new(ErrorKind::Unavailable, "blocking.run", "no thread could be started")
                    .with_source(error)
            },
        )
    }
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

/// Creates a channel for one value between a blocking job and the future that waits for it.
pub(crate) fn reply<T>() -> (ReplySender<T>, Reply<T>) {
    let slot = Slot { value: None, waker: None, sender_gone: false, receiver_gone: false };
    let slot = Arc::new(Mutex::new(slot));
    (ReplySender(slot.clone()), Reply(slot))
}

/// The end that answers; dropping it without an answer wakes the other end with nothing.
#[derive(Debug)]
pub(crate) struct ReplySender<T>(Arc<Mutex<Slot<T>>>);

impl<T> ReplySender<T> {
    /// Returns whether nobody waits any more, so that the work can be skipped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).receiver_gone
    }

    /// Answers.
    pub(crate) fn send(self, value: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).value = Some(value);
    }
}

impl<T> Drop for ReplySender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slot.sender_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The end that waits; `None` when the sender went away without an answer.
#[derive(Debug)]
pub(crate) struct Reply<T>(Arc<Mutex<Slot<T>>>);

impl<T> Future for Reply<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Some(value));
        }
        if slot.sender_gone {
            return Poll::Ready(None);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            empty => *empty = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).receiver_gone = true;
    }
}
