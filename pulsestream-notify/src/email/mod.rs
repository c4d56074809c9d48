//! E-mail, through a mail server of the operator.

mod config;
mod html;
mod message;
mod transport;
mod url;

use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use lettre::message::Mailbox;
use pulsestream_core::alerting::{Channel, ChannelConfig};
use pulsestream_core::env::Env;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_core::text::Text;
use pulsestream_core::{Error, ErrorKind, FieldError, Result};

pub use self::config::{EmailConfig, EmailCredentials, EmailSecurity};
use self::message::Sender;
use self::transport::{Sent, Transport};
use crate::http::refuse_forever;
use crate::log::wrong_kind;
use crate::report::{cut, one_line};

/// Sends e-mails with text and HTML.
///
/// When the server refuses some receivers of a message for good, the others get it all the same. A repeated attempt has the
/// same `Message-ID`.
#[derive(Debug)]
pub struct EmailNotifier {
    transport: Transport,
    sender: Sender,
    env: Env,
}

impl EmailNotifier {
    /// Creates the notifier; the server is first called when there is something to send.
    ///
    /// # Errors
    /// `Invalid` when a setting is wrong; `Unavailable` when TLS cannot be set up.
    pub fn new(config: EmailConfig, env: Env) -> Result<Self> {
        config.validate()?;
        let mailbox = |text: &str, pointer: &str| {
            text.parse::<Mailbox>().map_err(|_| {
                Error::invalid("notify.email_config", pointer, "invalid_setting", "must be a mailbox")
            })
        };
        let from = mailbox(&config.from, "/from")?;
        let reply_to = config.reply_to.as_deref().map(|text| mailbox(text, "/reply_to")).transpose()?;
        Ok(Self { transport: Transport::new(&config)?, sender: Sender { from, reply_to }, env })
    }

    /// Sends a plain message to one address, for example a link to reset a password. Makes one attempt.
    ///
    /// # Errors
    /// `Invalid` when the address is none, or the server refuses it for good; `Unavailable` or `Timeout` when a later attempt may
    /// succeed. The error holds neither subject nor text.
    pub async fn send_mail(&self, to: &str, subject: &str, text: &str) -> Result<()> {
        let [to] = <[Address; 1]>::try_from(addresses(&[to.into()])?).map_err(|_| unusable())?;
        let message = self.sender.plain(&Mailbox::new(None, to.clone()), subject, text, &self.env)?;
        self.transport.send(&message.formatted(), &self.sender.from.email, &[to]).await.map(drop)
    }
}

#[async_trait]
impl Notifier for EmailNotifier {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()?;
        match &channel.config {
            ChannelConfig::Email { to } => addresses(to).map(drop),
            _ => Err(wrong_kind("email")),
        }
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let ChannelConfig::Email { to } = &notification.channel.config else {
            return refuse_forever("email", &wrong_kind("email"));
        };
        let names: Vec<String> = to.iter().map(|address| one_line(address)).collect();
        let request = cut(&format!("SMTP {} to {}", self.transport.server(), names.join(", ")), 512);
        let prepared = addresses(to).and_then(|to| {
            let mailboxes: Vec<Mailbox> =
                to.iter().cloned().map(|address| Mailbox::new(None, address)).collect();
            Ok((self.sender.notification(notification, &mailboxes, &self.env)?, to))
        });
        let (message, to) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return refuse_forever(&request, &error),
        };
        let start = self.env.monotonic();
        let sent = self.transport.send(&message.formatted(), &self.sender.from.email, &to).await;
        report(sent, request, self.env.monotonic().saturating_sub(start))
    }
}

fn report(sent: Result<Sent>, request: String, latency: Duration) -> DeliveryReport {
    let mut report = DeliveryReport {
        outcome: DeliveryOutcome::Delivered,
        request: request.into(),
        response: None,
        status_code: None,
        latency,
    };
    match sent {
        Ok(sent) => {
            report.response = Some(sent.response.into());
            report.status_code = Some(sent.code);
        }
        Err(error) => {
            let code = error.context().iter().find(|(key, _)| *key == transport::CODE);
            report.status_code = code.and_then(|(_, code)| code.parse().ok());
            let text: Text = error.message().into();
            report.outcome = if error.kind() == ErrorKind::Invalid {
                DeliveryOutcome::Permanent { error: text }
            } else {
                DeliveryOutcome::RetryAfter { after: error.retry_after(), error: text }
            };
        }
    }
    report
}

/// Reads addresses, each once.
fn addresses(texts: &[Text]) -> Result<Vec<Address>> {
    let mut addresses: Vec<Address> = Vec::with_capacity(texts.len());
    let mut fields = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let is_clean = !text.chars().any(|char| char.is_control() || char.is_whitespace());
        match text.parse::<Address>() {
            Ok(address) if is_clean => {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            _ => fields.push(FieldError::new(
                format!("/config/to/{index}"),
                "invalid_address",
                "must be an e-mail address such as ann@example.com",
            )),
        }
    }
    if fields.is_empty() { Ok(addresses) } else { Err(Error::invalid_fields("channels.validate", fields)) }
}

fn unusable() -> Error {
    Error::invalid("email.send", "/to", "invalid_address", "must be one e-mail address")
}
