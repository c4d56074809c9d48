//! Settings of the notifiers that speak HTTP.

use std::time::Duration;

use pulsestream_core::{Error, FieldError, Result};

/// The longest deadline of an attempt: shorter than the minute for which a delivery is leased, so that nobody else starts the next
/// attempt while one is under way.
pub const MAX_DEADLINE: Duration = Duration::from_secs(50);

/// Settings of the notifiers that speak HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// How long one attempt takes at most, with waiting, look-up, connection and answer; default 15 s, at most
    /// [`MAX_DEADLINE`].
    pub deadline: Duration,
    /// How long a connection takes at most; default 5 s.
    pub connect_timeout: Duration,
    /// How many bytes of an answer are read at most; default 64 KiB, at most 1 MiB.
    pub max_response_bytes: usize,
    /// How many requests to one host are under way at once, at least 1; default 16.
    pub max_per_host: usize,
    /// How many of them for one tenant, at least 1; default 4.
    pub max_per_host_and_tenant: usize,
    /// Certificates of authorities that are trusted besides those of the system, each PEM or DER of one certificate.
    pub extra_root_certificates: Vec<Vec<u8>>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 64 * 1_024,
            max_per_host: 16,
            max_per_host_and_tenant: 4,
            extra_root_certificates: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Checks the limits.
    ///
    /// # Errors
    /// `Invalid` with a field error for each setting that is out of its limits.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut check = |is_right: bool, pointer: &str, message: &str| {
            if !is_right {
                fields.push(FieldError::new(pointer, "out_of_range", message));
            }
        };
        let is_span = |span: Duration| !span.is_zero() && span <= MAX_DEADLINE;
        check(is_span(self.deadline), "/deadline", "must be more than 0 and at most 50 s");
        check(is_span(self.connect_timeout), "/connect_timeout", "must be more than 0 and at most 50 s");
        check(self.max_response_bytes <= 1_048_576, "/max_response_bytes", "must be at most 1 MiB");
        check((1..=10_000).contains(&self.max_per_host), "/max_per_host", "must be 1 to 10,000");
        check(
            (1..=10_000).contains(&self.max_per_host_and_tenant),
            "/max_per_host_and_tenant",
            "must be 1 to 10,000",
        );
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("notify.http_config", fields)) }
    }
}
