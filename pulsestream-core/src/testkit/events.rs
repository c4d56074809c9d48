//! Short ways to write events, ids and filters in cases.

use crate::event::{Event, FieldPath, JsonObject};
use crate::filter::Filter;
use crate::id::EventId;
use crate::time::Timestamp;

/// 2026-01-01T00:00:00Z, where the time of the cases starts.
pub(super) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// Returns the instant so many seconds after [`START`].
pub(super) const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(START.as_micros() + seconds * 1_000_000)
}

/// Reads an instant in RFC 3339.
pub(super) fn instant(text: &str) -> Timestamp {
    text.parse().expect("the case writes a valid timestamp")
}

/// Returns the id.
pub(super) fn id(text: &str) -> EventId {
    EventId::new(text).expect("the case writes a valid id")
}

/// Returns an event with an id, so many seconds after [`START`].
pub(super) fn event(text: &str, seconds: i64) -> Event {
    Event::new(id(text), "test", at(seconds))
}

/// Returns an event and changes it.
pub(super) fn event_with(text: &str, seconds: i64, change: impl FnOnce(&mut Event)) -> Event {
    let mut event = event(text, seconds);
    change(&mut event);
    event
}

/// Returns an event with a payload.
pub(super) fn payload(text: &str, seconds: i64, payload: &str) -> Event {
    event_with(text, seconds, |event| event.payload = json(payload))
}

/// Reads a JSON object.
pub(super) fn json(text: &str) -> JsonObject {
    JsonObject::parse(text).expect("the case writes a valid object")
}

/// Reads a filter.
pub(super) fn filter(text: &str) -> Filter {
    text.parse().expect("the case writes a valid filter")
}

/// Reads a path.
pub(super) fn path(text: &str) -> FieldPath {
    text.parse().expect("the case writes a valid path")
}
