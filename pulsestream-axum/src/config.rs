//! What a host application says about the HTTP interface.

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

/// Who the HTTP interface is for, and what it trusts. Its limits are in [`Settings::http`](pulsestream_core::settings::Settings).
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
    /// Whether local accounts are served: `/api/v1/auth`, and keys, users, tenant and audit of `/api/v2`. An application that
    /// brings a `TenantAuth` of its own, and so has tenants that no account belongs to, turns this off.
    pub accounts: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            environment: "production".to_owned(),
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            metrics: MetricsAccess::Open,
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
            allowed_origins: vec![
                "*".to_owned(),
                "https://app.example".to_owned(),
                "https://a.example/x".to_owned(),
            ],
            ..ApiConfig::default()
        };
        let error = config.validate().unwrap_err();
        let pointers: Vec<_> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(pointers, ["/allowed_origins/0", "/allowed_origins/2"]);
    }
}
