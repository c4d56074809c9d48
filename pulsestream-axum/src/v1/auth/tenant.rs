//! Tenants.

use axum::extract::State;
use pulsestream_core::auth::{RegisterTenant, TenantProfile, TenantUpdate};
use pulsestream_core::event::JsonObject;
use pulsestream_core::id::{TenantId, UserId};
use pulsestream_core::query::{Bucket, CalendarUnit, TimeZoneName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shapes::TenantOut;
use crate::access::{Caller, From};
use crate::app::App;
use crate::failure::Answer;
use crate::input::Json;

/// A new tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"name": "Shop", "slug": "shop", "contact_email": "owner@shop.example"}))]
pub(crate) struct RegisterTenantIn {
    #[schema(min_length = 2, max_length = 255)]
    name: String,
    /// Letters a to z, digits, underscores and hyphens; upper case is lowered.
    #[schema(min_length = 2, max_length = 100)]
    slug: String,
    #[schema(min_length = 3, max_length = 254)]
    contact_email: String,
    billing_email: Option<String>,
    #[schema(max_length = 50, default = "free")]
    subscription_tier: Option<String>,
    /// IANA time zone.
    #[schema(max_length = 100, default = "UTC")]
    timezone: Option<String>,
}

/// A tenant that was made. The two secrets are shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct RegisteredTenantOut {
    message: String,
    tenant: NewTenantOut,
    owner_user: NewOwnerOut,
    next_steps: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct NewTenantOut {
    #[schema(value_type = String)]
    id: TenantId,
    name: String,
    slug: String,
    api_key: String,
}

#[derive(Serialize, ToSchema)]
struct NewOwnerOut {
    #[schema(value_type = String)]
    id: UserId,
    email: String,
    temporary_password: String,
}

pub(super) async fn register(
    State(app): State<App>,
    From(origin): From,
    Json(body): Json<RegisterTenantIn>,
) -> Answer<axum::Json<RegisteredTenantOut>> {
    let request = RegisterTenant {
        name: body.name,
        slug: body.slug,
        contact_email: body.contact_email,
        billing_email: body.billing_email,
        subscription_tier: body.subscription_tier,
        timezone: body.timezone,
    };
    let made = app.ps.accounts().register_tenant(&request, &origin).await?;
    Ok(axum::Json(RegisteredTenantOut {
        message: "the tenant is registered".to_owned(),
        tenant: NewTenantOut {
            id: made.tenant.id,
            name: made.tenant.name,
            slug: made.tenant.slug,
            api_key: made.api_key.expose().to_owned(),
        },
        owner_user: NewOwnerOut {
            id: made.owner.id,
            email: made.owner.email,
            temporary_password: made.temporary_password.expose().to_owned(),
        },
        next_steps: vec![
            "store the API key: it is not shown again".to_owned(),
            "sign in with the temporary password and change it before it expires".to_owned(),
            "send a first event to /api/v1/ingestion/events with the header X-API-Key".to_owned(),
        ],
    }))
}

pub(super) async fn profile(State(app): State<App>, caller: Caller) -> Answer<axum::Json<TenantOut>> {
    let profile = app.ps.accounts().tenant_profile(&caller.principal, &caller.origin).await?;
    show(&app, profile).await
}

/// Changes to the tenant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TenantIn {
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
    Json(body): Json<TenantIn>,
) -> Answer<axum::Json<TenantOut>> {
    let update = TenantUpdate {
        name: body.name,
        contact_email: body.contact_email,
        billing_email: body.billing_email,
        timezone: body.timezone,
        notification_settings: body.notification_settings,
    };
    let profile = app.ps.accounts().update_tenant(&caller.principal, &update, &caller.origin).await?;
    show(&app, profile).await
}

/// A key that replaces another, shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKeyOut {
    message: String,
    new_api_key: String,
    warning: String,
}

pub(super) async fn regenerate_key(State(app): State<App>, caller: Caller) -> Answer<axum::Json<NewKeyOut>> {
    let made = app.ps.accounts().regenerate_api_key(&caller.principal, &caller.origin).await?;
    Ok(axum::Json(NewKeyOut {
        message: "the API key is replaced".to_owned(),
        new_api_key: made.key.expose().to_owned(),
        warning: "the old key has stopped working; the new one is not shown again".to_owned(),
    }))
}

async fn show(app: &App, profile: TenantProfile) -> Answer<axum::Json<TenantOut>> {
    let now = app.ps.env().now();
    let month = Bucket::Calendar { unit: CalendarUnit::Month, time_zone: TimeZoneName::utc() };
    let this_month = month.range_from(month.start_of(now));
    let (counted, last, limits) = tokio::try_join!(
        app.counted(profile.id, this_month),
        app.last_event_at(profile.id),
        app.tenant_limits(profile.id),
    )?;
    let rate = match limits.rate_limit {
        Some(_) => profile.rate_limit_per_minute,
        None => app.settings().ingest.rate_limit_per_minute,
    };
    Ok(axum::Json(TenantOut::new(profile, rate, counted.events, last)))
}
