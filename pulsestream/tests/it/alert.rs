//! From an event in to an alert out, with the real background tasks.

use std::time::Duration;

use pulsestream::core::alerting::{
    Author, ChannelRef, NotificationKind, Rule, RuleExpression, RuleKind, rules_evaluated_at,
};
use pulsestream::core::id::RuleId;
use pulsestream::core::ports::alert_store::{AlertQuery, PutMode};
use pulsestream::prelude::*;

use crate::forward::Forward;

fn rule(text: &str) -> Rule {
    let expression: RuleExpression = text.parse().unwrap();
    let kind: RuleKind = expression.kind.clone();
    let mut rule = Rule::new(RuleId::from_u128(1), "failing checkout", kind);
    expression.apply_to(&mut rule);
    rule.channels = vec![ChannelRef::new("pager")];
    rule.notify_at_once = true;
    rule
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_become_an_alert_and_a_notification() {
    let (forward, mut notifications) = Forward::new();
    let ps = PulseStream::builder()
        .with_notifier(forward)
        .with_server_channel(Forward::channel(1, "pager"))
        .open("memory:")
        .await
        .unwrap();
    let shop = ps.tenant(TenantId::from_name("shop"));
    let rule = rule("count > 3 over 5m where source.service = 'checkout' and severity >= 'error'");
    ps.alert_store()
        .put_rule(shop.id(), rule, PutMode::Create, &Author::server(ps.env().now()))
        .await
        .unwrap();
    for number in 0..5 {
        let mut event = Event::new(EventId::new(format!("e{number}")).unwrap(), "api_call", ps.env().now());
        event.severity = Severity::Error;
        event.source.service = Some("checkout".into());
        assert!(!shop.ingest(event).await.unwrap().duplicate);
    }
    let told = tokio::time::timeout(Duration::from_secs(30), notifications.recv()).await.unwrap().unwrap();
    assert_eq!(told.tenant, shop.id());
    assert_eq!(told.delivery.content.kind, NotificationKind::Firing);
    assert_eq!(told.delivery.content.alerts[0].rule_name, "failing checkout");
    let alerts = ps.alert_store().alerts(shop.id(), &AlertQuery::default()).await.unwrap();
    assert_eq!(alerts.alerts.len(), 1);
    let (coordinator, ttl) = (ps.coordinator(), ps.settings().alerting.lease_ttl);
    let evaluated_at = rules_evaluated_at(&**coordinator, shop.id(), ttl).await.unwrap().unwrap();
    assert!(evaluated_at <= ps.env().now() && evaluated_at.plus(ttl) >= ps.env().now());
    ps.close().await.unwrap();
    ps.close().await.unwrap();
}
