//! Grouping in virtual time.

use std::time::Duration;

use super::*;
use crate::alerting::{
    AlertSeverity, ChannelConfig, ChannelDisabled, ChannelRef, Delivery, Fingerprint, GroupTiming,
    Inhibition, Matcher, MuteInterval, MuteSchedule, NotificationKind, Route, Rule, RuleKind, Silence,
    TimelineKind, Transition, TransitionReason,
};
use crate::id::{ChannelId, RuleId, SilenceId};

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// One tenant's planner, driven second by second; with `restarts` it continues from its snapshot at every step.
struct World {
    factory: GroupingPlanner,
    planner: Box<dyn Planner>,
    config: AlertingConfig,
    start: Timestamp,
    now: Timestamp,
    restarts: bool,
    acknowledged: BTreeMap<AlertId, Acknowledgement>,
    /// The last episode of each instance.
    episodes: BTreeMap<(u128, String), AlertId>,
    next_episode: u128,
    sent: Vec<Delivery>,
    timeline: Vec<crate::alerting::TimelineEntry>,
}

fn channel(number: u128, name: &str) -> Channel {
    Channel::new(ChannelId::from_u128(number), name, ChannelConfig::Log {})
}

fn refer(names: &[&str]) -> Option<Vec<ChannelRef>> {
    Some(names.iter().map(|name| ChannelRef::new(*name)).collect())
}

impl World {
    fn at(start: &str, restarts: bool) -> Self {
        let start: Timestamp = start.parse().unwrap();
        let mut config = AlertingConfig { revision: 1, ..AlertingConfig::default() };
        for (number, name) in [(1, "ops"), (2, "db"), (3, "boss")] {
            config.channels.push(channel(number, name));
        }
        for number in 1..=3_u128 {
            let kind = RuleKind::Absence { window: Duration::from_secs(60) };
            let mut rule = Rule::new(RuleId::from_u128(number), format!("rule {number}"), kind);
            rule.severity = if number == 3 { AlertSeverity::Critical } else { AlertSeverity::Medium };
            config.rules.push(rule);
        }
        config.routing.root.channels = refer(&["ops"]);
        let factory = GroupingPlanner::new(vec![channel(9, "pager")]);
        let planner = factory.start(TenantId::from_u128(1), None).unwrap();
        let (acknowledged, episodes, sent, timeline) = Default::default();
        let (now, next_episode) = (start, 1);
        Self {
            factory,
            planner,
            config,
            start,
            now,
            restarts,
            acknowledged,
            episodes,
            next_episode,
            sent,
            timeline,
        }
    }

    fn new() -> Self {
        Self::at("2026-01-05T12:00:00Z", false)
    }

    fn restart(&mut self) {
        if self.restarts {
            let snapshot = self.planner.snapshot();
            self.planner = self.factory.start(TenantId::from_u128(1), Some(&snapshot)).unwrap();
            assert_eq!(self.planner.snapshot(), snapshot);
        }
    }

    fn keep(&mut self, plan: Plan) {
        self.sent.extend(plan.deliveries);
        self.timeline.extend(plan.timeline);
        self.restart();
    }

    /// Lets time pass, in jumps to whatever is due.
    fn pass(&mut self, seconds: u64) {
        let end = self.now.plus(Duration::from_secs(seconds));
        loop {
            let due = self.planner.next_due().filter(|due| *due <= end);
            self.now = due.unwrap_or(end).max(self.now);
            let plan = self.planner.advance(&self.config, self.now);
            self.keep(plan);
            if due.is_none() {
                return;
            }
            let next = self.planner.next_due();
            assert!(next.is_none_or(|next| next > self.now), "time stands still at {}", self.now);
        }
    }

    fn transition(
        &mut self,
        rule: u128,
        service: &str,
        from: Option<AlertState>,
        to: AlertState,
    ) -> Transition {
        let group: Labels = [("service".into(), service.into())].into();
        let fingerprint = Fingerprint::of(&group);
        let instance = (rule, service.to_owned());
        let rule = RuleId::from_u128(rule);
        if from.is_none() {
            self.episodes.insert(instance.clone(), AlertId::from_u128(self.next_episode));
            self.next_episode += 1;
        }
        let alert = self.episodes[&instance];
        Transition {
            alert,
            sequence: if to == AlertState::Resolved { 2 } else { 1 },
            rule,
            rule_version: 1,
            fingerprint,
            group,
            from,
            to,
            at: self.now,
            started_at: self.start,
            fired_at: Some(self.now),
            value: Some(5.0),
            reason: TransitionReason::Condition,
            muted: None,
        }
    }

    fn take(&mut self, transition: Transition) -> AlertChange {
        let rule = self.config.rules.iter().find(|rule| rule.id == transition.rule).unwrap();
        let mut changes = [AlertChange::new(transition, rule, "count > 3 over 5m")];
        let plan = self.planner.plan(&mut changes, &self.config, self.now);
        self.keep(plan);
        let [change] = changes;
        change
    }

    fn fire(&mut self, rule: u128, service: &str) -> AlertChange {
        let transition = self.transition(rule, service, None, AlertState::Firing);
        self.take(transition)
    }

    fn resolve(&mut self, rule: u128, service: &str) {
        let transition = self.transition(rule, service, Some(AlertState::Firing), AlertState::Resolved);
        self.take(transition);
    }

    fn changed(&mut self) {
        self.config.revision += 1;
        let plan = self.planner.advance(&self.config, self.now);
        self.keep(plan);
    }

    fn acknowledge(&mut self, alert: AlertId, expires_after: Option<u64>) {
        let expires_at = expires_after.map(|seconds| self.now.plus(Duration::from_secs(seconds)));
        let acknowledgement = Acknowledgement { actor: "ann".into(), note: None, at: self.now, expires_at };
        self.acknowledged.insert(alert, acknowledgement);
        self.planner.follow(&self.acknowledged, self.now);
        self.restart();
    }

    /// Returns what was sent since the last call: the second, the channel, the kind, how many alerts.
    fn told(&mut self) -> Vec<(u64, String, NotificationKind, usize)> {
        let start = self.start;
        let told = self.sent.drain(..).map(|delivery| {
            let content = delivery.content;
            let second = delivery.created_at.since(start).as_secs();
            (second, delivery.channel_name.to_string(), content.kind, content.alerts.len())
        });
        told.collect()
    }
}

fn told(
    second: u64,
    channel: &str,
    kind: NotificationKind,
    alerts: usize,
) -> (u64, String, NotificationKind, usize) {
    (second, channel.to_owned(), kind, alerts)
}

use NotificationKind::{Firing, Repeat, Resolved};

#[test]
fn alerts_of_a_rule_wait_for_each_other_and_are_repeated() {
    let mut world = World::new();
    world.fire(1, "a");
    world.pass(10);
    world.fire(1, "b");
    world.fire(2, "a");
    world.pass(60);
    assert_eq!(world.told(), [told(30, "ops", Firing, 2), told(40, "ops", Firing, 1)]);
    world.fire(1, "c");
    world.pass(5 * MINUTE);
    assert_eq!(world.told(), [told(330, "ops", Firing, 3)], "news waits for the interval");
    world.resolve(2, "a");
    world.pass(5 * HOUR);
    let sent = world.sent.clone();
    assert_eq!(world.told(), [told(400, "ops", Resolved, 1), told(330 + 4 * HOUR, "ops", Repeat, 3)]);
    assert_eq!(sent[1].content.title, Text::from("3 alerts are still firing (rule=rule 1)"));
    for service in ["a", "b", "c"] {
        world.resolve(1, service);
    }
    world.pass(48 * HOUR);
    let all: Vec<_> = world.told().into_iter().map(|(_, _, kind, alerts)| (kind, alerts)).collect();
    assert_eq!(all, [(Resolved, 3)]);
    assert_eq!(world.planner.next_due(), None, "nothing is left");
}

#[test]
fn what_is_over_before_the_wait_ends_is_told_once() {
    let mut world = World::new();
    world.fire(1, "a");
    world.pass(5);
    world.resolve(1, "a");
    world.pass(HOUR);
    assert_eq!(world.told(), [told(30, "ops", Firing, 1)]);
}

#[test]
fn routes_nest_and_continue_and_rules_with_channels_go_there() {
    let mut world = World::new();
    let child = |matcher: Matcher, channel: &str| Route {
        matchers: vec![matcher],
        channels: refer(&[channel]),
        ..Route::default()
    };
    let mut first = child(Matcher::equal("severity", "critical"), "boss");
    first.go_on = true;
    let mut second = child(Matcher::equal("service", "db"), "db");
    second.group_by = Some(vec!["service".into()]);
    second.routes = vec![child(Matcher::equal("rule", "rule 2"), "pager")];
    world.config.routing.root.routes = vec![first, second];
    world.fire(3, "db");
    world.fire(1, "db");
    world.fire(2, "db");
    world.fire(1, "web");
    world.pass(MINUTE);
    let mut sent = world.told();
    sent.sort_by(|left, right| left.1.cmp(&right.1));
    let expected = [
        told(30, "boss", Firing, 1),
        told(30, "db", Firing, 2),
        told(30, "ops", Firing, 1),
        told(30, "pager", Firing, 1),
    ];
    assert_eq!(sent, expected);
    world.config.rules[0].channels = vec![ChannelRef::new("pager"), ChannelRef::new("nobody")];
    world.config.rules[0].notify_at_once = true;
    world.fire(1, "x");
    assert_eq!(world.told(), [told(60, "pager", Firing, 1)], "at once, and to the server's channel");
    world.resolve(1, "x");
    assert_eq!(world.told(), [told(60, "pager", Resolved, 1)]);
}

#[test]
fn acknowledged_alerts_are_not_repeated_until_it_expires() {
    let mut world = World::new();
    let change = world.fire(1, "a");
    world.pass(MINUTE);
    world.told();
    world.acknowledge(change.transition.alert, Some(10 * HOUR));
    world.pass(10 * HOUR - 1);
    assert_eq!(world.told(), []);
    world.pass(10);
    assert_eq!(world.told(), [told(10 * HOUR + MINUTE, "ops", Repeat, 1)]);
    world.acknowledge(change.transition.alert, None);
    world.pass(100 * HOUR);
    assert_eq!(world.told(), []);
    world.acknowledged.clear();
    world.planner.follow(&BTreeMap::new(), world.now);
    world.pass(1);
    assert_eq!(world.told().len(), 1, "taken back, it is overdue");
    world.acknowledge(change.transition.alert, None);
    world.resolve(1, "a");
    world.pass(10 * MINUTE);
    assert_eq!(world.told()[0].2, Resolved);
}

#[test]
fn silences_keep_back_and_what_fires_still_is_told_when_they_end() {
    let mut world = World::new();
    world.config.silences.push(Silence {
        id: SilenceId::from_u128(7),
        version: 1,
        matchers: vec![Matcher::equal("service", "a")],
        starts_at: world.start,
        ends_at: world.start.plus(Duration::from_secs(HOUR)),
        created_by: "ann".into(),
        comment: Text::default(),
        created_at: world.start,
        updated_at: world.start,
    });
    let change = world.fire(1, "a");
    assert_eq!(change.suppressed_by, Some(Suppression::Silence(SilenceId::from_u128(7))));
    world.fire(1, "b");
    world.pass(HOUR - 1);
    assert_eq!(world.told(), [told(30, "ops", Firing, 1)]);
    world.pass(10 * MINUTE);
    let sent = world.told();
    assert_eq!((sent.len(), sent[0].2, sent[0].3), (1, Firing, 2));
    let suppressed =
        |entry: &&crate::alerting::TimelineEntry| matches!(entry.kind, TimelineKind::Suppressed { .. });
    assert_eq!(world.timeline.iter().filter(suppressed).count(), 1, "said once");
    // A silence that is taken back counts at once.
    world.config.silences[0].ends_at = world.now.plus(Duration::from_secs(HOUR));
    world.changed();
    world.resolve(1, "a");
    world.fire(2, "a");
    world.pass(10 * MINUTE);
    assert_eq!(world.told(), []);
    world.config.silences.clear();
    world.changed();
    world.pass(30);
    assert_eq!(world.told().len(), 1);
}

#[test]
fn alerts_inhibit_others_while_they_fire() {
    let mut world = World::new();
    world.config.routing.inhibitions.push(Inhibition {
        source: vec![Matcher::equal("severity", "critical")],
        target: vec![Matcher::equal("severity", "medium")],
        equal: vec!["service".into()],
    });
    let source = world.fire(3, "a");
    assert_eq!(source.suppressed_by, None);
    let target = world.fire(1, "a");
    assert_eq!(target.suppressed_by, Some(Suppression::Inhibition(source.transition.alert)));
    assert_eq!(world.fire(1, "b").suppressed_by, None);
    world.pass(10 * MINUTE);
    assert_eq!(world.told(), [told(30, "ops", Firing, 1), told(30, "ops", Firing, 1)]);
    world.resolve(3, "a");
    world.pass(10 * MINUTE);
    let kinds: Vec<_> = world.told().into_iter().map(|(_, _, kind, alerts)| (kind, alerts)).collect();
    assert_eq!(kinds.len(), 2, "the end of the source, and the target: {kinds:?}");
    assert!(kinds.contains(&(Resolved, 1)) && kinds.contains(&(Firing, 2)));
}

/// Fires in the evening before the clocks change, and returns how long after the start people are told.
fn told_after_the_night(start: &str, restarts: bool) -> u64 {
    let mut world = World::at(start, restarts);
    world.config.routing.mute_schedules.push(MuteSchedule {
        name: "nights".into(),
        time_zone: "Europe/Berlin".parse().unwrap(),
        intervals: vec![MuteInterval {
            weekdays: Default::default(),
            start_minute: 22 * 60,
            end_minute: 6 * 60,
        }],
    });
    world.config.routing.root.mute_during = vec!["nights".into()];
    let change = world.fire(1, "a");
    assert_eq!(change.suppressed_by, Some(Suppression::MuteSchedule("nights".into())));
    world.pass(20 * HOUR);
    let first = world.told()[0].clone();
    assert_eq!((first.2, first.3), (Firing, 1));
    first.0
}

#[test]
fn nights_end_by_the_clock_on_the_wall() {
    // 23:00 in Berlin each time; 06:00 is six, seven or eight hours later.
    assert_eq!(told_after_the_night("2026-03-27T22:00:00Z", false), 7 * HOUR);
    assert_eq!(told_after_the_night("2026-03-28T22:00:00Z", false), 6 * HOUR);
    assert_eq!(told_after_the_night("2026-10-24T21:00:00Z", true), 8 * HOUR);
}

#[test]
fn cooldown_and_cap_are_said_and_the_resolution_is_quiet_too() {
    let mut world = World::new();
    for (muted, by) in [(Muted::Cooldown, Suppression::Cooldown), (Muted::HourlyCap, Suppression::HourlyCap)]
    {
        let mut transition = world.transition(1, "a", None, AlertState::Firing);
        transition.muted = Some(muted);
        assert_eq!(world.take(transition).suppressed_by, Some(by.clone()));
        assert_eq!(world.timeline.pop().map(|entry| entry.kind), Some(TimelineKind::Suppressed { by }));
        let mut transition = world.transition(1, "a", Some(AlertState::Firing), AlertState::Resolved);
        transition.muted = Some(muted);
        world.take(transition);
        world.pass(10 * HOUR);
        assert_eq!(world.told(), []);
    }
    assert_eq!(world.planner.next_due(), None);
}

#[test]
fn channels_that_want_no_end_get_none_and_deleted_rules_end_their_alerts() {
    let mut world = World::new();
    world.config.channels[1].send_resolved = false;
    world.config.routing.root.channels = refer(&["ops", "db"]);
    world.fire(1, "a");
    world.pass(MINUTE);
    assert_eq!(world.told().len(), 2);
    world.config.rules.remove(0);
    world.changed();
    world.pass(10 * MINUTE);
    assert_eq!(world.told(), [told(330, "ops", Resolved, 1)]);
    assert_eq!(world.planner.next_due(), None);
}

#[test]
fn foreign_snapshots_are_refused() {
    let factory = GroupingPlanner::new(Vec::new());
    let start =
        |bytes: &[u8]| factory.start(TenantId::from_u128(1), Some(bytes)).map(|_| ()).unwrap_err().kind();
    assert_eq!(start(b"nonsense"), ErrorKind::Corrupt);
    assert_eq!(start(br#"{"format":2}"#), ErrorKind::Unsupported);
    assert_eq!(start(br#"{"format":1}"#), ErrorKind::Corrupt);
    assert!(factory.start(TenantId::from_u128(1), Some(b"")).is_ok());
}

/// Two busy days; returns everything that was planned.
fn busy_days(restarts: bool) -> (Vec<Delivery>, Vec<crate::alerting::TimelineEntry>) {
    let mut world = World::at("2026-03-28T12:00:00Z", restarts);
    world.config.routing.root.group_by = Some(vec!["service".into()]);
    world.config.routing.root.timing =
        Some(GroupTiming { repeat_interval: Duration::from_secs(HOUR), ..GroupTiming::default() });
    world.config.routing.root.mute_during = vec!["nights".into()];
    world.config.routing.mute_schedules.push(MuteSchedule {
        name: "nights".into(),
        time_zone: "Europe/Berlin".parse().unwrap(),
        intervals: vec![MuteInterval {
            weekdays: Default::default(),
            start_minute: 22 * 60,
            end_minute: 6 * 60,
        }],
    });
    let services = ["a", "b", "c", "d"];
    let mut open = std::collections::BTreeSet::new();
    let mut dice = 7_u64;
    for _ in 0..400 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (rule, service) = (u128::from(dice >> 60) % 3 + 1, services[(dice >> 40) as usize % 4]);
        if open.remove(&(rule, service)) {
            world.resolve(rule, service);
        } else {
            open.insert((rule, service));
            let change = world.fire(rule, service);
            if dice >> 33 & 3 == 0 {
                world.acknowledge(change.transition.alert, Some(HOUR));
            }
        }
        world.pass((dice >> 20) % 900);
    }
    (world.sent, world.timeline)
}

#[test]
fn what_cannot_be_sent_stands_in_the_timeline() {
    let mut world = World::new();
    world.config.rules[0].channels = vec!["ops", "db", "e-mail"].into_iter().map(ChannelRef::new).collect();
    world.config.channels[1].disabled = Some(ChannelDisabled { at: world.start, reason: "410".into() });
    let change = world.fire(1, "a");
    world.pass(60);
    assert_eq!(world.told(), [told(30, "ops", Firing, 1)]);
    let failed: Vec<_> = world
        .timeline
        .iter()
        .filter_map(|entry| match &entry.kind {
            TimelineKind::NotificationFailed { channel, error, .. } => {
                Some((entry.alert, channel.as_str(), error.as_str()))
            }
            _ => None,
        })
        .collect();
    let alert = change.transition.alert;
    assert_eq!(
        failed,
        [(alert, "db", "the channel is disabled"), (alert, "e-mail", "there is no channel of this name")]
    );
}

#[test]
fn restarts_change_nothing_and_no_id_comes_twice() {
    let (sent, timeline) = busy_days(false);
    assert!(sent.len() > 100, "{} deliveries", sent.len());
    let ids: std::collections::BTreeSet<_> = sent.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids.len(), sent.len());
    assert_eq!(busy_days(true), (sent, timeline));
}
