//! The settings of the mail server in one line.

use pulsestream_core::auth::Secret;
use pulsestream_core::{Error, Result};
use url::Url;

use super::config::{EmailConfig, EmailCredentials, EmailSecurity};

impl EmailConfig {
    /// Reads `smtp://user:password@host:port?security=start_tls`. `smtp` means STARTTLS on port 587, `smtps` TLS on port 465. User and
    /// password are percent-encoded. The query may hold `security` (`start_tls`, `tls` or `plain`), `hello` (how the server is greeted)
    /// and `reply_to`.
    ///
    /// # Errors
    /// `Invalid`, without a byte of the URL, because it may hold a password.
    pub fn from_url(url: &str, from: impl Into<String>) -> Result<Self> {
        let refuse =
            |message: String| Error::invalid("notify.email_url", "/smtp_url", "invalid_setting", message);
        let url = Url::parse(url).map_err(|_| {
            refuse("must be a URL such as smtp://user:password@mail.example.com:587".to_owned())
        })?;
        let security = match url.scheme() {
            "smtp" => EmailSecurity::StartTls,
            "smtps" => EmailSecurity::Tls,
            _ => return Err(refuse("must start with smtp:// or smtps://".to_owned())),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refuse("must name the mail server".to_owned()))?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(refuse("must have no path: settings follow after `?`".to_owned()));
        }
        let mut config = Self::new(host, from);
        config.security = security;
        config.port = url.port();
        if !url.username().is_empty() {
            config.credentials = Some(EmailCredentials {
                username: decoded(url.username())
                    .ok_or_else(|| refuse("has a user that is not text".to_owned()))?,
                password: decoded(url.password().unwrap_or_default())
                    .map(Secret::new)
                    .ok_or_else(|| refuse("has a password that is not text".to_owned()))?,
            });
        }
        for (name, value) in url.query_pairs() {
            match &*name {
                "security" => {
                    config.security = read_security(&value)
                        .ok_or_else(|| refuse("security must be start_tls, tls or plain".to_owned()))?
                }
                "hello" => config.hello_name = Some(value.into_owned()),
                "reply_to" => config.reply_to = Some(value.into_owned()),
                _ => return Err(refuse("may hold security, hello and reply_to after `?`".to_owned())),
            }
        }
        config.validate()?;
        Ok(config)
    }
}

fn read_security(text: &str) -> Option<EmailSecurity> {
    match text {
        "start_tls" => Some(EmailSecurity::StartTls),
        "tls" => Some(EmailSecurity::Tls),
        "plain" => Some(EmailSecurity::Plain),
        _ => None,
    }
}

/// Undoes percent-encoding; `None` when the result is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).ok()?);
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_everything() {
        let read = |url: &str| EmailConfig::from_url(url, "a@example.com").unwrap();
        let config = read("smtp://ann%40example.com:p%3Aw%25@mail.example.com:2525?hello=node-1");
        assert_eq!((config.host.as_str(), config.port), ("mail.example.com", Some(2525)));
        assert_eq!(
            (config.security, config.hello_name.as_deref()),
            (EmailSecurity::StartTls, Some("node-1"))
        );
        let credentials = config.credentials.unwrap();
        assert_eq!(
            (credentials.username.as_str(), credentials.password.expose()),
            ("ann@example.com", "p:w%")
        );
        assert_eq!(read("smtps://mail.example.com").security, EmailSecurity::Tls);
        assert_eq!(read("smtp://localhost?security=plain").security, EmailSecurity::Plain);
    }

    #[test]
    fn refusals_hold_no_secret() {
        for url in [
            "mail.example.com",
            "http://u:hunter2@mail.example.com",
            "smtp://u:hunter2@",
            "smtp://u:hunter2@mail.example.com/path",
            "smtp://u:hunter2@mail.example.com?securty=tls",
            "smtp://u:hunter2@mail.example.com?security=hunter2",
            "smtp://u:hunter2@mail.example.com?security=plain",
            "smtp://u:hunter2%FF@mail.example.com",
        ] {
            let error = EmailConfig::from_url(url, "a@example.com").unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
        assert!(EmailConfig::from_url("smtp://mail.example.com", "nobody").is_err());
    }
}
