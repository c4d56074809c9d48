//! What may leave the server: where notifications may go, and through which mail server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use pulsestream::Builder;
use pulsestream::notify::egress::EgressPolicy;
use pulsestream::notify::{EmailConfig, EmailCredentials};
use pulsestream_core::auth::Secret;
use pulsestream_core::id::TenantId;
use pulsestream_core::{Error, Result};

use crate::open;

#[derive(Args)]
pub(crate) struct OutboundArgs {
    /// A network that notifications may reach although it is not public, for all tenants or, after its id, for one; can be given
    /// several times.
    #[arg(
        long,
        env = "PULSESTREAM_ALLOW_EGRESS",
        value_name = "[TENANT=]CIDR",
        value_delimiter = ',',
        value_parser = parse_range
    )]
    pub allow_egress: Vec<(Option<TenantId>, String)>,
    /// The mail server for e-mail channels and password resets, for example smtp://user@mail.example.com:587; smtps:// speaks TLS
    /// from the first byte, and ?security=plain clear text without a password.
    #[arg(
        long,
        env = "PULSESTREAM_SMTP_URL",
        value_name = "URL",
        hide_env_values = true,
        requires = "smtp_from"
    )]
    pub smtp_url: Option<String>,
    /// Password of the user in --smtp-url, so that it need not stand there.
    #[arg(
        long,
        env = "PULSESTREAM_SMTP_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "smtp_url"
    )]
    pub smtp_password: Option<String>,
    /// Sender of e-mails, for example 'PulseStream <alerts@example.com>'.
    #[arg(long, env = "PULSESTREAM_SMTP_FROM", value_name = "MAILBOX")]
    pub smtp_from: Option<String>,
    /// Certificate (PEM) of an authority that the mail server is trusted by, besides those of the system.
    #[arg(long, env = "PULSESTREAM_SMTP_CA", value_name = "FILE", requires = "smtp_url")]
    pub smtp_ca: Option<PathBuf>,
    /// Where a password is reset, with {token} in place of the token, for example https://example.com/reset#{token}.
    #[arg(long, env = "PULSESTREAM_RESET_LINK", value_name = "URL", requires = "smtp_url")]
    pub reset_link: Option<String>,
}

/// Shows no secret.
impl std::fmt::Debug for OutboundArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundArgs").field("allow_egress", &self.allow_egress).finish_non_exhaustive()
    }
}

fn parse_range(text: &str) -> std::result::Result<(Option<TenantId>, String), String> {
    match text.split_once('=') {
        None => Ok((None, text.to_owned())),
        Some((tenant, range)) => match tenant.parse() {
            Ok(tenant) => Ok((Some(tenant), range.to_owned())),
            Err(_) => Err("before `=` stands the id of a tenant".to_owned()),
        },
    }
}

impl OutboundArgs {
    /// Says it to the builder.
    pub(crate) fn apply(&self, mut builder: Builder) -> Result<Builder> {
        let mut for_all = EgressPolicy::new();
        for (_, range) in self.allow_egress.iter().filter(|(tenant, _)| tenant.is_none()) {
            for_all = for_all.allow(range.parse()?);
        }
        let mut of_tenants: BTreeMap<TenantId, EgressPolicy> = BTreeMap::new();
        for (tenant, range) in &self.allow_egress {
            let Some(tenant) = tenant else { continue };
            let policy = of_tenants.remove(tenant).unwrap_or_else(|| for_all.clone());
            of_tenants.insert(*tenant, policy.allow(range.parse()?));
        }
        builder = builder.with_egress_policy(for_all);
        for (tenant, policy) in of_tenants {
            builder = builder.with_tenant_egress_policy(tenant, policy);
        }
        if let Some(email) = self.email()? {
            builder = builder.with_email(email);
        }
        if let Some(link) = &self.reset_link {
            builder = builder.with_reset_link(link.clone());
        }
        Ok(builder)
    }

    fn email(&self) -> Result<Option<EmailConfig>> {
        let (Some(url), Some(from)) = (&self.smtp_url, &self.smtp_from) else { return Ok(None) };
        let mut config = EmailConfig::from_url(url, from.clone())?;
        if let Some(password) = &self.smtp_password {
            let username =
                config.credentials.take().map(|credentials| credentials.username).ok_or_else(|| {
                    let message = "the URL of the mail server names no user for the password";
                    Error::invalid("serve.smtp", "/smtp_url", "invalid_setting", message)
                })?;
            config.credentials = Some(EmailCredentials { username, password: Secret::new(password.clone()) });
        }
        if let Some(path) = &self.smtp_ca {
            config.extra_root_certificates.push(open::certificate(path)?);
        }
        config.validate()?;
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        outbound: OutboundArgs,
    }

    fn read(arguments: &[&str]) -> OutboundArgs {
        Program::try_parse_from(std::iter::once(&"serve").chain(arguments)).map(|it| it.outbound).unwrap()
    }

    #[test]
    fn the_password_comes_from_its_own_flag_and_is_not_shown() {
        let args = read(&[
            "--smtp-url",
            "smtp://ann@mail.example.com",
            "--smtp-password",
            "hunter2",
            "--smtp-from",
            "alerts@example.com",
        ]);
        let config = args.email().unwrap().unwrap();
        assert_eq!(config.credentials.as_ref().map(|it| it.password.expose()), Some("hunter2"));
        assert!(!format!("{args:?} {config:?}").contains("hunter2"));
        let nobody = read(&[
            "--smtp-url",
            "smtp://mail.example.com",
            "--smtp-password",
            "hunter2",
            "--smtp-from",
            "alerts@example.com",
        ]);
        assert!(nobody.email().is_err());
        assert!(
            Program::try_parse_from(["serve", "--smtp-url", "smtp://mail.example.com"]).is_err(),
            "no sender"
        );
    }

    #[test]
    fn ranges_open_for_all_or_for_one() {
        let tenant = TenantId::from_u128(7);
        let args = read(&["--allow-egress", &format!("10.0.0.0/8,{tenant}=192.168.1.0/24")]);
        assert_eq!(
            args.allow_egress,
            [(None, "10.0.0.0/8".to_owned()), (Some(tenant), "192.168.1.0/24".to_owned())]
        );
        args.apply(Builder::default()).unwrap();
        assert!(read(&["--allow-egress", "10.0.0.0/99"]).apply(Builder::default()).is_err());
        assert!(Program::try_parse_from(["serve", "--allow-egress", "shop=10.0.0.0/8"]).is_err());
    }
}
