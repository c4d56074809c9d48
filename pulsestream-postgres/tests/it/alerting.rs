//! The alert store and the outbox, compared with those over the key-value port: random operations, equal answers.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::alerting::{
    Alert, AlertAction, AlertChange, AlertSeverity, AlertState, Author, Channel, ChannelConfig, ConfigObject,
    Delivery, DeliveryStatus, Fingerprint, Labels, MatchOp, Matcher, NotificationContent, NotificationKind,
    Routing, Rule, RuleKind, Silence, TimelineEntry, TimelineKind, Transition, TransitionReason,
};
use pulsestream_core::at_rest::{KeyValueAlertStore, KeyValueOutbox};
use pulsestream_core::env::SeededEntropy;
use pulsestream_core::error::Result;
use pulsestream_core::id::{AlertId, ChannelId, DeliveryId, RuleId, SilenceId, TenantId};
use pulsestream_core::memory::MemoryKeyValue;
use pulsestream_core::ports::alert_store::{
    AlertCommit, AlertCursor, AlertQuery, AlertStore, CheckpointUpdate, ConfigChangeQuery, PutMode,
    RuleQuery, TenantAlertChanges,
};
use pulsestream_core::ports::event_store::{Partition, Position};
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport};
use pulsestream_core::ports::outbox::{
    AttemptRecord, DeliveryQuery, Disposition, LeaseOptions, LeasedDelivery, Outbox, ReplaySelection,
};
use pulsestream_core::time::{TimeRange, Timestamp};

use crate::support::{config, connect, connect_as_app, fresh_schema, with_server};

/// Two stores that must answer the same.
struct Pair {
    alerts: [Arc<dyn AlertStore>; 2],
    outboxes: [Arc<dyn Outbox>; 2],
}

/// A source of choices.
struct Choices(SeededEntropy);

impl Choices {
    fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn one_in(&self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Clone>(&self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()].clone()
    }

    fn maybe<T: Clone>(&self, items: &[T]) -> Option<T> {
        self.one_in(2).then(|| self.of(items))
    }
}

/// Returns the text of an answer: an error by its kind.
fn said<T: Debug>(answer: Result<T>) -> String {
    answer.map_or_else(|error| format!("{:?}", error.kind()), |answer| format!("{answer:?}"))
}

/// Asks both and compares; evaluates to the answer of PostgreSQL as text.
macro_rules! both {
    ($stores:expr, |$store:ident| $call:expr) => {{
        let mut answers = Vec::new();
        for $store in $stores.iter() {
            answers.push(said($call.await));
        }
        assert_eq!(answers[0], answers[1], "{}", stringify!($call));
        answers.swap_remove(0)
    }};
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + i64::try_from(second).unwrap())
}

fn rule(choices: &Choices) -> Rule {
    let id = RuleId::from_u128(u128::from(choices.below(6) + 1));
    let mut rule = Rule::new(
        id,
        format!("rule {}", choices.below(7)),
        RuleKind::Absence { window: Duration::from_secs(60) },
    );
    rule.is_active = choices.one_in(2);
    rule.severity = choices.of(&AlertSeverity::ALL);
    rule.created_at = at(choices.below(4));
    rule
}

fn mode(choices: &Choices) -> PutMode {
    match choices.below(3) {
        0 => PutMode::Create,
        1 => PutMode::Always,
        _ => PutMode::Replace { version: choices.below(4) },
    }
}

fn alert_id(choices: &Choices) -> AlertId {
    AlertId::from_u128(u128::from(choices.below(12) + 1))
}

fn change(choices: &Choices) -> AlertChange {
    let to = choices.of(&AlertState::ALL);
    let started = choices.below(100);
    let alert = alert_id(choices);
    let transition = Transition {
        alert,
        sequence: u32::try_from(choices.below(6) + 1).unwrap(),
        rule: RuleId::from_u128(alert.as_u128() % 6 + 1),
        rule_version: 1,
        fingerprint: Fingerprint(u64::MAX - u64::try_from(alert.as_u128() % 3).unwrap()),
        group: Labels::from([("service".into(), format!("s{}", choices.below(3)).into())]),
        from: None,
        to,
        at: at(100 + choices.below(100)),
        started_at: at(started),
        fired_at: choices.one_in(2).then(|| at(started + 1)),
        value: choices.one_in(2).then_some(0.1),
        reason: TransitionReason::Condition,
        muted: None,
    };
    let mut change = AlertChange::new(transition, &rule(choices), "count > 1 over 5m");
    if choices.one_in(3) {
        change.suppressed_by = Some(pulsestream_core::alerting::Suppression::Cooldown);
    }
    change
}

fn delivery(choices: &Choices) -> Delivery {
    let content = NotificationContent {
        kind: NotificationKind::Firing,
        title: "title".into(),
        message: "a \"quoted\" \u{e4} text".into(),
        group: Labels::new(),
        alerts: Vec::new(),
        omitted: 0,
    };
    let id = DeliveryId::from_u128(u128::from(choices.below(40) + 1));
    let channel = ChannelId::from_u128(u128::from(choices.below(3) + 1));
    Delivery::new(id, channel, "ops".into(), content, at(choices.below(50)), at(choices.below(300)))
}

fn timeline_entry(choices: &Choices) -> TimelineEntry {
    let delivery = DeliveryId::from_u128(u128::from(choices.below(5)));
    let kind = match choices.below(3) {
        0 => TimelineKind::Notified { delivery, channel: "ops".into() },
        1 => TimelineKind::NotificationFailed { delivery, channel: "ops".into(), error: "no".into() },
        _ => TimelineKind::Commented,
    };
    TimelineEntry::of_delivery(alert_id(choices), at(choices.below(300)), delivery, kind)
}

fn alert_query(choices: &Choices) -> AlertQuery {
    AlertQuery {
        states: if choices.one_in(2) {
            vec![choices.of(&AlertState::ALL), choices.of(&AlertState::ALL)]
        } else {
            Vec::new()
        },
        severities: choices.maybe(&AlertSeverity::ALL).into_iter().collect(),
        suppressed: choices.one_in(3).then(|| choices.one_in(2)),
        rule: choices.one_in(4).then(|| RuleId::from_u128(u128::from(choices.below(6) + 1))),
        fingerprint: choices.one_in(4).then(|| Fingerprint(u64::MAX - choices.below(3))),
        labels: if choices.one_in(3) {
            vec![Matcher { label: "service".into(), op: MatchOp::Matches, value: "s[01]".into() }]
        } else {
            Vec::new()
        },
        range: choices.one_in(3).then(|| TimeRange::new(at(choices.below(50)), at(50 + choices.below(50)))),
        include_unfired: choices.one_in(2),
        limit: usize::try_from(choices.below(4)).unwrap(),
        skip: usize::try_from(choices.below(2)).unwrap(),
        after: choices
            .one_in(3)
            .then(|| AlertCursor { started_at: at(choices.below(100)), id: alert_id(choices) }),
        count_total: choices.one_in(2),
    }
}

fn action(choices: &Choices) -> AlertAction {
    let actor = "ann".into();
    match choices.below(4) {
        0 => AlertAction::Acknowledge { actor, note: None, expires_at: Some(at(500)) },
        1 => AlertAction::Unacknowledge { actor },
        2 => AlertAction::Resolve { actor, note: Some("done".into()) },
        _ => AlertAction::Comment { actor, note: "hm".into() },
    }
}

fn commit(choices: &Choices, tenants: &[TenantId], sequence: u64) -> AlertCommit {
    let changes = tenants.iter().map(|tenant| TenantAlertChanges {
        tenant: *tenant,
        alerts: (0..choices.below(4)).map(|_| change(choices)).collect(),
        timeline: (0..choices.below(3)).map(|_| timeline_entry(choices)).collect(),
        deliveries: (0..choices.below(4)).map(|_| delivery(choices)).collect(),
    });
    AlertCommit {
        checkpoint: CheckpointUpdate {
            processor: "alerting".into(),
            partition: Partition::of(tenants[0]),
            fencing_token: 5 + choices.below(2),
            after_sequence: sequence - u64::from(sequence > 0 && choices.one_in(5)),
            position: Position(u128::MAX - u128::from(choices.below(3))),
            state: vec![0, 255, u8::try_from(sequence % 256).unwrap()],
        },
        changes: changes.collect(),
    }
}

impl Pair {
    async fn document(&self, choices: &Choices, tenant: TenantId) {
        let stores = &self.alerts;
        let author = Author::new(format!("user:{}", choices.below(3)), at(choices.below(50)));
        match choices.below(8) {
            0 | 1 => {
                let (rule, mode) = (rule(choices), mode(choices));
                both!(stores, |store| store.put_rule(tenant, rule.clone(), mode, &author));
            }
            2 => {
                let id = rule(choices).id;
                let expected = Some(choices.below(4)).filter(|version| *version > 0);
                both!(stores, |store| store.delete_rule(tenant, id, expected, &author));
            }
            3 => {
                let id = ChannelId::from_u128(u128::from(choices.below(3) + 1));
                let channel =
                    Channel::new(id, format!("channel {}", choices.below(3)), ChannelConfig::Log {});
                let mode = mode(choices);
                both!(stores, |store| store.put_channel(tenant, channel.clone(), mode, &author));
            }
            4 => {
                let id = ChannelId::from_u128(u128::from(choices.below(3) + 1));
                let expected = Some(choices.below(4)).filter(|version| *version > 0);
                both!(stores, |store| store.delete_channel(tenant, id, expected, &author));
            }
            5 => {
                let start = choices.below(100);
                let silence = Silence {
                    id: SilenceId::from_u128(u128::from(choices.below(3) + 1)),
                    version: 77,
                    matchers: vec![Matcher::equal("service", "s1")],
                    starts_at: at(start),
                    ends_at: at(start + 50),
                    created_by: "ann".into(),
                    comment: "maintenance".into(),
                    created_at: at(1),
                    updated_at: at(2),
                };
                let mode = mode(choices);
                both!(stores, |store| store.put_silence(tenant, silence.clone(), mode, &author));
            }
            6 => {
                let id = SilenceId::from_u128(u128::from(choices.below(3) + 1));
                let expected = Some(choices.below(4)).filter(|version| *version > 0);
                both!(stores, |store| store.delete_silence(tenant, id, expected, &author));
            }
            _ => {
                let routing = Routing { updated_at: at(choices.below(9)), ..Routing::default() };
                let mode = mode(choices);
                both!(stores, |store| store.put_routing(tenant, routing.clone(), mode, &author));
            }
        }
    }

    async fn look(&self, choices: &Choices, tenant: TenantId) {
        let stores = &self.alerts;
        let (query, now) = (alert_query(choices), at(choices.below(150)));
        both!(stores, |store| store.alerts(tenant, &query));
        both!(stores, |store| store.config(tenant, now));
        both!(stores, |store| store.revisions(Partition::of(tenant)));
        both!(stores, |store| store.channels(tenant));
        both!(stores, |store| store.silences(tenant, Some(now)));
        both!(stores, |store| store.routing(tenant));
        let changes = ConfigChangeQuery {
            object: choices.one_in(3).then(|| ConfigObject::Rule(rule(choices).id)),
            before: choices.one_in(3).then(|| choices.below(40)),
            limit: usize::try_from(choices.below(6)).unwrap(),
        };
        both!(stores, |store| store.changes(tenant, &changes));
        if choices.one_in(20) {
            both!(stores, |store| store.prune_changes(tenant, at(20), 1_000));
        }
        both!(stores, |store| store.checkpoint("alerting", Partition::of(tenant)));
        let rules = RuleQuery {
            is_active: choices.maybe(&[true, false]),
            limit: usize::try_from(choices.below(4)).unwrap(),
            skip: usize::try_from(choices.below(2)).unwrap(),
            after: None,
        };
        both!(stores, |store| store.rules(tenant, &rules));
        let id = alert_id(choices);
        both!(stores, |store| store.alert(tenant, id));
        both!(stores, |store| store.timeline(tenant, id));
        let mut counts = Vec::new();
        for store in stores {
            let mut found = store.alert_counts(tenant).await.unwrap();
            found.sort_by_key(|count| (count.state.as_str(), count.severity, count.suppressed));
            counts.push(found);
        }
        assert_eq!(counts[0], counts[1]);
        let deliveries = DeliveryQuery {
            status: choices.maybe(&DeliveryStatus::ALL),
            channel: choices.one_in(3).then(|| ChannelId::from_u128(1)),
            range: choices.one_in(3).then(|| TimeRange::new(at(10), at(40))),
            limit: usize::try_from(choices.below(5)).unwrap(),
            ..DeliveryQuery::default()
        };
        both!(self.outboxes, |outbox| outbox.deliveries(tenant, &deliveries));
        both!(self.outboxes, |outbox| outbox.counts(tenant));
        both!(self.outboxes, |outbox| outbox.next_due());
        let id = delivery(choices).id;
        both!(self.outboxes, |outbox| outbox.delivery(tenant, id));
    }

    async fn dispatch(&self, choices: &Choices, tenant: TenantId, now: Timestamp) {
        let options = LeaseOptions {
            holder: "dispatcher".into(),
            now,
            limit: usize::try_from(choices.below(5) + 1).unwrap(),
            ttl: Duration::from_secs(30),
            max_per_channel: usize::try_from(choices.below(3) + 1).unwrap(),
            full: BTreeSet::new(),
        };
        let mut leased: Vec<Vec<LeasedDelivery>> = Vec::new();
        for outbox in &self.outboxes {
            leased.push(outbox.lease(&options).await.unwrap());
        }
        assert_eq!(leased[0], leased[1]);
        let mut records = Vec::new();
        for lease in leased.swap_remove(0) {
            if choices.one_in(4) {
                continue;
            }
            let disposition = match choices.below(5) {
                0 => Disposition::Delivered,
                1 => Disposition::Dead,
                2 => Disposition::Cancelled,
                3 => Disposition::RetryAt(now.plus(Duration::from_secs(5))),
                _ => Disposition::Postponed(now.plus(Duration::from_secs(2))),
            };
            let report = choices.one_in(2).then(|| DeliveryReport {
                outcome: DeliveryOutcome::RetryAfter { after: None, error: "refused".into() },
                request: "POST".into(),
                response: None,
                status_code: Some(503),
                latency: Duration::from_millis(3),
            });
            records.push(AttemptRecord {
                tenant: lease.tenant,
                delivery: lease.delivery.id,
                lease_token: lease.lease_token - u64::from(choices.one_in(6)),
                at: now,
                disposition,
                report,
            });
        }
        both!(self.outboxes, |outbox| outbox.record(records.clone()));
        if choices.one_in(3) {
            let selection = match choices.below(3) {
                0 => ReplaySelection::Ids(vec![delivery(choices).id, delivery(choices).id]),
                1 => ReplaySelection::Dead { channel: choices.one_in(2).then(|| ChannelId::from_u128(2)) },
                _ => ReplaySelection::Range { range: TimeRange::new(at(5), at(20)), channel: None },
            };
            both!(self.outboxes, |outbox| outbox.replay(tenant, &selection, now));
        }
        if choices.one_in(10) {
            let before = at(choices.below(300));
            both!(self.outboxes, |outbox| outbox.prune(tenant, before, 1_000));
        }
    }

    async fn change_alerts(&self, choices: &Choices, tenants: &[TenantId], sequence: &mut u64) {
        let tenant = choices.of(tenants);
        match choices.below(6) {
            0..=2 => {
                let commit = commit(choices, tenants, *sequence);
                let answer = both!(self.alerts, |store| store.commit(commit.clone()));
                if answer == "Committed" {
                    *sequence = commit.checkpoint.after_sequence + 1;
                    if choices.one_in(3) {
                        let again = both!(self.alerts, |store| store.commit(commit.clone()));
                        assert_eq!(again, "Replayed");
                    }
                }
            }
            3 => {
                let (id, action, now) = (alert_id(choices), action(choices), at(200 + choices.below(50)));
                both!(self.alerts, |store| store.act_on_alert(tenant, id, &action, now));
            }
            4 => {
                let entries: Vec<_> = (0..choices.below(4)).map(|_| timeline_entry(choices)).collect();
                both!(self.alerts, |store| store.record_timeline(tenant, entries.clone()));
            }
            _ => {
                let before = at(choices.below(200));
                both!(self.alerts, |store| store.prune_alerts(tenant, before, 1_000));
            }
        }
    }
}

#[test]
fn random_operations_answer_as_over_the_key_value_port() {
    with_server(|url| async move {
        for seed in 0..4 {
            let postgres = connect_as_app(&url, config(fresh_schema())).await;
            let memory = Arc::new(MemoryKeyValue::new());
            let pair = Pair {
                alerts: [postgres.alert_store(), Arc::new(KeyValueAlertStore::new(memory.clone()))],
                outboxes: [postgres.outbox(), Arc::new(KeyValueOutbox::new(memory))],
            };
            let choices = Choices(SeededEntropy::new(seed));
            let tenants = [TenantId::from_name("a"), TenantId::from_name("b")];
            let mut sequence = 0;
            for step in 0..150 {
                let tenant = choices.of(&tenants);
                match choices.below(4) {
                    0 => pair.document(&choices, tenant).await,
                    1 => pair.change_alerts(&choices, &tenants, &mut sequence).await,
                    2 => pair.dispatch(&choices, tenant, at(step * 3)).await,
                    _ => {
                        let delivery = delivery(&choices);
                        both!(pair.outboxes, |outbox| outbox.enqueue(tenant, vec![delivery.clone()]));
                    }
                }
                pair.look(&choices, tenant).await;
            }
            postgres.close().await;
        }
    });
}

#[test]
fn dispatchers_on_many_nodes_share_the_work_and_keep_the_cap() {
    with_server(|url| async move {
        let schema = fresh_schema();
        let nodes: Vec<_> = {
            let mut nodes = Vec::new();
            for _ in 0..3 {
                nodes.push(connect(&url, config(schema.clone())).await.outbox());
            }
            nodes
        };
        let tenant = TenantId::from_name("shared");
        let choices = Choices(SeededEntropy::new(9));
        let deliveries: Vec<Delivery> = (0..60_u128)
            .map(|number| Delivery {
                id: DeliveryId::from_u128(number + 1),
                channel: ChannelId::from_u128(number % 3 + 1),
                due_at: at(0),
                ..delivery(&choices)
            })
            .collect();
        assert_eq!(nodes[0].enqueue(tenant, deliveries).await.unwrap(), 60);
        let leases: Vec<_> = nodes
            .iter()
            .cycle()
            .take(9)
            .cloned()
            .map(|outbox| {
                tokio::spawn(async move {
                    let options = LeaseOptions {
                        holder: "node".into(),
                        now: at(1),
                        limit: 10,
                        ttl: Duration::from_secs(30),
                        max_per_channel: 7,
                        full: BTreeSet::new(),
                    };
                    outbox.lease(&options).await.unwrap()
                })
            })
            .collect();
        let mut per_channel = std::collections::HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for lease in leases {
            for leased in lease.await.unwrap() {
                assert!(seen.insert(leased.delivery.id), "leased twice");
                *per_channel.entry(leased.delivery.channel).or_insert(0) += 1;
            }
        }
        assert!(per_channel.values().all(|held| *held == 7), "{per_channel:?}");
    });
}

#[test]
fn a_person_and_the_engine_do_not_undo_each_other() {
    with_server(|url| async move {
        let store = connect(&url, config(fresh_schema())).await.alert_store();
        let tenant = TenantId::from_name("race");
        let choices = Choices(SeededEntropy::new(3));
        let id = AlertId::from_u128(1);
        let step = |sequence: u32| {
            let mut change = change(&choices);
            change.transition.alert = id;
            change.transition.sequence = sequence;
            change.transition.to = AlertState::Firing;
            AlertCommit {
                checkpoint: CheckpointUpdate {
                    processor: "alerting".into(),
                    partition: Partition::of(tenant),
                    fencing_token: 1,
                    after_sequence: u64::from(sequence - 1),
                    position: Position(u128::from(sequence)),
                    state: Vec::new(),
                },
                changes: vec![TenantAlertChanges {
                    tenant,
                    alerts: vec![change],
                    timeline: Vec::new(),
                    deliveries: Vec::new(),
                }],
            }
        };
        let (routing, author) = (Routing::default(), Author::new("ann", at(0)));
        store.put_routing(tenant, routing, PutMode::Always, &author).await.unwrap();
        store.commit(step(1)).await.unwrap();
        let people = {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..20 {
                    let note = format!("{number}").into();
                    let action =
                        AlertAction::Acknowledge { actor: "ann".into(), note: Some(note), expires_at: None };
                    store.act_on_alert(tenant, id, &action, at(number)).await.unwrap();
                }
            })
        };
        for sequence in 2..22 {
            store.commit(step(sequence)).await.unwrap();
        }
        people.await.unwrap();
        let alert: Alert = store.alert(tenant, id).await.unwrap().unwrap();
        assert_eq!(alert.sequence, 21);
        assert_eq!(alert.acknowledgement.unwrap().note.unwrap().as_str(), "19");
        assert_eq!(store.timeline(tenant, id).await.unwrap().len(), 41);
    });
}
