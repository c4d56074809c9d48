//! What people do to alerts, timelines, counts, and the end of it all.

use super::probe::{Probe, at, change, firing, resolved};
use crate::alerting::{
    Alert, AlertAction, AlertState, Suppression, TimelineEntry, TimelineKind, TransitionReason,
};
use crate::error::ErrorKind;
use crate::id::{AlertId, DeliveryId, RuleId};
use crate::ports::alert_store::{AlertCount, AlertQuery, RuleActivity};
use crate::testkit::run::{BoxFuture, concurrently};

impl Probe {
    async fn act(&self, number: u128, action: AlertAction, seconds: i64) -> crate::error::Result<Alert> {
        self.store.act_on_alert(self.tenant, AlertId::from_u128(number), &action, at(seconds)).await
    }

    async fn timeline(&self, number: u128) -> Vec<TimelineEntry> {
        self.store.timeline(self.tenant, AlertId::from_u128(number)).await.expect("timeline succeeds")
    }
}

fn acknowledge(actor: &str) -> AlertAction {
    AlertAction::Acknowledge { actor: actor.into(), note: Some("on it".into()), expires_at: Some(at(500)) }
}

fn resolve() -> AlertAction {
    AlertAction::Resolve { actor: "ann".into(), note: None }
}

/// What a person did stays when the engine goes on, and the engine's news stays when a person acts.
pub(super) async fn alerts_actions_survive_the_engine(probe: Probe) {
    let missing = probe.act(1, acknowledge("ann"), 1).await.expect_err("there is no alert");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    probe.committed(0, vec![change(1, 1, None, AlertState::Pending, 1), firing(2)]).await;
    let told = probe.act(1, acknowledge("ann"), 2).await.expect("it is open");
    assert_eq!(told.acknowledgement.as_ref().map(|ack| ack.actor.as_str()), Some("ann"));
    assert_eq!(probe.alert(1).await, Some(told.clone()));
    probe.committed(1, vec![change(1, 2, Some(AlertState::Pending), AlertState::Firing, 3)]).await;
    let fired = probe.alert(1).await.expect("it is there");
    assert_eq!((fired.state, fired.acknowledgement), (AlertState::Firing, told.acknowledgement));
    let over = probe.act(1, resolve(), 4).await.expect("it is open");
    assert_eq!((over.state, over.reason), (AlertState::Resolved, TransitionReason::ResolvedByHand));
    probe.committed(2, vec![change(1, 3, Some(AlertState::Firing), AlertState::Recovering, 5)]).await;
    let still = probe.alert(1).await.expect("it is there");
    assert_eq!((still.state, still.resolved_at), (AlertState::Resolved, over.resolved_at));
    for action in [acknowledge("bob"), resolve()] {
        let late = probe.act(1, action, 6).await.expect_err("it is over");
        assert_eq!(late.kind(), ErrorKind::Conflict);
    }
    let entries: Vec<_> = probe.timeline(1).await.into_iter().map(|entry| (entry.at, entry.actor)).collect();
    let ann = || Some("ann".into());
    let expected = [(at(1), None), (at(2), ann()), (at(3), None), (at(4), ann())];
    assert_eq!(entries, expected, "the engine has nothing to say of an episode that ann resolved");
    let query = AlertQuery { states: vec![AlertState::Firing], ..AlertQuery::default() };
    assert_eq!(probe.found(&query).await, [2]);
}

/// People who act while the engine commits lose nothing, and neither does the engine.
pub(super) async fn alerts_actions_race_the_engine(probe: Probe) {
    const STEPS: u32 = 20;
    probe.committed(0, vec![firing(1)]).await;
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    for person in 0..3 {
        let probe = probe.clone();
        tasks.push(Box::pin(async move {
            for step in 0..STEPS {
                let note = format!("{person}/{step}").into();
                let action = AlertAction::Comment { actor: "ann".into(), note };
                probe.act(1, action, 2).await.expect("it is open");
            }
        }));
    }
    let engine = probe.clone();
    tasks.push(Box::pin(async move {
        for step in 0..STEPS {
            let states = [AlertState::Firing, AlertState::Recovering];
            let (from, to) = (states[step as usize % 2], states[(step as usize + 1) % 2]);
            let sequence = u64::from(step) + 1;
            engine.committed(sequence, vec![change(1, step + 2, Some(from), to, 3)]).await;
        }
    }));
    let harness = probe.harness.clone();
    concurrently(move |task| harness.block_on(task), tasks).await;
    assert_eq!(probe.alert(1).await.map(|alert| alert.sequence), Some(STEPS + 1));
    assert_eq!(probe.timeline(1).await.len() as u32, 1 + 4 * STEPS);
}

/// Counts and activity say what the alerts say, after every kind of change.
pub(super) async fn alerts_are_counted(probe: Probe) {
    let mut silenced = firing(4);
    silenced.suppressed_by = Some(Suppression::HourlyCap);
    let pending = |number| change(number, 1, None, AlertState::Pending, 1);
    probe.committed(0, vec![firing(1), firing(2), pending(3), silenced, pending(5), firing(7)]).await;
    let never_fired = change(5, 2, Some(AlertState::Pending), AlertState::Resolved, 9);
    probe.committed(1, vec![never_fired, resolved(7, 9)]).await;
    probe.act(2, resolve(), 10).await.expect("it is open");
    let query = AlertQuery { limit: 100, ..AlertQuery::default() };
    let page = probe.store.alerts(probe.tenant, &query).await.expect("alerts succeeds");
    let mut expected: Vec<AlertCount> = Vec::new();
    for alert in &page.alerts {
        let (state, severity, suppressed) = (alert.state, alert.severity, alert.suppressed_by.is_some());
        match expected
            .iter_mut()
            .find(|count| (count.state, count.severity, count.suppressed) == (state, severity, suppressed))
        {
            Some(count) => count.count += 1,
            None => expected.push(AlertCount { state, severity, suppressed, count: 1 }),
        }
    }
    assert_eq!(expected.iter().map(|count| count.count).sum::<u64>(), 5, "one never fired");
    let mut counts = probe.store.alert_counts(probe.tenant).await.expect("alert_counts succeeds");
    let key = |count: &AlertCount| (count.state.as_str(), count.severity, count.suppressed);
    counts.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(counts, expected);
    let rules = [1, 9, 2].map(RuleId::from_u128);
    let activity = probe.store.rule_activity(probe.tenant, &rules).await.expect("rule_activity succeeds");
    let of = |total_fired, seconds: Option<i64>| RuleActivity { total_fired, last_fired_at: seconds.map(at) };
    assert_eq!(activity, [of(3, Some(7)), of(0, None), of(1, Some(2))]);
}

/// No method answers about another tenant's alerts, or changes them.
pub(super) async fn alerts_are_isolated(probe: Probe) {
    probe.committed(0, vec![firing(1)]).await;
    let stranger = probe.stranger();
    assert_eq!(stranger.alert(1).await, None);
    assert!(stranger.found(&AlertQuery::default()).await.is_empty());
    assert!(stranger.timeline(1).await.is_empty());
    assert!(stranger.store.alert_counts(stranger.tenant).await.expect("succeeds").is_empty());
    let error = stranger.act(1, resolve(), 5).await.expect_err("it has none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let entry = TimelineEntry::by(AlertId::from_u128(1), at(5), &"eve".into(), None, TimelineKind::Commented);
    stranger.store.record_timeline(stranger.tenant, vec![entry]).await.expect("passed over");
    assert_eq!(stranger.store.prune_alerts(stranger.tenant, at(9_999), 9).await.expect("succeeds"), 0);
    assert_eq!(probe.alert(1).await.map(|alert| alert.state), Some(AlertState::Firing));
    assert_eq!(probe.timeline(1).await.len(), 1);
}

/// What was resolved before a moment goes, no more than asked, with everything that hangs on it; the rest stays.
pub(super) async fn alerts_are_pruned(probe: Probe) {
    let changes = (1..=6).map(firing).chain([resolved(1, 100), resolved(2, 101), resolved(3, 102)]);
    probe.committed(0, changes.collect()).await;
    let mut gone = Vec::new();
    for limit in [0, 1, 5, 5] {
        gone.push(probe.store.prune_alerts(probe.tenant, at(102), limit).await.expect("prune succeeds"));
    }
    assert_eq!(gone, [0, 1, 1, 0]);
    assert_eq!(probe.found(&AlertQuery::default()).await, [6, 5, 4, 3]);
    assert!(probe.alert(1).await.is_none() && probe.timeline(1).await.is_empty());
    let counts = probe.store.alert_counts(probe.tenant).await.expect("succeeds");
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 4);
    let rules = [0, 1, 2].map(RuleId::from_u128);
    let activity = probe.store.rule_activity(probe.tenant, &rules).await.expect("succeeds");
    assert_eq!(activity.iter().map(|of| of.total_fired).collect::<Vec<_>>(), [2, 1, 1]);
    let rule = Some(RuleId::from_u128(1));
    assert_eq!(probe.found(&AlertQuery { rule, ..AlertQuery::default() }).await, [4]);
}

/// An entry that is recorded again is the same entry; outcomes of deliveries count in their alert, once.
pub(super) async fn timeline_counts_once(probe: Probe) {
    probe.committed(0, vec![firing(1)]).await;
    let id = AlertId::from_u128(1);
    let delivery = |number| DeliveryId::from_u128(number);
    let sent = |number| TimelineKind::Notified { delivery: delivery(number), channel: "ops".into() };
    let failed = TimelineKind::NotificationFailed {
        delivery: delivery(3),
        channel: "ops".into(),
        error: "503".into(),
    };
    let entries = vec![
        TimelineEntry::of_delivery(id, at(5), delivery(1), sent(1)),
        TimelineEntry::of_delivery(id, at(4), delivery(2), sent(2)),
        TimelineEntry::of_delivery(id, at(4), delivery(3), failed),
        TimelineEntry::of_delivery(AlertId::from_u128(99), at(4), delivery(4), sent(4)),
    ];
    for _ in 0..2 {
        probe.store.record_timeline(probe.tenant, entries.clone()).await.expect("record_timeline succeeds");
    }
    let twice = [entries.clone(), entries].concat();
    probe.store.record_timeline(probe.tenant, twice).await.expect("record_timeline succeeds");
    let alert = probe.alert(1).await.expect("it is there");
    assert_eq!((alert.notifications_sent, alert.notification_failures), (2, 1));
    let times: Vec<_> = probe.timeline(1).await.iter().map(|entry| entry.at).collect();
    assert_eq!(times, [at(1), at(4), at(4), at(5)]);
    assert!(probe.timeline(99).await.is_empty(), "an unknown alert has no timeline");
}

/// A timeline that grows too long keeps its latest 1,000 entries.
pub(super) async fn timeline_keeps_the_latest(probe: Probe) {
    probe.committed(0, vec![firing(1)]).await;
    let id = AlertId::from_u128(1);
    let entry = |second: i64| {
        let note = format!("note {second}").into();
        TimelineEntry::by(id, at(second), &"ann".into(), Some(&note), TimelineKind::Commented)
    };
    let entries = (10..1_109).map(entry).collect();
    probe.store.record_timeline(probe.tenant, entries).await.expect("record_timeline succeeds");
    let timeline = probe.timeline(1).await;
    assert_eq!(timeline.len(), 1_000);
    assert_eq!((timeline[0].at, timeline[999].at), (at(109), at(1_108)));
}
