//! Numbers about the tenant's events.

use std::time::Duration;

use axum::extract::State;
use pulsestream_core::id::TenantId;
use pulsestream_core::time::{TimeRange, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::Answer;
use crate::service::HealthStatus;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How many events the tenant has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    #[schema(value_type = String)]
    tenant_id: TenantId,
    total_events: u64,
    /// Since midnight UTC.
    events_today: u64,
    events_this_hour: u64,
    events_this_minute: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    /// Events on their way to the store, those in the ingest queue included.
    processing_queue_size: u64,
    /// Share of the events of the last 24 hours that are errors, 0 to 1.
    error_rate: f64,
}

pub(super) async fn stats(State(app): State<App>, caller: Caller) -> Answer<axum::Json<Stats>> {
    let (tenant, now) = (caller.tenant(), app.ps.env().now());
    // The whole of the present day, hour or minute: an event may be a little ahead of our clock.
    let present = |unit: Duration| TimeRange::new(now.floor(unit), now.floor(unit).plus(unit));
    let (total, today, hour, minute, day, last, waiting) = tokio::try_join!(
        app.counted(tenant, TimeRange::ALL),
        app.counted(tenant, present(DAY)),
        app.counted(tenant, present(HOUR)),
        app.counted(tenant, present(MINUTE)),
        app.counted(tenant, app.last(DAY)),
        app.last_event_at(tenant),
        app.waiting_events(),
    )?;
    Ok(axum::Json(Stats {
        tenant_id: tenant,
        total_events: total.events,
        events_today: today.events,
        events_this_hour: hour.events,
        events_this_minute: minute.events,
        last_event_at: last,
        processing_queue_size: waiting,
        error_rate: day.error_rate,
    }))
}

/// How ingestion goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IngestionHealth {
    status: HealthStatus,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// Events per second, over the last minute.
    ingestion_rate: f64,
    /// Events on their way to the store, those in the ingest queue included.
    queue_size: u64,
    /// `running`, or `stopped` when the store takes no events.
    worker_status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_received: Option<Timestamp>,
    /// Events of the last hour that are errors.
    errors_last_hour: u64,
    uptime_seconds: u64,
}

pub(super) async fn health(State(app): State<App>, caller: Caller) -> Answer<axum::Json<IngestionHealth>> {
    let (tenant, now) = (caller.tenant(), app.ps.env().now());
    let (minute, hour, last, waiting) = tokio::try_join!(
        app.counted(tenant, app.last(MINUTE)),
        app.counted(tenant, app.last(HOUR)),
        app.last_event_at(tenant),
        app.waiting_events(),
    )?;
    let status = app.health_status().await;
    Ok(axum::Json(IngestionHealth {
        status,
        timestamp: now,
        ingestion_rate: minute.rate,
        queue_size: waiting,
        worker_status: if status == HealthStatus::Unhealthy { "stopped" } else { "running" },
        last_event_received: last,
        errors_last_hour: hour.errors(),
        uptime_seconds: app.ps.uptime().as_secs(),
    }))
}

/// What is left of the rate limit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RateLimitView {
    /// Events per window on the long run.
    limit: u64,
    /// Events that may be sent now; the burst allows more than one window's worth.
    remaining: u32,
    /// When all of the burst is left again.
    #[schema(value_type = String, format = DateTime)]
    reset_time: Timestamp,
    window_size_seconds: u64,
    exceeded: bool,
}

pub(super) async fn rate_limit(State(app): State<App>, caller: Caller) -> Answer<axum::Json<RateLimitView>> {
    let limits = app.tenant_limits(caller.tenant()).await?;
    let decision = app.ps.ingest().rate_limit(caller.tenant(), limits).await?;
    let limit = match limits.rate_limit {
        Some(limit) => limit,
        None => app.settings().ingest.rate_limit()?,
    };
    let window = u64::try_from(MINUTE.as_micros()).unwrap_or(u64::MAX);
    Ok(axum::Json(RateLimitView {
        limit: window / u64::try_from(limit.interval_micros()).unwrap_or(1).max(1),
        remaining: decision.remaining,
        reset_time: app.ps.env().now().plus(decision.reset_after),
        window_size_seconds: MINUTE.as_secs(),
        exceeded: decision.remaining == 0,
    }))
}
