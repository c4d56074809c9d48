//! Finding, getting and deleting.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pulsestream_core::event::Event;
use pulsestream_core::id::EventId;
use pulsestream_core::ports::event_store::DeleteSelection;
use pulsestream_core::query::{Cursor, FindQuery, Order};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_core::{FieldError, Filter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shapes::EventOut;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Params, Query};
use crate::v2::cursor::{self, Pages};

/// What to find.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// A condition in the filter language, such as `metrics.status_code >= 500 and source.service = 'shop'`.
    filter: Option<String>,
    /// The first instant inside.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// The first instant after.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    #[serde(default)]
    #[schema(default = "newest_first")]
    order: OrderName,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
    /// Whether to count all matches, which looks at all of them.
    #[serde(default)]
    #[schema(default = false)]
    count: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EventOrder)]
pub(super) enum OrderName {
    #[default]
    NewestFirst,
    OldestFirst,
}

const fn default_limit() -> usize {
    100
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(super) struct PageOut {
    #[schema(value_type = Vec<EventOut>)]
    events: Vec<Event>,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
    /// How many events match on all pages, when `count` asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

fn query_filter(text: Option<&str>) -> Answer<Option<Filter>> {
    super::filter(text, "/filter").map_err(|field| Failure::invalid_query(vec![field]))
}

fn range(from: Option<Timestamp>, to: Option<Timestamp>) -> TimeRange {
    TimeRange::new(from.unwrap_or(Timestamp::MIN), to.unwrap_or(Timestamp::MAX))
}

pub(super) async fn search(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(search): Query<Search>,
) -> Answer<Response> {
    let filter = query_filter(search.filter.as_deref())?;
    let question = (&filter, search.from, search.to, search.order);
    let pages = Pages::of(&app, caller.tenant(), "events", &question);
    let after: Option<Cursor> = pages.read(search.cursor.as_deref())?;
    let query = FindQuery {
        range: range(search.from, search.to),
        filter,
        order: match search.order {
            OrderName::NewestFirst => Order::NewestFirst,
            OrderName::OldestFirst => Order::OldestFirst,
        },
        limit: app.page_limit(search.limit)?,
        skip: 0,
        after,
        count_total: search.count,
    };
    let found = app.ps.event_store().find(caller.tenant(), &query).await?;
    let next_cursor = found.next.map(|next| pages.write(&next)).transpose()?;
    let page = PageOut { events: found.events, next_cursor, total: found.total };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

pub(super) async fn get(State(app): State<App>, caller: Caller, params: Params) -> Answer<axum::Json<Event>> {
    let id: EventId = params.id("event_id", unknown)?;
    let found = app.ps.event_store().get(caller.tenant(), &[id]).await?.pop().flatten();
    found.map(axum::Json).ok_or_else(unknown)
}

pub(super) async fn delete(State(app): State<App>, caller: Caller, params: Params) -> Answer<StatusCode> {
    let id: EventId = params.id("event_id", unknown)?;
    let deleted = app.ps.event_store().delete(caller.tenant(), &DeleteSelection::Ids(vec![id])).await?;
    if deleted == 0 { Err(unknown()) } else { Ok(StatusCode::NO_CONTENT) }
}

/// Which events to delete; `filter=true` with nothing else deletes all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    /// A condition in the filter language.
    filter: Option<String>,
    /// The first instant inside.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// The first instant after.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// How many events are deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deleted {
    deleted: u64,
}

pub(super) async fn delete_matching(
    State(app): State<App>,
    caller: Caller,
    Query(selection): Query<Selection>,
) -> Answer<axum::Json<Deleted>> {
    if selection.filter.is_none() && selection.from.is_none() && selection.to.is_none() {
        let message = "say what to delete with filter, from or to; filter=true deletes everything";
        return Err(Failure::invalid_query(vec![FieldError::new("/filter", "required", message)]));
    }
    let filter = query_filter(selection.filter.as_deref())?;
    let selection = DeleteSelection::Matching { range: range(selection.from, selection.to), filter };
    let deleted = app.ps.event_store().delete(caller.tenant(), &selection).await?;
    Ok(axum::Json(Deleted { deleted }))
}

fn unknown() -> Failure {
    Failure::not_found("events.get", "there is no such event")
}
