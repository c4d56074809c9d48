//! Finding events, page by page.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::filter::Filter;
use crate::id::EventId;
use crate::time::{TimeRange, Timestamp};

/// The order of a page. Events of one instant are ordered by the bytes of their id, in the same direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Latest `timestamp` first.
    #[default]
    NewestFirst,
    /// Earliest `timestamp` first.
    OldestFirst,
}

/// A place between two events in an [`Order`]: pages continue after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// Timestamp of the last event seen.
    pub timestamp: Timestamp,
    /// Id of the last event seen.
    pub id: EventId,
}

/// What to find.
#[derive(Debug, Clone, PartialEq)]
pub struct FindQuery {
    /// When the events happened.
    pub range: TimeRange,
    /// What they must match; `None` matches all.
    pub filter: Option<Filter>,
    /// In which order they come.
    pub order: Order,
    /// How many at most on a page, 1 to `Settings::limits.search_page_events`.
    pub limit: usize,
    /// How many to pass over first, for clients that count pages; prefer `after`.
    pub skip: usize,
    /// Where the last page ended.
    pub after: Option<Cursor>,
    /// Whether to count all matches, which looks at all of them.
    pub count_total: bool,
}

impl Default for FindQuery {
    fn default() -> Self {
        Self {
            range: TimeRange::ALL,
            filter: None,
            order: Order::NewestFirst,
            limit: 100,
            skip: 0,
            after: None,
            count_total: false,
        }
    }
}

/// One page of events.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FindPage {
    /// The events, in the order asked.
    pub events: Vec<Event>,
    /// Where the next page continues; `None` when there is nothing after this page.
    pub next: Option<Cursor>,
    /// How many events match range and filter in all, when that was asked; the cursor does not change it.
    pub total: Option<u64>,
}
