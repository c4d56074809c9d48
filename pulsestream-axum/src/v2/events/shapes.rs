//! What events look like on the wire; the core reads and writes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// One event, or an array of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the schema of what the event parser of the core reads")]
pub(super) enum EventsIn {
    One(Box<EventV2In>),
    Many(Vec<EventV2In>),
}

/// An event, as sent. Fields that are not known are refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema")]
#[schema(example = json!({
    "id": "order-17", "event_type": "order_failed", "severity": "error", "source": {"service": "shop"},
    "metrics": {"status_code": 502}, "payload": {"order": 17}
}))]
pub(super) struct EventV2In {
    /// One is made up when absent. The same id again stores nothing.
    #[schema(min_length = 1, max_length = 128)]
    id: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    event_type: String,
    /// Now, when absent; at most 5 minutes ahead.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<String>,
    /// `info` when absent.
    severity: Option<SeverityV2>,
    #[schema(max_length = 1000)]
    title: Option<String>,
    #[schema(max_length = 65536)]
    message: Option<String>,
    source: Option<SourceV2>,
    context: Option<ContextV2>,
    metrics: Option<MetricsV2>,
    error: Option<ErrorV2>,
    /// At most 1 MiB.
    payload: Option<Map<String, Value>>,
    metadata: Option<Map<String, Value>>,
}

/// A stored event.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "the schema of what the core writes")]
pub(super) struct EventOut {
    id: String,
    event_type: String,
    #[schema(value_type = String, format = DateTime)]
    timestamp: String,
    #[schema(value_type = String, format = DateTime)]
    received_at: String,
    severity: SeverityV2,
    title: Option<String>,
    message: Option<String>,
    source: SourceV2,
    context: ContextV2,
    metrics: MetricsV2,
    error: Option<ErrorV2>,
    payload: Option<Map<String, Value>>,
    metadata: Option<Map<String, Value>>,
}

/// How serious an event is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "a schema")]
pub(super) enum SeverityV2 {
    Info,
    Warning,
    Error,
    Critical,
}

/// Where an event comes from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct SourceV2 {
    #[schema(max_length = 200)]
    service: Option<String>,
    #[schema(max_length = 2000)]
    endpoint: Option<String>,
    #[schema(max_length = 100)]
    method: Option<String>,
    #[schema(max_length = 100)]
    version: Option<String>,
    #[schema(max_length = 100)]
    environment: Option<String>,
}

/// Who and what was involved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct ContextV2 {
    #[schema(max_length = 1000)]
    user_id: Option<String>,
    #[schema(max_length = 1000)]
    session_id: Option<String>,
    #[schema(max_length = 1000)]
    request_id: Option<String>,
    #[schema(max_length = 100)]
    ip_address: Option<String>,
    #[schema(max_length = 2000)]
    user_agent: Option<String>,
    #[schema(max_length = 8000)]
    referrer: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

/// What was measured.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct MetricsV2 {
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

/// What failed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "a schema")]
pub(super) struct ErrorV2 {
    #[schema(max_length = 200)]
    code: Option<String>,
    #[schema(max_length = 65536)]
    message: Option<String>,
    #[schema(max_length = 200)]
    r#type: Option<String>,
    #[schema(max_length = 262144)]
    stack_trace: Option<String>,
}
