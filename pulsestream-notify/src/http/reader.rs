//! Reads documents that an operator names, through the same guard as notifications.

use std::fmt;

use pulsestream_core::{Error, ErrorKind, Result};
use reqwest::Client;
use reqwest::header::ACCEPT;

use super::config::HttpConfig;
use super::sender::{client, reason};
use crate::egress::EgressGuard;

const OPERATION: &str = "notify.read";

/// Reads small documents over HTTPS, from checked addresses only, whole and within a deadline or not at all. Redirects are failures.
pub struct DocumentReader {
    guard: EgressGuard,
    config: HttpConfig,
    client: Client,
}

impl DocumentReader {
    /// Creates a reader. Of the limits, `deadline`, `connect_timeout` and `max_response_bytes` hold.
    ///
    /// # Errors
    /// `Invalid` for limits that are out of range, `Unavailable` when TLS cannot be set up.
    pub fn new(guard: EgressGuard, config: HttpConfig) -> Result<Self> {
        config.validate()?;
        let client = client(&guard, guard.default_policy(), &config)?;
        Ok(Self { guard, config, client })
    }

    /// Checks that `url` is one that may be read, as far as that is possible without a look-up.
    ///
    /// # Errors
    /// `Invalid` unless it is an `https://` URL without a user, `Forbidden` when its port or its literal address is not allowed.
    pub fn validate(&self, url: &str) -> Result<()> {
        if !url.starts_with("https://") {
            return Err(Error::invalid(OPERATION, "/url", "invalid_url", "must start with https://"));
        }
        self.guard.validate(url)
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// Those of [`Self::validate`]; `Unavailable` when there is no answer or another one than 200, `Timeout` when it takes too long,
    /// `TooLarge` when it is longer than `max_response_bytes`.
    ///
    /// # Cancel safety
    /// Safe: dropping it ends the connection.
    pub async fn read(&self, url: &str) -> Result<Vec<u8>> {
        self.validate(url)?;
        let late =
            |_| Error::new(ErrorKind::Timeout, OPERATION, "the server did not answer within the deadline");
        tokio::time::timeout(self.config.deadline, self.exchange(url)).await.map_err(late)?
    }

    async fn exchange(&self, url: &str) -> Result<Vec<u8>> {
        let request = self.client.get(url).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| reason(OPERATION, error))?;
        if response.status().as_u16() != 200 {
            return Err(Error::new(
                ErrorKind::Unavailable,
                OPERATION,
                "the server answered with another status than 200",
            )
            .with_context("status", response.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(OPERATION, error))? {
            if document.len() + chunk.len() > self.config.max_response_bytes {
                return Err(Error::new(ErrorKind::TooLarge, OPERATION, "the document is too long")
                    .with_context("max_bytes", self.config.max_response_bytes));
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}

impl fmt::Debug for DocumentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentReader")
            .field("guard", &self.guard)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
