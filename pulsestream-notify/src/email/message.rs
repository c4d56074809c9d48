//! The messages that are sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MessageBuilder, MultiPart, SinglePart};
use pulsestream_core::env::Env;
use pulsestream_core::ports::notifier::Notification;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, Result};

use super::html;
use crate::report::{cut, one_line};
use crate::text::{MAX_ALERTS, facts, identity, left_out};

/// How long a subject is at most, in bytes.
pub(super) const MAX_SUBJECT_BYTES: usize = 200;

/// Who sends.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) from: Mailbox,
    pub(super) reply_to: Option<Mailbox>,
}

impl Sender {
    /// Writes a notification, with text and HTML. Its `Message-ID` is the id of the delivery, the same in every attempt.
    pub(super) fn notification(
        &self,
        notification: &Notification,
        to: &[Mailbox],
        env: &Env,
    ) -> Result<Message> {
        let delivery = &notification.delivery;
        let subject = format!("[{}] {}", delivery.content.kind.as_str(), delivery.content.title);
        let parts = MultiPart::alternative()
            .boundary(boundary(env)?)
            .singlepart(part(ContentType::TEXT_PLAIN, text(notification))?)
            .singlepart(part(ContentType::TEXT_HTML, html::write(notification))?);
        self.head(to, &subject, notification.at, &delivery.id.to_string())
            .multipart(parts)
            .map_err(|error| unwritable().with_source(error))
    }

    /// Writes a plain message.
    pub(super) fn plain(&self, to: &Mailbox, subject: &str, text: &str, env: &Env) -> Result<Message> {
        let id = format!("{:032x}", env.uuid_v7()?);
        self.head(std::slice::from_ref(to), subject, env.now(), &id)
            .singlepart(part(ContentType::TEXT_PLAIN, text.to_owned())?)
            .map_err(|error| unwritable().with_source(error))
    }

    fn head(&self, to: &[Mailbox], subject: &str, at: Timestamp, id: &str) -> MessageBuilder {
        let id = format!("<{id}@{}>", self.from.email.domain());
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(cut(&one_line(subject), MAX_SUBJECT_BYTES))
            .date(system_time(at))
            .message_id(Some(id))
            .header(AutoSubmitted);
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        to.iter().cloned().fold(builder, MessageBuilder::to)
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834): no out-of-office answers, please.
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Base64 for every text: no line of it can be taken for a boundary, a dot or a header, however the text was made.
fn part(kind: ContentType, text: String) -> Result<SinglePart> {
    // Lines of a text end in CR LF inside the encoding too (RFC 2045, section 6.8).
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    let body = Body::new_with_encoding(text, ContentTransferEncoding::Base64).map_err(|_| unwritable())?;
    Ok(SinglePart::builder().header(kind).body(body))
}

fn boundary(env: &Env) -> Result<String> {
    Ok(format!("pulsestream-{:032x}", u128::from_le_bytes(env.random_bytes()?)))
}

fn text(notification: &Notification) -> String {
    let content = &notification.delivery.content;
    let mut text = format!("{}\n\n{}\n", one_line(&content.title), content.message);
    for alert in content.alerts.iter().take(MAX_ALERTS) {
        text.push_str(&format!("\n{}: {}\n", alert.rule_name, alert.summary));
        for (name, value) in facts(alert) {
            text.push_str(&format!("  {name}: {value}\n"));
        }
    }
    if left_out(content) > 0 {
        text.push_str(&format!("\n{} more alerts\n", left_out(content)));
    }
    text.push_str(&format!("\n{}\n", identity(notification)));
    text
}

fn system_time(at: Timestamp) -> SystemTime {
    // A date before 1970 is written as 1970: mail has no such dates.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_seconds()).unwrap_or(0))
}

fn unwritable() -> Error {
    Error::invalid("email.write", "", "invalid_message", "cannot be written as an e-mail")
}
