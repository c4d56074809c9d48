//! Receivers that misbehave on request, and notifications to send them.

pub(crate) mod capture;
pub(crate) mod http_sink;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pulsestream_core::alerting::{
    AlertSeverity, AlertState, AlertSummary, Channel, ChannelConfig, Delivery, NotificationContent,
    NotificationKind, SecretText,
};
use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::id::{AlertId, ChannelId, DeliveryId, RuleId, TenantId};
use pulsestream_core::ports::notifier::Notification;
use pulsestream_core::time::Timestamp;
use pulsestream_notify::egress::{EgressGuard, EgressPolicy, Resolve};
use pulsestream_notify::{HttpConfig, WebhookNotifier};

pub(crate) const TENANT: TenantId = TenantId::from_u128(7);
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_769_851_800);

pub(crate) fn env() -> (Env, Arc<ManualClock>) {
    Env::manual(NOW, 1)
}

/// The policy of an operator who runs receivers on the same machine.
pub(crate) fn open_policy() -> EgressPolicy {
    EgressPolicy::new().allow("127.0.0.1/32".parse().unwrap())
}

pub(crate) fn webhook_notifier() -> WebhookNotifier {
    webhook_notifier_with(EgressGuard::new(open_policy()), HttpConfig::default())
}

pub(crate) fn webhook_notifier_with(guard: EgressGuard, config: HttpConfig) -> WebhookNotifier {
    WebhookNotifier::new(guard, config, env().0).unwrap()
}

pub(crate) fn webhook(url: &str) -> ChannelConfig {
    ChannelConfig::Webhook { url: url.into(), secrets: Vec::new(), headers: Vec::new() }
}

pub(crate) fn secret(text: &str) -> SecretText {
    SecretText::new(text)
}

pub(crate) fn content() -> NotificationContent {
    let alert = AlertSummary {
        id: AlertId::from_u128(0x11),
        rule: RuleId::from_u128(0x12),
        rule_name: "checkout errors".into(),
        severity: AlertSeverity::Critical,
        state: AlertState::Firing,
        labels: [("service".into(), "shop".into())].into(),
        annotations: [("runbook".into(), "https://example.com/runbook?a=1&b=2".into())].into(),
        summary: "error_rate() is 0.25, above 0.05".into(),
        value: Some(0.25),
        started_at: NOW.minus(std::time::Duration::from_secs(120)),
        fired_at: Some(NOW),
        resolved_at: None,
    };
    NotificationContent {
        kind: NotificationKind::Firing,
        title: "checkout errors: shop".into(),
        message: "1 alert is firing".into(),
        group: [("service".into(), "shop".into())].into(),
        alerts: vec![alert],
        omitted: 0,
    }
}

pub(crate) fn notification(config: ChannelConfig) -> Notification {
    notification_of(config, content())
}

pub(crate) fn notification_of(config: ChannelConfig, content: NotificationContent) -> Notification {
    let channel = Channel::new(ChannelId::from_u128(0x21), "ops", config);
    let delivery = Delivery::new(DeliveryId::from_u128(0x31), channel.id, "ops".into(), content, NOW, NOW);
    Notification { tenant: TENANT, delivery, channel, attempt: 1, at: NOW }
}

/// Returns an address at which nobody listens, as long as the socket is kept: nobody else can take it.
pub(crate) fn closed_port() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Answers look-ups from a script: each name has a list of answers, the last of which is repeated.
#[derive(Debug, Default)]
pub(crate) struct FakeResolver {
    answers: HashMap<String, Vec<Vec<IpAddr>>>,
    look_ups: AtomicUsize,
}

impl FakeResolver {
    pub(crate) fn with(mut self, name: &str, answers: &[&[&str]]) -> Self {
        let answers = answers
            .iter()
            .map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect())
            .collect();
        self.answers.insert(name.to_owned(), answers);
        self
    }

    pub(crate) fn look_ups(&self) -> usize {
        self.look_ups.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for FakeResolver {
    async fn resolve(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let index = self.look_ups.fetch_add(1, Ordering::SeqCst);
        let answers = self.answers.get(host).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(answers[index.min(answers.len() - 1)].clone())
    }
}
