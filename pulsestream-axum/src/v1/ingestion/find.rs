//! Finding, deleting and processing again.

use axum::extract::State;
use pulsestream_core::Filter;
use pulsestream_core::event::{Event, FieldPath, Severity, Value};
use pulsestream_core::filter::{CompareOp, Expr};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::event_store::DeleteSelection;
use pulsestream_core::query::FindQuery;
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event_out::EventOut;
use super::submit::SeverityName;
use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Params, Query};
use crate::v1::Message;
use crate::v1::alerting::evaluate;

/// What to find. Every filter that is given must match.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Search {
    event_type: Option<String>,
    #[schema(value_type = Option<SeverityName>)]
    severity: Option<Severity>,
    service: Option<String>,
    endpoint: Option<String>,
    #[schema(minimum = 100, maximum = 599)]
    status_code: Option<u16>,
    user_id: Option<String>,
    /// The first instant inside.
    #[schema(value_type = Option<String>, format = DateTime)]
    start_time: Option<Timestamp>,
    /// The last instant inside.
    #[schema(value_type = Option<String>, format = DateTime)]
    end_time: Option<Timestamp>,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// How many to pass over.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1000000000, default = 0)]
    offset: usize,
}

const fn default_limit() -> usize {
    100
}

impl Search {
    fn filter(&self) -> Answer<Option<Filter>> {
        let text = |value: &Option<String>| value.as_deref().map(Value::from);
        let conditions = [
            (FieldPath::EventType, text(&self.event_type)),
            (FieldPath::Severity, self.severity.map(|severity| Value::from(severity.as_str()))),
            (FieldPath::SourceService, text(&self.service)),
            (FieldPath::SourceEndpoint, text(&self.endpoint)),
            (FieldPath::StatusCode, self.status_code.map(|code| Value::from(f64::from(code)))),
            (FieldPath::UserId, text(&self.user_id)),
        ];
        let given = conditions.into_iter().filter_map(|(path, value)| {
            value.map(|value| Expr::Compare { field: path, op: CompareOp::Eq, value })
        });
        let all: Vec<_> = given.collect();
        if all.is_empty() { Ok(None) } else { Ok(Some(Filter::new(Expr::And(all))?)) }
    }

    fn range(&self) -> TimeRange {
        let end = self.end_time.map_or(Timestamp::MAX, |end| end.plus(std::time::Duration::from_micros(1)));
        TimeRange::new(self.start_time.unwrap_or(Timestamp::MIN), end)
    }
}

/// The events found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchAnswer {
    events: Vec<EventOut>,
    /// How many events match all filters, on all pages.
    total_count: u64,
    /// The same number.
    filtered_count: u64,
    /// Whether there are more after this page.
    has_more: bool,
    search_id: String,
    execution_time_ms: f64,
}

pub(super) async fn search(
    State(app): State<App>,
    caller: Caller,
    Query(search): Query<Search>,
) -> Answer<axum::Json<SearchAnswer>> {
    let started = app.ps.env().monotonic();
    let query = FindQuery {
        range: search.range(),
        filter: search.filter()?,
        limit: app.page_limit(search.limit)?,
        skip: search.offset,
        count_total: true,
        ..FindQuery::default()
    };
    let page = app.ps.event_store().find(caller.tenant(), &query).await?;
    let total = page.total.unwrap_or_default();
    let took = app.ps.env().monotonic().saturating_sub(started);
    Ok(axum::Json(SearchAnswer {
        total_count: total,
        filtered_count: total,
        has_more: page.next.is_some(),
        search_id: format!("{:032x}", app.ps.env().uuid_v7()?),
        execution_time_ms: took.as_secs_f64() * 1e3,
        events: page.events.into_iter().map(|event| EventOut::new(caller.tenant(), event)).collect(),
    }))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<EventOut>> {
    let event = stored(&app, caller.tenant(), &params).await?;
    Ok(axum::Json(EventOut::new(caller.tenant(), event)))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<Message>> {
    let id: EventId = params.id("event_id", unknown)?;
    let deleted = app.ps.event_store().delete(caller.tenant(), &DeleteSelection::Ids(vec![id])).await?;
    if deleted == 0 {
        return Err(unknown());
    }
    Ok(Message::new("the event is deleted"))
}

pub(super) async fn retry(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<Message>> {
    stored(&app, caller.tenant(), &params).await?;
    let open = evaluate::alerts_of_all(&app, caller.tenant()).await?.1.len();
    let message = format!(
        "the event is processed, with {open} alerts open; what it had led to already is not done twice"
    );
    Ok(Message::new(message))
}

async fn stored(app: &App, tenant: TenantId, params: &Params) -> Answer<Event> {
    let id: EventId = params.id("event_id", unknown)?;
    let found = app.ps.event_store().get(tenant, &[id]).await?.pop().flatten();
    found.ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::not_found("events.get", "there is no such event")
}
