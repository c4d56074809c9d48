//! Turns for those whose transactions were overtaken: while they wait for each other they compete with newcomers only.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A queue in which the first has the turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Option<Waker>>,
}

impl Turns {
    /// Joins the queue; the turn comes with [`Turn::comes`], and the next one's comes when this is dropped.
    pub(super) fn join(&self) -> Turn {
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, None);
        Turn { turns: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    number: u64,
}

impl Turn {
    /// Completes when all who came before are done.
    pub(super) async fn comes(&self) {
        poll_fn(|context| {
            let mut queue = self.turns.lock();
            if queue.waiting.first_key_value().is_none_or(|(first, _)| *first == self.number) {
                return Poll::Ready(());
            }
            queue.waiting.insert(self.number, Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.turns.lock();
            queue.waiting.remove(&self.number);
            queue.waiting.first_entry().and_then(|mut first| first.get_mut().take())
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn turns_come_in_the_order_of_joining_also_when_somebody_leaves() {
        let turns = Turns::default();
        let (first, second, third) = (turns.join(), turns.join(), turns.join());
        let mut context = Context::from_waker(Waker::noop());
        let mut comes = |turn: &Turn| pin!(turn.comes()).as_mut().poll(&mut context).is_ready();
        assert_eq!([comes(&first), comes(&second), comes(&third)], [true, false, false]);
        drop(second);
        assert!(!comes(&third));
        drop(first);
        assert!(comes(&third));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_has_the_turn_and_nobody_is_forgotten() {
        let (turns, inside) = (Turns::default(), Arc::new(std::sync::atomic::AtomicU32::new(0)));
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (turns, inside) = (turns.clone(), inside.clone());
                tokio::spawn(async move {
                    let turn = turns.join();
                    turn.comes().await;
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
