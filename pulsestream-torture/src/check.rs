//! What must hold after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulsestream_core::event::{Event, FieldPath};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::{
    AppendOptions, AppendOutcome, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::ports::key_value::{Read, ReadResult};
use pulsestream_core::query::{AggregateQuery, FindQuery, Measure, ScanQuery};
use pulsestream_core::testkit::{block_on, numbers_agree};
use pulsestream_core::{Error, ErrorKind, Filter, Result};
use pulsestream_embedded::EmbeddedStore;

use crate::ledger::Ledger;
use crate::load;
use crate::script::COUNTER;

/// Appended again after each crash, at most.
const RETRIES: usize = 150;

fn broken(what: &'static str, id: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, "torture.check", what).with_context("event", id)
}

/// Opens the store and checks that every acknowledged event is there once and unchanged, that nothing else is, that all ways to read
/// agree, and that every checksum is right. Then appends again: what was acknowledged, which stores nothing, and what was not, which
/// makes it be there once. Returns how many events there are.
pub(crate) fn check(folder: &Path, ledger: &mut Ledger) -> Result<usize> {
    let store = load::open(folder)?;
    let report = store.verify()?;
    if let Some(damage) = report.segments.into_iter().find_map(|segment| segment.damage) {
        return Err(damage);
    }
    let mut present = BTreeSet::new();
    for index in 0..load::TENANTS {
        let tenant = load::tenant_at(index);
        let events = all(&store, tenant)?;
        for event in &events {
            let Some(number) = load::number_of(&event.id).filter(|number| ledger.may_hold(*number)) else {
                return Err(broken("was never appended, or was deleted", &event.id));
            };
            if !present.insert(number) {
                return Err(broken("is there twice", &event.id));
            }
            if load::event(number) != *event || load::tenant(number) != tenant {
                return Err(broken("is not what was appended", &event.id));
            }
        }
        agree(&store, tenant, &events)?;
    }
    let lost = |number: &&u64| ledger.must_hold(**number) && !present.contains(*number);
    if let Some(number) = ledger.acknowledged.iter().find(lost) {
        return Err(broken("was acknowledged and is lost", load::event(*number).id));
    }
    check_counter(&store, ledger)?;
    let held = present.len();
    retry(&store, ledger, &present)?;
    block_on(store.close())?;
    Ok(held)
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

/// Look-up, filters, aggregates, columns and the log say the same as the search.
fn agree(store: &EmbeddedStore, tenant: TenantId, events: &[Event]) -> Result<()> {
    let ids: Vec<EventId> = events.iter().map(|event| event.id.clone()).collect();
    let by_id = block_on(store.get(tenant, &ids))?;
    if let Some((_, event)) = by_id.iter().zip(events).find(|(found, event)| found.as_ref() != Some(*event)) {
        return Err(broken("is not found by its id", &event.id));
    }
    agree_on_groups(store, tenant, events)?;
    let filter: Filter = "metrics.status_code >= 500 or severity = 'critical'".parse()?;
    let expected = events.iter().filter(|event| filter.matches(event)).count();
    let query = FindQuery { limit: 1, filter: Some(filter), count_total: true, ..FindQuery::default() };
    if block_on(store.find(tenant, &query))?.total != Some(expected as u64) {
        return Err(broken("a filter differs from the search", tenant));
    }
    let mut scan =
        block_on(store.scan(tenant, &ScanQuery { columns: vec![FieldPath::Id], ..ScanQuery::default() }))?;
    let mut scanned = 0;
    while let Some(batch) = block_on(scan.next_batch())? {
        scanned += batch.timestamps.len();
    }
    let (mut after, mut logged) = (Position::START, BTreeSet::new());
    loop {
        let batch = block_on(store.tail(Partition::of(tenant), after, TailOptions::default()))?;
        let own = batch.events.into_iter().filter(|one| one.tenant == tenant);
        logged.extend(own.map(|one| one.event.id));
        after = batch.next;
        if batch.caught_up {
            break;
        }
    }
    if scanned != events.len() || logged != ids.iter().cloned().collect() {
        return Err(broken("columns or the log differ from the search", tenant));
    }
    Ok(())
}

/// Counts and sums by type, recounted from the events.
fn agree_on_groups(store: &EmbeddedStore, tenant: TenantId, events: &[Event]) -> Result<()> {
    let duration: FieldPath = "metrics.response_time_ms".parse()?;
    let query = AggregateQuery {
        group_by: vec!["event_type".parse()?],
        measures: vec![Measure::Count, Measure::Sum(duration)],
        ..AggregateQuery::default()
    };
    let mut expected: BTreeMap<String, (f64, Option<f64>)> = BTreeMap::new();
    for event in events {
        let (count, sum) = expected.entry(event.event_type.to_string()).or_default();
        *count += 1.0;
        if let Some(took) = event.metrics.response_time_ms {
            *sum = Some(sum.unwrap_or(0.0) + took);
        }
    }
    let table = block_on(store.aggregate(tenant, &query))?;
    let same = |row: &pulsestream_core::query::AggregateRow| {
        let group = row.group.first().map(ToString::to_string).unwrap_or_default();
        expected.get(&group).is_some_and(|(count, sum)| {
            let sums_agree = match (row.values[1], *sum) {
                (Some(found), Some(sum)) => numbers_agree(found, sum),
                (found, sum) => found == sum,
            };
            row.values[0] == Some(*count) && sums_agree
        })
    };
    if table.rows.len() != expected.len() || !table.rows.iter().all(same) {
        return Err(broken("an aggregate differs from the search", tenant));
    }
    Ok(())
}

fn check_counter(store: &EmbeddedStore, ledger: &Ledger) -> Result<()> {
    let key_value = store.key_value()?;
    let answer = block_on(key_value.read(vec![Read::Get(COUNTER.to_vec())]))?;
    let value = match answer.as_slice() {
        [ReadResult::Value(Some(bytes))] => bytes.as_slice().try_into().map(u64::from_le_bytes).ok(),
        [ReadResult::Value(None)] => Some(0),
        _ => None,
    };
    match value.filter(|value| ledger.counter().contains(value)) {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Internal, "torture.check", "a commit is lost or was never made")),
    }
}

/// Appends again what is there, which is a duplicate, and what may be missing, which is there once afterwards.
fn retry(store: &EmbeddedStore, ledger: &mut Ledger, present: &BTreeSet<u64>) -> Result<()> {
    let append = |number: u64| {
        let events = vec![load::event(number)];
        block_on(store.append(load::tenant(number), events, AppendOptions::default()))
    };
    for number in present.iter().rev().step_by(7).take(RETRIES) {
        if !matches!(append(*number)?.as_slice(), [AppendOutcome::Duplicate]) {
            return Err(broken("was stored again", number));
        }
    }
    let unsure = ledger.submitted.iter().rev();
    let unsure = unsure.filter(|number| !ledger.acknowledged.contains(number) && ledger.may_hold(**number));
    let unsure: Vec<u64> = unsure.copied().take(RETRIES).collect();
    for number in &unsure {
        let is_there = present.contains(number);
        match append(*number)?.as_slice() {
            [AppendOutcome::Duplicate] if is_there => {}
            [AppendOutcome::Stored] if !is_there => {}
            _ => return Err(broken("has the wrong outcome when it is appended again", number)),
        }
    }
    ledger.acknowledged.extend(unsure);
    Ok(())
}
