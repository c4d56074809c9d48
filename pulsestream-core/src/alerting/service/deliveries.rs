//! Deliveries that people ask for: of a test, and of what was delivered or given up before.

use super::AlertingService;
use crate::alerting::{Delivery, Labels, NotificationContent, NotificationKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChannelId, DeliveryId, TenantId};
use crate::ports::outbox::ReplaySelection;

impl AlertingService {
    /// Sends a test notification to a channel of the tenant and returns its id in the delivery log; it is due at once.
    ///
    /// # Errors
    /// `NotFound` for an unknown channel; those of the stores.
    pub async fn send_test(&self, tenant: TenantId, channel: ChannelId) -> Result<DeliveryId> {
        let known = self.alerts.channel(tenant, channel).await?;
        let channel = known.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "channels.test", "no such channel")
                .with_context("channel", channel)
        })?;
        let content = NotificationContent {
            kind: NotificationKind::Test,
            title: "Test notification".into(),
            message: format!("The channel {} works.", channel.name).into(),
            group: Labels::new(),
            alerts: Vec::new(),
            omitted: 0,
        };
        let (id, now) = (DeliveryId::from_u128(self.env.uuid_v7()?), self.env.now());
        let delivery = Delivery::new(id, channel.id, channel.name, content, now, now);
        self.outbox.enqueue(tenant, vec![delivery]).await?;
        self.tell_of_deliveries();
        Ok(id)
    }

    /// Makes finished deliveries due again, under their ids, and returns how many; those that wait are left alone.
    ///
    /// # Errors
    /// Those of the outbox.
    pub async fn replay_deliveries(&self, tenant: TenantId, selection: &ReplaySelection) -> Result<u64> {
        let replayed = self.outbox.replay(tenant, selection, self.env.now()).await?;
        if replayed > 0 {
            self.tell_of_deliveries();
        }
        Ok(replayed)
    }

    fn tell_of_deliveries(&self) {
        if let Some(listener) = &self.listener {
            listener.deliveries_planned();
        }
    }
}
