//! Settings of accounts: lifetimes, limits and costs, with defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::throttle::ThrottleSettings;
use crate::error::{Error, FieldError, Result};
use crate::time::duration_text;

/// Settings of accounts and sign-in. Durations are written as text, such as `30m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The `iss` of our tokens, which must be the same on every node.
    pub issuer: String,
    /// The `aud` of our tokens.
    pub audience: String,
    /// How long an access token lives.
    #[serde(with = "duration_text")]
    pub access_ttl: Duration,
    /// How long a WebSocket ticket lives.
    #[serde(with = "duration_text")]
    pub ticket_ttl: Duration,
    /// How far the clocks of two nodes may differ; at most 5 s.
    #[serde(with = "duration_text")]
    pub leeway: Duration,
    /// How long a refresh token lives when it is not used.
    #[serde(with = "duration_text")]
    pub refresh_ttl: Duration,
    /// The same, for a sign-in with `remember_me`.
    #[serde(with = "duration_text")]
    pub remember_me_ttl: Duration,
    /// After how long a session ends however often it is refreshed.
    #[serde(with = "duration_text")]
    pub session_max_age: Duration,
    /// How long a used refresh token still answers with the same successor, for a client whose reply was lost.
    #[serde(with = "duration_text")]
    pub refresh_grace: Duration,
    /// Most sessions of a user; one more ends the oldest.
    pub sessions_per_user: usize,
    /// How long a replaced signing key still verifies; at least `access_ttl`.
    #[serde(with = "duration_text")]
    pub signing_key_grace: Duration,
    /// How long the temporary password of a new owner works.
    #[serde(with = "duration_text")]
    pub temporary_password_ttl: Duration,
    /// How long a password-reset token works.
    #[serde(with = "duration_text")]
    pub reset_ttl: Duration,
    /// Passwords: their hash and their rules.
    pub password: PasswordSettings,
    /// The delays of repeated sign-in failures.
    pub throttle: ThrottleSettings,
    /// Whether anyone may register a tenant.
    pub open_registration: bool,
    /// Most users of a tenant.
    pub users_per_tenant: usize,
    /// Most API keys of a tenant that are not revoked or expired.
    pub api_keys_per_tenant: usize,
    /// How many sessions and keys are remembered as checked; each takes about 1 KiB.
    pub cache_entries: usize,
    /// How long one is remembered when this process is the only one that changes the store: every change here forgets it.
    #[serde(with = "duration_text")]
    pub cache_ttl: Duration,
    /// The same when other processes change the store too. Zero asks the store at each request, so that a logout on one node
    /// is effective at once on all; at most 10 s.
    #[serde(with = "duration_text")]
    pub shared_cache_ttl: Duration,
    /// How exact `last_used` and `last_active` are: one write per this span.
    #[serde(with = "duration_text")]
    pub activity_resolution: Duration,
    /// How long the audit log is kept.
    #[serde(with = "duration_text")]
    pub audit_retention: Duration,
    /// Events per minute of a new tenant.
    pub default_rate_limit_per_minute: u32,
    /// Events per month of a new tenant.
    pub default_max_events_per_month: u64,
}

impl Default for AuthSettings {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const DAY: u64 = 86_400;
        Self {
            issuer: "pulsestream".to_owned(),
            audience: "pulsestream".to_owned(),
            access_ttl: Duration::from_secs(30 * MINUTE),
            ticket_ttl: Duration::from_secs(30),
            leeway: Duration::from_secs(5),
            refresh_ttl: Duration::from_secs(7 * DAY),
            remember_me_ttl: Duration::from_secs(30 * DAY),
            session_max_age: Duration::from_secs(90 * DAY),
            refresh_grace: Duration::from_secs(10),
            sessions_per_user: 50,
            signing_key_grace: Duration::from_secs(60 * MINUTE),
            temporary_password_ttl: Duration::from_secs(7 * DAY),
            reset_ttl: Duration::from_secs(30 * MINUTE),
            password: PasswordSettings::default(),
            throttle: ThrottleSettings::default(),
            open_registration: true,
            users_per_tenant: 10_000,
            api_keys_per_tenant: 1_000,
            cache_entries: 10_000,
            cache_ttl: Duration::from_secs(MINUTE),
            shared_cache_ttl: Duration::ZERO,
            activity_resolution: Duration::from_secs(5 * MINUTE),
            audit_retention: Duration::from_secs(365 * DAY),
            default_rate_limit_per_minute: 100,
            default_max_events_per_month: 1_000_000,
        }
    }
}

impl AuthSettings {
    /// Checks every value against its limits.
    ///
    /// # Errors
    /// `Invalid` with one field error per refused value.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut require = |holds: bool, pointer: &str, message: &str| {
            if !holds {
                fields.push(FieldError::new(pointer, "out_of_range", message));
            }
        };
        let seconds = Duration::from_secs;
        require(!self.issuer.is_empty(), "/issuer", "must not be empty");
        require(!self.audience.is_empty(), "/audience", "must not be empty");
        require(self.access_ttl >= seconds(60), "/access_ttl", "must be at least 1m");
        require(self.access_ttl <= seconds(86_400), "/access_ttl", "must be at most 1d");
        require(self.ticket_ttl >= seconds(5), "/ticket_ttl", "must be at least 5s");
        require(self.ticket_ttl <= seconds(300), "/ticket_ttl", "must be at most 5m");
        require(self.leeway <= seconds(5), "/leeway", "must be at most 5s");
        require(self.refresh_ttl >= self.access_ttl, "/refresh_ttl", "must not be below access_ttl");
        require(
            self.remember_me_ttl >= self.refresh_ttl,
            "/remember_me_ttl",
            "must not be below refresh_ttl",
        );
        require(
            self.session_max_age >= self.refresh_ttl,
            "/session_max_age",
            "must not be below refresh_ttl",
        );
        require(self.refresh_grace <= seconds(60), "/refresh_grace", "must be at most 1m");
        require(self.sessions_per_user >= 1, "/sessions_per_user", "must be at least 1");
        require(
            self.signing_key_grace >= self.access_ttl,
            "/signing_key_grace",
            "must not be below access_ttl",
        );
        require(self.reset_ttl <= seconds(86_400), "/reset_ttl", "must be at most 1d");
        require(self.cache_entries >= 1, "/cache_entries", "must be at least 1");
        require(self.shared_cache_ttl <= seconds(10), "/shared_cache_ttl", "must be at most 10s");
        require(self.users_per_tenant >= 1, "/users_per_tenant", "must be at least 1");
        require(self.api_keys_per_tenant >= 1, "/api_keys_per_tenant", "must be at least 1");
        require(self.password.max_parallel >= 1, "/password/max_parallel", "must be at least 1");
        require((8..=64).contains(&self.password.min_chars), "/password/min_chars", "must be 8 to 64");
        require(
            self.throttle.max_delay >= self.throttle.base_delay,
            "/throttle/max_delay",
            "must not be below base_delay",
        );
        require(self.throttle.base_delay >= seconds(1), "/throttle/base_delay", "must be at least 1s");
        require(self.throttle.entries >= 16, "/throttle/entries", "must be at least 16");
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("auth.settings", fields)) }
    }
}

/// Cost of the password hash, its bounds, and the rules of passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordSettings {
    /// Memory of one argon2id hash, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Hashes computed at the same time.
    pub max_parallel: usize,
    /// Hashes that may wait; one more is refused with `Unavailable`.
    pub max_waiting: usize,
    /// Fewest characters of a new password.
    pub min_chars: usize,
    /// Words of the application that a password must not consist of, such as its name.
    pub context_words: Vec<String>,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1_024,
            iterations: 2,
            parallelism: 1,
            max_parallel: 2,
            max_waiting: 64,
            min_chars: 8,
            context_words: Vec::new(),
        }
    }
}

impl PasswordSettings {
    /// Returns whether the cost reaches one of the minimums of the OWASP Password Storage Cheat Sheet.
    pub fn is_strong_enough(&self) -> bool {
        const MINIMUMS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];
        self.parallelism >= 1
            && MINIMUMS
                .iter()
                .any(|(memory, passes)| self.memory_kib >= *memory && self.iterations >= *passes)
    }
}
