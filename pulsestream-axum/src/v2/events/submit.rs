//! Sending events: one, an array, or lines.

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use pulsestream_core::event::{BatchForm, Dialect, Event};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ingest::{Accepted, IngestOptions, TenantLimits};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, FieldError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::body::{self, Reserved};
use crate::credentials::single;
use crate::failure::{self, Answer, Failure};
use crate::idempotency::{self, Final, IdempotencyKey};

/// A body with events.
pub(super) struct EventsBody {
    bytes: Bytes,
    /// `None` for a single event.
    form: Option<BatchForm>,
    _reserved: Reserved,
}

impl FromRequest<App> for EventsBody {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answer<Self> {
        let lines = is_lines(request.headers());
        if !lines && !body::is_json(request.headers()) {
            let message = "the body must be application/json or application/x-ndjson";
            return Err(Failure::unsupported_media_type(message));
        }
        let (bytes, reserved) = body::read(app, request).await?;
        let form = if lines {
            Some(BatchForm::Lines)
        } else {
            bytes.trim_ascii_start().starts_with(b"[").then_some(BatchForm::Array)
        };
        Ok(Self { bytes, form, _reserved: reserved })
    }
}

fn is_lines(headers: &HeaderMap) -> bool {
    let essence = single(headers, &header::CONTENT_TYPE).and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| {
        let essence = essence.trim().to_ascii_lowercase();
        ["application/x-ndjson", "application/ndjson", "application/jsonl"].contains(&essence.as_str())
    })
}

/// What became of what was sent: of the event, or of each event in the order of the body.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Submitted {
    One(Outcome),
    Many(Outcomes),
}

/// What became of many events. One refused event never affects the others.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcomes {
    stored: usize,
    queued: usize,
    duplicates: usize,
    refused: usize,
    outcomes: Vec<Outcome>,
    #[serde(skip)]
    is_final: bool,
}

impl Final for Submitted {
    fn is_final(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(outcomes) => outcomes.is_final,
        }
    }
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    status: OutcomeStatus,
    /// Absent for an event that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    /// Why the event is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Refusal>,
}

/// Whether an event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OutcomeStatus {
    Stored,
    /// It is accepted durably and will be stored in a moment; whether it is a duplicate shows then.
    Queued,
    /// An event with this id was there already; nothing changed.
    Duplicate,
    Refused,
}

/// One thing that is wrong with an event.
#[derive(Debug, Serialize, ToSchema)]
struct Refusal {
    /// JSON pointer within the event.
    pointer: String,
    code: String,
    detail: String,
    /// Seconds after which the event can be sent again, when waiting helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Outcome {
    fn accepted(accepted: Accepted) -> Self {
        let status = match accepted {
            Accepted { queued: true, .. } => OutcomeStatus::Queued,
            Accepted { duplicate: true, .. } => OutcomeStatus::Duplicate,
            _ => OutcomeStatus::Stored,
        };
        let received_at = Some(accepted.received_at);
        Self { status, id: Some(accepted.id), received_at, errors: Vec::new() }
    }

    fn refused(id: Option<EventId>, error: &Error) -> Self {
        let refusal = |field: &FieldError| Refusal {
            pointer: field.pointer.clone(),
            code: field.code.to_string(),
            detail: field.message.clone(),
            retry_after: None,
        };
        let mut errors: Vec<_> = error.fields().iter().map(refusal).collect();
        if errors.is_empty() {
            let code = error.kind().as_str().to_owned();
            let retry_after = error.retry_after().map(failure::whole_seconds);
            let detail = error.message().to_owned();
            errors.push(Refusal { pointer: String::new(), code, detail, retry_after });
        }
        Self { status: OutcomeStatus::Refused, id, received_at: None, errors }
    }
}

impl Outcomes {
    fn new(ids: Vec<Option<EventId>>, outcomes: Vec<Result<Accepted, Error>>) -> Self {
        let is_final = idempotency::all_final(&outcomes);
        let answer = |(id, outcome): (Option<EventId>, Result<Accepted, Error>)| match outcome {
            Ok(accepted) => Outcome::accepted(accepted),
            Err(error) => Outcome::refused(id, &error),
        };
        let outcomes: Vec<_> = ids.into_iter().zip(outcomes).map(answer).collect();
        let count = |status| outcomes.iter().filter(|outcome| outcome.status == status).count();
        Self {
            stored: count(OutcomeStatus::Stored),
            queued: count(OutcomeStatus::Queued),
            duplicates: count(OutcomeStatus::Duplicate),
            refused: count(OutcomeStatus::Refused),
            outcomes,
            is_final,
        }
    }
}

pub(super) async fn submit(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: EventsBody,
) -> Answer<Response> {
    let tenant = caller.tenant();
    let key = IdempotencyKey::of(&headers, "v2.events")?;
    let limits = app.tenant_limits(tenant).await?;
    let work = async {
        match body.form {
            Some(form) => many(&app, tenant, limits, &body.bytes, form, key).await.map(Submitted::Many),
            None => one(&app, tenant, limits, &body.bytes, key).await.map(Submitted::One),
        }
    };
    let answer = idempotency::once(&app, tenant, key, &body.bytes, StatusCode::OK, work).await;
    let mut response = answer.into_response();
    show_rate_limit(&app, tenant, limits, response.headers_mut()).await?;
    Ok(response)
}

const fn options(limits: TenantLimits) -> IngestOptions {
    IngestOptions { dialect: Dialect::Strict, durability: None, limits }
}

async fn many(
    app: &App,
    tenant: TenantId,
    limits: TenantLimits,
    body: &[u8],
    form: BatchForm,
    key: Option<IdempotencyKey>,
) -> Answer<Outcomes> {
    let ingest = app.ps.ingest();
    let mut parser = ingest.parser(Dialect::Strict);
    let parsed = match key {
        None => parser.batch(body, form)?,
        Some(key) => {
            parser.batch_or_ids(body, form, &|place| EventId::from_u128(key.derive(tenant, place)))?
        }
    };
    if parsed.events.is_empty() {
        let field = FieldError::new("", "length", "must have at least one event");
        return Err(Failure::invalid_body(vec![field]));
    }
    let ids = parsed.events.iter().map(|event| Some(event.as_ref().ok()?.id.clone())).collect();
    Ok(Outcomes::new(ids, ingest.ingest_parsed(tenant, parsed.events, options(limits)).await?))
}

async fn one(
    app: &App,
    tenant: TenantId,
    limits: TenantLimits,
    body: &[u8],
    key: Option<IdempotencyKey>,
) -> Answer<Outcome> {
    let ingest = app.ps.ingest();
    let mut parser = ingest.parser(Dialect::Strict);
    let Some(key) = key else {
        let accepted = ingest.ingest(tenant, parser.event(body)?, options(limits)).await?;
        return Ok(Outcome::accepted(accepted));
    };
    let id = EventId::from_u128(key.derive(tenant, 0));
    let event = parser.event_or_id(body, &id)?;
    let accepted = ingest.ingest(tenant, event.clone(), options(limits)).await?;
    // The first answer was forgotten if the id that the key stands for is there already.
    if accepted.duplicate && accepted.id == id {
        return first_outcome(app, tenant, event).await;
    }
    Ok(Outcome::accepted(accepted))
}

/// Tells from the stored event what the first request under a key was answered, or that it was another request.
async fn first_outcome(app: &App, tenant: TenantId, sent: Event) -> Answer<Outcome> {
    let stored = app.ps.event_store().get(tenant, std::slice::from_ref(&sent.id)).await?.pop().flatten();
    let stored = stored.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "events.submit", "the event was deleted meanwhile")
    })?;
    // A timestamp that the client left out was filled in, with another time.
    let sent = Event { timestamp: stored.timestamp, received_at: stored.received_at, ..sent };
    if sent != stored {
        return Err(idempotency::another_body());
    }
    let (id, received_at) = (stored.id, stored.received_at);
    Ok(Outcome::accepted(Accepted { id, received_at, duplicate: false, queued: false }))
}

/// Adds `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): the burst `q` comes back within `w` seconds, `r`
/// of it are left, and after `t` seconds all of it is.
async fn show_rate_limit(
    app: &App,
    tenant: TenantId,
    limits: TenantLimits,
    headers: &mut HeaderMap,
) -> Answer<()> {
    let decision = app.ps.ingest().rate_limit(tenant, limits).await?;
    let own = limits.rate_limit.map_or_else(|| app.settings().ingest.rate_limit(), Ok)?;
    let window = own.refill_micros().unsigned_abs().div_ceil(1_000_000);
    let reset = decision.reset_after.as_micros().div_ceil(1_000_000);
    let policy = format!("\"ingest\";q={};w={window}", decision.limit);
    let state = format!("\"ingest\";r={};t={reset}", decision.remaining);
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(())
}
