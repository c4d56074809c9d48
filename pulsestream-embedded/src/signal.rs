//! Waking futures that wait for events, without a runtime.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Futures that wait; what they wait for is asked of a closure, so that a wake-up is never lost and may be spurious.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Signal {
    /// Wakes all; call it after the change, with no lock held.
    pub(crate) fn notify(&self) {
        let wakers = {
            let mut waiters = self.lock();
            if waiters.wakers.is_empty() {
                return;
            }
            std::mem::take(&mut waiters.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Completes with the first answer of `ready`, which is asked at once and after each notification.
    pub(crate) async fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        let mut ticket = Ticket { signal: self, number: None };
        poll_fn(|context| {
            if let Some(answer) = ready() {
                return Poll::Ready(answer);
            }
            ticket.register(context.waker());
            // The change may have come between the question and the registration.
            ready().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the waker out again when the wait is given up.
struct Ticket<'a> {
    signal: &'a Signal,
    number: Option<u64>,
}

impl Ticket<'_> {
    fn register(&mut self, waker: &Waker) {
        let mut waiters = self.signal.lock();
        let number = *self.number.get_or_insert_with(|| {
            waiters.next += 1;
            waiters.next
        });
        waiters.wakers.insert(number, waker.clone());
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.signal.lock().wakers.remove(&number);
        }
    }
}
