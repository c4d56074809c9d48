//! Following events as they are stored (Server-Sent Events, WHATWG HTML 9.2).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use pulsestream_core::auth::Action;
use pulsestream_core::ports::auth::{Credential, Credentials};
use pulsestream_core::ports::event_store::{Partition, Position, TailOptions, TailedEvent};
use pulsestream_core::{Filter, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::credentials::{self, Preference};
use crate::failure::{Answer, Failure};
use crate::input::Query;
use crate::live::Connected;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a comment is sent when there is nothing else to send.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often the credential is looked at again, so that one that was revoked ends its streams.
const RECHECK: Duration = Duration::from_secs(15);
/// How long a stream that was opened with a ticket lives: the ticket itself ends within seconds and cannot be looked at again.
const TICKET_STREAM: Duration = Duration::from_secs(600);

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
    let connection = app.live.connect(caller.tenant())?;
    let partition = Partition::of(caller.tenant());
    let position = match resume {
        Some(position) => position,
        None => app.end_of_log(partition).await?,
    };
    let credential = credentials::of(&headers, Preference::ApiKey);
    let now = app.ps.env().monotonic();
    let follower = Follower {
        credentials: Credentials { credential, origin: caller.origin.clone() },
        checked_at: now,
        opened_at: now,
        pending: VecDeque::new(),
        app,
        caller,
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
    caller: Caller,
    credentials: Credentials,
    checked_at: Duration,
    opened_at: Duration,
    filter: Filter,
    partition: Partition,
    position: Position,
    pending: VecDeque<TailedEvent>,
    _connection: Connected,
}

impl Follower {
    /// Returns the next event of the stream; `None` ends it, after which clients connect again and resume.
    async fn next(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        loop {
            if !self.may_go_on().await {
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
        let batch = store.tail(self.partition, self.position, TailOptions::default()).await?;
        self.position = batch.next;
        let tenant = self.caller.tenant();
        let own = |tailed: &TailedEvent| tailed.tenant == tenant && self.filter.matches(&tailed.event);
        self.pending = batch.events.into_iter().filter(own).collect();
        if batch.caught_up {
            self.app.heads.read_up_to(self.partition, self.position);
            if self.pending.is_empty() {
                let more = store.wait_for_events(self.partition, self.position);
                return tokio::time::timeout(RECHECK, more).await.unwrap_or(Ok(()));
            }
        }
        Ok(())
    }

    /// Whether the caller may still read: its credential is looked at again from time to time.
    async fn may_go_on(&mut self) -> bool {
        let env = self.app.ps.env();
        if self.caller.principal.expires_at.is_some_and(|end| end <= env.now())
            && !matches!(self.credentials.credential, Credential::Missing)
        {
            return false;
        }
        let now = env.monotonic();
        if matches!(self.credentials.credential, Credential::Missing) {
            return now.saturating_sub(self.opened_at) < TICKET_STREAM;
        }
        if now.saturating_sub(self.checked_at) < RECHECK {
            return true;
        }
        self.checked_at = now;
        let again = self.app.ps.tenant_auth().authenticate(&self.credentials).await;
        again.is_ok_and(|principal| {
            principal.tenant == self.caller.tenant() && principal.allows(Action::ReadEvents)
        })
    }
}
