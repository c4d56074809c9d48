//! The live bus in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::signal::Signal;
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription};

/// Fans messages out within this process; each subscriber has a ring that keeps the latest.
///
/// Dropping the bus ends its subscriptions.
#[derive(Debug)]
pub struct MemoryLiveBus {
    ring_messages: usize,
    subscribers: Arc<Subscribers>,
}

type Subscribers = Mutex<HashMap<TenantId, Vec<Arc<Ring>>>>;

#[derive(Debug, Default)]
struct Ring {
    state: Mutex<RingState>,
    arrivals: Signal,
}

#[derive(Debug, Default)]
struct RingState {
    messages: VecDeque<LiveMessage>,
    missed: u64,
    closed: bool,
}

impl MemoryLiveBus {
    /// Creates a bus whose subscribers may fall behind by `ring_messages` messages, at least 1, before they lose the oldest.
    pub fn new(ring_messages: usize) -> Self {
        Self { ring_messages: ring_messages.max(1), subscribers: Arc::default() }
    }
}

impl Default for MemoryLiveBus {
    /// A bus whose subscribers may fall behind by 1,024 messages.
    fn default() -> Self {
        Self::new(1_024)
    }
}

impl Drop for MemoryLiveBus {
    fn drop(&mut self) {
        let rings = std::mem::take(&mut *lock(&self.subscribers));
        for ring in rings.into_values().flatten() {
            lock(&ring.state).closed = true;
            ring.arrivals.notify_all();
        }
    }
}

#[async_trait]
impl LiveBus for MemoryLiveBus {
    async fn publish(&self, tenant: TenantId, messages: Vec<LiveMessage>) -> Result<()> {
        let rings = lock(&self.subscribers).get(&tenant).cloned().unwrap_or_default();
        for ring in rings {
            ring.push(&messages, self.ring_messages);
        }
        Ok(())
    }

    async fn subscribe(&self, tenant: TenantId) -> Result<Box<dyn LiveSubscription>> {
        let ring = Arc::new(Ring::default());
        lock(&self.subscribers).entry(tenant).or_default().push(ring.clone());
        Ok(Box::new(MemorySubscription { tenant, ring, subscribers: self.subscribers.clone() }))
    }

    fn subscribers(&self, tenant: TenantId) -> usize {
        lock(&self.subscribers).get(&tenant).map_or(0, Vec::len)
    }
}

impl Ring {
    fn push(&self, messages: &[LiveMessage], capacity: usize) {
        let mut state = lock(&self.state);
        for message in messages {
            if state.messages.len() == capacity {
                state.messages.pop_front();
                state.missed += 1;
            }
            state.messages.push_back(message.clone());
        }
        drop(state);
        self.arrivals.notify_all();
    }

    /// Returns the next message, `Some(None)` when the bus is closed and everything was read, `None` when there is nothing yet.
    fn pop(&self) -> Option<Option<LiveMessage>> {
        let mut state = lock(&self.state);
        match state.messages.pop_front() {
            Some(message) => Some(Some(message)),
            None => state.closed.then_some(None),
        }
    }
}

/// Receives until it is dropped.
#[derive(Debug)]
struct MemorySubscription {
    tenant: TenantId,
    ring: Arc<Ring>,
    subscribers: Arc<Subscribers>,
}

#[async_trait]
impl LiveSubscription for MemorySubscription {
    async fn next(&mut self) -> Result<Option<LiveMessage>> {
        Ok(self.ring.arrivals.wait_until(|| self.ring.pop()).await)
    }

    fn missed(&mut self) -> u64 {
        std::mem::take(&mut lock(&self.ring.state).missed)
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        let mut subscribers = lock(&self.subscribers);
        if let Some(rings) = subscribers.get_mut(&self.tenant) {
            rings.retain(|ring| !Arc::ptr_eq(ring, &self.ring));
            if rings.is_empty() {
                subscribers.remove(&self.tenant);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::live_bus::LiveTopic;
    use crate::testkit::block_on;

    #[test]
    fn dropping_the_bus_ends_subscriptions_after_what_they_hold() {
        let bus = MemoryLiveBus::new(4);
        let tenant = TenantId::from_name("a");
        block_on(async {
            let mut subscription = bus.subscribe(tenant).await.unwrap();
            let message = LiveMessage { topic: LiveTopic::Event, body: "{}".into() };
            bus.publish(tenant, vec![message.clone()]).await.unwrap();
            drop(bus);
            assert_eq!(subscription.next().await.unwrap(), Some(message));
            assert_eq!(subscription.next().await.unwrap(), None);
            assert_eq!(subscription.next().await.unwrap(), None);
        });
    }
}
