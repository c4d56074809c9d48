//! What every [`LiveBus`] promises, case by case.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, concurrently, fresh_tenant};
use crate::id::TenantId;
use crate::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription, LiveTopic};

/// What the suite needs to know about a live bus.
#[async_trait]
pub trait LiveBusHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a bus whose receivers may fall behind by [`capacity`](Self::capacity) messages.
    async fn open(&self) -> Arc<dyn LiveBus>;

    /// Returns by how many messages a receiver may fall behind before it loses some.
    fn capacity(&self) -> usize {
        16
    }

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

#[derive(Debug, Clone)]
struct Probe {
    harness: Arc<dyn LiveBusHarness>,
    bus: Arc<dyn LiveBus>,
    tenant: TenantId,
}

impl Probe {
    async fn open(harness: Arc<dyn LiveBusHarness>) -> Self {
        Self { bus: harness.open().await, tenant: fresh_tenant(), harness }
    }

    async fn publish(&self, tenant: TenantId, numbers: std::ops::Range<usize>) {
        let messages = numbers.map(message).collect();
        self.bus.publish(tenant, messages).await.expect("publish succeeds");
    }

    async fn subscribe(&self, tenant: TenantId) -> Box<dyn LiveSubscription> {
        self.bus.subscribe(tenant).await.expect("subscribe succeeds")
    }
}

fn message(number: usize) -> LiveMessage {
    let topic = if number.is_multiple_of(2) { LiveTopic::Event } else { LiveTopic::Alert };
    LiveMessage { topic, body: format!(r#"{{"n":{number},"text":"\u00e9"}}"#).into() }
}

async fn next(subscription: &mut Box<dyn LiveSubscription>) -> LiveMessage {
    subscription.next().await.expect("receiving succeeds").expect("the bus is open")
}

super::suite! {
    $
    /// Lists every promise of a live bus as a test; takes an expression that makes the harness.
    live_bus_conformance, live_bus, LiveBusHarness, Probe,
    [
        self: live_delivers_in_order, live_is_isolated, live_fans_out, live_slow_receiver, live_starts_at_subscription,
            live_counts_subscribers, live_wakes_across_threads, live_without_subscribers;
    ]
}

/// Messages arrive as they were sent, in order.
async fn live_delivers_in_order(probe: Probe) {
    let mut subscription = probe.subscribe(probe.tenant).await;
    probe.publish(probe.tenant, 0..3).await;
    probe.publish(probe.tenant, 3..5).await;
    for number in 0..5 {
        assert_eq!(next(&mut subscription).await, message(number));
    }
    assert_eq!(subscription.missed(), 0);
}

/// Another tenant's messages do not arrive.
async fn live_is_isolated(probe: Probe) {
    let other = fresh_tenant();
    let mut subscription = probe.subscribe(probe.tenant).await;
    probe.publish(other, 0..4).await;
    probe.publish(probe.tenant, 4..5).await;
    assert_eq!(next(&mut subscription).await, message(4), "the first that arrives is the own");
}

/// Every subscriber gets every message.
async fn live_fans_out(probe: Probe) {
    let mut first = probe.subscribe(probe.tenant).await;
    let mut second = probe.subscribe(probe.tenant).await;
    probe.publish(probe.tenant, 0..2).await;
    for subscription in [&mut first, &mut second] {
        for number in 0..2 {
            assert_eq!(next(subscription).await, message(number));
        }
    }
}

/// A receiver that falls behind loses the oldest and learns how many; the others lose nothing.
async fn live_slow_receiver(probe: Probe) {
    let capacity = probe.harness.capacity();
    let mut slow = probe.subscribe(probe.tenant).await;
    let mut quick = probe.subscribe(probe.tenant).await;
    let total = capacity + 5;
    for number in 0..total {
        probe.publish(probe.tenant, number..number + 1).await;
        assert_eq!(next(&mut quick).await, message(number));
    }
    assert_eq!(next(&mut slow).await, message(5), "the oldest five are gone");
    assert_eq!(slow.missed(), 5);
    assert_eq!(slow.missed(), 0, "told once");
    for number in 6..total {
        assert_eq!(next(&mut slow).await, message(number));
    }
    assert_eq!(quick.missed(), 0);
}

/// A subscriber gets what is sent from then on.
async fn live_starts_at_subscription(probe: Probe) {
    probe.publish(probe.tenant, 0..3).await;
    let mut subscription = probe.subscribe(probe.tenant).await;
    probe.publish(probe.tenant, 3..4).await;
    assert_eq!(next(&mut subscription).await, message(3));
}

/// Subscribers of a tenant are counted until they are dropped.
async fn live_counts_subscribers(probe: Probe) {
    assert_eq!(probe.bus.subscribers(probe.tenant), 0);
    let first = probe.subscribe(probe.tenant).await;
    let second = probe.subscribe(probe.tenant).await;
    let _other = probe.subscribe(fresh_tenant()).await;
    assert_eq!(probe.bus.subscribers(probe.tenant), 2);
    drop(first);
    assert_eq!(probe.bus.subscribers(probe.tenant), 1);
    drop(second);
    assert_eq!(probe.bus.subscribers(probe.tenant), 0);
}

/// A message from another thread wakes the receiver.
async fn live_wakes_across_threads(probe: Probe) {
    let mut subscription = probe.subscribe(probe.tenant).await;
    let receiver: BoxFuture<'static, ()> = Box::pin(async move {
        for number in 0..10 {
            assert_eq!(next(&mut subscription).await, message(number));
        }
    });
    let sender: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            for number in 0..10 {
                probe.publish(probe.tenant, number..number + 1).await;
            }
        })
    };
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), vec![receiver, sender]).await;
}

/// Messages that nobody waits for, and no messages, are fine.
async fn live_without_subscribers(probe: Probe) {
    probe.publish(probe.tenant, 0..100).await;
    let mut subscription = probe.subscribe(probe.tenant).await;
    probe.publish(probe.tenant, 0..0).await;
    probe.publish(probe.tenant, 7..8).await;
    assert_eq!(next(&mut subscription).await, message(7));
}
