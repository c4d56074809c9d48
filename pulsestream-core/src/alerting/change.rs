//! The log of changes to a tenant's alerting: who changed what, when, and from what to what.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Channel, Routing, Rule, Silence};
use crate::id::{ChannelId, RuleId, SilenceId};
use crate::text::Text;
use crate::time::Timestamp;

/// What a change log says instead of a secret.
const MASK: &str = "***";
/// Name of the server in change logs, for what no person did.
const SERVER: &str = "pulsestream";

/// Who changes something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Who, for example `user:0190f3a2-...`.
    pub actor: Text,
    /// When.
    pub at: Timestamp,
}

impl Author {
    /// Names who changes something at `at`.
    pub fn new(actor: impl Into<Text>, at: Timestamp) -> Self {
        Self { actor: actor.into(), at }
    }

    /// The server itself, which changes something because of what happened.
    pub fn server(at: Timestamp) -> Self {
        Self::new(SERVER, at)
    }
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "object", content = "id", rename_all = "snake_case")]
pub enum ConfigObject {
    /// A rule.
    Rule(RuleId),
    /// A channel.
    Channel(ChannelId),
    /// A silence.
    Silence(SilenceId),
    /// Routes, inhibitions and mute schedules.
    Routing,
}

impl ConfigObject {
    /// Returns the snake_case name of its kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::Channel(_) => "channel",
            Self::Silence(_) => "silence",
            Self::Routing => "routing",
        }
    }

    /// Returns its id, 0 for the routing.
    pub const fn id(self) -> u128 {
        match self {
            Self::Rule(id) => id.as_u128(),
            Self::Channel(id) => id.as_u128(),
            Self::Silence(id) => id.as_u128(),
            Self::Routing => 0,
        }
    }
}

/// How it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigAction {
    /// It was made.
    Created,
    /// It was replaced.
    Changed,
    /// It was deleted.
    Deleted,
}

/// One field that a change touched. Secrets are `***`, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// JSON pointer of the field.
    pub pointer: Text,
    /// What it was; `None`: it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is; `None`: it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// The revision of the tenant's configuration after it: ascends, and names the entry.
    pub revision: u64,
    /// Who changed it, and when.
    #[serde(flatten)]
    pub author: Author,
    /// What was changed.
    #[serde(flatten)]
    pub object: ConfigObject,
    /// Its name at that time; empty for what has none.
    pub name: Text,
    /// How it was changed.
    pub action: ConfigAction,
    /// The version after it, and the last one of what was deleted.
    pub version: u64,
    /// The fields that are not what they were; all of them for what is new or gone.
    pub fields: Vec<FieldChange>,
}

impl ConfigChange {
    /// Compares two versions of an object, at least one of which is there; `None` when neither is.
    pub fn between<C: Configured>(
        revision: u64,
        author: &Author,
        before: Option<&C>,
        after: Option<&C>,
    ) -> Option<Self> {
        let shown = after.or(before)?;
        let action = match (before, after) {
            (None, _) => ConfigAction::Created,
            (Some(_), Some(_)) => ConfigAction::Changed,
            (Some(_), None) => ConfigAction::Deleted,
        };
        let json = |object: Option<&C>| object.map(|object| serde_json::to_value(object).unwrap_or_default());
        let masked = |object: Option<&C>| {
            object.map(|object| serde_json::to_value(object.masked()).unwrap_or_default())
        };
        let mut fields = Vec::new();
        let sides = [json(before), json(after), masked(before), masked(after)];
        compare("", sides.each_ref().map(Option::as_ref), &mut fields);
        Some(Self {
            revision,
            author: author.clone(),
            object: shown.object(),
            name: shown.name(),
            action,
            version: shown.version(),
            fields,
        })
    }
}

/// What has a version, and whose changes are logged.
pub trait Configured: Serialize {
    /// Returns what it is.
    fn object(&self) -> ConfigObject;
    /// Returns its name, empty when it has none.
    fn name(&self) -> Text;
    /// Returns its version.
    fn version(&self) -> u64;
    /// Returns it without secrets.
    #[must_use]
    fn masked(&self) -> Self;
}

macro_rules! configured {
    ($type:ty, $object:expr, $name:expr, $masked:expr) => {
        impl Configured for $type {
            fn object(&self) -> ConfigObject {
                let object: fn(&Self) -> ConfigObject = $object;
                object(self)
            }

            fn name(&self) -> Text {
                let name: fn(&Self) -> Text = $name;
                name(self)
            }

            fn version(&self) -> u64 {
                self.version
            }

            fn masked(&self) -> Self {
                let masked: fn(&Self) -> Self = $masked;
                masked(self)
            }
        }
    };
}

configured!(Rule, |rule| ConfigObject::Rule(rule.id), |rule| rule.name.clone(), Clone::clone);
configured!(
    Channel,
    |channel| ConfigObject::Channel(channel.id),
    |channel| channel.name.clone(),
    Self::masked
);
configured!(Silence, |silence| ConfigObject::Silence(silence.id), |_| Text::default(), Clone::clone);
configured!(Routing, |_| ConfigObject::Routing, |_| Text::default(), Clone::clone);

/// Notes where `before` and `after` differ; what is noted comes from their masked forms. Objects are compared field by field.
fn compare(pointer: &str, sides: [Option<&Value>; 4], fields: &mut Vec<FieldChange>) {
    let [before, after, shown_before, shown_after] = sides;
    if before == after || matches!(pointer, "/version" | "/created_at" | "/updated_at") {
        return;
    }
    let mut names: Vec<&String> = Vec::new();
    for side in [before, after].into_iter().flatten() {
        let Value::Object(object) = side else { continue };
        names.extend(object.keys());
    }
    let is_object = |side: Option<&Value>| side.is_none_or(Value::is_object);
    if names.is_empty() || !is_object(before) || !is_object(after) {
        let shown = |side: Option<&Value>, masked: Option<&Value>| {
            side.map(|_| masked.cloned().unwrap_or_else(|| MASK.into()))
        };
        return fields.push(FieldChange {
            pointer: pointer.into(),
            before: shown(before, shown_before),
            after: shown(after, shown_after),
        });
    }
    names.sort_unstable();
    names.dedup();
    for name in names {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        compare(
            &format!("{pointer}/{escaped}"),
            sides.map(|side| side.and_then(|side| side.get(name))),
            fields,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerting::{ChannelConfig, SecretText};

    fn hook(secret: &str, url: &str) -> Channel {
        let config = ChannelConfig::Webhook {
            url: url.into(),
            secrets: vec![SecretText::new(secret)],
            headers: Vec::new(),
        };
        Channel::new(ChannelId::from_u128(1), "ops", config)
    }

    #[test]
    fn a_changed_secret_is_named_and_not_shown() {
        let author = Author::new("ann", Timestamp::from_seconds(1));
        let (before, after) =
            (hook("whsec_old", "https://a.example"), hook("whsec_new", "https://b.example"));
        let change = ConfigChange::between(7, &author, Some(&before), Some(&after)).unwrap();
        let text = serde_json::to_string(&change).unwrap();
        assert!(!text.contains("whsec"), "{text}");
        let pointers: Vec<_> = change.fields.iter().map(|field| field.pointer.as_str()).collect();
        assert_eq!(pointers, ["/config/secrets", "/config/url"]);
        assert_eq!(change.fields[0].after, Some(serde_json::json!(["***"])));
        assert_eq!(change.fields[1].before, Some("https://a.example".into()));
        assert_eq!(serde_json::from_str::<ConfigChange>(&text).unwrap(), change);
    }

    #[test]
    fn what_is_new_or_gone_is_shown_whole() {
        let author = Author::server(Timestamp::EPOCH);
        let channel = hook("whsec_old", "https://a.example");
        let made = ConfigChange::between(1, &author, None, Some(&channel)).unwrap();
        let gone = ConfigChange::between(2, &author, Some(&channel), None).unwrap();
        assert_eq!((made.action, gone.action), (ConfigAction::Created, ConfigAction::Deleted));
        let url = |change: &ConfigChange| {
            let field = change.fields.iter().find(|field| field.pointer == "/config/url").unwrap();
            (field.before.is_some(), field.after.is_some())
        };
        assert_eq!((url(&made), url(&gone)), ((false, true), (true, false)));
        assert_eq!(ConfigChange::between::<Channel>(3, &author, None, None), None);
    }
}
