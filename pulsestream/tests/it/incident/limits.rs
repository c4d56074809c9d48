//! What bounds a rule: groups, cooldown, the hourly cap, and what people see of it.

use pulsestream::core::alerting::{OPERATIONAL_SERVICE, Suppression};

use super::*;

async fn overflow(url: &str) {
    let mut world = World::open(url).await;
    let rule = world.rule(1, "count >= 3 over 1m by source.service", |rule| rule.max_groups = 2).await;
    for service in ["a", "b", "c", "d", "e"] {
        world.send(service, |_| {}).await;
        world.pass(LOOK).await;
    }
    let alerts = world.alerts_of(&rule).await;
    let labels: Vec<_> = alerts.iter().flat_map(|alert| alert.labels.values()).collect();
    assert_eq!(labels, ["__other__"], "three further services share an instance");
    let incidents = async |world: &World| {
        let filter = Some("event_type = 'pulsestream.rule_overflowed'".parse().unwrap());
        world.shop.find(FindQuery { filter, ..FindQuery::default() }).await.unwrap().events
    };
    let told = incidents(&world).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let event = &told[0];
    assert_eq!(
        (event.severity, event.source.service.as_deref()),
        (Severity::Warning, Some(OPERATIONAL_SERVICE))
    );
    let payload: serde_json::Value = serde_json::to_value(&event.payload).unwrap();
    assert_eq!(payload["rule"], "rule 1");
    assert_eq!((&payload["rule_id"], &payload["max_groups"]), (&rule.id.to_string().into(), &"2".into()));
    // Once an hour, also when the process starts again.
    for service in ["f", "g"] {
        world.restart().await;
        world.send(service, |_| {}).await;
        world.pass(LOOK).await;
    }
    assert_eq!(incidents(&world).await.len(), 1);
    world.pass_by(3_700, 60).await;
    for service in ["a", "b", "c"] {
        world.send(service, |_| {}).await;
    }
    world.pass(LOOK).await;
    assert_eq!(incidents(&world).await.len(), 2);
    world.ps.close().await.unwrap();
}

#[tokio::test]
async fn a_rule_with_too_many_groups_shares_one_and_says_so_in_an_event() {
    on_real_stores(overflow).await;
}

async fn caps(url: &str) {
    let mut world = World::open(url).await;
    let cooling = world
        .rule(1, "count >= 1 over 10s where source.service = 'a'", |rule| {
            rule.cooldown = Duration::from_secs(600);
            rule.notify_at_once = true;
        })
        .await;
    let capped = world
        .rule(2, "count >= 1 over 10s where source.service != 'a' by source.service", |rule| {
            rule.max_alerts_per_hour = Some(2);
            rule.notify_at_once = true;
        })
        .await;
    world.send("a", |_| {}).await;
    for service in ["b", "c", "d"] {
        world.send(service, |_| {}).await;
        world.pass(LOOK).await;
    }
    world.pass(60).await;
    let firing = |told: Vec<Told>| {
        let firing = told.into_iter().filter(|(_, kind, ..)| *kind == NotificationKind::Firing);
        firing.map(|(_, _, title, _)| title).collect::<Vec<_>>()
    };
    let titles = firing(world.told());
    assert_eq!(titles.len(), 3, "one of rule 1, two of rule 2: {titles:?}");
    // Within the cooldown, also after a restart: it fires, and nobody is told.
    world.restart().await;
    world.send("a", |_| {}).await;
    world.pass(60).await;
    assert_eq!(world.told(), []);
    let held_back = async |world: &World, rule: &Rule, by: Suppression| {
        let mut held_back = 0;
        for alert in world.alerts_of(rule).await {
            let timeline = world.shop.alerts().timeline(alert.id).await.unwrap();
            let kept = timeline.iter().any(|entry| entry.kind == TimelineKind::Suppressed { by: by.clone() });
            held_back += usize::from(kept);
        }
        held_back
    };
    assert_eq!(held_back(&world, &cooling, Suppression::Cooldown).await, 1);
    assert_eq!(held_back(&world, &capped, Suppression::HourlyCap).await, 1);
    world.pass_by(3_600, 60).await;
    world.send("a", |_| {}).await;
    world.send("d", |_| {}).await;
    world.pass(60).await;
    assert_eq!(firing(world.told()).len(), 2, "both are over");
    world.ps.close().await.unwrap();
}

#[tokio::test]
async fn cooldown_and_hourly_cap_hold_messages_back_and_say_so() {
    on_real_stores(caps).await;
}
