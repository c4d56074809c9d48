//! Settings of the mail server.

use std::fmt;
use std::time::Duration;

use lettre::message::Mailbox;
use pulsestream_core::auth::Secret;
use pulsestream_core::{Error, FieldError, Result};

use crate::http::MAX_DEADLINE;

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmailSecurity {
    /// TLS from the first byte, usually port 465 (RFC 8314).
    Tls,
    /// STARTTLS, usually port 587 (RFC 3207). A server that does not offer it is refused: there is no way back to clear text.
    #[default]
    StartTls,
    /// Clear text, usually port 25, for a relay on the same machine or network. Credentials are not sent over it.
    Plain,
}

impl EmailSecurity {
    /// Returns the port that is usual for it.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::Plain => 25,
        }
    }
}

/// Who we are to the mail server.
#[derive(Clone)]
pub struct EmailCredentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

impl fmt::Debug for EmailCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailCredentials(..)")
    }
}

/// Settings of the mail server. Its address is the operator's, so the outbound guard does not apply.
#[derive(Debug, Clone)]
pub struct EmailConfig {
    /// Name of the server; its certificate must be for this name.
    pub host: String,
    /// Port; `None`: the usual one of `security`.
    pub port: Option<u16>,
    /// How the connection is protected.
    pub security: EmailSecurity,
    /// Who we are; `None`: nobody in particular.
    pub credentials: Option<EmailCredentials>,
    /// Sender, for example `PulseStream <alerts@example.com>`.
    pub from: String,
    /// Where replies go; `None`: to the sender.
    pub reply_to: Option<String>,
    /// How we greet the server; `None`: as `[127.0.0.1]`.
    pub hello_name: Option<String>,
    /// How long one attempt takes at most; default 30 s, at most [`MAX_DEADLINE`].
    pub deadline: Duration,
    /// How many messages are under way at once, at least 1; default 4.
    pub max_concurrency: usize,
    /// Certificates of authorities that are trusted besides those of the system, each PEM or DER of one certificate.
    pub extra_root_certificates: Vec<Vec<u8>>,
}

impl EmailConfig {
    /// Creates settings for STARTTLS on port 587 without credentials.
    pub fn new(host: impl Into<String>, from: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: None,
            security: EmailSecurity::StartTls,
            credentials: None,
            from: from.into(),
            reply_to: None,
            hello_name: None,
            deadline: Duration::from_secs(30),
            max_concurrency: 4,
            extra_root_certificates: Vec::new(),
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// `Invalid` with a field error for each setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut check = |is_right: bool, pointer: &str, message: &str| {
            if !is_right {
                fields.push(FieldError::new(pointer, "invalid_setting", message));
            }
        };
        let is_mailbox = |text: &str| !text.chars().any(char::is_control) && text.parse::<Mailbox>().is_ok();
        let is_name = |text: &str| {
            !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        check(is_name(&self.host), "/host", "must be the name of a server");
        check(self.port != Some(0), "/port", "must be 1 to 65535");
        check(is_mailbox(&self.from), "/from", "must be a mailbox such as PulseStream <alerts@example.com>");
        check(self.reply_to.as_deref().is_none_or(is_mailbox), "/reply_to", "must be a mailbox");
        check(self.hello_name.as_deref().is_none_or(is_name), "/hello_name", "must be a name without spaces");
        let is_span = !self.deadline.is_zero() && self.deadline <= MAX_DEADLINE;
        check(is_span, "/deadline", "must be more than 0 and at most 50 s");
        check((1..=1_000).contains(&self.max_concurrency), "/max_concurrency", "must be 1 to 1,000");
        check(
            self.credentials.is_none() || self.security != EmailSecurity::Plain,
            "/credentials",
            "are not sent in clear text: use tls or start_tls",
        );
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("notify.email_config", fields)) }
    }
}
