//! A deadline around the notifiers of the application.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::alerting::Channel;
use pulsestream_core::env::Env;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};

/// How long an attempt may take: a little less than the minute for which a delivery is leased, so that what became of it is recorded
/// before anybody else makes the next one.
const DEADLINE: Duration = Duration::from_secs(55);

/// Ends attempts of a notifier that does not end them itself: each holds a place that other channels need.
#[derive(Debug)]
pub(crate) struct DeadlineNotifier {
    inner: Arc<dyn Notifier>,
    env: Env,
}

impl DeadlineNotifier {
    pub(crate) fn around(inner: Arc<dyn Notifier>, env: &Env) -> Arc<dyn Notifier> {
        Arc::new(Self { inner, env: env.clone() })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Notifier for DeadlineNotifier {
    fn kind(&self) -> &str {
        self.inner.kind()
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        self.inner.validate(channel)
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let start = self.env.monotonic();
        let attempt = tokio::time::timeout(DEADLINE, self.inner.deliver(notification)).await;
        attempt.unwrap_or_else(|_| {
            tracing::warn!(kind = self.kind(), delivery = %notification.delivery.id, "a notifier has no deadline of its own");
            let error = format!("the notifier did not return within {} s", DEADLINE.as_secs());
            DeliveryReport {
                outcome: DeliveryOutcome::RetryAfter { after: None, error: error.into() },
                request: self.kind().into(),
                response: None,
                status_code: None,
                latency: self.env.monotonic().saturating_sub(start),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use pulsestream_core::alerting::{
        ChannelConfig, Delivery, Labels, NotificationContent, NotificationKind,
    };
    use pulsestream_core::id::{ChannelId, DeliveryId, TenantId};
    use pulsestream_core::time::Timestamp;

    use super::*;

    /// Waits for ever.
    #[derive(Debug)]
    struct Stuck;

    #[async_trait]
    impl Notifier for Stuck {
        fn kind(&self) -> &str {
            "stuck"
        }

        fn validate(&self, _channel: &Channel) -> Result<()> {
            Ok(())
        }

        async fn deliver(&self, _notification: &Notification) -> DeliveryReport {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_notifier_that_waits_for_ever_has_failed_within_its_lease() {
        let (env, _) = Env::manual(Timestamp::EPOCH, 1);
        let config = ChannelConfig::Custom { kind: "stuck".into(), settings: Default::default() };
        let channel = Channel::new(ChannelId::from_u128(1), "ops", config);
        let content = NotificationContent {
            kind: NotificationKind::Test,
            title: "a test".into(),
            message: "a test".into(),
            group: Labels::default(),
            alerts: Vec::new(),
            omitted: 0,
        };
        let at = Timestamp::EPOCH;
        let delivery = Delivery::new(DeliveryId::from_u128(1), channel.id, "ops".into(), content, at, at);
        let notification = Notification { tenant: TenantId::from_u128(1), delivery, channel, attempt: 1, at };
        let started = tokio::time::Instant::now();
        let report = DeadlineNotifier::around(Arc::new(Stuck), &env).deliver(&notification).await;
        assert!(matches!(report.outcome, DeliveryOutcome::RetryAfter { after: None, .. }), "{report:?}");
        let lease = pulsestream_core::alerting::delivery::DispatcherSettings::default().lease_ttl;
        assert!(started.elapsed() < lease, "{:?}", started.elapsed());
    }
}
