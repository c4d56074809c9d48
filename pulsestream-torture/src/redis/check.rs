//! What must be in the store: everything that was acknowledged, once, as it was sent.

use std::collections::{BTreeSet, HashMap, HashSet};

use pulsestream::PulseStream;
use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::query::{AggregateQuery, FindQuery, Measure};
use pulsestream_core::{Error, ErrorKind, Result};

use crate::load;

/// Checks the store and returns how many events it has.
pub(crate) async fn check(ps: &PulseStream, acknowledged: &BTreeSet<u64>) -> Result<usize> {
    let mut expected: HashMap<(TenantId, EventId), u64> = acknowledged
        .iter()
        .map(|number| ((load::tenant(*number), load::event(*number).id), *number))
        .collect();
    let tenants: BTreeSet<TenantId> = acknowledged.iter().map(|number| load::tenant(*number)).collect();
    let mut present = 0;
    for tenant in tenants {
        let found = all(ps, tenant).await?;
        let counted = count(ps, tenant).await?;
        if counted != found.len() {
            return Err(wrong("the count differs from what is found", format!("{counted} {}", found.len())));
        }
        let mut seen = HashSet::new();
        for event in found {
            if let Some(number) = expected.remove(&(tenant, event.id.clone()))
                && event != load::event(number)
            {
                return Err(wrong("an event differs from what was sent", event.id));
            }
            if !seen.insert(event.id.clone()) {
                return Err(wrong("an event is there twice", event.id));
            }
        }
        present += seen.len();
    }
    match expected.values().min() {
        None => Ok(present),
        Some(first) => Err(wrong("acknowledged events are lost", format!("{} from {first}", expected.len()))),
    }
}

async fn all(ps: &PulseStream, tenant: TenantId) -> Result<Vec<Event>> {
    let mut query = FindQuery { limit: 1_000, ..FindQuery::default() };
    let mut events = Vec::new();
    loop {
        let page = ps.event_store().find(tenant, &query).await?;
        events.extend(page.events);
        query.after = page.next;
        if query.after.is_none() {
            return Ok(events);
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
async fn count(ps: &PulseStream, tenant: TenantId) -> Result<usize> {
    let query = AggregateQuery { measures: vec![Measure::Count], ..AggregateQuery::default() };
    let table = ps.event_store().aggregate(tenant, &query).await?;
    Ok(table.rows.first().and_then(|row| row.values[0]).unwrap_or_default() as usize)
}

fn wrong(message: &'static str, detail: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "torture.check", message).with_context("detail", detail)
}
