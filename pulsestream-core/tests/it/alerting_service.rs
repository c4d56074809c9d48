//! The alerting service over the memory backend.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pulsestream_core::ErrorKind;
use pulsestream_core::alerting::engine::StreamingEngine;
use pulsestream_core::alerting::{
    AlertListener, AlertState, AlertingService, Author, Channel, ChannelConfig, ChannelRef, ConfigAction,
    Matcher, NotificationKind, Rule, RuleExpr, RuleExpression, RuleKind, Silence,
};
use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueOutbox};
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::event::Event;
use pulsestream_core::id::{AlertId, ChannelId, EventId, RuleId, SilenceId, TenantId};
use pulsestream_core::memory::{MemoryEventStore, MemoryKeyValue};
use pulsestream_core::ports::alert_store::{AlertStore, ConfigChangeQuery, PutMode};
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::ports::outbox::{AttemptRecord, Disposition, LeaseOptions, Outbox, ReplaySelection};
use pulsestream_core::text::Text;
use pulsestream_core::time::{TimeRange, Timestamp};

const TENANT: TenantId = TenantId::from_u128(5);
const START: Timestamp = Timestamp::from_seconds(1_700_000_400 / 600 * 600);

/// Counts what a listener is told.
#[derive(Debug, Default)]
struct Told {
    alerts: AtomicUsize,
    deliveries: AtomicUsize,
}

impl AlertListener for Told {
    fn alerts_changed(&self, _tenant: TenantId, alerts: &[AlertId]) {
        self.alerts.fetch_add(alerts.len(), Ordering::SeqCst);
    }

    fn deliveries_planned(&self) {
        self.deliveries.fetch_add(1, Ordering::SeqCst);
    }
}

struct World {
    service: AlertingService,
    alerts: Arc<KeyValueAlertStore>,
    events: Arc<MemoryEventStore>,
    outbox: Arc<KeyValueOutbox>,
    listener: Arc<Told>,
    clock: Arc<ManualClock>,
}

fn world() -> World {
    let (env, clock) = Env::manual(START, 1);
    let events = Arc::new(MemoryEventStore::new());
    let store = Arc::new(MemoryKeyValue::new());
    let alerts = Arc::new(KeyValueAlertStore::new(store.clone()));
    let outbox = Arc::new(KeyValueOutbox::new(store));
    let (listener, engine) = (Arc::new(Told::default()), Arc::new(StreamingEngine::default()));
    let service = AlertingService::new(alerts.clone(), outbox.clone(), events.clone(), engine, env)
        .with_listener(listener.clone());
    World { service, alerts, events, outbox, listener, clock }
}

fn silence(number: u128, ends_at: Timestamp) -> Silence {
    Silence {
        id: SilenceId::from_u128(number),
        version: 0,
        matchers: vec![Matcher::equal("service", "shop")],
        starts_at: START,
        ends_at,
        created_by: "ann".into(),
        comment: Text::default(),
        created_at: START,
        updated_at: START,
    }
}

fn rule(service: &AlertingService, name: &str, expression: &str) -> Rule {
    let kind = RuleKind::Absence { window: Duration::from_secs(60) };
    let mut rule = Rule::new(service.new_rule_id().unwrap(), name, kind);
    expression.parse::<RuleExpression>().unwrap().apply_to(&mut rule);
    rule
}

impl World {
    /// Appends calls at seconds after the start, each with a service and a status.
    async fn append(&self, calls: &[(u64, &str, u16)]) {
        let events = calls.iter().enumerate().map(|(index, (second, service, status))| {
            let id = EventId::new(format!("{second}-{service}-{index}")).unwrap();
            let mut event = Event::new(id, "call", START.plus(Duration::from_secs(*second)));
            event.source.service = Some(Text::from(*service));
            event.metrics.status_code = Some(*status);
            event
        });
        self.events.append(TENANT, events.collect(), AppendOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn rules_have_no_more_instances_than_the_server_allows() {
    let World { service, .. } = world();
    let service = service.with_max_instances(500);
    let expression = "count > 3 over 5m by source.service";
    let by_default = service.create_rule(TENANT, rule(&service, "default", expression)).await.unwrap();
    assert_eq!(by_default.max_groups, 500);
    for (max_groups, is_fine) in [(500, true), (501, false)] {
        let mut wanted = rule(&service, &format!("wants {max_groups}"), expression);
        wanted.max_groups = max_groups;
        match service.create_rule(TENANT, wanted).await {
            Ok(stored) => assert!(is_fine && stored.max_groups == max_groups),
            Err(error) => {
                assert!(!is_fine);
                assert_eq!(error.fields()[0].pointer, "/max_groups");
                assert!(error.fields()[0].message.contains("1 to 500"));
            }
        }
    }
}

#[tokio::test]
async fn rules_are_checked_versioned_and_counted() {
    let world = world();
    let service = world.service.clone().with_max_rules(2);
    let mut first = rule(&service, "first", "count > 1 over 1m");
    first.channels = vec![ChannelRef::new("opps")];
    let channel = Channel::new(ChannelId::from_u128(1), "ops", ChannelConfig::Log {});
    service.put_channel(TENANT, channel, None).await.unwrap();
    let error = service.create_rule(TENANT, first.clone()).await.unwrap_err();
    assert_eq!(error.fields()[0].pointer, "/channels/0");
    assert!(error.message().contains("did you mean `ops`"), "{error}");
    first.channels = vec![ChannelRef::new("ops")];
    let first = service.create_rule(TENANT, first).await.unwrap();
    assert_eq!((first.version, first.created_at), (1, START));
    let busy = service.delete_channel(TENANT, ChannelId::from_u128(1), None).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);

    world.clock.advance(Duration::from_secs(9));
    let mut changed = first.clone();
    changed.name = "renamed".into();
    let changed = service.update_rule(TENANT, changed, Some(1)).await.unwrap();
    assert_eq!((changed.version, changed.created_at), (2, START));
    assert!(changed.updated_at > START);
    let stale = service.update_rule(TENANT, first.clone(), Some(1)).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert!(!service.set_rule_active(TENANT, first.id, false, None).await.unwrap().is_active);

    let mut composite = rule(&service, "both", "count > 1 over 1m");
    composite.kind = RuleKind::Composite { expression: RuleExpr::Rule(RuleId::from_u128(99)) };
    let error = service.create_rule(TENANT, composite.clone()).await.unwrap_err();
    assert_eq!(error.fields()[0].code, "unknown_rule");
    composite.kind = RuleKind::Composite { expression: RuleExpr::Rule(first.id) };
    let composite = service.create_rule(TENANT, composite).await.unwrap();
    let third = service.create_rule(TENANT, rule(&service, "third", "count > 1 over 1m")).await;
    assert_eq!(third.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(service.delete_rule(TENANT, first.id, None).await.unwrap_err().kind(), ErrorKind::Conflict);
    service.delete_rule(TENANT, composite.id, None).await.unwrap();
    service.delete_rule(TENANT, first.id, None).await.unwrap();
    assert_eq!(service.delete_rule(TENANT, first.id, None).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(service.stats(TENANT).await.unwrap().total_rules, 0);
}

#[tokio::test]
async fn channels_and_silences_have_limits() {
    let world = world();
    let service = world.service.clone().with_max_channels(2).with_max_silences(3);
    let channel = |number: u128| {
        Channel::new(ChannelId::from_u128(number), format!("c{number}"), ChannelConfig::Log {})
    };
    service.put_channel(TENANT, channel(1), None).await.unwrap();
    service.put_channel(TENANT, channel(2), None).await.unwrap();
    let full = service.put_channel(TENANT, channel(3), None).await.unwrap_err();
    assert_eq!((full.kind(), full.context()[0].0), (ErrorKind::Conflict, "max_channels"));
    service.put_channel(TENANT, channel(2), Some(1)).await.unwrap();
    service.delete_channel(TENANT, ChannelId::from_u128(1), None).await.unwrap();
    service.put_channel(TENANT, channel(3), None).await.unwrap();

    let silence = |number, seconds| silence(number, START.plus(Duration::from_secs(seconds)));
    let ids = async || {
        let all = world.alerts.silences(TENANT, None).await.unwrap();
        all.iter().map(|silence| silence.id.as_u128()).collect::<Vec<_>>()
    };
    for (number, seconds) in [(1, 90), (2, 30), (3, 60)] {
        service.put_silence(TENANT, silence(number, seconds), None).await.unwrap();
    }
    let full = service.put_silence(TENANT, silence(4, 100), None).await.unwrap_err();
    assert_eq!((full.kind(), full.context()[0].0), (ErrorKind::Conflict, "max_silences"));
    service.put_silence(TENANT, silence(1, 95), Some(1)).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    service.put_silence(TENANT, silence(4, 100), None).await.unwrap();
    assert_eq!(ids().await, [1, 3, 4], "the one that ended first made room");
    // A limit that was lowered holds from the next one on, and none goes that has not ended.
    let service = service.with_max_silences(2);
    let full = service.put_silence(TENANT, silence(5, 100), None).await.unwrap_err();
    assert_eq!((full.kind(), ids().await), (ErrorKind::Conflict, vec![1, 3, 4]));
    world.clock.advance(Duration::from_secs(35));
    service.put_silence(TENANT, silence(5, 200), None).await.unwrap();
    assert_eq!(ids().await, [4, 5]);
}

/// What people count on is read whole, however much they have.
#[tokio::test]
async fn the_newest_of_many_silences_is_in_force() {
    let world = world();
    for number in 0..10_001 {
        let silence = silence(number, START.plus(Duration::from_secs(60)));
        world.alerts.put_silence(TENANT, silence, PutMode::Create, &Author::server(START)).await.unwrap();
    }
    assert_eq!(world.alerts.config(TENANT, START).await.unwrap().silences.len(), 10_001);
    assert_eq!(world.alerts.silences(TENANT, None).await.unwrap().len(), 10_001);
}

#[tokio::test]
async fn changes_name_who_made_them() {
    let world = world();
    let ann = world.service.acting_as("user:ann");
    let made = ann.create_rule(TENANT, rule(&ann, "many", "count > 3 over 1m")).await.unwrap();
    world.service.acting_as("user:bob").set_rule_active(TENANT, made.id, false, None).await.unwrap();
    world.service.delete_rule(TENANT, made.id, None).await.unwrap();
    let page = ann.changes(TENANT, &ConfigChangeQuery::default()).await.unwrap();
    let told: Vec<_> = page
        .changes
        .iter()
        .map(|change| (change.author.actor.as_str(), change.action, change.version))
        .collect();
    let expected = [
        ("application", ConfigAction::Deleted, 2),
        ("user:bob", ConfigAction::Changed, 2),
        ("user:ann", ConfigAction::Created, 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(page.changes[1].fields.len(), 1, "only that it is off: {:?}", page.changes[1].fields);
}

#[tokio::test]
async fn evaluation_measures_the_stored_events() {
    let world = world();
    world.append(&[(10, "a", 200), (20, "a", 500), (30, "b", 200), (31, "b", 200), (32, "b", 503)]).await;
    world.clock.advance(Duration::from_secs(60));
    for (expression, expected) in [
        ("count > 4 over 1m", vec![("", Some(5.0), true)]),
        ("count > 4 over 45s", vec![("", Some(4.0), false)]),
        ("rate > 1 over 50s", vec![("", Some(0.08), false)]),
        (
            "count[metrics.status_code >= 500] / count >= 0.5 over 1m by source.service",
            vec![("a", Some(0.5), true), ("b", Some(1.0 / 3.0), false)],
        ),
        ("max(metrics.response_time_ms) > 1 over 1m no_data firing", vec![("", None, true)]),
        ("absent over 20s by source.service", vec![("a", None, true), ("b", None, true)]),
    ] {
        let made = rule(&world.service, expression, expression);
        let made = world.service.create_rule(TENANT, made).await.unwrap();
        let evaluated = world.service.evaluate(TENANT, made.id).await.unwrap();
        let mut found: Vec<_> = evaluated
            .groups
            .iter()
            .map(|group| {
                let label = group.group.values().next().map_or("", Text::as_str);
                (label, group.value, group.breached)
            })
            .collect();
        found.sort_by_key(|(label, ..)| *label);
        assert_eq!(found, expected, "{expression}");
    }
    assert_eq!(world.service.evaluate_all(TENANT).await.unwrap().len(), 6);
}

#[tokio::test]
async fn backtests_and_explanations_replay_history() {
    let world = world();
    let calls: Vec<_> = (100..160).map(|second| (second, "a", 200)).collect();
    world.append(&calls).await;
    world.clock.advance(Duration::from_secs(86_400));
    let busy = rule(&world.service, "busy", "count >= 20 over 30s for 20s");
    let range = TimeRange::new(START, START.plus(Duration::from_secs(600)));
    let found = world.service.backtest(TENANT, &busy, range).await.unwrap();
    let states: Vec<_> = found
        .transitions
        .iter()
        .map(|transition| (transition.at.since(START).as_secs(), transition.to))
        .collect();
    assert_eq!(states, [(119, AlertState::Pending), (139, AlertState::Firing), (180, AlertState::Resolved)]);
    assert_eq!(
        found.counters.too_old, 0,
        "an import of the past is replayed as if it had been received then"
    );
    let busy = world.service.create_rule(TENANT, busy).await.unwrap();
    let at = START.plus(Duration::from_secs(125));
    let explained = world.service.explain(TENANT, busy.id, Some(at)).await.unwrap();
    let first = &explained[0].explanation;
    assert_eq!(first.state, Some(AlertState::Pending));
    assert!(first.text.contains("it fires in 1"), "{}", first.text);
    assert!(explained[0].silenced_by.is_empty());
    let later = world.service.explain(TENANT, busy.id, None).await.unwrap();
    assert_eq!(later[0].explanation.state, None);
    // A silence that matched at that time is part of the answer, however long it is over.
    let silence = Silence {
        id: SilenceId::from_u128(9),
        version: 0,
        matchers: vec![Matcher::equal("rule_id", busy.id.to_string())],
        starts_at: START,
        ends_at: START.plus(Duration::from_secs(126)),
        created_by: "ann".into(),
        comment: "maintenance".into(),
        created_at: START,
        updated_at: START,
    };
    world
        .service
        .store()
        .put_silence(TENANT, silence, PutMode::Create, &Author::server(START))
        .await
        .unwrap();
    let explained = world.service.explain(TENANT, busy.id, Some(at)).await.unwrap();
    assert_eq!(explained[0].silenced_by, [SilenceId::from_u128(9)]);
    let text = &explained[0].explanation.text;
    assert!(text.contains("silenced by ann until") && text.ends_with(": maintenance"), "{text}");
    let after =
        world.service.explain(TENANT, busy.id, Some(START.plus(Duration::from_secs(140)))).await.unwrap();
    assert!(after[0].silenced_by.is_empty());
}

#[tokio::test]
async fn silences_end_when_told() {
    let world = world();
    let silence = Silence {
        id: SilenceId::from_u128(1),
        version: 0,
        matchers: vec![Matcher::equal("source.service", "a")],
        starts_at: START,
        ends_at: START.plus(Duration::from_secs(60)),
        created_by: "ann".into(),
        comment: Text::default(),
        created_at: START,
        updated_at: START,
    };
    world.service.put_silence(TENANT, silence.clone(), None).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    let ended = world.service.expire_silence(TENANT, silence.id).await.unwrap();
    assert_eq!(ended.ends_at, START.plus(Duration::from_secs(10)));
    assert_eq!(world.service.expire_silence(TENANT, silence.id).await.unwrap(), ended);
    let mut late = silence;
    late.id = SilenceId::from_u128(2);
    late.ends_at = START.plus(Duration::from_secs(5));
    assert!(world.service.put_silence(TENANT, late, None).await.is_err());
}

#[tokio::test]
async fn tests_and_replays_are_due_at_once_and_the_dispatcher_is_told() {
    let World { service, outbox, listener, .. } = world();
    let channel = Channel::new(ChannelId::from_u128(1), "ops", ChannelConfig::Log {});
    let channel = service.put_channel(TENANT, channel, None).await.unwrap();
    let told = || listener.deliveries.load(Ordering::SeqCst);
    let id = service.send_test(TENANT, channel.id).await.unwrap();
    let (delivery, _) = outbox.delivery(TENANT, id).await.unwrap().unwrap();
    assert_eq!((delivery.content.kind, delivery.due_at), (NotificationKind::Test, START));
    assert_eq!(told(), 1);
    // What waits is left alone, so nobody is told.
    let selection = ReplaySelection::Ids(vec![id]);
    assert_eq!((service.replay_deliveries(TENANT, &selection).await.unwrap(), told()), (0, 1));
    let options = LeaseOptions {
        holder: "d".into(),
        now: START,
        limit: 1,
        ttl: Duration::from_secs(60),
        max_per_channel: 1,
        full: BTreeSet::new(),
    };
    let leased = outbox.lease(&options).await.unwrap().remove(0);
    let (delivery, lease_token) = (leased.delivery.id, leased.lease_token);
    let disposition = Disposition::Dead;
    let record =
        AttemptRecord { tenant: TENANT, delivery, lease_token, at: START, disposition, report: None };
    outbox.record(vec![record]).await.unwrap();
    assert_eq!((service.replay_deliveries(TENANT, &selection).await.unwrap(), told()), (1, 2));
    let unknown = service.send_test(TENANT, ChannelId::from_u128(2)).await.unwrap_err();
    assert_eq!((unknown.kind(), told()), (ErrorKind::NotFound, 2));
}
