//! Rules of every kind.

use pulsestream::core::time::TimeRange;

use super::*;

const MINUTES: u64 = 12;

/// Twelve minutes of a shop: a quiet start, two minutes of trouble, and silence at the end; orders that are paid, and some that are not.
async fn twelve_minutes(world: &mut World) {
    for look in 0..MINUTES * 60 / LOOK {
        let second = look * LOOK;
        let in_trouble = (240..360).contains(&second);
        let calls = match second {
            600.. => 0,
            _ if in_trouble => 4,
            _ => 1,
        };
        for call in 0..calls {
            world
                .send("shop", |event| {
                    event.metrics.status_code = Some(if in_trouble && call > 0 { 503 } else { 200 });
                    event.metrics.response_time_ms = Some(if in_trouble { 400.0 } else { 20.0 });
                })
                .await;
        }
        let order = |step: &'static str, number: u64| {
            move |event: &mut Event| {
                event.event_type = step.into();
                event.payload = JsonObject::parse(&format!(r#"{{"order":{number}}}"#)).unwrap();
            }
        };
        if second < 500 && look % 4 == 0 {
            world.send("orders", order("order", look / 4)).await;
        }
        if second < 500 && look % 4 == 2 && !in_trouble {
            world.send("orders", order("paid", look / 4)).await;
        }
        world.pass(LOOK).await;
    }
    world.pass(120).await;
}

async fn every_kind(url: &str) {
    let mut world = World::open(url).await;
    let shop = "source.service = 'shop'";
    let texts = [
        format!("count >= 20 over 1m where {shop} for 30s keep 20s"),
        format!(
            "count[metrics.status_code >= 500] / count > 0.5 recover 0.2 over 1m where {shop} by source.service"
        ),
        format!(
            "avg(metrics.response_time_ms) > 100 over 30s where {shop} by source.endpoint no_data no_data"
        ),
        format!("p90(metrics.response_time_ms) > 300 over 1m where {shop} every 30s"),
        "absent over 1m by source.service".to_owned(),
        format!("change(count) >= 10 over 1m where {shop} by source.service"),
        format!("anomaly(count) >= 3.5 over 20s periods 5 where {shop} by source.service"),
        "sequence(event_type = 'order'; event_type = 'paid'; payload.order) >= 2 within 1m".to_owned(),
        format!("rules({} and not {}) for 10s", RuleId::from_u128(2), RuleId::from_u128(5)),
    ];
    let mut rules = Vec::new();
    for (number, text) in (1..).zip(&texts) {
        let rule = world.rule(number, text, |_| {}).await;
        assert_eq!(rule.expression(), *text);
        rules.push(rule);
    }
    twelve_minutes(&mut world).await;
    let end = world.now().minus(Duration::from_secs(60));
    for rule in &rules {
        let alerts = world.alerts_of(rule).await;
        assert!(alerts.iter().any(|alert| alert.fired_at.is_some()), "never fired: {}", rule.expression());
        let replayed = world.shop.rules().backtest(rule, TimeRange::new(START, end)).await.unwrap();
        let expected: BTreeSet<String> = replayed
            .transitions
            .into_iter()
            .map(|it| change(it.alert, it.at, it.from, it.to, it.value, it.reason))
            .collect();
        assert_eq!(world.changes_of(rule, end).await, expected, "{}", rule.expression());
    }
    world.ps.close().await.unwrap();
}

#[tokio::test]
async fn rules_of_every_kind_fire_and_a_backtest_says_the_same() {
    on_real_stores(every_kind).await;
}
