//! Sending events, one or many.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use pulsestream_core::event::{BatchForm, Dialect, Event, Severity};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ingest::{Accepted, IngestOptions};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, FieldError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::body::JsonBytes;
use crate::failure::{self, Answer, Failure};
use crate::idempotency::{self, Final, IdempotencyKey};

/// An event as clients send it. Fields that are not known are ignored.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the schema of what the event parser of the core reads")]
#[schema(example = json!({
    "event_type": "api_call", "title": "Checkout failed", "severity": "error",
    "source": {"service": "shop", "endpoint": "/checkout", "method": "POST"},
    "metrics": {"response_time_ms": 812.5, "status_code": 502},
    "context": {"user_id": "u-17", "tags": {"plan": "free"}}, "payload": {"order": 17}
}))]
pub(crate) struct EventIn {
    #[schema(min_length = 1, max_length = 100)]
    event_id: Option<String>,
    event_type: EventType,
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    #[schema(max_length = 2000)]
    message: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<SeverityName>, default = "info")]
    severity: Severity,
    source: SourceIn,
    context: Option<ContextIn>,
    metrics: Option<MetricsIn>,
    error_details: Option<ErrorDetailsIn>,
    /// At most 10 MiB.
    payload: Option<Map<String, Value>>,
    metadata: Option<Map<String, Value>>,
    /// Now, when absent; at most 5 minutes ahead.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<Timestamp>,
    /// Another name of `timestamp`.
    #[schema(value_type = Option<String>, format = DateTime)]
    event_timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "a schema")]
enum EventType {
    ApiCall,
    UserAction,
    SystemEvent,
    ErrorEvent,
    CustomEvent,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Severity)]
#[allow(dead_code, reason = "a schema")]
pub(crate) enum SeverityName {
    Info,
    Warning,
    Error,
    Critical,
}

#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "a schema")]
struct SourceIn {
    #[schema(min_length = 1, max_length = 100)]
    service: String,
    #[schema(min_length = 1, max_length = 500)]
    endpoint: String,
    #[schema(min_length = 1, max_length = 10)]
    method: String,
    #[schema(max_length = 20)]
    version: Option<String>,
    #[schema(max_length = 50)]
    environment: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "a schema")]
struct ContextIn {
    user_id: Option<String>,
    session_id: Option<String>,
    request_id: Option<String>,
    ip_address: Option<String>,
    #[schema(max_length = 500)]
    user_agent: Option<String>,
    referrer: Option<String>,
    tags: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "a schema")]
struct MetricsIn {
    #[schema(minimum = 0)]
    response_time_ms: Option<f64>,
    #[schema(minimum = 100, maximum = 599)]
    status_code: Option<u16>,
    #[schema(minimum = 0)]
    request_size_bytes: Option<u64>,
    #[schema(minimum = 0)]
    response_size_bytes: Option<u64>,
    cache_hit: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "a schema")]
struct ErrorDetailsIn {
    #[schema(max_length = 100)]
    error_code: Option<String>,
    #[schema(max_length = 1000)]
    error_message: Option<String>,
    stack_trace: Option<String>,
    #[schema(max_length = 100)]
    error_type: Option<String>,
}

/// Many events.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the schema of what the event parser of the core reads")]
#[schema(example = json!({
    "batch_id": "b-1",
    "events": [{
        "event_id": "order-17", "event_type": "user_action", "title": "Ordered",
        "source": {"service": "shop", "endpoint": "/checkout", "method": "POST"}
    }]
}))]
pub(crate) struct BatchIn {
    #[schema(min_items = 1, max_items = 1000)]
    events: Vec<EventIn>,
    /// One is made up when absent.
    batch_id: Option<String>,
    source_application: Option<String>,
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventAnswer {
    success: bool,
    /// Null for an event that could not be read.
    #[schema(value_type = Option<String>)]
    event_id: Option<EventId>,
    #[schema(value_type = String, format = DateTime)]
    ingested_at: Timestamp,
    /// `completed`; `queued` when it is accepted durably and stored in a moment; or `failed`.
    processing_status: &'static str,
    #[schema(value_type = String)]
    message: Cow<'static, str>,
    errors: Option<Vec<String>>,
}

impl Final for EventAnswer {
    fn is_final(&self) -> bool {
        true
    }
}

impl EventAnswer {
    fn accepted(accepted: Accepted) -> Self {
        let (processing_status, message) = match accepted {
            Accepted { queued: true, .. } => ("queued", "the event is accepted and will be stored"),
            Accepted { duplicate: true, .. } => {
                ("completed", "duplicate: an event with this event_id is stored already, and nothing changed")
            }
            _ => ("completed", "the event is stored"),
        };
        Self {
            success: true,
            event_id: Some(accepted.id),
            ingested_at: accepted.received_at,
            processing_status,
            message: Cow::Borrowed(message),
            errors: None,
        }
    }

    /// Returns whether another event that was accepted has the same answer but for the id.
    fn is_like(&self, other: &Self) -> bool {
        (self.ingested_at, self.processing_status) == (other.ingested_at, other.processing_status)
            && self.message == other.message
    }

    /// Returns what stands after the id in the answer about an event that was accepted, from the closing quote on.
    fn json_after_id(&self) -> serde_json::Result<String> {
        let id = EventId::from_u128(0);
        let like = Self { event_id: Some(id), message: self.message.clone(), errors: None, ..*self };
        let json = serde_json::to_string(&like)?;
        Ok(json[ID_BEFORE.len() + 36..].to_owned())
    }

    fn refused(event_id: Option<EventId>, error: &Error, at: Timestamp) -> Self {
        let fields = error.fields();
        let errors = match error.retry_after() {
            _ if !fields.is_empty() => fields.iter().map(describe).collect(),
            Some(wait) => {
                let seconds = failure::whole_seconds(wait);
                vec![format!("{}; send it again in {seconds} s", error.message())]
            }
            None => vec![error.message().to_owned()],
        };
        Self {
            success: false,
            event_id,
            ingested_at: at,
            processing_status: "failed",
            message: Cow::Owned(format!("the event is refused: {}", error.message())),
            errors: Some(errors),
        }
    }
}

/// `/metrics/status_code` becomes `metrics.status_code`.
fn describe(field: &FieldError) -> String {
    let place = field.pointer.trim_start_matches('/').replace('/', ".");
    if place.is_empty() { field.message.clone() } else { format!("{place}: {}", field.message) }
}

/// What became of a batch. `successful_count` and `failed_count` repeat two numbers, because clients read either name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    batch_id: String,
    total_events: usize,
    successful_events: usize,
    failed_events: usize,
    successful_count: usize,
    failed_count: usize,
    #[schema(value_type = String, format = DateTime)]
    ingested_at: Timestamp,
    /// One for each event, in the order sent.
    results: Vec<EventAnswer>,
    /// `completed`, `queued`, `partial` or `failed`.
    processing_status: &'static str,
    #[serde(skip)]
    is_final: bool,
}

impl Final for BatchAnswer {
    fn is_final(&self) -> bool {
        self.is_final
    }

    /// The results of events that were stored together differ in nothing but their ids: the rest of them is written once and copied.
    fn to_json(&self) -> serde_json::Result<String> {
        let head = Self { batch_id: self.batch_id.clone(), results: Vec::new(), ..*self };
        let head = serde_json::to_string(&head)?;
        let Some((before, after)) = head.rsplit_once("[]") else { return serde_json::to_string(self) };
        let mut json = String::with_capacity(head.len() + self.results.len() * 224);
        json.push_str(before);
        let mut like: Option<(&EventAnswer, String)> = None;
        for (place, result) in self.results.iter().enumerate() {
            json.push(if place == 0 { '[' } else { ',' });
            let id = result.event_id.as_ref().map(EventId::as_str);
            let Some(id) = id.filter(|id| result.success && needs_no_escape(id)) else {
                json.push_str(&serde_json::to_string(result)?);
                continue;
            };
            let rest = match &like {
                Some((other, rest)) if other.is_like(result) => rest,
                _ => &like.insert((result, result.json_after_id()?)).1,
            };
            json.push_str(ID_BEFORE);
            json.push_str(id);
            json.push_str(rest);
        }
        if self.results.is_empty() {
            json.push('[');
        }
        json.push(']');
        json.push_str(after);
        Ok(json)
    }
}

/// What stands before the id of an event that was accepted.
const ID_BEFORE: &str = r#"{"success":true,"event_id":""#;

/// Returns whether a text is written between quotes as it is.
fn needs_no_escape(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

impl BatchAnswer {
    fn new(
        batch_id: String,
        ids: Vec<Option<EventId>>,
        outcomes: Vec<Result<Accepted, Error>>,
        at: Timestamp,
    ) -> Self {
        let total = outcomes.len();
        let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let is_final = idempotency::all_final(&outcomes);
        let is_queued = outcomes.iter().flatten().any(|accepted| accepted.queued);
        let answer = |(id, outcome): (Option<EventId>, Result<Accepted, Error>)| match outcome {
            Ok(accepted) => EventAnswer::accepted(accepted),
            Err(error) => EventAnswer::refused(id, &error, at),
        };
        Self {
            batch_id,
            total_events: total,
            successful_events: good,
            failed_events: total - good,
            successful_count: good,
            failed_count: total - good,
            ingested_at: at,
            results: ids.into_iter().zip(outcomes).map(answer).collect(),
            processing_status: match good {
                0 => "failed",
                _ if good < total => "partial",
                _ if is_queued => "queued",
                _ => "completed",
            },
            is_final,
        }
    }
}

pub(super) async fn one(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: JsonBytes,
) -> Answer<Response> {
    let tenant = caller.tenant();
    let key = IdempotencyKey::of(&headers, "v1.events")?;
    let work = async {
        let options = options(&app, tenant).await?;
        let ingest = app.ps.ingest();
        let mut parser = ingest.parser(Dialect::V1);
        let Some(key) = key else {
            let accepted = ingest.ingest(tenant, parser.event(&body)?, options).await?;
            return Ok(EventAnswer::accepted(accepted));
        };
        let id = EventId::from_u128(key.derive(tenant, 0));
        let event = parser.event_or_id(&body, &id)?;
        let accepted = ingest.ingest(tenant, event.clone(), options).await?;
        // The first answer was forgotten if the id that the key stands for is there already.
        if accepted.duplicate && accepted.id == id {
            return first_answer(&app, tenant, &event).await;
        }
        Ok(EventAnswer::accepted(accepted))
    };
    idempotency::once(&app, tenant, key, &body, StatusCode::OK, work).await
}

pub(super) async fn batch(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: JsonBytes,
) -> Answer<Response> {
    let tenant = caller.tenant();
    let key = IdempotencyKey::of(&headers, "v1.events.batch")?;
    let work = async {
        let options = options(&app, tenant).await?;
        let ingest = app.ps.ingest();
        let mut parser = ingest.parser(Dialect::V1);
        let parsed = match key {
            None => parser.batch(&body, BatchForm::Envelope),
            Some(key) => {
                let id = |place| EventId::from_u128(key.derive(tenant, place));
                parser.batch_or_ids(&body, BatchForm::Envelope, &id)
            }
        };
        let parsed = parsed.map_err(too_many)?;
        if parsed.events.is_empty() {
            return Err(Failure::bad_request("empty_batch", "the batch has no events"));
        }
        let batch_id = match parsed.batch_id {
            Some(given) => given.as_str().to_owned(),
            None => EventId::from_u128(app.ps.env().uuid_v7()?).to_string(),
        };
        let ids = parsed.events.iter().map(|event| Some(event.as_ref().ok()?.id.clone())).collect();
        let outcomes = ingest.ingest_parsed(tenant, parsed.events, options).await?;
        Ok(BatchAnswer::new(batch_id, ids, outcomes, app.ps.env().now()))
    };
    idempotency::once(&app, tenant, key, &body, StatusCode::OK, work).await
}

async fn options(app: &App, tenant: TenantId) -> Answer<IngestOptions> {
    let limits = app.tenant_limits(tenant).await?;
    Ok(IngestOptions { dialect: Dialect::V1, durability: None, limits })
}

/// Tells from the stored event what the first request under a key was answered, or that it was another request.
async fn first_answer(app: &App, tenant: TenantId, sent: &Event) -> Answer<EventAnswer> {
    let stored = app.ps.event_store().get(tenant, std::slice::from_ref(&sent.id)).await?.pop().flatten();
    let Some(stored) = stored else {
        return Err(
            Error::new(ErrorKind::Unavailable, "events.submit", "the event was deleted meanwhile").into()
        );
    };
    // A timestamp that the client left out was filled in, with another time.
    let same =
        Event { timestamp: stored.timestamp, received_at: stored.received_at, ..sent.clone() } == stored;
    if !same {
        return Err(idempotency::another_body());
    }
    let accepted =
        Accepted { id: stored.id, received_at: stored.received_at, duplicate: false, queued: false };
    Ok(EventAnswer::accepted(accepted))
}

/// A batch with too many events is a body that does not validate.
fn too_many(error: Error) -> Failure {
    if error.kind() != ErrorKind::TooLarge {
        return error.into();
    }
    Failure::invalid_body(vec![FieldError::new("/events", "too_long", error.message().to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_batches_are_written_as_they_are_serialized() {
        let at = Timestamp::from_seconds;
        let id = |id: &str| EventId::new(id).unwrap();
        let accepted = |id: &str, second, duplicate, queued| {
            let id = EventId::new(id).unwrap();
            Ok(Accepted { id, received_at: at(second), duplicate, queued })
        };
        let refused = || Err(Error::invalid("ingest", "/title", "length", "must not be \"[]\""));
        let outcomes = vec![
            accepted("a", 1, false, false),
            accepted("b", 1, false, false),
            accepted("b", 1, true, false),
            refused(),
            accepted("c \"quoted\" \\", 1, false, false),
            accepted("d", 2, false, false),
            accepted("ü", 2, false, false),
            accepted("e", 2, false, true),
            refused(),
        ];
        let ids = (0..outcomes.len()).map(|place| (place != 3).then(|| id("x"))).collect::<Vec<_>>();
        for (ids, outcomes) in [(ids, outcomes), (vec![None], vec![refused()]), (Vec::new(), Vec::new())] {
            let answer = BatchAnswer::new("[] \"b\"".to_owned(), ids, outcomes, at(3));
            assert_eq!(answer.to_json().unwrap(), serde_json::to_string(&answer).unwrap());
        }
    }
}
