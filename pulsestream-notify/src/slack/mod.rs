//! Slack, through incoming webhooks.

mod message;

use async_trait::async_trait;
use pulsestream_core::alerting::{Channel, ChannelConfig};
use pulsestream_core::env::Env;
use pulsestream_core::ports::notifier::{DeliveryOutcome, DeliveryReport, Notification, Notifier};
use pulsestream_core::{Error, Result};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::egress::EgressGuard;
use crate::http::{HttpConfig, HttpSender, Outgoing, classify, refuse_forever};
use crate::log::wrong_kind;
use crate::report::Mask;

/// What Slack answers when the webhook is gone for good.
const GONE: [&str; 5] =
    ["no_service", "no_team", "team_disabled", "channel_not_found", "channel_is_archived"];

/// Posts messages to Slack's incoming webhooks, or to anything that understands them, such as Mattermost.
///
/// The URL is the credential, so no report shows more than its host. Texts cannot mention anybody or hide a link: see
/// `docs/notifications.md`.
#[derive(Debug)]
pub struct SlackNotifier {
    sender: HttpSender,
}

impl SlackNotifier {
    /// Creates the notifier.
    ///
    /// # Errors
    /// Those of [`WebhookNotifier::new`](crate::WebhookNotifier::new).
    pub fn new(guard: EgressGuard, config: HttpConfig, env: Env) -> Result<Self> {
        Ok(Self { sender: HttpSender::new(guard, config, env)? })
    }
}

#[async_trait]
impl Notifier for SlackNotifier {
    fn kind(&self) -> &'static str {
        "slack"
    }

    fn validate(&self, channel: &Channel) -> Result<()> {
        channel.validate()?;
        let ChannelConfig::Slack { url } = &channel.config else {
            return Err(wrong_kind("slack"));
        };
        self.sender.guard().validate(url.expose()).map_err(|error| {
            Error::invalid("channels.validate", "/config/url", "refused_url", error.message().to_owned())
        })
    }

    async fn deliver(&self, notification: &Notification) -> DeliveryReport {
        let ChannelConfig::Slack { url } = &notification.channel.config else {
            return refuse_forever("slack", &wrong_kind("slack"));
        };
        let url = url.expose();
        let request = format!("POST {}", origin(url));
        let body = match message::write(notification) {
            Ok(body) => body,
            Err(error) => {
                let error = Error::invalid("slack.deliver", "", "invalid_content", "cannot be written")
                    .with_source(error);
                return refuse_forever(&request, &error);
            }
        };
        let headers: HeaderMap =
            [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        let exchange = self.sender.post(Outgoing { tenant: notification.tenant, url, headers, body }).await;
        let answer = exchange.result.as_ref().map_or_else(
            |_| String::new(),
            |received| String::from_utf8_lossy(&received.body).trim().to_owned(),
        );
        interpret(classify(exchange, request, &mask(url), self.sender.now()), &answer)
    }
}

/// Adds what Slack's own answers mean: some say that the webhook is gone, and a refused message will be refused again.
fn interpret(mut report: DeliveryReport, answer: &str) -> DeliveryReport {
    let DeliveryOutcome::RetryAfter { error, .. } = &report.outcome else { return report };
    match report.status_code {
        Some(403 | 404) if GONE.contains(&answer) => {
            report.outcome = DeliveryOutcome::Disable { error: format!("{error}: {answer}").into() };
        }
        Some(400) => report.outcome = DeliveryOutcome::Permanent { error: error.clone() },
        _ => {}
    }
    report
}

/// Returns scheme and host of a URL: the rest of it is the credential.
fn origin(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => format!("{}://{}/***", url.scheme(), url.host_str().unwrap_or_default()),
        Err(_) => "***".to_owned(),
    }
}

fn mask(url: &str) -> Mask {
    let mut mask = Mask::default();
    mask.add(url);
    let Ok(url) = url::Url::parse(url) else { return mask };
    mask.add(url.path());
    url.path_segments().into_iter().flatten().for_each(|segment| mask.add(segment));
    url.query().into_iter().for_each(|query| mask.add(query));
    mask
}
