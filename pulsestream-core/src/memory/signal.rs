//! Waking futures that wait for a change, without a runtime.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Wakes everybody who waits. What changed is asked of a closure, so that a wake-up is never lost and may be spurious.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next_key: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Signal {
    /// Wakes all waiting futures; call it after the change, with no lock held.
    pub(crate) fn notify_all(&self) {
        let woken = std::mem::take(&mut self.lock().wakers);
        woken.into_values().for_each(Waker::wake);
    }

    /// Completes with the first answer that `ready` gives; asks at once and after every notification.
    pub(crate) async fn wait_until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        let mut registration = Registration { signal: self, key: None };
        poll_fn(|context| {
            if let Some(answer) = ready() {
                return Poll::Ready(answer);
            }
            registration.renew(context.waker());
            // Asked again: the change may have come between the first question and the registration.
            ready().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the waker back out when the future is dropped, so that abandoned waits hold nothing.
struct Registration<'a> {
    signal: &'a Signal,
    key: Option<u64>,
}

impl Registration<'_> {
    fn renew(&mut self, waker: &Waker) {
        let mut waiting = self.signal.lock();
        let key = *self.key.get_or_insert_with(|| {
            waiting.next_key += 1;
            waiting.next_key
        });
        waiting.wakers.insert(key, waker.clone());
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.signal.lock().wakers.remove(&key);
        }
    }
}
