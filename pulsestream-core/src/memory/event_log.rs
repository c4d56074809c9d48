//! The state of the memory event store: what is held, and in which orders.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::event::{Event, event_bytes};
use crate::id::{EventId, TenantId};
use crate::ports::event_store::{
    AppendOutcome, DeleteSelection, Partition, Position, TailBatch, TailOptions, TailedEvent,
};
use crate::query::{Cursor, Order};
use crate::text::Text;
use crate::time::{TimeRange, Timestamp};

/// Where an event stands among the events of its tenant: its timestamp and its id.
type Place = (Timestamp, Text);

/// All events of all tenants.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    tenants: HashMap<TenantId, TenantEvents>,
    /// The log of each partition, by position.
    partitions: HashMap<Partition, BTreeMap<u128, (TenantId, Arc<Event>)>>,
    last_position: u128,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// The events of one tenant: by id, and in the order of time.
#[derive(Debug, Default)]
struct TenantEvents {
    by_id: HashMap<EventId, Stored>,
    by_place: BTreeMap<Place, Arc<Event>>,
}

#[derive(Debug)]
struct Stored {
    event: Arc<Event>,
    position: u128,
}

impl EventLog {
    /// Stores the event, unless its id is there.
    pub(super) fn append(&mut self, tenant: TenantId, event: Event) -> AppendOutcome {
        let held = self.tenants.entry(tenant).or_default();
        if held.by_id.contains_key(&event.id) {
            return AppendOutcome::Duplicate;
        }
        self.events += 1;
        self.bytes += event_bytes(&event);
        self.last_position += 1;
        let position = self.last_position;
        let event = Arc::new(event);
        held.by_place.insert(place_of(&event), event.clone());
        held.by_id.insert(event.id.clone(), Stored { event: event.clone(), position });
        self.partitions.entry(Partition::of(tenant)).or_default().insert(position, (tenant, event));
        AppendOutcome::Stored
    }

    /// Returns the event with this id.
    pub(super) fn get(&self, tenant: TenantId, id: &EventId) -> Option<&Event> {
        Some(self.tenants.get(&tenant)?.by_id.get(id)?.event.as_ref())
    }

    /// Iterates over the events of a tenant in a range of time, ascending by (timestamp, id).
    pub(super) fn in_range(&self, tenant: TenantId, range: TimeRange) -> impl Iterator<Item = &Arc<Event>> {
        self.between(tenant, range, None, None)
    }

    /// Iterates in the order asked over the events that come after the cursor.
    pub(super) fn in_order<'a>(
        &'a self,
        tenant: TenantId,
        range: TimeRange,
        order: Order,
        after: Option<&Cursor>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Event>> + 'a> {
        let after = after.map(place_of_cursor);
        match order {
            Order::OldestFirst => Box::new(self.between(tenant, range, after, None)),
            Order::NewestFirst => Box::new(self.between(tenant, range, None, after).rev()),
        }
    }

    /// Iterates over the events in the range that stand after one place and before another.
    fn between(
        &self,
        tenant: TenantId,
        range: TimeRange,
        after: Option<Place>,
        before: Option<Place>,
    ) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        // The empty text stands before every id.
        let range_start = (range.start, Text::default());
        let range_end = (range.end, Text::default());
        let (first, start) = match after {
            Some(place) if place > range_start => (place.clone(), Bound::Excluded(place)),
            _ => (range_start.clone(), Bound::Included(range_start)),
        };
        let end = before.map_or(range_end.clone(), |place| place.min(range_end));
        let held = self.tenants.get(&tenant).filter(|_| first < end);
        let places = held.map(|held| held.by_place.range((start, Bound::Excluded(end))));
        places.into_iter().flatten().map(|(_, event)| event)
    }

    /// Reads the log of a partition after a position.
    pub(super) fn tail(&self, partition: Partition, after: Position, options: &TailOptions) -> TailBatch {
        let log = self.partitions.get(&partition);
        let rest = (Bound::Excluded(after.0), Bound::Unbounded);
        let mut rest = log.into_iter().flat_map(|log| log.range(rest)).peekable();
        let (mut events, mut next) = (Vec::new(), after);
        while events.len() < options.limit
            && let Some((position, (tenant, event))) = rest.next()
        {
            next = Position(*position);
            if options.wants(*tenant) {
                events.push(TailedEvent { tenant: *tenant, position: next, event: event.as_ref().clone() });
            }
        }
        TailBatch { events, next, caught_up: rest.peek().is_none() }
    }

    /// Returns whether a partition holds events after a position.
    pub(super) fn has_events_after(&self, partition: Partition, after: Position) -> bool {
        let last = self.partitions.get(&partition).and_then(BTreeMap::last_key_value);
        last.is_some_and(|(position, _)| *position > after.0)
    }

    /// Deletes what is selected and returns how many events that were.
    pub(super) fn delete(&mut self, tenant: TenantId, selection: &DeleteSelection) -> u64 {
        let ids: Vec<EventId> = match selection {
            DeleteSelection::Ids(ids) => ids.clone(),
            DeleteSelection::Matching { range, filter } => self
                .in_range(tenant, *range)
                .filter(|event| filter.as_ref().is_none_or(|filter| filter.matches(event)))
                .map(|event| event.id.clone())
                .collect(),
        };
        ids.iter().map(|id| u64::from(self.remove(tenant, id))).sum()
    }

    fn remove(&mut self, tenant: TenantId, id: &EventId) -> bool {
        let Some(held) = self.tenants.get_mut(&tenant) else { return false };
        let Some(Stored { event, position }) = held.by_id.remove(id) else { return false };
        held.by_place.remove(&place_of(&event));
        if held.by_id.is_empty() {
            self.tenants.remove(&tenant);
        }
        if let Some(log) = self.partitions.get_mut(&Partition::of(tenant)) {
            log.remove(&position);
        }
        self.events -= 1;
        self.bytes -= event_bytes(&event);
        true
    }
}

fn place_of(event: &Event) -> Place {
    (event.timestamp, Text::from(event.id.as_str()))
}

fn place_of_cursor(cursor: &Cursor) -> Place {
    (cursor.timestamp, Text::from(cursor.id.as_str()))
}
