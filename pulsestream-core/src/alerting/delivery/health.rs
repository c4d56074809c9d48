//! Whether a channel has failed for so long that it is given up.

use std::time::Duration;

use crate::alerting::{Channel, DeliveryStatus};
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::outbox::{DeliveryQuery, Outbox};
use crate::time::{TimeRange, Timestamp};

/// A channel that has delivered nothing for this long, and failed all along, is disabled.
pub const FAILURE_SPAN: Duration = Duration::from_secs(5 * 86_400);
/// How far back failures are looked for.
const LOOK_BACK: Duration = Duration::from_secs(14 * 86_400);
/// How many deliveries are looked at.
const MAX_LOOKED_AT: usize = 10_000;
const PAGE: usize = 500;

/// Returns whether a channel has done nothing but fail for [`FAILURE_SPAN`]: an attempt failed that long ago, none succeeded since,
/// and nobody changed the channel meanwhile.
pub(super) async fn has_failed_for_days(
    outbox: &dyn Outbox,
    tenant: TenantId,
    channel: &Channel,
    now: Timestamp,
) -> Result<bool> {
    let since = now.minus(FAILURE_SPAN);
    if channel.updated_at > since {
        return Ok(false);
    }
    let from = now.minus(LOOK_BACK).max(channel.updated_at);
    let mut query = DeliveryQuery {
        channel: Some(channel.id),
        range: Some(TimeRange::new(from, Timestamp::MAX)),
        limit: PAGE,
        ..DeliveryQuery::default()
    };
    let (mut last_success, mut first_failures) = (Timestamp::MIN, Vec::new());
    let mut looked_at = 0;
    while looked_at < MAX_LOOKED_AT {
        let page = outbox.deliveries(tenant, &query).await?;
        looked_at += page.deliveries.len();
        for delivery in &page.deliveries {
            let finished_at = delivery.finished_at.unwrap_or(Timestamp::MIN);
            match delivery.status {
                DeliveryStatus::Delivered if finished_at > since => return Ok(false),
                DeliveryStatus::Delivered => last_success = last_success.max(finished_at),
                _ if delivery.attempts > 0 && delivery.created_at <= since => {
                    first_failures.push(delivery.created_at);
                }
                _ => {}
            }
        }
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    Ok(first_failures.into_iter().any(|failed_at| failed_at > last_success))
}
