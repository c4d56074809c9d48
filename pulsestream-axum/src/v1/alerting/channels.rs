//! Notification channels of a rule: names, or channels that the rule brings along.

use pulsestream_core::alerting::{Channel, ChannelConfig, ChannelRef, Rule, SecretText};
use pulsestream_core::id::{ChannelId, RuleId, TenantId};
use pulsestream_core::text::Text;
use pulsestream_core::{ErrorKind, FieldError};
use serde_json::{Map, Value, json};

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};

/// What `notification_channels` asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    names: Vec<Text>,
    own: Vec<(String, ChannelConfig)>,
}

/// Reads `["email", ...]` or `{channel: config}`.
pub(super) fn read(value: Option<&Value>) -> Result<Wanted, FieldError> {
    match value {
        None | Some(Value::Null) => Ok(Wanted::default()),
        Some(Value::Array(names)) => {
            let name = |(index, name): (usize, &Value)| {
                let name = name.as_str().map(str::trim).filter(|name| !name.is_empty() && name.len() <= 200);
                name.map(Text::from).ok_or_else(|| {
                    refuse(&format!("/{index}"), "wrong_type", "must be the name of a channel")
                })
            };
            Ok(Wanted {
                names: names.iter().enumerate().map(name).collect::<Result<_, _>>()?,
                own: Vec::new(),
            })
        }
        Some(Value::Object(channels)) => {
            let mut wanted = Wanted::default();
            for (kind, config) in channels {
                match config {
                    Value::Object(config) if !config.is_empty() => {
                        wanted.own.push((kind.clone(), configured(kind, config)?));
                    }
                    _ => wanted.names.push(Text::from(kind.as_str())),
                }
            }
            Ok(wanted)
        }
        Some(_) => Err(refuse("", "wrong_type", "must be a list of names or an object of channels")),
    }
}

fn configured(kind: &str, config: &Map<String, Value>) -> Result<ChannelConfig, FieldError> {
    let text = |name: &str| {
        let text = config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| refuse(&format!("/{kind}/{name}"), "required", "is required"))
    };
    match kind {
        "webhook" => {
            let headers = config.get("headers").and_then(Value::as_object).into_iter().flatten();
            let headers = headers.map(|(name, value)| match value.as_str() {
                Some(value) => Ok((Text::from(name.as_str()), SecretText::new(value))),
                None => Err(refuse("/webhook/headers", "wrong_type", "must have strings")),
            });
            Ok(ChannelConfig::Webhook {
                url: Text::from(text("url")?),
                secrets: config
                    .get("secret")
                    .and_then(Value::as_str)
                    .map(SecretText::new)
                    .into_iter()
                    .collect(),
                headers: headers.collect::<Result<_, _>>()?,
            })
        }
        "slack" => Ok(ChannelConfig::Slack { url: SecretText::new(text("url")?) }),
        "email" => {
            let to = match config.get("to") {
                Some(Value::String(one)) => vec![Text::from(one.as_str())],
                Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(Text::from).collect(),
                _ => Vec::new(),
            };
            if to.is_empty() {
                return Err(refuse("/email/to", "required", "is required"));
            }
            Ok(ChannelConfig::Email { to })
        }
        _ => Err(refuse(&format!("/{kind}"), "unknown_value", "must be one of webhook, slack, email")),
    }
}

/// The name of a channel that a rule brought along.
fn own_name(rule: RuleId, kind: &str) -> String {
    format!("rule {rule} {kind}")
}

impl Wanted {
    /// Puts the channels that the rule brings along, and returns what it refers to.
    pub(super) async fn put(self, app: &App, caller: &Caller, rule: RuleId) -> Answer<Vec<ChannelRef>> {
        let tenant = caller.tenant();
        let mut references: Vec<_> = self.names.into_iter().map(ChannelRef::new).collect();
        if self.own.is_empty() {
            return Ok(references);
        }
        let there = app.ps.alert_store().channels(tenant).await?;
        for (kind, config) in self.own {
            let name = own_name(rule, &kind);
            let old = there.iter().find(|channel| channel.name.as_str() == name);
            let id = match old {
                Some(old) => old.id,
                None => ChannelId::from_u128(app.ps.env().uuid_v7()?),
            };
            let channel = Channel::new(id, name.as_str(), config);
            let put = app.alerting(caller).put_channel(tenant, channel, old.map(|old| old.version)).await;
            let channel = put.map_err(|error| {
                if error.kind() != ErrorKind::Invalid {
                    return error.into();
                }
                let fields = error.fields().iter();
                let moved = fields
                    .map(|field| refuse(&format!("/{kind}"), field.code.clone(), field.message.clone()));
                Failure::invalid_body(moved.collect())
            })?;
            references.push(ChannelRef::new(channel.id.to_string()));
        }
        Ok(references)
    }
}

/// Deletes the channels that a rule brought along and refers to no more.
pub(super) async fn drop_unused(app: &App, caller: &Caller, rule: RuleId, kept: &[ChannelRef]) -> Answer<()> {
    let tenant = caller.tenant();
    let prefix = own_name(rule, "");
    for channel in app.ps.alert_store().channels(tenant).await? {
        if channel.name.starts_with(&prefix) && !kept.iter().any(|reference| channel.is_called(reference)) {
            app.alerting(caller).delete_channel(tenant, channel.id, None).await?;
        }
    }
    Ok(())
}

/// Shows the channels of a rule: names, or an object when it brought some along. Secrets are masked.
pub(super) async fn shown(app: &App, tenant: TenantId, rule: &Rule) -> Answer<Value> {
    let prefix = own_name(rule.id, "");
    let all = app.ps.alert_store().channels(tenant).await?;
    let own = |reference: &ChannelRef| {
        let mut own = all.iter().filter(|channel| channel.name.starts_with(&prefix));
        own.find(|channel| channel.is_called(reference))
    };
    if !rule.channels.iter().any(|reference| own(reference).is_some()) {
        return Ok(rule.channels.iter().map(|reference| json!(reference.as_str())).collect());
    }
    let mut shown = Map::new();
    for reference in &rule.channels {
        match own(reference) {
            Some(channel) => {
                let mut config = serde_json::to_value(&channel.masked().config).unwrap_or_default();
                if let Some(config) = config.as_object_mut() {
                    config.remove("type");
                }
                shown.insert(channel.config.kind().to_owned(), config);
            }
            None => drop(shown.insert(reference.as_str().to_owned(), json!({}))),
        }
    }
    Ok(Value::Object(shown))
}

fn refuse(
    pointer: &str,
    code: impl Into<std::borrow::Cow<'static, str>>,
    message: impl Into<String>,
) -> FieldError {
    FieldError::new(format!("/notification_channels{pointer}"), code, message)
}
