//! The records that an identity store keeps.

use serde::{Deserialize, Serialize};

use crate::auth::{Digest256, Keyring, Role, Scopes, Secret, SecretBytes, secret_at_rest};
use crate::event::JsonObject;
use crate::id::{ApiKeyId, SessionId, TenantId, UserId};
use crate::time::Timestamp;

/// Returns the form under which a slug, an e-mail address or a user name is unique: trimmed and lower-case.
pub fn unique_form(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Whether a tenant can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantStatus {
    /// It can.
    Active,
    /// An operator stopped it: no credential of it works.
    Suspended,
    /// It is being deleted: no credential of it works, and nothing can be written.
    Deleting,
}

/// A tenant. Every record carries the `version` it was read at, 0 for a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its id.
    pub id: TenantId,
    /// The version it was read at; 0: it is new.
    pub version: u64,
    /// Its short name, unique across tenants.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub status: TenantStatus,
    /// Where to reach it.
    pub contact_email: String,
    /// Where to send invoices.
    pub billing_email: Option<String>,
    /// The plan it is on; the application gives it a meaning.
    pub subscription_tier: String,
    /// IANA name of its time zone.
    pub timezone: String,
    /// Settings of its notifications.
    pub notification_settings: JsonObject,
    /// Events it may send per minute.
    pub rate_limit_per_minute: u32,
    /// Events it may send per month.
    pub max_events_per_month: u64,
    /// The API key that `regenerate` replaces and that the profile shows masked.
    pub primary_api_key: Option<ApiKeyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

/// What a user did, kept apart from the record, so that signing in conflicts with no change of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserActivity {
    /// When the user last signed in.
    pub last_login_at: Option<Timestamp>,
    /// When the user last called, to within the resolution set.
    pub last_active_at: Option<Timestamp>,
    /// How often the user signed in.
    pub login_count: u64,
}

/// A password reset that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingReset {
    /// Digest of the token that was mailed.
    pub digest: Digest256,
    /// When it stops to work.
    pub expires_at: Timestamp,
}

/// A user of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Its id.
    pub id: UserId,
    /// The version it was read at; 0: it is new.
    pub version: u64,
    /// E-mail address, unique in the tenant.
    pub email: String,
    /// User name, unique in the tenant.
    pub username: Option<String>,
    /// Full name.
    pub full_name: String,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may sign in.
    pub is_active: bool,
    /// Whether the user has shown to own the address, by a reset, or chosen a password of their own.
    pub is_verified: bool,
    /// argon2id hash as a PHC string.
    #[serde(with = "secret_at_rest")]
    pub password_hash: Secret,
    /// When the password was set.
    pub password_changed_at: Timestamp,
    /// When the password stops to work, for one that we made up.
    pub password_expires_at: Option<Timestamp>,
    /// Sessions of another epoch have ended.
    pub epoch: u64,
    /// The latest password reset; there is at most one.
    pub reset: Option<PendingReset>,
    /// Preferences of the user interface.
    pub preferences: JsonObject,
    /// Preferences for notifications.
    pub notification_preferences: JsonObject,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
    /// What the user did; the store fills it in and ignores it in a write.
    #[serde(default)]
    pub activity: UserActivity,
}

/// A refresh token that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentToken {
    /// Its digest.
    pub digest: Digest256,
    /// The secret of its successor, readable only with the spent token.
    pub sealed_successor: SecretBytes,
    /// When it was replaced.
    pub at: Timestamp,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The user signed out.
    SignedOut,
    /// A spent refresh token was shown again, so somebody else may hold the family.
    TokenReused,
    /// An administrator, or too many sessions, ended it.
    Revoked,
}

/// A session: a family of refresh tokens of which one is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// The version it was read at; 0: it is new.
    pub version: u64,
    /// Whose it is.
    pub user: UserId,
    /// The epoch of the user it was made in.
    pub epoch: u64,
    /// Digest of the live refresh token.
    pub current: Digest256,
    /// The refresh token before.
    pub previous: Option<SpentToken>,
    /// Whether the longer lifetime was asked for.
    pub remember_me: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the live refresh token stops to work.
    pub expires_at: Timestamp,
    /// Why it ended, if it did.
    pub ended: Option<SessionEnd>,
    /// Address it was made from.
    pub address: Option<String>,
    /// What the client called itself.
    pub user_agent: Option<String>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// The public part.
    pub id: ApiKeyId,
    /// The version it was read at; 0: it is new.
    pub version: u64,
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// HMAC of the key.
    pub digest: Digest256,
    /// Who made it, such as `user:<id>`.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to within the resolution set; the store fills it in and ignores it in a write.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
}

impl ApiKeyRecord {
    /// Returns whether it works at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

/// The secrets of the deployment, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyringRecord {
    /// The version it was read at; 0: it is new.
    pub version: u64,
    /// The secrets.
    pub keyring: Keyring,
    /// Links that make the first administrator, and were not used yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setups: Vec<PendingSetup>,
}

/// A link that makes the first administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingSetup {
    /// Digest of its token.
    pub digest: Digest256,
    /// When it ends.
    pub expires_at: Timestamp,
}
