//! What a host application says about the HTTP interface.

use std::time::Duration;

use pulsestream_core::auth::Secret;
use pulsestream_core::error::{Error, FieldError, Result};

use crate::client::Network;

/// Who may read `/metrics`, which has numbers of all tenants together and names none.
#[derive(Debug, Clone, Default)]
pub enum MetricsAccess {
    /// Whoever reaches the port.
    #[default]
    Open,
    /// Whoever sends this text as `Authorization: Bearer`.
    Bearer(Secret),
    /// Nobody: the path is unknown.
    Off,
}

/// How the HTTP interface behaves. Limits of bodies are in `Settings::http`, those of events in `Settings::ingest`.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// The name of the deployment that `/health` tells, such as `production`.
    pub environment: String,
    /// Proxies whose `X-Forwarded-For` is believed. Empty: the address of a client is that of its connection.
    pub trusted_proxies: Vec<Network>,
    /// Web origins that browsers may call from, such as `https://app.example`. Empty: no CORS header is ever sent.
    pub allowed_origins: Vec<String>,
    /// Who may read `/metrics`.
    pub metrics: MetricsAccess,
    /// How long a request may take before it fails with 504.
    pub request_timeout: Duration,
    /// How long a client may take to send a body before it fails with 408.
    pub body_timeout: Duration,
    /// Requests worked on at the same time; one more fails with 503. Health checks always pass.
    pub max_concurrent_requests: usize,
    /// Memory that the bodies of requests may take together; one that does not fit fails with 503.
    pub max_body_memory_bytes: usize,
    /// Live connections, which are WebSockets and event streams, at the same time; one more fails with 503.
    pub max_live_connections: usize,
    /// The same, of one tenant.
    pub max_live_connections_per_tenant: usize,
    /// For how long an answer of the dashboard may be repeated before it is computed again; zero computes each.
    pub dashboard_max_age: Duration,
    /// Whether local accounts are served under `/api/v1/auth`. An application that brings a `TenantAuth` of its own, and so
    /// has tenants that no account belongs to, turns this off.
    pub accounts: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            environment: "production".to_owned(),
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            metrics: MetricsAccess::Open,
            request_timeout: Duration::from_secs(35),
            body_timeout: Duration::from_secs(30),
            max_concurrent_requests: 1_024,
            max_body_memory_bytes: 256 << 20,
            max_live_connections: 10_000,
            max_live_connections_per_tenant: 1_000,
            dashboard_max_age: Duration::from_secs(5),
            accounts: true,
        }
    }
}

impl ApiConfig {
    /// Checks every value against its limits.
    ///
    /// # Errors
    /// `Invalid` with one field error for each refused value.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut require = |holds: bool, pointer: &str, code: &'static str, message: &str| {
            if !holds {
                fields.push(FieldError::new(pointer, code, message));
            }
        };
        let (range, hour) = ("out_of_range", Duration::from_secs(3_600));
        let spans = [("/request_timeout", self.request_timeout), ("/body_timeout", self.body_timeout)];
        for (pointer, span) in spans {
            require(
                (Duration::from_millis(1)..=hour).contains(&span),
                pointer,
                range,
                "must be between 1ms and 1h",
            );
        }
        require(self.dashboard_max_age <= hour, "/dashboard_max_age", range, "must be at most 1h");
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        for (pointer, number) in [
            ("/max_concurrent_requests", self.max_concurrent_requests),
            ("/max_body_memory_bytes", self.max_body_memory_bytes),
            ("/max_live_connections", self.max_live_connections),
            ("/max_live_connections_per_tenant", self.max_live_connections_per_tenant),
        ] {
            require((1..=most).contains(&number), pointer, range, "must be at least 1");
        }
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            let exact = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https")
                    && !host.is_empty()
                    && !host.contains(['/', '*', ' ', '?', '#'])
            });
            let pointer = format!("/allowed_origins/{index}");
            require(
                exact,
                &pointer,
                "invalid_origin",
                "must be an origin such as https://app.example, without a path or *",
            );
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("api.config", fields)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_not_work() {
        ApiConfig::default().validate().unwrap();
        let config = ApiConfig {
            max_concurrent_requests: 0,
            request_timeout: Duration::ZERO,
            allowed_origins: vec![
                "*".to_owned(),
                "https://app.example".to_owned(),
                "https://a.example/x".to_owned(),
            ],
            ..ApiConfig::default()
        };
        let error = config.validate().unwrap_err();
        let pointers: Vec<_> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/request_timeout", "/max_concurrent_requests", "/allowed_origins/0", "/allowed_origins/2"]
        );
    }
}
