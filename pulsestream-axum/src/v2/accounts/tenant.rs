//! `/api/v2/tenant` and `/api/v2/usage`.

use axum::extract::State;
use axum::http::StatusCode;
use pulsestream_core::auth::{TenantProfile, TenantUpdate};
use pulsestream_core::event::JsonObject;
use pulsestream_core::id::TenantId;
use pulsestream_core::query::{Bucket, CalendarUnit, TimeZoneName};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::Answer;
use crate::input::{Json, Query};

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantV2 {
    #[schema(value_type = String)]
    id: TenantId,
    name: String,
    slug: String,
    is_active: bool,
    subscription_tier: String,
    contact_email: String,
    billing_email: Option<String>,
    /// IANA time zone.
    timezone: String,
    #[schema(value_type = Object)]
    notification_settings: JsonObject,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<TenantProfile> for TenantV2 {
    fn from(tenant: TenantProfile) -> Self {
        Self {
            id: tenant.id,
            name: tenant.name,
            slug: tenant.slug,
            is_active: tenant.is_active,
            subscription_tier: tenant.subscription_tier,
            contact_email: tenant.contact_email,
            billing_email: tenant.billing_email,
            timezone: tenant.timezone,
            notification_settings: tenant.notification_settings,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

pub(super) async fn get(State(app): State<App>, caller: Caller) -> Answer<axum::Json<TenantV2>> {
    let tenant = app.ps.accounts().tenant_profile(&caller.principal, &caller.origin).await?;
    Ok(axum::Json(tenant.into()))
}

/// Changes to the tenant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantIn)]
pub(super) struct TenantV2In {
    #[schema(min_length = 2, max_length = 255)]
    name: Option<String>,
    #[schema(min_length = 3, max_length = 254)]
    contact_email: Option<String>,
    #[schema(min_length = 3, max_length = 254)]
    billing_email: Option<String>,
    #[schema(max_length = 100)]
    timezone: Option<String>,
    #[schema(value_type = Option<Object>)]
    notification_settings: Option<JsonObject>,
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<TenantV2In>,
) -> Answer<axum::Json<TenantV2>> {
    let update = TenantUpdate {
        name: body.name,
        contact_email: body.contact_email,
        billing_email: body.billing_email,
        timezone: body.timezone,
        notification_settings: body.notification_settings,
    };
    let tenant = app.ps.accounts().update_tenant(&caller.principal, &update, &caller.origin).await?;
    Ok(axum::Json(tenant.into()))
}

/// Says that it is meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteTenantQuery {
    /// The slug of the tenant.
    #[schema(min_length = 1, max_length = 100)]
    confirm: String,
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<DeleteTenantQuery>,
) -> Answer<StatusCode> {
    let accounts = app.ps.accounts();
    let tenant = accounts.tenant_profile(&caller.principal, &caller.origin).await?;
    if tenant.slug != query.confirm {
        let message = "`confirm` is not the slug of the tenant";
        return Err(Error::new(ErrorKind::Conflict, "tenant.delete", message).into());
    }
    let accounts = accounts.clone();
    // On its own: what was begun goes on when the caller goes away or the time of the request is over.
    let deletion =
        tokio::spawn(async move { accounts.delete_tenant(&caller.principal, &caller.origin).await });
    deletion.await.map_err(|error| {
        Error::new(ErrorKind::Internal, "tenant.delete", "the deletion panicked").with_source(error)
    })??;
    Ok(StatusCode::NO_CONTENT)
}

/// What a tenant used of its quotas.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageOut {
    events: MonthlyEvents,
    rate_limit: RateLimitOut,
}

/// Events of the calendar month, UTC.
#[derive(Debug, Serialize, ToSchema)]
struct MonthlyEvents {
    #[schema(value_type = String, format = DateTime)]
    month: Timestamp,
    /// Events that happened since the month began.
    used: u64,
    /// Null: no limit.
    limit: Option<u64>,
}

/// The rate limit of ingestion.
#[derive(Debug, Serialize, ToSchema)]
struct RateLimitOut {
    /// Events at once.
    limit: u32,
    remaining: u32,
    /// Seconds after which all of it is left.
    reset_after: u64,
}

pub(super) async fn usage(State(app): State<App>, caller: Caller) -> Answer<axum::Json<UsageOut>> {
    let tenant = caller.tenant();
    let month = Bucket::Calendar { unit: CalendarUnit::Month, time_zone: TimeZoneName::utc() };
    let start = month.start_of(app.ps.env().now());
    let limits = app.tenant_limits(tenant).await?;
    let used = app.counted(tenant, month.range_from(start)).await?.events;
    let rate = app.ps.ingest().rate_limit(tenant, limits).await?;
    let limit = limits.max_events_per_month.or(app.settings().ingest.max_events_per_month);
    let reset_after = rate.reset_after.as_secs() + u64::from(rate.reset_after.subsec_nanos() > 0);
    let rate_limit = RateLimitOut { limit: rate.limit, remaining: rate.remaining, reset_after };
    Ok(axum::Json(UsageOut { events: MonthlyEvents { month: start, used, limit }, rate_limit }))
}
