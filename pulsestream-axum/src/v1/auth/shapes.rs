//! What version 1 shows of accounts.

use pulsestream_core::auth::{Role, TenantProfile, Tokens, UserProfile};
use pulsestream_core::id::{TenantId, UserId};
use pulsestream_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::HealthStatus;

/// The name of a role.
#[derive(Debug, ToSchema)]
#[schema(as = Role, rename_all = "snake_case")]
#[allow(dead_code, reason = "a schema")]
pub(crate) enum RoleName {
    Viewer,
    Admin,
    Owner,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenAnswer {
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// Seconds.
    refresh_expires_in: u64,
    #[schema(value_type = String)]
    user_id: UserId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    email: String,
    #[schema(value_type = RoleName)]
    role: Role,
}

impl From<Tokens> for TokenAnswer {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access_token.expose().to_owned(),
            refresh_token: tokens.refresh_token.expose().to_owned(),
            token_type: "bearer",
            expires_in: tokens.expires_in.as_secs(),
            refresh_expires_in: tokens.refresh_expires_in.as_secs(),
            user_id: tokens.user_id,
            tenant_id: tokens.tenant_id,
            email: tokens.email,
            role: tokens.role,
        }
    }
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserOut {
    #[schema(value_type = String)]
    id: UserId,
    email: String,
    username: Option<String>,
    full_name: String,
    #[schema(value_type = RoleName)]
    role: Role,
    is_active: bool,
    is_verified: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_login_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_active_at: Option<Timestamp>,
    /// A number, as text.
    login_count: String,
    api_access_enabled: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<UserProfile> for UserOut {
    fn from(user: UserProfile) -> Self {
        Self {
            id: user.id,
            email: user.email,
            username: user.username,
            full_name: user.full_name,
            role: user.role,
            is_active: user.is_active,
            is_verified: user.is_verified,
            last_login_at: user.last_login_at,
            last_active_at: user.last_active_at,
            login_count: user.login_count.to_string(),
            api_access_enabled: user.api_access_enabled,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantOut {
    #[schema(value_type = String)]
    id: TenantId,
    name: String,
    slug: String,
    /// The public part of the key; the key itself was shown once.
    api_key: Option<String>,
    is_active: bool,
    subscription_tier: String,
    contact_email: String,
    billing_email: Option<String>,
    timezone: String,
    rate_limit_per_minute: u32,
    max_events_per_month: u64,
    /// Events since the first of the month, UTC.
    current_month_events: u64,
    /// When the latest event happened.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl TenantOut {
    pub(crate) fn new(
        tenant: TenantProfile,
        rate_limit_per_minute: u32,
        current_month_events: u64,
        last_activity_at: Option<Timestamp>,
    ) -> Self {
        Self {
            id: tenant.id,
            name: tenant.name,
            slug: tenant.slug,
            api_key: tenant.api_key,
            is_active: tenant.is_active,
            subscription_tier: tenant.subscription_tier,
            contact_email: tenant.contact_email,
            billing_email: tenant.billing_email,
            timezone: tenant.timezone,
            rate_limit_per_minute,
            max_events_per_month: tenant.max_events_per_month,
            current_month_events,
            last_activity_at,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

/// Whether accounts work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthHealth {
    pub(super) status: HealthStatus,
    pub(super) service: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(super) timestamp: Timestamp,
    pub(super) version: &'static str,
}
