//! What the product has to say to a tenant about its own work, as events of the tenant: they are searched, counted and alerted on as all
//! others.

use std::time::Duration;

use super::{Channel, Delivery};
use crate::event::{Event, JsonObject, Severity};
use crate::id::{EventId, RuleId, TenantId, derive_uuid};
use crate::ports::event_store::{AppendOptions, EventStore};
use crate::text::Text;
use crate::time::Timestamp;

/// The service that operational events come from.
pub const OPERATIONAL_SERVICE: &str = "pulsestream";
/// The same incident is told once in each span.
const SPAN: Duration = Duration::from_secs(3_600);

/// Something that the people of a tenant should know about its alerting.
#[derive(Debug, Clone, Copy)]
pub(super) enum Incident<'a> {
    /// A channel was disabled.
    ChannelDisabled {
        /// The channel as it was before.
        channel: &'a Channel,
        /// Why.
        reason: &'a str,
    },
    /// A message was given up.
    DeliveryGivenUp {
        /// Where it should have gone.
        channel: &'a Channel,
        /// The message.
        delivery: &'a Delivery,
        /// Why.
        reason: &'a str,
    },
    /// A rule has more groups than it may have: the rest share one instance.
    RuleOverflowed {
        /// The rule.
        rule: RuleId,
        /// Its name.
        name: &'a Text,
        /// How many groups it may have.
        max_groups: u32,
    },
}

impl Incident<'_> {
    /// Returns the event type: `pulsestream.channel_disabled`, `pulsestream.delivery_given_up` or `pulsestream.rule_overflowed`.
    pub(super) const fn event_type(&self) -> &'static str {
        match self {
            Self::ChannelDisabled { .. } => "pulsestream.channel_disabled",
            Self::DeliveryGivenUp { .. } => "pulsestream.delivery_given_up",
            Self::RuleOverflowed { .. } => "pulsestream.rule_overflowed",
        }
    }

    /// Returns the event. The same incident has the same id within an hour, so that telling it again stores nothing.
    pub(super) fn event(&self, now: Timestamp) -> Event {
        let hour = now.floor(SPAN).as_micros().to_be_bytes();
        let (what, once, severity, title, message, facts): (u128, [u8; 8], _, _, _, Vec<(&str, String)>) = match self {
            Self::ChannelDisabled { channel, reason } => (
                channel.id.as_u128(),
                channel.version.to_be_bytes(),
                Severity::Error,
                format!("the notification channel {} was disabled", channel.name),
                (*reason).to_owned(),
                vec![("channel", channel.name.to_string()), ("channel_id", channel.id.to_string())],
            ),
            Self::DeliveryGivenUp { channel, delivery, reason } => (
                channel.id.as_u128(),
                hour,
                Severity::Error,
                format!("a notification to {} was given up: {}", channel.name, delivery.content.title),
                (*reason).to_owned(),
                vec![
                    ("channel", channel.name.to_string()),
                    ("channel_id", channel.id.to_string()),
                    ("delivery_id", delivery.id.to_string()),
                ],
            ),
            Self::RuleOverflowed { rule, name, max_groups } => (
                rule.as_u128(),
                hour,
                Severity::Warning,
                format!("the rule {name} has more than {max_groups} groups"),
                "Further groups share one instance. Group by fewer values, narrow the filter, or raise max_groups.".to_owned(),
                vec![
                    ("rule", name.to_string()),
                    ("rule_id", rule.to_string()),
                    ("max_groups", max_groups.to_string()),
                ],
            ),
        };
        let parts = [what.to_be_bytes().as_slice(), &once].concat();
        let id = derive_uuid(self.event_type().as_bytes(), &parts);
        let mut event = Event::new(EventId::from_u128(id), self.event_type(), now);
        event.severity = severity;
        event.title = Some(title.into());
        event.message = Some(message.into());
        event.source.service = Some(OPERATIONAL_SERVICE.into());
        let facts = serde_json::Map::from_iter(
            facts.into_iter().map(|(name, value)| (name.to_owned(), value.into())),
        );
        // Names and ids: they are no longer than what they come from.
        event.payload = JsonObject::from_value(&facts.into()).unwrap_or_default();
        event
    }
}

/// Stores incidents as events. One that cannot be stored is logged: the work that it tells about must go on.
pub(super) async fn tell(
    events: &dyn EventStore,
    tenant: TenantId,
    incidents: &[Incident<'_>],
    now: Timestamp,
) {
    if incidents.is_empty() {
        return;
    }
    let told = incidents.iter().map(|incident| incident.event(now)).collect();
    if let Err(error) = events.append(tenant, told, AppendOptions::default()).await {
        tracing::warn!(%tenant, %error, "operational events could not be stored");
    }
}
