//! The dispatcher in virtual time: the whole schedule, channels that are gone, notifiers that panic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::delivery::{
    Dispatcher, DispatcherParts, DispatcherSettings, FAILURE_SPAN, RETRY_DELAYS,
};
use pulsestream_core::alerting::{
    Author, Channel, ChannelConfig, Delivery, DeliveryStatus, Labels, NotificationContent, NotificationKind,
};
use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueOutbox};
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::event::Event;
use pulsestream_core::id::{ChannelId, DeliveryId, TenantId};
use pulsestream_core::memory::{MemoryEventStore, MemoryKeyValue, RecordingNotifier};
use pulsestream_core::ports::alert_store::{AlertStore, PutMode};
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_core::ports::outbox::{DeliveryQuery, Outbox, ReplaySelection};
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);

/// A notifier that panics.
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl Notifier for Panicking {
    fn kind(&self) -> &str {
        "email"
    }

    fn validate(&self, _channel: &Channel) -> Result<()> {
        Ok(())
    }

    async fn deliver(&self, _notification: &Notification) -> DeliveryReport {
        panic!("this notifier is broken")
    }
}

struct World {
    tenant: TenantId,
    env: Env,
    clock: Arc<ManualClock>,
    outbox: Arc<KeyValueOutbox>,
    alerts: Arc<KeyValueAlertStore>,
    events: Arc<MemoryEventStore>,
    /// Of channel `ops`.
    webhook: Arc<RecordingNotifier>,
    /// Of channel `log`.
    log: Arc<RecordingNotifier>,
    parts: DispatcherParts,
    dispatcher: Dispatcher,
}

fn failure() -> DeliveryOutcome {
    DeliveryOutcome::RetryAfter { after: None, error: "503".into() }
}

impl World {
    async fn new() -> Self {
        let (env, clock) = Env::manual(Timestamp::from_seconds(1_767_225_600), 1);
        let store = Arc::new(MemoryKeyValue::new());
        let outbox = Arc::new(KeyValueOutbox::new(store.clone()));
        let alerts = Arc::new(KeyValueAlertStore::new(store));
        let events = Arc::new(MemoryEventStore::new());
        let webhook = Arc::new(RecordingNotifier::new("webhook"));
        let log = Arc::new(RecordingNotifier::new("log"));
        let parts = DispatcherParts {
            outbox: outbox.clone(),
            alerts: alerts.clone(),
            events: events.clone(),
            notifiers: vec![webhook.clone(), log.clone(), Arc::new(Panicking)],
            server_channels: Vec::new(),
            env: env.clone(),
            holder: "a".into(),
        };
        let tenant = TenantId::from_name("shop");
        let hook = ChannelConfig::Webhook {
            url: "https://example.com/hook".into(),
            secrets: Vec::new(),
            headers: Vec::new(),
        };
        let email = ChannelConfig::Email { to: vec!["ann@example.com".into()] };
        for (number, name, config) in
            [(1, "ops", hook), (2, "log", ChannelConfig::Log {}), (3, "mail", email)]
        {
            let channel = Channel::new(ChannelId::from_u128(number), name, config);
            alerts.put_channel(tenant, channel, PutMode::Create, &Author::server(env.now())).await.unwrap();
        }
        let dispatcher = Dispatcher::new(parts.clone(), DispatcherSettings::default());
        Self { tenant, env, clock, outbox, alerts, events, webhook, log, parts, dispatcher }
    }

    /// The events in which the product tells about itself, oldest first: type, and what it is about.
    async fn told(&self) -> Vec<String> {
        let query = FindQuery { order: Order::OldestFirst, ..FindQuery::default() };
        let events = self.events.find(self.tenant, &query).await.unwrap().events;
        let shown = |event: &Event| {
            assert_eq!(event.source.service.as_deref(), Some("pulsestream"));
            format!("{} {}", event.event_type, event.payload.to_value()["channel"].as_str().unwrap())
        };
        events.iter().map(shown).collect()
    }

    async fn enqueue(&self, number: u128, channel: u128) {
        let content = NotificationContent {
            kind: NotificationKind::Firing,
            title: format!("alert {number}").into(),
            message: "it burns".into(),
            group: Labels::new(),
            alerts: Vec::new(),
            omitted: 0,
        };
        let (id, channel, now) =
            (DeliveryId::from_u128(number), ChannelId::from_u128(channel), self.env.now());
        let delivery = Delivery::new(id, channel, "ops".into(), content, now, now);
        assert_eq!(self.outbox.enqueue(self.tenant, vec![delivery]).await.unwrap(), 1);
    }

    /// Works off what becomes due within a span, at the moment when it is due.
    async fn pass(&self, span: Duration) {
        let end = self.env.now().plus(span);
        loop {
            let due = self.dispatcher.step(10).await.unwrap().next_due;
            match due.filter(|due| *due <= end) {
                Some(due) => self.clock.jump_to(due.max(self.env.now())),
                None => return self.clock.jump_to(end),
            }
        }
    }

    async fn read(&self, number: u128) -> Delivery {
        self.outbox.delivery(self.tenant, DeliveryId::from_u128(number)).await.unwrap().unwrap().0
    }

    async fn is_disabled(&self, number: u128) -> bool {
        let channel = self.alerts.channel(self.tenant, ChannelId::from_u128(number)).await.unwrap();
        channel.unwrap().disabled.is_some()
    }
}

#[tokio::test]
async fn the_whole_schedule_takes_three_days_and_then_the_message_is_given_up() {
    let world = World::new().await;
    let start = world.env.now();
    world.webhook.answer((0..10).map(|_| failure()));
    world.enqueue(1, 1).await;
    world.pass(100 * HOUR).await;
    let attempts = world.webhook.take();
    assert_eq!(attempts.len(), 10);
    assert!(attempts.iter().all(|attempt| attempt.delivery.id == DeliveryId::from_u128(1)));
    assert_eq!(
        attempts.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    assert_eq!(attempts[0].at, start);
    for (pair, delay) in attempts.windows(2).zip(RETRY_DELAYS) {
        let waited = pair[1].at.since(pair[0].at);
        assert!(waited >= delay.mul_f64(0.79) && waited <= delay.mul_f64(1.21), "{waited:?} for {delay:?}");
    }
    let whole = attempts[9].at.since(start);
    assert!(whole > 60 * HOUR && whole < 91 * HOUR, "{whole:?}");
    let (given_up, log) =
        world.outbox.delivery(world.tenant, DeliveryId::from_u128(1)).await.unwrap().unwrap();
    assert_eq!((given_up.status, given_up.finished_at), (DeliveryStatus::Dead, Some(attempts[9].at)));
    assert_eq!(log.len(), 10);
    assert!(!world.is_disabled(1).await, "three days are not five");
    // The other channel hears of it; the one whose notifier is broken was asked too.
    let told = world.log.take();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].delivery.content.kind, NotificationKind::Operational);
    assert_eq!(told[0].delivery.content.title.as_str(), "a notification to ops was given up");
    // Replayed it has its schedule again, under its old id.
    let selection = ReplaySelection::Dead { channel: Some(ChannelId::from_u128(1)) };
    assert_eq!(world.outbox.replay(world.tenant, &selection, world.env.now()).await.unwrap(), 1);
    world.pass(HOUR).await;
    let again = world.webhook.take();
    assert_eq!((again.len(), again[0].delivery.id, again[0].attempt), (1, DeliveryId::from_u128(1), 11));
    assert_eq!(world.read(1).await.status, DeliveryStatus::Delivered);
}

#[tokio::test]
async fn five_days_of_nothing_but_failure_disable_a_channel() {
    for success_after in [None, Some(2)] {
        let world = World::new().await;
        world.webhook.answer((0..1_000).map(|_| failure()));
        let start = world.env.now();
        let mut disabled_after = None;
        for day in 0..8_u32 {
            if success_after == Some(day) {
                world.webhook.take();
                // What failed before does not count any more.
                let delivered = succeed_once(&world, 1_000 + u128::from(day)).await;
                assert_eq!(delivered.status, DeliveryStatus::Delivered);
                world.webhook.answer((0..1_000).map(|_| failure()));
            }
            world.enqueue(1 + u128::from(day), 1).await;
            for _ in 0..24 {
                world.pass(HOUR).await;
                if disabled_after.is_none() && world.is_disabled(1).await {
                    disabled_after = Some(world.env.now().since(start));
                }
            }
        }
        let earliest = FAILURE_SPAN + 24 * HOUR * success_after.map_or(0, |_| 2);
        let disabled_after = disabled_after.unwrap();
        assert!(disabled_after >= earliest && disabled_after < earliest + 30 * HOUR, "{disabled_after:?}");
        let titles: Vec<_> = world.log.take().into_iter().map(|told| told.delivery.content.title).collect();
        assert!(titles.contains(&"the notification channel ops was disabled".into()), "{titles:?}");
        // Whatever waited for it is cancelled, and nothing is tried any more.
        world.webhook.take();
        world.pass(100 * HOUR).await;
        assert!(world.webhook.take().is_empty());
        assert_eq!(world.outbox.counts(world.tenant).await.unwrap().queued, 0);
    }
}

/// Lets one delivery succeed, whatever the receiver does with the others.
async fn succeed_once(world: &World, number: u128) -> Delivery {
    let due = world.outbox.next_due().await.unwrap();
    assert!(due.is_none_or(|due| due > world.env.now()), "nothing else is due");
    world.webhook.forget_answers();
    world.enqueue(number, 1).await;
    world.pass(Duration::from_secs(1)).await;
    world.read(number).await
}

#[tokio::test]
async fn a_receiver_that_is_gone_disables_its_channel_at_once() {
    let world = World::new().await;
    world.webhook.answer([DeliveryOutcome::Disable { error: "410 Gone".into() }]);
    world.enqueue(1, 1).await;
    world.pass(Duration::ZERO).await;
    assert!(world.is_disabled(1).await);
    assert_eq!(world.read(1).await.status, DeliveryStatus::Dead);
    let told = world.log.take();
    assert_eq!(told.len(), 1);
    assert!(told[0].delivery.content.message.contains("410 Gone"));
    world.enqueue(2, 1).await;
    world.pass(HOUR).await;
    assert_eq!(world.webhook.take().len(), 1);
    assert_eq!(world.read(2).await.status, DeliveryStatus::Cancelled);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_disturbs_nobody() {
    let world = World::new().await;
    world.enqueue(1, 3).await;
    world.enqueue(2, 1).await;
    world.pass(Duration::from_secs(30)).await;
    let broken = world.read(1).await;
    assert_eq!((broken.status, broken.attempts), (DeliveryStatus::Queued, 2));
    assert!(broken.last_error.unwrap().contains("failed unexpectedly"));
    assert_eq!(world.webhook.take().len(), 1);
    world.pass(100 * HOUR).await;
    assert_eq!(world.read(1).await.status, DeliveryStatus::Dead);
    let page = world.outbox.deliveries(world.tenant, &DeliveryQuery::default()).await.unwrap();
    let operational =
        page.deliveries.iter().filter(|delivery| delivery.content.kind == NotificationKind::Operational);
    assert_eq!(operational.count(), 2, "one for each other channel");
}

/// Sends, and never comes to say so.
#[derive(Debug)]
struct SendsAndStops(RecordingNotifier);

#[async_trait]
impl Notifier for SendsAndStops {
    fn kind(&self) -> &str {
        self.0.kind()
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        self.0.validate(channel)
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        self.0.deliver(notification).await;
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_was_sent_and_not_recorded_is_sent_again_under_the_same_id() {
    let world = World::new().await;
    let dying = Arc::new(SendsAndStops(RecordingNotifier::new("webhook")));
    let parts = DispatcherParts {
        notifiers: vec![dying.clone()],
        holder: "a process that dies".into(),
        ..world.parts.clone()
    };
    let dispatcher = Dispatcher::new(parts, DispatcherSettings::default());
    world.enqueue(1, 1).await;
    let leased = dispatcher.lease_due(1, BTreeSet::new()).await.unwrap().remove(0);
    tokio::select! {
        biased;
        _ = dispatcher.attempt(leased) => panic!("it never ends"),
        () = std::future::ready(()) => {}
    }
    let first = dying.0.take().remove(0);
    world.pass(Duration::from_secs(59)).await;
    assert!(world.webhook.take().is_empty(), "it may be under way still");
    world.pass(Duration::from_secs(1)).await;
    let again = world.webhook.take();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].delivery.id, first.delivery.id);
    assert_eq!(again[0].delivery.content, first.delivery.content);
    let delivery = world.read(1).await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Delivered, 1));
}

/// Fails until its time has come, and notes when it was tried.
#[derive(Debug)]
struct Outage {
    env: Env,
    until: Timestamp,
    attempts: std::sync::Mutex<Vec<(Timestamp, DeliveryId)>>,
}

#[async_trait]
impl Notifier for Outage {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let now = self.env.now();
        self.attempts.lock().unwrap().push((now, notification.delivery.id));
        let outcome = if now < self.until { failure() } else { DeliveryOutcome::Delivered };
        DeliveryReport {
            outcome,
            request: "POST".into(),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}

#[tokio::test]
async fn an_outage_is_neither_hammered_nor_followed_by_a_storm() {
    const MESSAGES: u128 = 400;
    let mut world = World::new().await;
    let start = world.env.now();
    let sink =
        Arc::new(Outage { env: world.env.clone(), until: start.plus(HOUR), attempts: Default::default() });
    let parts = DispatcherParts {
        outbox: world.outbox.clone(),
        alerts: world.alerts.clone(),
        events: world.events.clone(),
        notifiers: vec![sink.clone(), world.log.clone()],
        server_channels: Vec::new(),
        env: world.env.clone(),
        holder: "a".into(),
    };
    world.dispatcher = Dispatcher::new(parts, DispatcherSettings::default());
    for number in 1..=MESSAGES {
        world.enqueue(number, 1).await;
        if number.is_multiple_of(40) {
            world.pass(Duration::from_secs(60)).await;
        }
    }
    // Somebody else's message is delivered at once in the middle of it.
    world.enqueue(10_000, 2).await;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.read(10_000).await.status, DeliveryStatus::Delivered);
    world.pass(4 * HOUR).await;
    let attempts = std::mem::take(&mut *sink.attempts.lock().unwrap());
    let (during, after): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|(at, _)| *at < sink.until);
    // The schedule alone would make about 1,500 attempts in the first hour.
    assert!(during.len() <= 30, "{} attempts at a receiver that is away", during.len());
    for number in 1..=MESSAGES {
        assert_eq!(world.read(number).await.status, DeliveryStatus::Delivered, "{number}");
    }
    let settings = DispatcherSettings::default();
    for (first, (at, _)) in after.iter().enumerate() {
        let minute =
            after[first..].iter().take_while(|(other, _)| other.since(*at) < Duration::from_secs(60));
        let most = usize::try_from(settings.attempts_per_minute + settings.burst).unwrap();
        assert!(minute.count() <= most, "no more than the channel is allowed");
    }
    let waited = after.iter().map(|(at, _)| at.since(sink.until)).nth(MESSAGES as usize * 9 / 10);
    assert!(waited.unwrap() < Duration::from_secs(600), "nine of ten within ten minutes: {waited:?}");
}

#[tokio::test]
async fn receivers_that_ask_to_wait_are_heard() {
    let world = World::new().await;
    let after = Some(Duration::from_secs(120));
    world.webhook.answer([DeliveryOutcome::RetryAfter { after, error: "429".into() }]);
    world.enqueue(1, 1).await;
    world.pass(HOUR).await;
    let attempts = world.webhook.take();
    assert_eq!(attempts[1].at.since(attempts[0].at), Duration::from_secs(120));
}

#[tokio::test]
async fn incidents_are_events_of_the_tenant() {
    let world = World::new().await;
    let permanent = || DeliveryOutcome::Permanent { error: "400".into() };
    world.webhook.answer([permanent(), permanent(), DeliveryOutcome::Disable { error: "410".into() }]);
    for number in 1..=2 {
        world.enqueue(number, 1).await;
        world.pass(Duration::from_secs(60)).await;
    }
    assert_eq!(world.told().await, ["pulsestream.delivery_given_up ops"], "once an hour");
    world.enqueue(3, 1).await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.told().await, ["pulsestream.delivery_given_up ops", "pulsestream.channel_disabled ops"]);
}
