//! From an event in to an alert out, with the real background tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream::core::alerting::{
    Author, Channel, ChannelConfig, ChannelRef, NotificationKind, Rule, RuleExpression, RuleKind,
    rules_evaluated_at,
};
use pulsestream::core::id::{ChannelId, RuleId};
use pulsestream::core::ports::alert_store::{AlertQuery, PutMode};
use pulsestream::core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream::prelude::*;
use tokio::sync::mpsc;

/// Hands on what it is given, as long as somebody takes it.
#[derive(Debug)]
pub(crate) struct Forward(pub(crate) mpsc::UnboundedSender<Notification>);

#[async_trait]
impl Notifier for Forward {
    fn kind(&self) -> &'static str {
        "forward"
    }

    fn validate(&self, channel: &Channel) -> pulsestream::Result<()> {
        channel.validate()
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let _ = self.0.send(notification.clone());
        DeliveryReport {
            outcome: DeliveryOutcome::Delivered,
            request: "forward".into(),
            response: None,
            status_code: None,
            latency: Duration::ZERO,
        }
    }
}

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
    let (sender, mut notifications) = mpsc::unbounded_channel();
    let config = ChannelConfig::Custom { kind: "forward".into(), settings: JsonObject::default() };
    let ps = PulseStream::builder()
        .with_notifier(Arc::new(Forward(sender)))
        .with_server_channel(Channel::new(ChannelId::from_u128(1), "pager", config))
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
