//! The live bus between nodes.

use std::sync::atomic::{AtomicUsize, Ordering};

use pulsestream_core::env::Env;
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription, LiveTopic};
use pulsestream_redis::{RedisConfig, RedisLiveBus, open};
use pulsestream_testtools::{Direction, FaultProxy, eventually_async};

use crate::support::{Scope, tenant};

fn event(number: usize) -> LiveMessage {
    LiveMessage { topic: LiveTopic::Event, body: format!("{{\"number\": {number}}}").into() }
}

async fn next(subscription: &mut Box<dyn LiveSubscription>) -> LiveMessage {
    subscription.next().await.unwrap().unwrap()
}

/// Publishes until a subscriber hears it, which it does once the bus is connected again. What it heard before does not count.
async fn hear(from: &RedisLiveBus, to: &str, subscription: &mut Box<dyn LiveSubscription>) {
    static NEXT: AtomicUsize = AtomicUsize::new(1_000);
    let mark = event(NEXT.fetch_add(1, Ordering::Relaxed));
    let mut is_heard = false;
    eventually_async("messages arrive again", async || {
        from.publish(tenant(to), vec![mark.clone()]).await.unwrap();
        tokio::select! {
            message = subscription.next() => is_heard = message.unwrap().unwrap() == mark,
            () = tokio::task::yield_now() => {}
        }
        is_heard
    })
    .await;
}

#[tokio::test]
async fn messages_reach_every_node_and_no_other_tenant() {
    let Some(scope) = Scope::new() else { return };
    let (first, second) = (scope.open().await, scope.open().await);
    let (here, there) = (first.live_bus(), second.live_bus());
    let mut near = here.subscribe(tenant("a")).await.unwrap();
    let mut far = there.subscribe(tenant("a")).await.unwrap();
    let mut foreign = there.subscribe(tenant("b")).await.unwrap();
    assert_eq!((there.subscribers(tenant("a")), there.subscribers(tenant("c"))), (1, 0));
    let alert = LiveMessage { topic: LiveTopic::Alert, body: "{\"text\": \"caf\u{e9}\"}".into() };
    here.publish(tenant("a"), vec![event(1), alert.clone()]).await.unwrap();
    here.publish(tenant("b"), vec![event(2)]).await.unwrap();
    here.publish(tenant("c"), Vec::new()).await.unwrap();
    for subscription in [&mut near, &mut far] {
        assert_eq!(next(subscription).await, event(1));
        assert_eq!(next(subscription).await, alert);
        assert_eq!(subscription.missed(), 0);
    }
    assert_eq!(next(&mut foreign).await, event(2));
}

#[tokio::test]
async fn a_slow_subscriber_misses_the_oldest_and_a_fast_one_nothing() {
    let Some(mut scope) = Scope::new() else { return };
    scope.config.live.buffer_messages = 10;
    let bus = scope.open().await.live_bus();
    let mut slow = bus.subscribe(tenant("a")).await.unwrap();
    let mut fast = bus.subscribe(tenant("a")).await.unwrap();
    assert_eq!(bus.subscribers(tenant("a")), 2);
    for number in 0..35 {
        bus.publish(tenant("a"), vec![event(number)]).await.unwrap();
        assert_eq!(next(&mut fast).await, event(number));
    }
    assert_eq!((fast.missed(), slow.missed(), slow.missed()), (0, 25, 0));
    for number in 25..35 {
        assert_eq!(next(&mut slow).await, event(number));
    }
}

#[tokio::test]
async fn subscribers_that_leave_are_forgotten_and_one_that_comes_back_is_served() {
    let Some(scope) = Scope::new() else { return };
    let bus = scope.open().await.live_bus();
    let channel = format!("{}:{{{}}}:live", scope.config.key_prefix, tenant("a"));
    let mut raw = scope.raw().await;
    let mut listeners = async || {
        let reply: (String, u32) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(&channel).query_async(&mut raw).await.unwrap();
        reply.1
    };
    let other = bus.subscribe(tenant("b")).await.unwrap();
    for number in 0..20 {
        let mut subscription = bus.subscribe(tenant("a")).await.unwrap();
        bus.publish(tenant("a"), vec![event(number)]).await.unwrap();
        assert_eq!(next(&mut subscription).await, event(number));
    }
    assert_eq!(bus.subscribers(tenant("a")), 0);
    eventually_async("the channel is left", async || listeners().await == 0).await;
    drop(other);
    let mut subscription = bus.subscribe(tenant("a")).await.unwrap();
    bus.publish(tenant("a"), vec![event(1)]).await.unwrap();
    assert_eq!(next(&mut subscription).await, event(1));
    assert_eq!(listeners().await, 1);
}

#[tokio::test]
async fn after_a_lost_connection_it_subscribes_again_and_says_that_something_was_missed() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let near = scope.open().await.live_bus();
    let far = open(scope.through(proxy.address()), Env::system()).await.unwrap().live_bus();
    let mut subscription = far.subscribe(tenant("a")).await.unwrap();
    let mut quiet = far.subscribe(tenant("b")).await.unwrap();
    for _ in 0..3 {
        proxy.reset();
        for subscription in [&mut subscription, &mut quiet] {
            eventually_async("the loss is noticed", async || subscription.missed() > 0).await;
        }
        hear(&near, "a", &mut subscription).await;
    }
    proxy.set_down(true);
    eventually_async("the loss is noticed", async || subscription.missed() > 0).await;
    assert!(far.subscribe(tenant("c")).await.is_err());
    assert_eq!(far.subscribers(tenant("c")), 0);
    proxy.set_down(false);
    hear(&near, "a", &mut subscription).await;
    hear(&near, "b", &mut quiet).await;
}

#[tokio::test]
async fn a_connection_that_went_silent_is_found_out() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let near = scope.open().await.live_bus();
    let mut config = RedisConfig { response_timeout_ms: 100, ..scope.through(proxy.address()) };
    config.live.keepalive_interval_ms = 20;
    let far = open(config, Env::system()).await.unwrap().live_bus();
    let mut subscription = far.subscribe(tenant("a")).await.unwrap();
    proxy.set_stalled(Direction::ToClient, true);
    eventually_async("the loss is noticed", async || subscription.missed() > 0).await;
    proxy.heal();
    hear(&near, "a", &mut subscription).await;
}

#[tokio::test]
async fn a_quiet_connection_that_lives_is_kept() {
    let Some(scope) = Scope::new() else { return };
    let proxy = FaultProxy::start(scope.address()).unwrap();
    let mut config = scope.through(proxy.address());
    config.live.keepalive_interval_ms = 5;
    let bus = open(config, Env::system()).await.unwrap().live_bus();
    let mut subscription = bus.subscribe(tenant("a")).await.unwrap();
    let (sent, accepted) = (proxy.received_bytes(Direction::ToServer), proxy.accepted());
    eventually_async("pings went by", async || proxy.received_bytes(Direction::ToServer) > sent + 200).await;
    assert_eq!((subscription.missed(), proxy.accepted()), (0, accepted));
}

#[tokio::test]
async fn dropping_the_bus_ends_its_subscriptions() {
    let Some(scope) = Scope::new() else { return };
    let backend = scope.open().await;
    let mut subscription = backend.live_bus().subscribe(tenant("a")).await.unwrap();
    backend.live_bus().publish(tenant("a"), vec![event(1)]).await.unwrap();
    assert_eq!(next(&mut subscription).await, event(1));
    let waiting = tokio::spawn(async move { subscription.next().await.unwrap() });
    tokio::task::yield_now().await;
    drop(backend);
    assert_eq!(waiting.await.unwrap(), None);
}
