//! Settings of the PostgreSQL backend.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pulsestream_core::error::{Error, Result};
use pulsestream_core::time::duration_text;
use serde::{Deserialize, Serialize};

/// A name of a schema or a role: 1 to 48 lower-case ASCII letters, digits and underscores, no digit first.
///
/// Names become part of SQL texts, which cannot be bound as parameters; this type is what keeps them harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identifier(String);

impl Identifier {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Identifier {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts_well = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if !starts_well || name.len() > 48 || !name.bytes().all(allowed) || name.starts_with("pg_") {
            return Err(Error::invalid(
                "postgres.identifier",
                "",
                "invalid_identifier",
                "must have 1 to 48 of a-z, 0-9 and _, must not start with a digit or with pg_",
            ));
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for Identifier {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Identifier> for String {
    fn from(name: Identifier) -> Self {
        name.0
    }
}

/// The URL of a server, which may hold a password: it is not shown, and not written.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Returns the URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerUrl(..)")
    }
}

impl From<&str> for ServerUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

/// How the backend uses PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// Where the server itself is, when the URL or the host's pool leads to a pooler that gives each transaction another session, as
    /// pgbouncer does with `pool_mode = transaction`. Everything then happens within transactions and nothing is left in a
    /// session; what needs a session of its own, to listen and to ask for the status, connects here. A pool of the host's own
    /// must be made with `statement_cache_capacity(0)` and `extra_float_digits(None)`.
    #[serde(skip_serializing)]
    pub direct_url: Option<ServerUrl>,
    /// The schema that holds the tables; created when it is missing and `migrate` is set.
    pub schema: Identifier,
    /// Most connections of the pool; one more is used to listen. Without effect on a pool of the host's own.
    pub max_connections: u32,
    /// Most connections beside those, for accounts and leases alone: sign-ins, API keys and the shares of nodes go on when events
    /// and questions hold all of the others. Without effect on a pool of the host's own.
    pub reserved_connections: u32,
    /// How long a caller waits for a free connection before it gets `Unavailable`.
    #[serde(with = "duration_text")]
    pub acquire_timeout: Duration,
    /// After how long a statement is cancelled with `Timeout`.
    #[serde(with = "duration_text")]
    pub statement_timeout: Duration,
    /// After how long waiting for a lock ends with `Unavailable`.
    #[serde(with = "duration_text")]
    pub lock_timeout: Duration,
    /// Whether `connect` brings the schema up to date; otherwise an old schema is refused.
    pub migrate: bool,
    /// A role to which a migration grants what the application needs and nothing more. It must exist, and should be the
    /// role that applications connect with: it owns nothing, so that row-level security holds for it.
    pub app_role: Option<Identifier>,
    /// Whether `connect`, when it may migrate, makes an index for text in titles and messages. It needs the extension `pg_trgm`,
    /// which is made when the role may; without it, and without the index, a search for text reads the events of its range. An
    /// index that is there is used, whatever this says.
    pub text_index: bool,
    /// Whether `connect` refuses a role for which row-level security has no effect (superuser, `BYPASSRLS`, or the owner of
    /// the tables). Otherwise it warns.
    pub require_rls: bool,
    /// How often a waiting tail looks by itself, in case that a notification was lost with its connection.
    #[serde(with = "duration_text")]
    pub poll_interval: Duration,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            direct_url: None,
            schema: Identifier("pulsestream".to_owned()),
            max_connections: 16,
            reserved_connections: 2,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            migrate: true,
            app_role: None,
            text_index: true,
            require_rls: false,
            poll_interval: Duration::from_secs(1),
        }
    }
}

impl PostgresConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// `Invalid` with a field error for each value that is out of range.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut refuse = |pointer: &str, message: &str| {
            fields.push(pulsestream_core::FieldError::new(pointer, "out_of_range", message));
        };
        if self.max_connections == 0 || self.max_connections > 1_000 {
            refuse("/max_connections", "must be 1 to 1000");
        }
        if self.reserved_connections == 0 || self.reserved_connections > 100 {
            refuse("/reserved_connections", "must be 1 to 100");
        }
        let spans = [
            ("/acquire_timeout", self.acquire_timeout),
            ("/statement_timeout", self.statement_timeout),
            ("/lock_timeout", self.lock_timeout),
            ("/poll_interval", self.poll_interval),
        ];
        for (pointer, span) in spans {
            if span < Duration::from_millis(1) || span > Duration::from_secs(86_400) {
                refuse(pointer, "must be 1ms to 1d");
            }
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("postgres.config", fields)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_cannot_leave_their_place_in_sql() {
        for name in ["", "1a", "a b", "a;b", "a\"b", "A", "pg_x", "\u{e4}", &"a".repeat(49)] {
            assert!(name.parse::<Identifier>().is_err(), "{name}");
        }
        for name in ["a", "_x9", &"a".repeat(48)] {
            assert_eq!(name.parse::<Identifier>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn settings_read_durations_and_refuse_unknown_names() {
        let config: PostgresConfig = serde_json::from_str(r#"{"statement_timeout": "5s"}"#).unwrap();
        assert_eq!(config.statement_timeout, Duration::from_secs(5));
        assert!(serde_json::from_str::<PostgresConfig>(r#"{"shema": "x"}"#).is_err());
        let wrong = PostgresConfig {
            max_connections: 0,
            reserved_connections: 0,
            lock_timeout: Duration::ZERO,
            ..config
        };
        assert_eq!(wrong.validate().unwrap_err().fields().len(), 3);
    }

    #[test]
    fn the_direct_url_keeps_its_password_to_itself() {
        let config: PostgresConfig =
            serde_json::from_str(r#"{"direct_url": "postgres://app:secret@db/shop"}"#).unwrap();
        assert_eq!(config.direct_url.as_ref().unwrap().expose(), "postgres://app:secret@db/shop");
        assert!(!format!("{config:?}{}", serde_json::to_string(&config).unwrap()).contains("secret"));
    }
}
