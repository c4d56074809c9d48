//! Accounts: sign-in, sessions, users, roles, API keys and the secrets behind them.
//!
//! [`AuthService`] is what a transport calls; it keeps its data in an [`IdentityStore`](crate::ports::identity::IdentityStore)
//! and is itself a [`TenantAuth`](crate::ports::auth::TenantAuth). An application with identities of its own implements
//! `TenantAuth` and needs nothing of this module but [`Role`], [`Scopes`] and [`Action`].
//!
//! Numbers and rules come from OWASP ASVS 5 (sections 6 to 9), the OWASP Password Storage and Authentication cheat sheets,
//! RFC 8725 (JSON Web Token best practices) and RFC 9700 (OAuth 2.0 security).

mod api_key;
mod base62;
mod blocking;
mod cache;
mod common_passwords;
mod jws;
mod jwt;
mod keyring;
mod mac;
mod opaque;
mod password;
mod permission;
mod policy;
mod request;
mod secret;
mod service;
mod settings;
mod throttle;
mod validate;

pub use api_key::{ApiKeyText, masked};
pub use blocking::{BlockingPool, Job, OwnThreads};
pub use jws::CompactJws;
pub use jwt::MAX_TOKEN_BYTES;
pub use keyring::{Keyring, MIN_SIGNING_SECRET_BYTES, SigningKey, check_signing_secret};
pub use password::MAX_PASSWORD_BYTES;
pub use permission::{Action, Role, Scope, Scopes};
pub use policy::MAX_PASSWORD_CHARS;
pub use request::{
    ApiKeyInfo, ChangePassword, CompleteSetup, ConfirmReset, CreateApiKey, EnsureAdmin, EnsuredAdmin, Login,
    NewApiKey, ProfileUpdate, RegisterTenant, RegisterUser, RegisteredTenant, SetupToken, TenantProfile,
    TenantUpdate, Ticket, Tokens, UserList, UserProfile,
};
pub use secret::{Digest256, Secret, SecretBytes, secret_at_rest};
pub use service::{AuthService, AuthServiceBuilder, KeyRotation, ResetMail, ResetMailer, TenantDeletionHook};
pub use settings::{AuthSettings, PasswordSettings};
pub use throttle::ThrottleSettings;
