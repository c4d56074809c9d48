//! The audit log: every security-relevant event of a tenant.

use serde::{Deserialize, Serialize};

use crate::id::AuditId;
use crate::time::Timestamp;

macro_rules! audit_actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What happened, in the audit log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum AuditAction {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl AuditAction {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the stable name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

audit_actions! {
    /// A tenant was made.
    TenantCreated = "tenant.created";
    /// The profile of the tenant was changed.
    TenantUpdated = "tenant.updated";
    /// The tenant is being deleted.
    TenantDeleted = "tenant.deleted";
    /// Somebody signed in.
    SignedIn = "sign_in.succeeded";
    /// Signing in failed: unknown account, wrong password or disabled.
    SignInFailed = "sign_in.failed";
    /// Somebody signed out.
    SignedOut = "sign_out";
    /// A spent refresh token was shown again, and its session was ended.
    RefreshReused = "refresh.reused";
    /// A user was made.
    UserCreated = "user.created";
    /// A profile was changed.
    UserUpdated = "user.updated";
    /// The role of a user was changed.
    RoleChanged = "user.role_changed";
    /// A user was activated again.
    UserActivated = "user.activated";
    /// A user was deactivated.
    UserDeactivated = "user.deactivated";
    /// A user was deleted.
    UserDeleted = "user.deleted";
    /// A password was changed by its owner.
    PasswordChanged = "password.changed";
    /// Changing a password failed because the current one was wrong.
    PasswordChangeFailed = "password.change_failed";
    /// A password reset was asked for.
    ResetRequested = "password_reset.requested";
    /// A password was reset.
    ResetCompleted = "password_reset.completed";
    /// A reset token was refused.
    ResetFailed = "password_reset.failed";
    /// An API key was made.
    ApiKeyCreated = "api_key.created";
    /// An API key got a successor.
    ApiKeyRotated = "api_key.rotated";
    /// An API key was revoked.
    ApiKeyRevoked = "api_key.revoked";
    /// A caller wanted to do something that its role or scopes do not allow.
    AccessDenied = "access.denied";
}

/// An entry of the audit log. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its id; ids of one process ascend.
    pub id: AuditId,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub action: AuditAction,
    /// Who did it, such as `user:<id>`; `anonymous` before sign-in.
    pub actor: String,
    /// What it was done to, such as `api_key:<id>`.
    pub target: Option<String>,
    /// The address it came from.
    pub address: Option<String>,
    /// More, in words.
    pub detail: Option<String>,
}
