//! How many requests go to one place at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A limit for each key. Keys that nobody uses take no memory.
#[derive(Debug)]
pub(crate) struct Permits<K> {
    limit: usize,
    places: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

/// The right to send; dropping it lets the next one go.
#[derive(Debug)]
pub(crate) struct Permit<K: Eq + Hash> {
    key: Option<K>,
    permit: Option<OwnedSemaphorePermit>,
    semaphore: Option<Arc<Semaphore>>,
    places: Arc<Mutex<HashMap<K, Arc<Semaphore>>>>,
}

impl<K: Eq + Hash + Clone> Permits<K> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, places: Arc::default() }
    }

    /// Waits until fewer than the limit are under way to `key`.
    ///
    /// # Cancel safety
    /// Safe: who stops waiting takes nothing.
    pub(crate) async fn acquire(&self, key: K) -> Permit<K> {
        let semaphore = lock(&self.places)
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.limit)))
            .clone();
        // The guard exists before the wait, so that a waiter that goes away tidies up too.
        let mut guard = Permit {
            key: Some(key),
            permit: None,
            semaphore: Some(semaphore.clone()),
            places: self.places.clone(),
        };
        guard.permit = semaphore.acquire_owned().await.ok();
        guard
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.places).len()
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        self.permit = None;
        self.semaphore = None;
        if let Some(key) = self.key.take()
            && let Entry::Occupied(place) = places.entry(key)
            // Under the lock nobody takes another handle: one that is alone has no user.
            && Arc::strong_count(place.get()) == 1
        {
            place.remove();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn the_limit_holds_for_each_key_and_leaves_nothing_behind() {
        let permits = Permits::new(2);
        let mut context = Context::from_waker(Waker::noop());
        let mut take = |key: &'static str| match pin!(permits.acquire(key)).poll(&mut context) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        };
        let (first, second) = (take("a").unwrap(), take("a").unwrap());
        assert!(take("a").is_none());
        let other = take("b").unwrap();
        drop(first);
        let third = take("a").unwrap();
        assert!(take("a").is_none());
        drop((second, third, other));
        assert_eq!(permits.len(), 0);
    }

    #[test]
    fn a_waiter_that_goes_away_tidies_up() {
        let permits = Permits::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(permits.acquire("a")).poll(&mut context) else { panic!("free") };
        let mut waiter = Box::pin(permits.acquire("a"));
        assert!(waiter.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(permits.len(), 1);
        drop(waiter);
        assert_eq!(permits.len(), 0);
    }
}
