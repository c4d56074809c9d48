//! Webhooks: an HTTP POST that follows Standard Webhooks 1.0.

mod body;
mod headers;
mod signature;

use async_trait::async_trait;
use pulsestream_core::alerting::{Channel, ChannelConfig, SecretText};
use pulsestream_core::env::Env;
use pulsestream_core::ports::notifier::{DeliveryReport, Notification, Notifier};
use pulsestream_core::text::Text;
use pulsestream_core::{Error, FieldError, Result};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

pub use self::signature::{
    MAX_SECRET_BYTES, MIN_SECRET_BYTES, SignatureHeaders, TOLERANCE, WebhookSecret, verify,
};
use crate::egress::EgressGuard;
use crate::http::{HttpConfig, HttpSender, Outgoing, classify, refuse_forever};
use crate::log::wrong_kind;
use crate::report::Mask;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Delivers webhooks, signed with every secret of the channel: a receiver may exchange its secret while two are valid.
///
/// A channel without secrets is sent unsigned. Redirects are not followed, and proxies from the environment not used; the
/// [`EgressGuard`] says where a request may go. The deadline, the caps and what an answer means are described in
/// `docs/notifications.md`.
#[derive(Debug)]
pub struct WebhookNotifier {
    sender: HttpSender,
}

impl WebhookNotifier {
    /// Creates the notifier.
    ///
    /// # Errors
    /// `Unavailable` when TLS cannot be set up, for example because the system has no root certificates; `Invalid` when a
    /// setting is out of its limits.
    pub fn new(guard: EgressGuard, config: HttpConfig, env: Env) -> Result<Self> {
        Ok(Self { sender: HttpSender::new(guard, config, env)? })
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()?;
        let ChannelConfig::Webhook { url, secrets, headers } = &channel.config else {
            return Err(wrong_kind("webhook"));
        };
        let mut fields = Vec::new();
        if let Err(error) = self.sender.guard().validate(url) {
            fields.push(FieldError::new("/config/url", "refused_url", error.message().to_owned()));
        }
        for (index, secret) in secrets.iter().enumerate() {
            if let Err(error) = WebhookSecret::parse(secret.expose()) {
                let message = error.fields().first().map_or_else(String::new, |field| field.message.clone());
                fields.push(FieldError::new(format!("/config/secrets/{index}"), "invalid_secret", message));
            }
        }
        if let Err(errors) = headers::read(headers) {
            fields.extend(errors);
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("channels.validate", fields)) }
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let ChannelConfig::Webhook { url, secrets, headers } = &notification.channel.config else {
            return refuse_forever("webhook", &wrong_kind("webhook"));
        };
        let mask = mask(url, secrets, headers);
        let request = format!("POST {}", mask.apply(&shown(url), 512));
        let (body, headers) = match prepare(notification, secrets, headers) {
            Ok(prepared) => prepared,
            Err(error) => return refuse_forever(&request, &error),
        };
        let outgoing = Outgoing { tenant: notification.tenant, url, headers, body };
        let exchange = self.sender.post(outgoing).await;
        classify(exchange, request, &mask, self.sender.now())
    }
}

fn prepare(
    notification: &Notification,
    secrets: &[SecretText],
    headers: &[(Text, SecretText)],
) -> Result<(Vec<u8>, HeaderMap)> {
    const OPERATION: &str = "webhook.deliver";
    let body = body::write(notification).map_err(|error| {
        Error::invalid(OPERATION, "", "invalid_content", "cannot be written").with_source(error)
    })?;
    let headers = headers::read(headers).map_err(|fields| Error::invalid_fields(OPERATION, fields))?;
    let id = notification.delivery.id.to_string();
    let timestamp = notification.at.as_seconds();
    let mut signatures = Vec::with_capacity(secrets.len());
    for secret in secrets {
        signatures.push(WebhookSecret::parse(secret.expose())?.sign(&id, timestamp, &body));
    }
    let mut map: HeaderMap = headers.into_iter().collect();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(ID, ascii(&id)?);
    map.insert(TIMESTAMP, HeaderValue::from(timestamp));
    if !signatures.is_empty() {
        map.insert(SIGNATURE, ascii(&signatures.join(" "))?);
    }
    Ok((body, map))
}

fn ascii(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| {
        Error::invalid("webhook.deliver", "", "invalid_header", "is no header").with_source(error)
    })
}

/// Returns the URL as a report shows it: without its query, which may hold a token.
fn shown(url: &str) -> String {
    match url.split_once(['?', '#']) {
        Some((place, _)) => format!("{place}?***"),
        None => url.to_owned(),
    }
}

fn mask(url: &str, secrets: &[SecretText], headers: &[(Text, SecretText)]) -> Mask {
    let mut mask = Mask::default();
    for secret in secrets {
        mask.add(secret.expose());
        mask.add(secret.expose().trim_start_matches("whsec_"));
    }
    for (_, value) in headers {
        mask.add(value.expose());
    }
    if let Some((_, query)) = url.split_once(['?', '#']) {
        mask.add(query);
        query.split('&').filter_map(|pair| pair.split_once('=')).for_each(|(_, value)| mask.add(value));
    }
    mask
}
