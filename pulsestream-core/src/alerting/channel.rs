//! Where notifications go.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, FieldError, Result};
use crate::event::JsonObject;
use crate::id::ChannelId;
use crate::text::Text;
use crate::time::Timestamp;

/// A text that must not be shown: its `Debug` form is `***`. Serde writes it in clear, because stores keep it.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(Text);

impl SecretText {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Text>) -> Self {
        Self(secret.into())
    }

    /// Returns the secret in clear, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a channel needs to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelConfig {
    /// An HTTP POST that follows Standard Webhooks 1.0.
    Webhook {
        /// Where to, `https` or `http`.
        url: Text,
        /// Signing secrets `whsec_...`, the newest first; two while one rotates.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<SecretText>,
        /// Headers added to the request; their values may be secret.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(Text, SecretText)>,
    },
    /// A Slack incoming webhook.
    Slack {
        /// Its address, which is the credential.
        url: SecretText,
    },
    /// An e-mail through the server's SMTP settings.
    Email {
        /// Addresses of the receivers, 1 to 50.
        to: Vec<Text>,
    },
    /// A line in the log of the server.
    Log {},
    /// A notifier of the application's own.
    Custom {
        /// The name under which the notifier was registered.
        kind: Text,
        /// Its settings.
        #[serde(default, deserialize_with = "read_settings")]
        settings: JsonObject,
    },
}

/// Reads the settings out of what serde has kept until it knew the type, which holds no raw JSON any more.
fn read_settings<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<JsonObject, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    JsonObject::from_value(&value).map_err(|error| serde::de::Error::custom(error.message()))
}

impl ChannelConfig {
    /// Returns the name of the notifier that delivers: `webhook`, `slack`, `email`, `log`, or the application's own.
    pub fn kind(&self) -> &str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
            Self::Log {} => "log",
            Self::Custom { kind, .. } => kind,
        }
    }
}

/// Why a channel delivers nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelDisabled {
    /// Since when.
    pub at: Timestamp,
    /// Why, without secrets.
    pub reason: Text,
}

/// A named place where notifications go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Identity.
    pub id: ChannelId,
    /// Ascends by one with every change, from 1; set by the store.
    #[serde(default)]
    pub version: u64,
    /// Name, unique within the tenant, 1 to 200 bytes.
    pub name: Text,
    /// What it needs to deliver.
    pub config: ChannelConfig,
    /// Whether alerts that end are told too.
    #[serde(default = "default_true")]
    pub send_resolved: bool,
    /// How many deliveries may be under way at once, if fewer than the server allows; `None`: as many as it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u16>,
    /// Set when the receiver said that it is gone, or failed for days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<ChannelDisabled>,
    /// When it was created.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[serde(default)]
    pub updated_at: Timestamp,
}

fn default_true() -> bool {
    true
}

impl Channel {
    /// Creates an enabled channel.
    pub fn new(id: ChannelId, name: impl Into<Text>, config: ChannelConfig) -> Self {
        Self {
            id,
            version: 0,
            name: name.into(),
            config,
            send_resolved: true,
            max_concurrency: None,
            disabled: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    /// Returns whether `reference` means this channel.
    pub fn is_called(&self, reference: &super::ChannelRef) -> bool {
        reference.as_str() == self.name.as_str()
            || reference.as_str().parse::<ChannelId>().is_ok_and(|id| id == self.id)
    }

    /// Returns the channel as it may be shown: every secret is `***`.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mask = || SecretText::new("***");
        let mut channel = self.clone();
        match &mut channel.config {
            ChannelConfig::Webhook { secrets, headers, .. } => {
                secrets.iter_mut().for_each(|secret| *secret = mask());
                headers.iter_mut().for_each(|(_, value)| *value = mask());
            }
            ChannelConfig::Slack { url } => *url = mask(),
            ChannelConfig::Custom { settings, .. } => *settings = JsonObject::default(),
            ChannelConfig::Email { .. } | ChannelConfig::Log {} => {}
        }
        channel
    }

    /// Checks what can be checked without the notifier.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut refuse = |pointer: &str, code: &'static str, message: &str| {
            fields.push(FieldError::new(pointer, code, message));
        };
        if self.name.trim().is_empty() || self.name.len() > 200 {
            refuse("/name", "length", "must have 1 to 200 bytes");
        }
        if self.max_concurrency == Some(0) {
            refuse("/max_concurrency", "out_of_range", "must be at least 1");
        }
        match &self.config {
            ChannelConfig::Webhook { url, secrets, headers } => {
                check_url("/config/url", url, &mut refuse);
                if secrets.len() > 5 {
                    refuse("/config/secrets", "length", "must have at most 5 secrets");
                }
                if secrets.iter().any(|secret| !secret.expose().starts_with("whsec_")) {
                    refuse("/config/secrets", "invalid_secret", "secrets start with whsec_");
                }
                if headers.len() > 32 {
                    refuse("/config/headers", "length", "must have at most 32 headers");
                }
                let is_safe = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
                if headers.iter().any(|(name, value)| !is_safe(name) || !is_safe(value.expose())) {
                    refuse(
                        "/config/headers",
                        "invalid_header",
                        "names and values have no control characters",
                    );
                }
            }
            ChannelConfig::Slack { url } => check_url("/config/url", url.expose(), &mut refuse),
            ChannelConfig::Email { to } => {
                if to.is_empty() || to.len() > 50 {
                    refuse("/config/to", "length", "must have 1 to 50 addresses");
                }
                let is_address = |text: &Text| {
                    text.len() <= 320
                        && text
                            .split_once('@')
                            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
                        && !text.chars().any(|character| character.is_control() || character == ' ')
                };
                if !to.iter().all(is_address) {
                    refuse(
                        "/config/to",
                        "invalid_address",
                        "must be e-mail addresses such as ann@example.com",
                    );
                }
            }
            ChannelConfig::Custom { kind, .. } if kind.is_empty() => {
                refuse("/config/kind", "required", "is required");
            }
            ChannelConfig::Log {} | ChannelConfig::Custom { .. } => {}
        }
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("channels.validate", fields)) }
    }
}

fn check_url(pointer: &str, url: &str, refuse: &mut impl FnMut(&str, &'static str, &str)) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(str::is_empty) || url.len() > 2_048 || url.chars().any(char::is_control) {
        refuse(pointer, "invalid_url", "must be an http or https URL of at most 2048 bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook() -> Channel {
        let config = ChannelConfig::Webhook {
            url: "https://example.com/hook".into(),
            secrets: vec![SecretText::new("whsec_c2VjcmV0")],
            headers: vec![("authorization".into(), SecretText::new("Bearer canary"))],
        };
        Channel::new(ChannelId::from_u128(1), "ops", config)
    }

    #[test]
    fn every_type_comes_back_from_json_as_it_was() {
        let custom = |settings: &str| ChannelConfig::Custom {
            kind: "pager".into(),
            settings: JsonObject::parse(settings).unwrap(),
        };
        for config in [
            webhook().config,
            ChannelConfig::Slack { url: SecretText::new("https://hooks.slack.com/services/x") },
            ChannelConfig::Email { to: vec!["ann@example.com".into()] },
            ChannelConfig::Log {},
            custom("{}"),
            custom(r#"{"team":"web","levels":[1,2.5],"deep":{"a":null}}"#),
        ] {
            let channel = Channel { config, ..webhook() };
            let json = serde_json::to_string(&channel).unwrap();
            assert_eq!(serde_json::from_str::<Channel>(&json).unwrap(), channel, "{json}");
        }
        let bare = r#"{"type":"custom","kind":"pager"}"#;
        assert_eq!(serde_json::from_str::<ChannelConfig>(bare).unwrap(), custom("{}"));
        let wrong = r#"{"type":"custom","kind":"pager","settings":[1]}"#;
        assert!(serde_json::from_str::<ChannelConfig>(wrong).is_err());
    }

    #[test]
    fn secrets_are_never_shown() {
        let channel = webhook();
        channel.validate().unwrap();
        assert!(!format!("{channel:?}").contains("canary"));
        let shown = serde_json::to_string(&channel.masked()).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("c2VjcmV0"), "{shown}");
    }

    #[test]
    fn references_are_ids_or_names() {
        let channel = webhook();
        let called = |text: &str| channel.is_called(&super::super::ChannelRef::new(text));
        assert!(called("ops") && called(&channel.id.to_string()) && !called("dev"));
    }

    #[test]
    fn refuses_what_cannot_be_delivered() {
        let mut channel = webhook();
        channel.config = ChannelConfig::Email { to: vec!["nobody".into(), "a@b\r\nBcc: c@d".into()] };
        assert!(channel.validate().is_err());
        channel.config = ChannelConfig::Slack { url: SecretText::new("ftp://example.com") };
        assert!(channel.validate().is_err());
    }
}
