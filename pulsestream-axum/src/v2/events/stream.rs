//! Following events as they are stored (Server-Sent Events, WHATWG HTML 9.2).

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use pulsestream_core::auth::Action;
use pulsestream_core::ports::event_store::{Partition, Position, TailOptions, TailedEvent};
use pulsestream_core::{Filter, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Query;
use crate::live::{RECHECK, Standing};
use crate::places::Place;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a comment is sent when there is nothing else to send.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What to follow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// A condition in the filter language.
    filter: Option<String>,
    /// A ticket, instead of a header.
    #[allow(dead_code, reason = "the guard reads it")]
    token: Option<String>,
}

/// A ticket, shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct TicketOut {
    ticket: String,
    /// Seconds.
    expires_in: u64,
}

pub(super) async fn ticket(State(app): State<App>, caller: Caller) -> Answer<axum::Json<TicketOut>> {
    let made = app.ps.accounts().issue_ticket(&caller.principal).await?;
    let (ticket, expires_in) = (made.ticket.expose().to_owned(), made.expires_in.as_secs());
    Ok(axum::Json(TicketOut { ticket, expires_in }))
}

pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<StreamQuery>,
) -> Answer<Response> {
    let filter = super::filter(query.filter.as_deref(), "/filter");
    let filter = filter.map_err(|field| Failure::invalid_query(vec![field]))?.unwrap_or_default();
    let resume = last_event_id(&headers)?;
    let connection = app.live.take(caller.tenant())?;
    let partition = Partition::of(caller.tenant());
    let position = match resume {
        Some(position) => position,
        None => app.ps.end_of_log(partition).await?,
    };
    let follower = Follower {
        standing: Standing::new(app.clone(), caller, Action::ReadEvents, &headers),
        pending: VecDeque::new(),
        app,
        filter,
        partition,
        position,
        _connection: connection,
    };
    let events = futures_util::stream::unfold(follower, Follower::next);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Answer<Option<Position>> {
    let Some(value) = headers.get(&LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    position.map(Some).ok_or_else(|| {
        Failure::bad_request(
            "invalid_last_event_id",
            "Last-Event-ID must be the id of an event of the stream",
        )
    })
}

/// Reads the log of the partition of one tenant, and passes on what is of the tenant and matches.
struct Follower {
    app: App,
    standing: Standing,
    filter: Filter,
    partition: Partition,
    position: Position,
    pending: VecDeque<TailedEvent>,
    _connection: Place,
}

impl Follower {
    /// Returns the next event of the stream; `None` ends it, after which clients connect again and resume.
    async fn next(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        loop {
            if !self.standing.lasts().await {
                return None;
            }
            if let Some(tailed) = self.pending.pop_front() {
                let data = serde_json::to_string(&tailed.event).ok()?;
                let event = sse::Event::default().id(tailed.position.to_string()).event("event").data(data);
                return Some((Ok(event), self));
            }
            if let Err(error) = self.read().await {
                tracing::debug!(%error, "an event stream ends");
                return None;
            }
        }
    }

    /// Reads more of the log; waits a while when there is no more.
    async fn read(&mut self) -> Result<()> {
        let store = self.app.ps.event_store().clone();
        let tenant = self.standing.tenant();
        let options =
            TailOptions { tenants: Some(Arc::new(BTreeSet::from([tenant]))), ..TailOptions::default() };
        let batch = store.tail(self.partition, self.position, options).await?;
        self.position = batch.next;
        // Whatever a store of somebody else makes of what was asked, only its own events go to a tenant.
        let own = |tailed: &TailedEvent| tailed.tenant == tenant && self.filter.matches(&tailed.event);
        self.pending = batch.events.into_iter().filter(own).collect();
        if batch.caught_up && self.pending.is_empty() {
            let more = store.wait_for_events(self.partition, self.position);
            return tokio::time::timeout(RECHECK, more).await.unwrap_or(Ok(()));
        }
        Ok(())
    }
}
