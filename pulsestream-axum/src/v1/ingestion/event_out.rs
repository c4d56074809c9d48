//! Events as version 1 shows them.

use pulsestream_core::event::{Event, JsonObject, Severity};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::text::Text;
use pulsestream_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// An event. A value that is not known is null.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventOut {
    #[schema(value_type = String)]
    id: EventId,
    #[schema(value_type = String)]
    event_type: Text,
    /// The service it comes from.
    #[schema(value_type = Option<String>)]
    source: Option<Text>,
    #[schema(value_type = Option<String>)]
    source_version: Option<Text>,
    #[schema(value_type = String, format = DateTime)]
    event_timestamp: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    ingested_at: Timestamp,
    #[schema(value_type = Option<String>)]
    title: Option<Text>,
    #[schema(value_type = Option<String>)]
    message: Option<Text>,
    #[schema(value_type = String)]
    severity: Severity,
    #[schema(value_type = Object)]
    payload: JsonObject,
    #[schema(value_type = Object)]
    event_metadata: JsonObject,
    external_id: Option<String>,
    /// The request it belongs to.
    #[schema(value_type = Option<String>)]
    correlation_id: Option<Text>,
    processing_status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    processed_at: Option<Timestamp>,
    duration_ms: Option<f64>,
    status_code: Option<u16>,
    #[schema(value_type = Option<String>)]
    error_message: Option<Text>,
    #[schema(value_type = Option<String>)]
    user_agent: Option<Text>,
    geo_country: Option<String>,
    geo_city: Option<String>,
    device_type: Option<String>,
    alert_processed: Option<bool>,
    alerts_triggered: Option<u64>,
    #[schema(value_type = String)]
    tenant_id: TenantId,
}

impl EventOut {
    /// Shows an event of a tenant. An event that can be read is stored and indexed, which is what processing means here.
    pub(crate) fn new(tenant: TenantId, event: Event) -> Self {
        Self {
            id: event.id,
            event_type: event.event_type,
            source: event.source.service,
            source_version: event.source.version,
            event_timestamp: event.timestamp,
            ingested_at: event.received_at,
            title: event.title,
            message: event.message,
            severity: event.severity,
            payload: event.payload,
            event_metadata: event.metadata,
            external_id: None,
            correlation_id: event.context.request_id,
            processing_status: "completed",
            processed_at: Some(event.received_at),
            duration_ms: event.metrics.response_time_ms,
            status_code: event.metrics.status_code,
            error_message: event.error.and_then(|error| error.message),
            user_agent: event.context.user_agent,
            geo_country: None,
            geo_city: None,
            device_type: None,
            alert_processed: None,
            alerts_triggered: None,
            tenant_id: tenant,
        }
    }
}
