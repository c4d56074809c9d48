//! The alerting processor in virtual time: events in, alerts and deliveries out, once, whatever fails in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::alerting::engine::StreamingEngine;
use pulsestream_core::alerting::{
    Alert, AlertAction, AlertState, AlertingProcessor, Author, Channel, ChannelConfig, ChannelRef, Delivery,
    DirectPlanner, NotificationKind, ProcessorParts, ProcessorSettings, Rule, RuleExpression, RuleKind,
    TimelineEntry, rules_evaluated_at,
};
use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueCoordinator, KeyValueOutbox};
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::event::Event;
use pulsestream_core::id::{ChannelId, EventId, RuleId, TenantId};
use pulsestream_core::memory::{MemoryEventStore, MemoryKeyValue};
use pulsestream_core::ports::alert_store::{AlertQuery, AlertStore, PutMode};
use pulsestream_core::ports::event_store::{AppendOptions, EventStore, Partition, Position};
use pulsestream_core::ports::key_value::{Commit, CommitOutcome, KeyValue, Read, ReadResult};
use pulsestream_core::ports::outbox::{DeliveryQuery, Outbox};
use pulsestream_core::testkit::{EventStoreCall, Intercept, InterceptedEventStore, Interception};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};

/// A store whose commits fail now and then, before or after they took effect.
#[derive(Debug, Default)]
struct Unreliable {
    store: MemoryKeyValue,
    commits: AtomicUsize,
    /// Every how many commits one fails; 0 for never.
    every: AtomicUsize,
}

#[async_trait]
impl KeyValue for Unreliable {
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<ReadResult>> {
        self.store.read(reads).await
    }

    async fn commit(&self, commit: Commit) -> Result<CommitOutcome> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        let every = self.every.load(Ordering::SeqCst);
        if every == 0 || !number.is_multiple_of(every) {
            return self.store.commit(commit).await;
        }
        if (number / every).is_multiple_of(2) {
            return Err(Error::new(ErrorKind::Unavailable, "test.commit", "the store is away"));
        }
        let _ = self.store.commit(commit).await?;
        Err(Error::new(ErrorKind::OutcomeUnknown, "test.commit", "the reply is lost"))
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

struct World {
    tenant: TenantId,
    env: Env,
    clock: Arc<ManualClock>,
    store: Arc<Unreliable>,
    events: Arc<MemoryEventStore>,
    alerts: Arc<KeyValueAlertStore>,
    outbox: KeyValueOutbox,
    next_event: u128,
}

const START: i64 = 1_700_000_000 / 3_600 * 3_600;

impl World {
    fn new() -> Self {
        let (env, clock) = Env::manual(Timestamp::from_seconds(START), 1);
        let store = Arc::new(Unreliable::default());
        Self {
            tenant: TenantId::from_name("shop"),
            env,
            clock,
            store: store.clone(),
            events: Arc::new(MemoryEventStore::new()),
            alerts: Arc::new(KeyValueAlertStore::new(store.clone())),
            outbox: KeyValueOutbox::new(store),
            next_event: 0,
        }
    }

    fn processor(&self, holder: &str) -> AlertingProcessor {
        self.processor_over(holder, self.events.clone())
    }

    fn coordinator(&self) -> KeyValueCoordinator {
        KeyValueCoordinator::new(self.store.clone(), self.env.clone())
    }

    fn processor_over(&self, holder: &str, events: Arc<dyn EventStore>) -> AlertingProcessor {
        let parts = ProcessorParts {
            events,
            alerts: self.alerts.clone(),
            coordinator: Arc::new(self.coordinator()),
            engine: Arc::new(StreamingEngine::default()),
            planner: Arc::new(DirectPlanner::default()),
            listener: None,
            env: self.env.clone(),
            holder: holder.into(),
        };
        let settings = ProcessorSettings { batch_events: 7, ..ProcessorSettings::default() };
        AlertingProcessor::new(parts, settings, Partition::of(self.tenant))
    }

    fn seconds(&self) -> i64 {
        self.env.now().as_seconds() - START
    }

    async fn put_channel(&self) {
        let channel = Channel::new(ChannelId::from_u128(1), "ops", ChannelConfig::Log {});
        self.alerts
            .put_channel(self.tenant, channel, PutMode::Create, &Author::server(self.env.now()))
            .await
            .unwrap();
    }

    async fn put_rule(&self, id: u128, expression: &str) -> Rule {
        let kind = RuleKind::Absence { window: Duration::from_secs(1) };
        let mut rule = Rule::new(RuleId::from_u128(id), format!("rule {id}"), kind);
        expression.parse::<RuleExpression>().unwrap().apply_to(&mut rule);
        rule.created_at = self.env.now();
        rule.channels = vec![ChannelRef::new("ops")];
        self.alerts
            .put_rule(self.tenant, rule, PutMode::Create, &Author::server(self.env.now()))
            .await
            .unwrap()
    }

    async fn append(&mut self, services: &[&str]) {
        let now = self.env.now();
        let events = services.iter().map(|service| {
            self.next_event += 1;
            let mut event = Event::new(EventId::from_u128(self.next_event), "call", now);
            event.source.service = Some((*service).into());
            event
        });
        let events = events.collect();
        self.events.append(self.tenant, events, AppendOptions::default()).await.unwrap();
    }

    /// Steps until there is nothing more to do at this time; errors of the store are tried again.
    async fn settle(&self, processor: &mut AlertingProcessor) {
        for _ in 0..1_000 {
            match processor.step().await {
                Ok(outcome) if !outcome.has_more && outcome.effects == 0 => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the processor does not come to rest");
    }

    async fn pass(&self, processor: &mut AlertingProcessor, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.settle(processor).await;
        }
    }

    async fn all_alerts(&self) -> Vec<Alert> {
        let query = AlertQuery { include_unfired: true, limit: 1_000, ..AlertQuery::default() };
        let mut alerts = self.alerts.alerts(self.tenant, &query).await.unwrap().alerts;
        alerts.sort_by_key(|alert| alert.id);
        alerts
    }

    async fn all_deliveries(&self) -> Vec<Delivery> {
        let query = DeliveryQuery { limit: 1_000, ..DeliveryQuery::default() };
        let mut deliveries = self.outbox.deliveries(self.tenant, &query).await.unwrap().deliveries;
        deliveries.sort_by_key(|delivery| delivery.id);
        deliveries
    }

    async fn all_timelines(&self) -> Vec<TimelineEntry> {
        let mut entries = Vec::new();
        for alert in self.all_alerts().await {
            entries.extend(self.alerts.timeline(self.tenant, alert.id).await.unwrap());
        }
        entries
    }
}

#[tokio::test]
async fn an_incident_from_its_first_event_to_its_end() {
    let mut world = World::new();
    world.put_channel().await;
    world.put_rule(1, "count >= 3 over 1m by source.service for 10m").await;
    let mut processor = world.processor("a");
    for _ in 0..15 * 6 {
        world.append(&["shop", "other"]).await;
        world.pass(&mut processor, 10).await;
    }
    let firing = world.all_alerts().await;
    assert_eq!(firing.iter().filter(|alert| alert.state == AlertState::Firing).count(), 2);
    let fired_at = firing[0].fired_at.unwrap().as_seconds() - START;
    assert_eq!(fired_at, 20 + 600, "three events in a minute at second 20, and ten minutes later");
    world.pass(&mut processor, 120).await;
    let resolved = world.all_alerts().await;
    assert!(resolved.iter().all(|alert| alert.state == AlertState::Resolved));
    let deliveries = world.all_deliveries().await;
    let count = |kind| deliveries.iter().filter(|delivery| delivery.content.kind == kind).count();
    assert_eq!((count(NotificationKind::Firing), count(NotificationKind::Resolved)), (2, 2));
    let timeline = world.alerts.timeline(world.tenant, resolved[0].id).await.unwrap();
    assert_eq!(timeline.len(), 3);
    let activity = world.alerts.rule_activity(world.tenant, &[RuleId::from_u128(1)]).await.unwrap();
    assert_eq!(activity[0].total_fired, 2);
}

/// A busy quarter of an hour; returns what people can see afterwards.
async fn incident(
    fail_every: usize,
    crash_every: usize,
) -> (Vec<Alert>, Vec<TimelineEntry>, Vec<(Delivery, i64)>) {
    let mut world = World::new();
    world.put_channel().await;
    world.put_rule(1, "count >= 3 over 20s by source.service for 5s").await;
    world.put_rule(2, "count > 12 over 30s keep 10s").await;
    world.put_rule(3, "absent over 15s by source.service").await;
    world.store.every.store(fail_every, Ordering::SeqCst);
    let mut processor = world.processor("a");
    for second in 0..300_usize {
        if second % 50 < 30 {
            world.append(&["a", "b", "c", "d"][..1 + second * 7 % 4]).await;
        }
        world.clock.advance(Duration::from_secs(1));
        if crash_every > 0 && second.is_multiple_of(crash_every) {
            // Stopped in the middle of its work: whatever was not committed is forgotten.
            let _ = processor.step().await;
            processor = world.processor("a");
        }
        world.settle(&mut processor).await;
    }
    world.store.every.store(0, Ordering::SeqCst);
    world.settle(&mut processor).await;
    let deliveries = world.all_deliveries().await;
    let deliveries = deliveries.into_iter().map(|delivery| {
        let at = delivery.created_at.as_seconds() - START;
        (delivery, at)
    });
    (world.all_alerts().await, world.all_timelines().await, deliveries.collect())
}

#[tokio::test]
async fn failures_and_crashes_change_nothing() {
    let expected = incident(0, 0).await;
    assert!(expected.0.len() > 10, "{} alerts", expected.0.len());
    assert!(expected.2.len() > 10, "{} deliveries", expected.2.len());
    for (fail_every, crash_every) in [(2, 0), (3, 0), (0, 1), (0, 7), (2, 3), (5, 2), (3, 1)] {
        let found = incident(fail_every, crash_every).await;
        assert_eq!(found, expected, "every {fail_every} commits fail, a crash every {crash_every} s");
    }
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing() {
    let mut world = World::new();
    world.put_channel().await;
    world.put_rule(1, "count >= 1 over 1m").await;
    let mut first = world.processor("a");
    let mut second = world.processor("b");
    world.settle(&mut first).await;
    assert!(!second.step().await.unwrap().holds_lease);
    // The first one sleeps past its lease; the second one takes over.
    world.clock.advance(Duration::from_secs(4));
    world.settle(&mut first).await;
    world.clock.advance(Duration::from_secs(30));
    world.append(&["shop"]).await;
    world.settle(&mut second).await;
    assert_eq!(world.all_alerts().await.len(), 1);
    world.append(&["shop"]).await;
    let outcome = first.step().await.unwrap();
    assert!(!outcome.holds_lease);
    second.stop().await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    assert!(first.step().await.unwrap().holds_lease);
    assert_eq!(world.all_alerts().await.len(), 1);
}

/// Refuses to read the log while it is set.
#[derive(Debug, Default)]
struct LogAway(AtomicBool);

#[async_trait]
impl Intercept for LogAway {
    async fn intercept(&self, call: EventStoreCall) -> Interception {
        if call == EventStoreCall::Tail && self.0.load(Ordering::SeqCst) {
            return Interception::Fail(Error::new(ErrorKind::Unavailable, "test.tail", "the log is away"));
        }
        Interception::Pass
    }
}

#[tokio::test]
async fn rules_are_evaluated_only_when_a_step_goes_well() {
    let world = World::new();
    world.put_rule(1, "count >= 1 over 1m").await;
    let events = Arc::new(InterceptedEventStore::around(world.events.clone(), LogAway::default()));
    let away = &events.interceptor().0;
    let mut processor = world.processor_over("a", events.clone());
    let (coordinator, ttl) = (world.coordinator(), ProcessorSettings::default().lease_ttl);
    let evaluated_at = async || {
        let at = rules_evaluated_at(&coordinator, world.tenant, ttl).await.unwrap();
        at.map(|at| at.as_seconds() - START)
    };
    away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(processor.step().await.is_err());
        assert_eq!(evaluated_at().await, None, "a first step that fails is none");
        world.clock.advance(Duration::from_secs(10));
    }
    away.store(false, Ordering::SeqCst);
    processor.step().await.unwrap();
    assert_eq!(evaluated_at().await, Some(30));
    world.clock.advance(Duration::from_secs(5));
    processor.step().await.unwrap();
    assert_eq!(evaluated_at().await, Some(35));
    away.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(6));
        assert!(processor.step().await.is_err());
        assert_eq!(evaluated_at().await, Some(35), "steps that fail do not count");
    }
    world.clock.advance(Duration::from_secs(6));
    assert!(processor.step().await.is_err());
    assert_eq!(evaluated_at().await, None, "for as long as a lease lasts nothing went well");
    away.store(false, Ordering::SeqCst);
    assert!(processor.step().await.unwrap().holds_lease);
    assert_eq!(evaluated_at().await, Some(53));
}

#[tokio::test]
async fn the_first_rule_of_a_tenant_sees_the_event_that_came_with_it() {
    let mut world = World::new();
    let mut processor = world.processor("a");
    world.append(&["before"]).await;
    world.settle(&mut processor).await;
    assert!(processor.position() > Position::START, "events that no rule wants are passed over");
    world.put_rule(1, "count >= 2 over 1m").await;
    world.clock.advance(Duration::from_micros(1));
    world.append(&["shop"]).await;
    world.settle(&mut processor).await;
    let alerts = world.all_alerts().await;
    assert_eq!(alerts.len(), 1, "the event before the rule from history, the one after it from the log");
}

#[tokio::test]
async fn people_resolve_and_rules_go() {
    let mut world = World::new();
    world.put_channel().await;
    let rule = world.put_rule(1, "count >= 1 over 1m by source.service").await;
    let mut processor = world.processor("a");
    world.append(&["x", "y"]).await;
    world.pass(&mut processor, 2).await;
    let open = world.all_alerts().await;
    let action = AlertAction::Resolve { actor: "ann".into(), note: None };
    world.alerts.act_on_alert(world.tenant, open[0].id, &action, world.env.now()).await.unwrap();
    world.append(&["x", "y"]).await;
    world.pass(&mut processor, 2).await;
    let states: Vec<_> = world.all_alerts().await.iter().map(|alert| alert.state).collect();
    assert_eq!(states.iter().filter(|state| **state == AlertState::Resolved).count(), 1);
    assert_eq!(states.len(), 2, "the breach goes on and opens no new episode");
    // The rule is deleted while nobody works.
    drop(processor);
    world.alerts.delete_rule(world.tenant, rule.id, None, &Author::server(world.env.now())).await.unwrap();
    let mut processor = world.processor("a");
    world.pass(&mut processor, 2).await;
    assert!(world.all_alerts().await.iter().all(|alert| alert.state == AlertState::Resolved));
}

#[tokio::test]
async fn a_new_rule_knows_its_first_window_and_counts_nothing_twice() {
    let mut world = World::new();
    world.put_channel().await;
    world.append(&["x"; 10]).await;
    world.clock.advance(Duration::from_secs(100));
    world.append(&["x"; 2]).await;
    world.clock.advance(Duration::from_secs(2));
    let rule = world.put_rule(1, "count >= 4 over 1m").await;
    let mut processor = world.processor("a");
    world.append(&["x"]).await;
    world.pass(&mut processor, 3).await;
    assert!(world.all_alerts().await.is_empty(), "two in the window, and one since");
    world.append(&["x"]).await;
    world.settle(&mut processor).await;
    let alerts = world.all_alerts().await;
    assert_eq!((alerts.len(), alerts[0].value), (1, Some(4.0)), "at second {}", world.seconds());
    // The same rule under another id fires because of the past alone, also when the process starts again.
    world.put_rule(2, "count >= 4 over 1m").await;
    drop(processor);
    let mut processor = world.processor("a");
    world.settle(&mut processor).await;
    let alerts = world.all_alerts().await;
    assert_eq!(alerts.iter().filter(|alert| alert.rule != rule.id).count(), 1);
}

#[tokio::test]
async fn a_breach_between_the_making_of_a_rule_and_the_first_look_at_it_is_not_missed() {
    let mut world = World::new();
    world.put_channel().await;
    world.append(&["x"; 2]).await;
    world.clock.advance(Duration::from_secs(2));
    world.put_rule(1, "count >= 4 over 20s").await;
    world.clock.advance(Duration::from_secs(2));
    // Two from before the rule, and two while nobody works.
    world.append(&["x"; 2]).await;
    let fired_at = world.env.now();
    world.clock.advance(Duration::from_secs(200));
    let mut processor = world.processor("a");
    world.settle(&mut processor).await;
    let alerts = world.all_alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].fired_at, alerts[0].state), (Some(fired_at), AlertState::Resolved));
}
