//! Messages of the accounts, through the mail server that notifications use.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pulsestream_core::auth::{ResetMail, ResetMailer};
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_notify::EmailNotifier;
use tokio::sync::mpsc;

/// How many messages may wait.
const MAX_WAITING: usize = 256;
/// What a link holds in place of the token.
pub(crate) const TOKEN: &str = "{token}";
/// How long to wait before each further attempt. A person who waits asks again after that.
const DELAYS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(15), Duration::from_secs(60)];

/// Sends password resets, one after the other, in a task of its own that ends with it.
#[derive(Debug)]
pub(crate) struct ResetMails {
    waiting: mpsc::Sender<ResetMail>,
}

impl ResetMails {
    /// Starts the task; `link` is where a token is used, with `{token}` in its place.
    pub(crate) fn start(notifier: Arc<EmailNotifier>, link: Option<String>) -> Self {
        let (waiting, mut mails) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move {
            while let Some(mail) = mails.recv().await {
                send(&notifier, &mail, link.as_deref()).await;
            }
        });
        Self { waiting }
    }
}

#[async_trait]
impl ResetMailer for ResetMails {
    async fn send_reset(&self, mail: ResetMail) -> Result<()> {
        self.waiting.try_send(mail).map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                "mail.send_reset",
                "too many messages wait for the mail server",
            )
            .with_context("max_waiting", MAX_WAITING)
        })
    }
}

async fn send(notifier: &EmailNotifier, mail: &ResetMail, link: Option<&str>) {
    let subject = format!("Reset your password for {}", mail.tenant_name);
    let text = text(mail, link);
    let mut delays = DELAYS.into_iter();
    while let Err(error) = notifier.send_mail(&mail.email, &subject, &text).await {
        let delay = delays.next().filter(|_| error.kind() != ErrorKind::Invalid);
        let Some(delay) = delay else {
            tracing::error!(tenant = %mail.tenant, %error, "a password-reset message was given up");
            return;
        };
        tracing::warn!(tenant = %mail.tenant, %error, "a password-reset message is tried again");
        tokio::time::sleep(delay).await;
    }
}

fn text(mail: &ResetMail, link: Option<&str>) -> String {
    let ResetMail { tenant_name, full_name, token, expires_in, .. } = mail;
    let minutes = expires_in.as_secs().div_ceil(60);
    let how = match link {
        Some(link) => {
            format!("Open this link to choose a new one:\n\n{}", link.replace(TOKEN, token.expose()))
        }
        None => format!("This token lets you choose a new one:\n\n{}", token.expose()),
    };
    format!(
        "Hello {full_name},\n\nsomebody asked to reset your password for {tenant_name}. {how}\n\nIt works once, for {minutes} \
         minutes. If it was not you, ignore this message: nothing has changed.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulsestream_core::auth::Secret;
    use pulsestream_core::id::TenantId;

    #[test]
    fn the_text_says_how_and_for_how_long() {
        let mail = ResetMail {
            tenant: TenantId::from_u128(1),
            tenant_name: "Shop".to_owned(),
            email: "ann@example.com".to_owned(),
            full_name: "Ann".to_owned(),
            token: Secret::new("t0ken"),
            expires_in: Duration::from_secs(3_600),
        };
        let linked = text(&mail, Some("https://shop.example/reset#{token}"));
        assert!(
            linked.contains("\n\nhttps://shop.example/reset#t0ken\n\n") && linked.contains("for 60 minutes"),
            "{linked}"
        );
        assert!(text(&mail, None).contains("\n\nt0ken\n\n"));
    }
}
