//! What callers ask of [`AuthService`](super::AuthService) and what they get.

use std::time::Duration;

use serde::Serialize;

use super::api_key::masked;
use super::permission::{Role, Scopes};
use super::secret::Secret;
use crate::event::JsonObject;
use crate::id::{ApiKeyId, TenantId, UserId};
use crate::ports::identity::{ApiKeyRecord, TenantRecord, TenantStatus, UserRecord};
use crate::time::Timestamp;

/// Asks for a new tenant with its first owner.
#[derive(Debug, Clone)]
pub struct RegisterTenant {
    /// 2 to 255 characters.
    pub name: String,
    /// 2 to 100 of `a-z 0-9 _ -`; upper case is lowered.
    pub slug: String,
    /// E-mail address of the tenant and of its first owner.
    pub contact_email: String,
    /// E-mail address for invoices.
    pub billing_email: Option<String>,
    /// Plan; `free` when absent.
    pub subscription_tier: Option<String>,
    /// IANA time zone; `UTC` when absent.
    pub timezone: Option<String>,
}

/// A new tenant. The two secrets are shown this once.
#[derive(Debug, Clone)]
pub struct RegisteredTenant {
    /// The tenant.
    pub tenant: TenantProfile,
    /// Its first API key, with scope `admin`.
    pub api_key: Secret,
    /// Its first owner.
    pub owner: UserProfile,
    /// The owner's password until it is changed or expires.
    pub temporary_password: Secret,
}

/// Asks to sign in.
#[derive(Debug, Clone)]
pub struct Login {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
    /// Slug of the tenant.
    pub tenant_slug: String,
    /// Whether the session should live longer.
    pub remember_me: bool,
}

/// The tokens of a session.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Opens the API, for `expires_in`.
    pub access_token: Secret,
    /// Gets new tokens, once, for `refresh_expires_in`.
    pub refresh_token: Secret,
    /// How long the access token lives.
    pub expires_in: Duration,
    /// How long the refresh token lives.
    pub refresh_expires_in: Duration,
    /// The user.
    pub user_id: UserId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// E-mail address of the user.
    pub email: String,
    /// Role of the user.
    pub role: Role,
}

/// A short-lived ticket for one WebSocket.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The ticket.
    pub ticket: Secret,
    /// How long it lives.
    pub expires_in: Duration,
}

/// Asks for a new user.
#[derive(Debug, Clone)]
pub struct RegisterUser {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: Secret,
    /// The password again.
    pub confirm_password: Secret,
    /// 2 to 100 characters.
    pub full_name: String,
    /// 3 to 50 of letters, digits, `. _ -`.
    pub username: Option<String>,
    /// Role; the caller must be allowed to grant it.
    pub role: Role,
}

/// Changes to the own profile; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ProfileUpdate {
    /// New user name.
    pub username: Option<String>,
    /// New full name.
    pub full_name: Option<String>,
    /// New preferences, in place of all old ones.
    pub preferences: Option<JsonObject>,
    /// New preferences for notifications, in place of all old ones.
    pub notification_preferences: Option<JsonObject>,
}

/// Asks to change the own password.
#[derive(Debug, Clone)]
pub struct ChangePassword {
    /// The password until now.
    pub current_password: Secret,
    /// The new password.
    pub new_password: Secret,
    /// The new password again.
    pub confirm_new_password: Secret,
}

/// Sets a new password with a token that was mailed.
#[derive(Debug, Clone)]
pub struct ConfirmReset {
    /// The token.
    pub token: Secret,
    /// The new password.
    pub new_password: Secret,
    /// The new password again.
    pub confirm_new_password: Secret,
}

/// A user, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserProfile {
    /// Id.
    pub id: UserId,
    /// E-mail address.
    pub email: String,
    /// User name.
    pub username: Option<String>,
    /// Full name.
    pub full_name: String,
    /// Role.
    pub role: Role,
    /// Whether the user may sign in.
    pub is_active: bool,
    /// Whether the user has shown to own the address.
    pub is_verified: bool,
    /// Last sign-in.
    pub last_login_at: Option<Timestamp>,
    /// Last call.
    pub last_active_at: Option<Timestamp>,
    /// Number of sign-ins.
    pub login_count: u64,
    /// Whether the user's tokens open the API: as long as the user is active.
    pub api_access_enabled: bool,
    /// Whether the password is one we made up, to be changed before it expires.
    pub must_change_password: bool,
    /// Preferences of the user interface.
    pub preferences: JsonObject,
    /// Preferences for notifications.
    pub notification_preferences: JsonObject,
    /// When the user was made.
    pub created_at: Timestamp,
    /// When the user was changed.
    pub updated_at: Timestamp,
}

impl From<UserRecord> for UserProfile {
    fn from(user: UserRecord) -> Self {
        Self {
            id: user.id,
            email: user.email,
            username: user.username,
            full_name: user.full_name,
            role: user.role,
            is_active: user.is_active,
            is_verified: user.is_verified,
            last_login_at: user.activity.last_login_at,
            last_active_at: user.activity.last_active_at,
            login_count: user.activity.login_count,
            api_access_enabled: user.is_active,
            must_change_password: user.password_expires_at.is_some(),
            preferences: user.preferences,
            notification_preferences: user.notification_preferences,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// A page of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserList {
    /// The users.
    pub users: Vec<UserProfile>,
    /// How many match in all.
    pub total: usize,
    /// Number of this page, from 1.
    pub page: usize,
    /// Users per page.
    pub size: usize,
    /// Number of pages; 0 when nobody matches.
    pub pages: usize,
}

/// A tenant, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantProfile {
    /// Id.
    pub id: TenantId,
    /// Name.
    pub name: String,
    /// Slug.
    pub slug: String,
    /// The primary API key, masked.
    pub api_key: Option<String>,
    /// Whether it can be used.
    pub is_active: bool,
    /// Plan.
    pub subscription_tier: String,
    /// Where to reach it.
    pub contact_email: String,
    /// Where to send invoices.
    pub billing_email: Option<String>,
    /// IANA time zone.
    pub timezone: String,
    /// Settings of its notifications.
    pub notification_settings: JsonObject,
    /// Events it may send per minute.
    pub rate_limit_per_minute: u32,
    /// Events it may send per month.
    pub max_events_per_month: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

impl From<TenantRecord> for TenantProfile {
    fn from(tenant: TenantRecord) -> Self {
        Self {
            id: tenant.id,
            name: tenant.name,
            slug: tenant.slug,
            api_key: tenant.primary_api_key.map(masked),
            is_active: tenant.status == TenantStatus::Active,
            subscription_tier: tenant.subscription_tier,
            contact_email: tenant.contact_email,
            billing_email: tenant.billing_email,
            timezone: tenant.timezone,
            notification_settings: tenant.notification_settings,
            rate_limit_per_minute: tenant.rate_limit_per_minute,
            max_events_per_month: tenant.max_events_per_month,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

/// Changes to the tenant profile; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct TenantUpdate {
    /// New name.
    pub name: Option<String>,
    /// New contact address.
    pub contact_email: Option<String>,
    /// New address for invoices.
    pub billing_email: Option<String>,
    /// New time zone.
    pub timezone: Option<String>,
    /// New settings of notifications, in place of all old ones.
    pub notification_settings: Option<JsonObject>,
}

/// Asks for a new API key.
#[derive(Debug, Clone)]
pub struct CreateApiKey {
    /// 1 to 100 characters.
    pub name: String,
    /// What it may be used for; at least one, none that the caller lacks.
    pub scopes: Scopes,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
}

/// A new API key; the key is shown this once.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The key.
    pub key: Secret,
    /// What can be seen later.
    pub info: ApiKeyInfo,
}

/// An API key, as shown: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKeyInfo {
    /// Id.
    pub id: ApiKeyId,
    /// Name.
    pub name: String,
    /// Prefix and public part of the key.
    pub masked_key: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to within minutes.
    pub last_used_at: Option<Timestamp>,
}

impl From<ApiKeyRecord> for ApiKeyInfo {
    fn from(key: ApiKeyRecord) -> Self {
        Self {
            id: key.id,
            name: key.name,
            masked_key: masked(key.id),
            scopes: key.scopes,
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// Asks for a tenant with an owner to exist, as at the first start.
#[derive(Debug, Clone)]
pub struct EnsureAdmin {
    /// Name of the tenant, if it is to be made.
    pub tenant_name: String,
    /// Slug of the tenant.
    pub tenant_slug: String,
    /// E-mail address of the owner.
    pub email: String,
    /// Full name of the owner.
    pub full_name: String,
    /// Password; one is made up when absent.
    pub password: Option<Secret>,
}

/// A link that makes the first administrator.
#[derive(Debug, Clone)]
pub struct SetupToken {
    /// What [`CompleteSetup`] takes; it is shown this once.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Makes the first administrator.
#[derive(Debug, Clone)]
pub struct CompleteSetup {
    /// The token of the link.
    pub token: Secret,
    /// Name of the tenant.
    pub tenant_name: String,
    /// Slug of the tenant.
    pub tenant_slug: String,
    /// E-mail address of its owner.
    pub email: String,
    /// Full name of the owner.
    pub full_name: String,
    /// Password of the owner.
    pub password: Secret,
}

/// What [`EnsureAdmin`] led to.
#[derive(Debug, Clone)]
pub enum EnsuredAdmin {
    /// The owner was made.
    Created {
        /// The tenant.
        tenant: TenantProfile,
        /// The owner.
        owner: UserProfile,
        /// The password that was made up, shown this once.
        temporary_password: Option<Secret>,
        /// The first API key, shown this once, if the tenant was made too.
        api_key: Option<Secret>,
    },
    /// The user was there already and stays as it is, password included.
    Exists {
        /// The tenant.
        tenant: TenantProfile,
        /// The user.
        user: UserProfile,
    },
}
