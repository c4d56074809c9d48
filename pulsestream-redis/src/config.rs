//! Settings, as plain data.

use std::fmt;
use std::time::Duration;

use pulsestream_core::error::{Error, FieldError, Result};
use pulsestream_core::ports::event_store::Durability;
use serde::{Deserialize, Serialize};

const MAX_PREFIX_BYTES: usize = 64;
const MAX_TIMEOUT_MS: u64 = 3_600_000;

/// How to reach Redis and what to ask of it.
///
/// Every field has a default except that the URL points to this machine; [`RedisConfig::validate`] names what is out of range.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/database]`; `rediss://` for TLS with the feature `tls`; `redis+unix:///path`.
    /// Written out nowhere, because it may hold a password.
    #[serde(skip_serializing)]
    pub url: String,
    /// What every key starts with: letters, digits, `-`, `_` and `.`, 1 to 64 bytes.
    pub key_prefix: String,
    /// How long a connection may take, handshake and login included.
    pub connect_timeout_ms: u64,
    /// How long a reply may take.
    pub response_timeout_ms: u64,
    /// The ingest queue.
    pub queue: QueueConfig,
    /// The live bus.
    pub live: LiveConfig,
    /// The cache.
    pub cache: CacheConfig,
    /// What the rate limiter does when Redis does not answer.
    pub limiter_outage: LimiterOutage,
}

/// The ingest queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// What an accepted batch must survive at least. A server whose settings promise less is refused.
    pub required_durability: Durability,
    /// What the operator promises of a server that does not let its settings be read, as managed services do not.
    pub promised_durability: Option<Durability>,
    /// How many events of all nodes may wait, dead letters included.
    pub max_events: u64,
    /// How many bytes they may have as they are kept.
    pub max_bytes: u64,
    /// After which time a batch whose worker is silent is handed to another. Storing a batch must take less.
    pub visibility_timeout_ms: u64,
    /// How often a batch is handed out before it becomes a dead letter.
    pub max_deliveries: u32,
    /// What a caller is told to wait when the queue is full.
    pub full_retry_after_ms: u64,
}

/// The live bus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveConfig {
    /// How many messages wait for a slow subscriber before the oldest is dropped and counted.
    pub buffer_messages: usize,
    /// How often a silent connection is asked whether it is alive.
    pub keepalive_interval_ms: u64,
}

/// The cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// The largest value.
    pub max_value_bytes: usize,
    /// How long one caller may compute a value while the others wait for it.
    pub fill_timeout_ms: u64,
}

/// What a limiter does when Redis does not answer. It never lets everything pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimiterOutage {
    /// Each node limits on its own until Redis is back: N nodes together let up to N times the limit pass.
    #[default]
    LimitLocally,
    /// Refuses with `Unavailable`; for sign-in throttles and other limits that must hold.
    Refuse,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/".to_owned(),
            key_prefix: "pulsestream".to_owned(),
            connect_timeout_ms: 1_000,
            response_timeout_ms: 2_000,
            queue: QueueConfig::default(),
            live: LiveConfig::default(),
            cache: CacheConfig::default(),
            limiter_outage: LimiterOutage::default(),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            required_durability: Durability::Durable,
            promised_durability: None,
            max_events: 100_000,
            max_bytes: 256 * 1024 * 1024,
            visibility_timeout_ms: 60_000,
            max_deliveries: 10,
            full_retry_after_ms: 1_000,
        }
    }
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self { buffer_messages: 1_024, keepalive_interval_ms: 5_000 }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_value_bytes: 1024 * 1024, fill_timeout_ms: 5_000 }
    }
}

impl RedisConfig {
    /// Creates the default settings for the server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// `Invalid` with one field error for each setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut check = |pointer: &str, is_good: bool, message: &str| {
            if !is_good {
                errors.push(FieldError::new(pointer, "out_of_range", message));
            }
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let prefix = self.key_prefix.as_bytes();
        let is_prefix = !prefix.is_empty() && prefix.len() <= MAX_PREFIX_BYTES;
        check(
            "/key_prefix",
            is_prefix && prefix.iter().copied().all(is_plain),
            "must have 1 to 64 letters, digits, `-`, `_` or `.`",
        );
        for (pointer, milliseconds) in [
            ("/connect_timeout_ms", self.connect_timeout_ms),
            ("/response_timeout_ms", self.response_timeout_ms),
            ("/queue/visibility_timeout_ms", self.queue.visibility_timeout_ms),
            ("/queue/full_retry_after_ms", self.queue.full_retry_after_ms),
            ("/live/keepalive_interval_ms", self.live.keepalive_interval_ms),
            ("/cache/fill_timeout_ms", self.cache.fill_timeout_ms),
        ] {
            check(pointer, (1..=MAX_TIMEOUT_MS).contains(&milliseconds), "must be 1 to 3600000");
        }
        check("/queue/max_events", self.queue.max_events > 0, "must be at least 1");
        check("/queue/max_bytes", self.queue.max_bytes > 0, "must be at least 1");
        check("/queue/max_deliveries", self.queue.max_deliveries > 0, "must be at least 1");
        check("/live/buffer_messages", self.live.buffer_messages > 0, "must be at least 1");
        check("/cache/max_value_bytes", self.cache.max_value_bytes > 0, "must be at least 1");
        if errors.is_empty() { Ok(()) } else { Err(Error::invalid_fields("redis.config", errors)) }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        Duration::from_millis(self.response_timeout_ms)
    }
}

impl QueueConfig {
    pub(crate) fn full_retry_after(&self) -> Duration {
        Duration::from_millis(self.full_retry_after_ms)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &without_secrets(&self.url))
            .field("key_prefix", &self.key_prefix)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("response_timeout_ms", &self.response_timeout_ms)
            .field("queue", &self.queue)
            .field("live", &self.live)
            .field("cache", &self.cache)
            .field("limiter_outage", &self.limiter_outage)
            .finish()
    }
}

/// The scheme and the host of a URL: user, password and query stay out.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a url)".to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_limits_are_named() {
        RedisConfig::default().validate().unwrap();
        let mut config = RedisConfig { key_prefix: "a{b}".to_owned(), ..RedisConfig::default() };
        config.queue.max_deliveries = 0;
        config.response_timeout_ms = 3_600_001;
        let error = config.validate().unwrap_err();
        let pointers: Vec<&str> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(pointers, ["/key_prefix", "/response_timeout_ms", "/queue/max_deliveries"]);
        for (length, is_good) in [(0, false), (1, true), (64, true), (65, false)] {
            let config = RedisConfig { key_prefix: "a".repeat(length), ..RedisConfig::default() };
            assert_eq!(config.validate().is_ok(), is_good);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        for url in
            ["redis://user:s3cret@host:1/2", "redis://:s3cret@host", "redis+unix:///a?pass=s3cret", "s3cret"]
        {
            let printed = format!("{:?}", RedisConfig::new(url));
            assert!(!printed.contains("s3cret"), "{printed}");
        }
        assert_eq!(without_secrets("redis://a:p@ss@host:1/2"), "redis://host:1/2");
    }

    #[test]
    fn settings_are_read_and_unknown_names_refused() {
        let text = r#"{"url": "redis://h/", "queue": {"required_durability": "written"}, "limiter_outage": "refuse"}"#;
        let config: RedisConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.queue.required_durability, Durability::Written);
        assert_eq!(config.limiter_outage, LimiterOutage::Refuse);
        assert!(serde_json::from_str::<RedisConfig>(r#"{"urll": "x"}"#).is_err());
    }
}
