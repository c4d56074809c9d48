//! The conversation with the mail server.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use lettre::transport::smtp::{AsyncSmtpTransport, Error as SmtpError};
use lettre::{Address, AsyncTransport, Tokio1Executor};
use pulsestream_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use super::config::{EmailConfig, EmailSecurity};
use crate::report::{MAX_RESPONSE_BYTES, Mask};

/// The key under which an error carries the server's reply code.
pub(super) const CODE: &str = "code";
const OPERATION: &str = "email.send";

/// A message that the server has taken.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) code: u16,
    /// What the server said, and which receivers it refused.
    pub(super) response: String,
}

/// Sends messages, a few at a time, each over a connection of its own.
pub(super) struct Transport {
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
    deadline: Duration,
    permits: Semaphore,
    mask: Mask,
}

impl Transport {
    pub(super) fn new(config: &EmailConfig) -> Result<Self> {
        let port = config.port.unwrap_or(config.security.default_port());
        let tls = match config.security {
            EmailSecurity::Tls => Tls::Wrapper(tls_parameters(config)?),
            EmailSecurity::StartTls => Tls::Required(tls_parameters(config)?),
            EmailSecurity::Plain => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.as_str())
            .port(port)
            .tls(tls)
            .timeout(Some(config.deadline))
            .hello_name(
                config
                    .hello_name
                    .clone()
                    .map_or(ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST), ClientId::Domain),
            );
        let mut mask = Mask::default();
        if let Some(credentials) = &config.credentials {
            let (username, password) = (&credentials.username, credentials.password.expose());
            mask.add(password);
            mask.add(&STANDARD.encode(password));
            mask.add(&STANDARD.encode(format!("\0{username}\0{password}")));
            builder = builder
                .credentials(Credentials::new(username.clone(), password.to_owned()))
                .authentication(vec![Mechanism::Plain, Mechanism::Login]);
        }
        Ok(Self {
            smtp: builder.build(),
            server: format!("{}:{port}", config.host),
            deadline: config.deadline,
            permits: Semaphore::new(config.max_concurrency),
            mask,
        })
    }

    /// Returns name and port of the server.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Sends a message to all of `to`, or to those that the server takes.
    ///
    /// # Errors
    /// `Invalid` when the server refuses it for good; `Unavailable` or `Timeout` when a later attempt may succeed. A reply code of
    /// the server is in the context under [`CODE`].
    pub(super) async fn send(&self, message: &[u8], from: &Address, to: &[Address]) -> Result<Sent> {
        let sending = async {
            let _permit = self
                .permits
                .acquire()
                .await
                .map_err(|_| Error::new(ErrorKind::Closed, OPERATION, "the notifier was closed"))?;
            self.send_to_all(message, from, to).await
        };
        tokio::time::timeout(self.deadline, sending).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                OPERATION,
                "the mail server did not answer within the deadline",
            ))
        })
    }

    async fn send_to_all(&self, message: &[u8], from: &Address, to: &[Address]) -> Result<Sent> {
        let error = match self.smtp.send_raw(&envelope(from, to)?, message).await {
            Ok(response) => return Ok(self.sent(&response, &[])),
            Err(error) => error,
        };
        if to.len() < 2 || !is_refusal(&error) {
            return Err(self.explain(&error));
        }
        // A message that was refused went to nobody, so that it can be offered for each receiver alone.
        let (mut taken, mut refused, mut last) = (None, Vec::new(), error);
        for address in to {
            match self.smtp.send_raw(&envelope(from, std::slice::from_ref(address))?, message).await {
                Ok(response) => taken = Some(response),
                Err(error) => {
                    refused.push(address);
                    last = error;
                }
            }
        }
        taken.map_or_else(|| Err(self.explain(&last)), |response| Ok(self.sent(&response, &refused)))
    }

    fn sent(&self, response: &Response, refused: &[&Address]) -> Sent {
        let code = u16::from(response.code());
        let lines: Vec<&str> = response.message().collect();
        let mut text = format!("{code} {}", lines.join(" "));
        if !refused.is_empty() {
            let names: Vec<String> = refused.iter().map(ToString::to_string).collect();
            text.push_str(&format!("; not taken for {}", names.join(", ")));
        }
        Sent { code, response: self.mask.apply(&text, MAX_RESPONSE_BYTES) }
    }

    fn explain(&self, error: &SmtpError) -> Error {
        tracing::debug!(
            error = self.mask.apply(&format!("{error:?}"), MAX_RESPONSE_BYTES),
            "no e-mail was sent"
        );
        let Some(code) = error.status() else {
            let what = if error.is_tls() {
                "no secure connection to the mail server"
            } else if error.is_client() {
                "the mail server does not offer what the settings ask for"
            } else {
                "no connection to the mail server"
            };
            return Error::new(ErrorKind::Unavailable, OPERATION, what);
        };
        let code = u16::from(code);
        let reason = error.source().map(ToString::to_string).unwrap_or_default();
        let text = self.mask.apply(&format!("the mail server answered {code} {reason}"), MAX_RESPONSE_BYTES);
        let kind = if is_refusal(error) { ErrorKind::Invalid } else { ErrorKind::Unavailable };
        Error::new(kind, OPERATION, text).with_context(CODE, code)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("server", &self.server).finish_non_exhaustive()
    }
}

fn envelope(from: &Address, to: &[Address]) -> Result<Envelope> {
    Envelope::new(Some(from.clone()), to.to_vec())
        .map_err(|error| Error::invalid(OPERATION, "/to", "required", "is required").with_source(error))
}

/// Returns whether the server refuses this message or its receivers for good. What it says about who we are is for the operator to
/// correct, and then the message is welcome: 530, 534, 535 and 538 (RFC 4954).
fn is_refusal(error: &SmtpError) -> bool {
    error.is_permanent()
        && !error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

fn tls_parameters(config: &EmailConfig) -> Result<TlsParameters> {
    let broken = |error: SmtpError| {
        Error::new(ErrorKind::Unavailable, "notify.open", "TLS cannot be set up").with_source(error)
    };
    let mut builder = TlsParameters::builder(config.host.clone());
    for certificate in &config.extra_root_certificates {
        let certificate = if certificate.starts_with(b"-----") {
            Certificate::from_pem(certificate)
        } else {
            Certificate::from_der(certificate.clone())
        };
        builder = builder.add_root_certificate(certificate.map_err(broken)?);
    }
    builder.build_rustls().map_err(broken)
}
