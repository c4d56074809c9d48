//! What leaves the process: the notifiers of this build, and the mail of the accounts.

use std::sync::Arc;

use pulsestream_core::alerting::{Channel, ChannelConfig};
use pulsestream_core::auth::ResetMailer;
use pulsestream_core::env::Env;
use pulsestream_core::id::{ChannelId, TenantId, derive_uuid};
use pulsestream_core::ports::notifier::Notifier;
use pulsestream_core::{Error, Result};
use pulsestream_notify::egress::{EgressGuard, EgressPolicy};
use pulsestream_notify::{
    EmailConfig, EmailNotifier, HttpConfig, LogNotifier, SlackNotifier, WebhookNotifier,
};

use crate::mail::{ResetMails, TOKEN};

/// What sends password resets, when there is a mail server.
type Resets = Option<Arc<dyn ResetMailer>>;

/// Where it may go, and through what.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) egress: EgressPolicy,
    pub(crate) tenants: Vec<(TenantId, EgressPolicy)>,
    pub(crate) email: Option<EmailConfig>,
    pub(crate) reset_link: Option<String>,
}

impl Outbound {
    /// Makes the notifiers of this build, before those of the application, which win where they are of one kind; and what sends
    /// password resets when there is a mail server.
    pub(crate) fn open(
        self,
        own: Vec<Arc<dyn Notifier>>,
        env: &Env,
    ) -> Result<(Vec<Arc<dyn Notifier>>, Resets)> {
        let mut guard = EgressGuard::new(self.egress);
        for (tenant, policy) in self.tenants {
            guard = guard.with_tenant_policy(tenant, policy);
        }
        let mut notifiers: Vec<Arc<dyn Notifier>> = vec![Arc::new(LogNotifier::new())];
        let webhook = WebhookNotifier::new(guard.clone(), HttpConfig::default(), env.clone());
        let slack = SlackNotifier::new(guard, HttpConfig::default(), env.clone());
        match (webhook, slack) {
            (Ok(webhook), Ok(slack)) => {
                notifiers.extend([Arc::new(webhook) as Arc<dyn Notifier>, Arc::new(slack)])
            }
            // A machine without certificates can do everything else.
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "webhook and Slack notifications cannot be delivered from this machine");
            }
        }
        if self.reset_link.as_ref().is_some_and(|link| !link.contains(TOKEN)) {
            let message = "must hold {token} where the token belongs";
            return Err(Error::invalid("pulsestream.open", "/reset_link", "invalid_setting", message));
        }
        let mut resets: Resets = None;
        if let Some(config) = self.email {
            let email = Arc::new(EmailNotifier::new(config, env.clone())?);
            resets = Some(Arc::new(ResetMails::start(email.clone(), self.reset_link)));
            notifiers.push(email);
        }
        notifiers.extend(own);
        Ok((notifiers, resets))
    }
}

/// Adds the channel that rules of every tenant reach by the name `log`, unless the application has one of that name.
pub(crate) fn with_log_channel(mut channels: Vec<Channel>) -> Vec<Channel> {
    if channels.iter().all(|channel| channel.name != "log") {
        let id = ChannelId::from_u128(derive_uuid(b"pulsestream.server_channel", b"log"));
        channels.push(Channel::new(id, "log", ChannelConfig::Log {}));
    }
    channels
}
