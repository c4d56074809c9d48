//! The life of an alert: pending over a restart, told with its texts, explained, silenced, acknowledged, resolved by hand.

use pulsestream::core::ErrorKind;
use pulsestream::core::alerting::{
    AlertAction, AlertSeverity, Inhibition, Matcher, MuteInterval, MuteSchedule, Silence, Suppression,
};
use pulsestream::core::id::SilenceId;

use super::*;

const HOUR: u64 = 3_600;

fn silence(world: &World, service: &str, seconds: u64) -> Silence {
    Silence {
        id: SilenceId::from_u128(u128::from(seconds)),
        version: 0,
        matchers: vec![Matcher::equal("source.service", service)],
        starts_at: world.now(),
        ends_at: world.now().plus(Duration::from_secs(seconds)),
        created_by: "ann".into(),
        comment: "maintenance".into(),
        created_at: world.now(),
        updated_at: world.now(),
    }
}

async fn busy(world: &mut World, services: &[&str], seconds: u64) {
    for _ in 0..seconds / LOOK {
        for service in services {
            world.send(service, |_| {}).await;
        }
        world.pass(LOOK).await;
    }
}

/// Returns the kinds of the entries in the timeline of an alert.
async fn story(world: &World, alert: &Alert) -> Vec<String> {
    let timeline = world.shop.alerts().timeline(alert.id).await.unwrap();
    let word = |kind: &TimelineKind| match kind {
        TimelineKind::Transition { to, .. } => to.to_string(),
        TimelineKind::Acknowledged { .. } => "acknowledged".into(),
        TimelineKind::Unacknowledged => "unacknowledged".into(),
        TimelineKind::Commented => "commented".into(),
        TimelineKind::Suppressed { .. } => "suppressed".into(),
        TimelineKind::Notified { .. } => "notified".into(),
        TimelineKind::NotificationFailed { .. } => "failed".into(),
    };
    timeline.iter().map(|entry| word(&entry.kind)).collect()
}

async fn pending_to_told(url: &str) {
    let mut world = World::open(url).await;
    let rule = world
        .rule(1, "count >= 3 over 1m by source.service for 5m", |rule| {
            rule.labels.insert("team".into(), "web".into());
            rule.annotations.insert(
                "title".into(),
                "{{ labels['source.service'] }} of {{ labels.team }}: {{ value }}".into(),
            );
        })
        .await;
    world.ps.alerting().put_silence(world.shop.id(), silence(&world, "b", 20 * 60), None).await.unwrap();
    busy(&mut world, &["a", "b"], 102).await;
    let pending = world.alerts().await;
    assert_eq!(pending.iter().map(|alert| alert.state).collect::<Vec<_>>(), [AlertState::Pending; 2]);
    // Pending since the third call, at 10 s: three minutes and a half are left, whenever it was evaluated last.
    let why = world.shop.rules().explain(rule.id, Some(START.plus(Duration::from_secs(100)))).await.unwrap();
    let of = |service: &str| {
        why.iter().find(|it| it.explanation.group.values().any(|value| value == service)).unwrap()
    };
    let text = &of("a").explanation.text;
    assert!(text.contains("count >= 3 over 1m"), "the threshold: {text}");
    assert!(text.contains("the value is 12, which is a breach"), "the value: {text}");
    assert!(text.contains("it fires in 3m30s"), "what is left: {text}");
    let window = of("a").explanation.window.unwrap();
    assert!(window.end.since(window.start) <= Duration::from_secs(60) && window.start > START, "{window:?}");
    assert_eq!(of("a").silenced_by, []);
    assert!(of("b").explanation.text.contains("silenced by ann until") && of("b").silenced_by.len() == 1);

    world.restart().await;
    busy(&mut world, &["a", "b"], 300).await;
    let firing = world.alerts().await;
    assert_eq!(
        firing.iter().map(|alert| alert.id).collect::<Vec<_>>(),
        pending.iter().map(|alert| alert.id).collect::<Vec<_>>()
    );
    for alert in &firing {
        assert_eq!(alert.fired_at, Some(START.plus(Duration::from_secs(310))));
    }
    let told = world.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].1, told[0].2.as_str()), (NotificationKind::Firing, "a of web: 12.0"));
    assert!((340..=345).contains(&told[0].0), "30 s after it fired: {told:?}");
    let silenced = firing.iter().find(|alert| alert.labels.values().any(|value| value == "b")).unwrap();
    assert!(matches!(silenced.suppressed_by, Some(Suppression::Silence(_))));
    assert_eq!(story(&world, silenced).await, ["pending", "firing", "suppressed"]);
    // The silence ends, and b is told too.
    busy(&mut world, &["a", "b"], 20 * 60).await;
    assert_eq!(world.told().len(), 1);
    assert!(story(&world, silenced).await.contains(&"notified".to_owned()));
    world.pass(300).await;
    assert!(world.alerts().await.iter().all(|alert| alert.state == AlertState::Resolved));
    let told = world.told();
    assert_eq!((told.len(), told[0].1, told[0].3), (1, NotificationKind::Resolved, 2));
    world.ps.close().await.unwrap();
}

#[tokio::test]
async fn an_alert_is_pending_over_a_restart_and_told_when_it_may_be() {
    in_a_folder(pending_to_told).await;
}

async fn hands(url: &str) {
    let mut world = World::open(url).await;
    let rule = world.rule(1, "absent over 1m by source.service", |_| {}).await;
    world.send("a", |_| {}).await;
    world.pass(120).await;
    assert_eq!(world.told().len(), 1);
    let alert = world.alerts_of(&rule).await.remove(0);
    let act = async |world: &World, action: AlertAction| world.shop.alerts().act(alert.id, &action).await;
    let note = |text: &str| AlertAction::Comment { actor: "ann".into(), note: text.into() };
    let expires_at = Some(world.now().plus(Duration::from_secs(6 * HOUR)));
    let acknowledge =
        AlertAction::Acknowledge { actor: "ann".into(), note: Some("on it".into()), expires_at };
    act(&world, acknowledge).await.unwrap();
    act(&world, note("the cable")).await.unwrap();
    world.restart().await;
    world.pass_by(5 * HOUR, 300).await;
    assert_eq!(world.told(), [], "not repeated after 4 h, somebody takes care");
    world.pass_by(2 * HOUR, 300).await;
    let told = world.told();
    assert_eq!((told.len(), told[0].1), (1, NotificationKind::Repeat), "the acknowledgement has expired");

    act(&world, AlertAction::Resolve { actor: "ann".into(), note: Some("replaced".into()) }).await.unwrap();
    world.pass_by(HOUR, 60).await;
    let told = world.told();
    assert_eq!((told.len(), told[0].1), (1, NotificationKind::Resolved));
    assert_eq!(world.alerts().await.len(), 1, "the silence goes on, and opens no other episode");
    let refused = act(&world, note("late")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    world.restart().await;
    world.send("a", |_| {}).await;
    world.pass(300).await;
    assert_eq!(world.alerts().await.len(), 2, "it was over once");
    // The engine ends its episode after Ann resolved it, which is no news.
    let expected = ["firing", "notified", "acknowledged", "commented", "notified", "resolved", "notified"];
    assert_eq!(story(&world, &alert).await, expected);
    world.ps.close().await.unwrap();
}

#[tokio::test]
async fn people_acknowledge_comment_and_resolve_and_restarts_forget_nothing() {
    in_a_folder(hands).await;
}

async fn quiet(url: &str) {
    let mut world = World::open(url).await;
    let mut routing = world.ps.alert_store().config(world.shop.id(), world.now()).await.unwrap().routing;
    routing.inhibitions.push(Inhibition {
        source: vec![Matcher::equal("severity", "critical")],
        target: vec![Matcher::equal("severity", "low")],
        equal: vec!["source.service".into()],
    });
    // 2027-01-15 08:00 UTC is 09:00 in Berlin.
    routing.mute_schedules.push(MuteSchedule {
        name: "morning".into(),
        time_zone: "Europe/Berlin".parse().unwrap(),
        intervals: vec![MuteInterval {
            weekdays: Default::default(),
            start_minute: 9 * 60,
            end_minute: 9 * 60 + 20,
        }],
    });
    routing.root.mute_during = vec!["morning".into()];
    let version = routing.version;
    world.ps.alerting().put_routing(world.shop.id(), routing, version).await.unwrap();
    let severe = world
        .rule(1, "count >= 3 over 1m by source.service", |rule| rule.severity = AlertSeverity::Critical)
        .await;
    let minor = world
        .rule(2, "count >= 2 over 1h by source.service", |rule| rule.severity = AlertSeverity::Low)
        .await;
    busy(&mut world, &["a"], 15 * 60).await;
    let by = async |world: &World, rule: &Rule| world.alerts_of(rule).await.remove(0).suppressed_by;
    let morning = Suppression::MuteSchedule("morning".into());
    assert_eq!(by(&world, &severe).await, Some(morning.clone()));
    assert_eq!(world.told(), [], "START is 08:00 UTC: the morning is muted");
    world.restart().await;
    busy(&mut world, &["a"], 10 * 60).await;
    let told = world.told();
    assert_eq!((told.len(), told[0].2.as_str()), (1, "rule 1 (source.service=a) is firing"), "{told:?}");
    assert!((1_200..=1_205).contains(&told[0].0), "at 09:20 in Berlin: {told:?}");
    let kept_back = story(&world, &world.alerts_of(&minor).await[0]).await;
    assert!(!kept_back.contains(&"notified".to_owned()), "rule 1 inhibits it: {kept_back:?}");
    // When the source is over, the target is told.
    world.pass(15 * 60).await;
    let titles: Vec<_> = world.told().into_iter().map(|(_, _, title, _)| title).collect();
    assert!(titles.contains(&"rule 1 (source.service=a) is resolved".to_owned()), "{titles:?}");
    assert!(titles.contains(&"rule 2 (source.service=a) is firing".to_owned()), "{titles:?}");
    world.ps.close().await.unwrap();
}

#[tokio::test]
async fn mute_schedules_and_inhibition_keep_back_and_let_go() {
    in_a_folder(quiet).await;
}
