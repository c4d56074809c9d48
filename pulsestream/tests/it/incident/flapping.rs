//! A service that fails and recovers all the time: how often people hear of it.

use super::*;

const HOURS: u64 = 2;

/// Every minute the service is in breach for half a minute, for two hours; returns how often it fired, and what was told.
async fn flap(services: &[&str], change: impl FnOnce(&mut Rule)) -> (usize, Vec<Told>) {
    let mut world = World::open("memory:").await;
    let rule = world.rule(1, "max(metrics.response_time_ms) > 100 over 10s by source.service", change).await;
    for look in 0..HOURS * 3_600 / 10 {
        for service in services {
            let time = if look % 6 < 3 { 500.0 } else { 60.0 };
            world.send(service, |event| event.metrics.response_time_ms = Some(time)).await;
        }
        world.pass_by(10, 10).await;
    }
    world.pass_by(600, 10).await;
    let fired = world.alerts_of(&rule).await.iter().filter(|alert| alert.fired_at.is_some()).count();
    (fired, world.told())
}

#[tokio::test]
async fn by_itself_a_flapping_alert_is_told_once_in_a_group_interval() {
    let (fired, told) = flap(&["a"], |_| {}).await;
    assert_eq!(fired, 120);
    assert!(told.len() <= 1 + 2 * 12 + 2, "{}: {told:?}", told.len());
    for pair in told.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 300, "{pair:?}");
    }
}

#[tokio::test]
async fn services_that_flap_together_are_told_together() {
    let services = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (fired, told) = flap(&services, |_| {}).await;
    assert_eq!(fired, 120 * services.len());
    assert!(told.len() <= 27, "{}", told.len());
}

#[tokio::test]
async fn each_damper_keeps_a_flapping_alert_quiet() {
    let minute = Duration::from_secs(60);
    // As long as it flaps it is one episode.
    let (fired, told) = flap(&["a"], |rule| rule.keep_firing_for = minute).await;
    let kinds: Vec<_> = told.iter().map(|(_, kind, ..)| *kind).collect();
    assert_eq!((fired, kinds), (1, vec![NotificationKind::Firing, NotificationKind::Resolved]));
    // Breaches that do not last are none.
    assert_eq!(flap(&["a"], |rule| rule.hold_for = minute).await, (0, Vec::new()));
    // The other threshold is not reached in between.
    let recovery = |rule: &mut Rule| {
        let text = "max(metrics.response_time_ms) > 100 recover 50 over 10s by source.service";
        text.parse::<RuleExpression>().unwrap().apply_to(rule);
    };
    assert_eq!(flap(&["a"], recovery).await.0, 1);
    let (fired, told) = flap(&["a"], |rule| rule.cooldown = 59 * minute).await;
    let firing =
        |told: &[Told]| told.iter().filter(|(_, kind, ..)| *kind == NotificationKind::Firing).count();
    assert_eq!((fired, firing(&told)), (120, 3), "{told:?}");
    let (fired, told) = flap(&["a"], |rule| rule.max_alerts_per_hour = Some(2)).await;
    assert!(fired == 120 && (2..=5).contains(&firing(&told)), "{told:?}");
}
