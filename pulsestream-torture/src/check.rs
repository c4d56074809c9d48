//! What must hold after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulsestream_core::event::Event;
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::query::{AggregateQuery, FindQuery};
use pulsestream_core::testkit::block_on;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_embedded::EmbeddedStore;

use crate::load;

fn broken(what: &'static str, id: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "torture.check", what).with_context("event", id)
}

/// Opens the store and checks that every acknowledged event is there once and unchanged, that nothing else is, and that all ways to
/// read agree. Then appends what is missing of the acknowledged numbers' neighbours, which must not store anything twice. Returns
/// how many events there are.
pub(crate) fn check(folder: &Path, acknowledged: &BTreeSet<u64>) -> Result<usize> {
    let store = load::open(folder)?;
    let numbers: BTreeMap<EventId, u64> =
        acknowledged.iter().map(|number| (load::event(*number).id, *number)).collect();
    let mut present = 0;
    let mut found_ids = BTreeSet::new();
    for tenant in [load::tenant(0), load::tenant(64), load::tenant(128)] {
        let events = all(&store, tenant)?;
        for event in &events {
            if !found_ids.insert(event.id.clone()) {
                return Err(broken("is there twice", &event.id));
            }
            let Some(number) = number_of(&event.id) else {
                return Err(broken("was never appended", &event.id));
            };
            if load::event(number) != *event || load::tenant(number / 64 * 64) != tenant {
                return Err(broken("is not what was appended", &event.id));
            }
        }
        present += events.len();
        agree(&store, tenant, &events)?;
    }
    if let Some((id, _)) = numbers.iter().find(|(id, _)| !found_ids.contains(*id)) {
        return Err(broken("was acknowledged and is lost", id));
    }
    retry(&store, acknowledged)?;
    block_on(store.close())?;
    Ok(present)
}

/// Reads the number back out of the id that the generator made of it.
fn number_of(id: &EventId) -> Option<u64> {
    u64::from_str_radix(id.as_str().split('-').nth(1)?, 16).ok()
}

fn all(store: &EmbeddedStore, tenant: TenantId) -> Result<Vec<Event>> {
    let mut query = FindQuery { limit: 1_000, ..FindQuery::default() };
    let mut events = Vec::new();
    loop {
        let page = block_on(store.find(tenant, &query))?;
        events.extend(page.events);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(events),
        }
    }
}

/// Look-up, count and log say the same as the search.
fn agree(store: &EmbeddedStore, tenant: TenantId, events: &[Event]) -> Result<()> {
    let count = block_on(store.aggregate(tenant, &AggregateQuery::default()))?.rows[0].values[0];
    if count != Some(events.len() as f64) {
        return Err(broken("count differs from the search", tenant));
    }
    let ids: Vec<EventId> = events.iter().map(|event| event.id.clone()).collect();
    let by_id = block_on(store.get(tenant, &ids))?;
    if let Some((_, event)) = by_id.iter().zip(events).find(|(found, event)| found.as_ref() != Some(*event)) {
        return Err(broken("is not found by its id", &event.id));
    }
    let (mut after, mut logged) = (Position::START, 0);
    loop {
        let batch = block_on(store.tail(Partition::of(tenant), after, TailOptions::default()))?;
        logged += batch.events.iter().filter(|one| one.tenant == tenant).count();
        after = batch.next;
        if batch.caught_up {
            break;
        }
    }
    if logged == events.len() { Ok(()) } else { Err(broken("log differs from the search", tenant)) }
}

/// Appends acknowledged events again: each is a duplicate.
fn retry(store: &EmbeddedStore, acknowledged: &BTreeSet<u64>) -> Result<()> {
    for number in acknowledged.iter().rev().step_by(7).take(200) {
        let tenant = load::tenant(number / 64 * 64);
        let again = block_on(store.append(tenant, vec![load::event(*number)], AppendOptions::default()))?;
        if !matches!(again.as_slice(), [AppendOutcome::Duplicate]) {
            return Err(broken("was stored again", number));
        }
    }
    Ok(())
}
