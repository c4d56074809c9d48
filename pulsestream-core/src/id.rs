//! Identities, one type each, so that a mix-up does not compile.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::text::{Text, same};

/// The longest event id, in bytes.
pub const MAX_EVENT_ID_BYTES: usize = 128;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident, $label:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// Written and read as a lower-case hyphenated UUID.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// Wraps the 128 bits of a UUID.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// Returns the 128 bits of the UUID.
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// Returns the 16 big-endian bytes, which sort as the id does.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Reads the 16 big-endian bytes back.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_u128(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Uuid::try_parse(text).map(|uuid| Self(uuid.as_u128())).map_err(|_| {
                    Error::invalid("id.parse", "", "invalid_id", concat!($label, " id must be a UUID"))
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
            }
        }
    )*};
}

uuid_ids! {
    /// Identifies a tenant; the first argument of every storage method.
    TenantId, "tenant";
    /// Identifies a user of a tenant.
    UserId, "user";
    /// Identifies an API key; the public part of the key, not its secret.
    ApiKeyId, "API key";
    /// Identifies an entry of the audit log.
    AuditId, "audit entry";
    /// Identifies a signed-in session, which is a family of refresh tokens.
    SessionId, "session";
    /// Identifies an alert rule.
    RuleId, "rule";
    /// Identifies one alert episode, from pending to resolved.
    AlertId, "alert";
    /// Identifies a silence.
    SilenceId, "silence";
    /// Identifies a notification channel.
    ChannelId, "channel";
    /// Identifies one delivery of one notification to one channel; the `webhook-id`.
    DeliveryId, "delivery";
}

impl TenantId {
    /// Derives a tenant id from a name of the application's own, always the same for the same name.
    ///
    /// The id is [`derive_uuid`] of the name in a namespace of PulseStream.
    pub fn from_name(name: &str) -> Self {
        Self(derive_uuid(b"pulsestream.tenant", name.as_bytes()))
    }
}

/// Derives a 128-bit id from a namespace and a name: the same input gives the same id on every node.
///
/// This is how replayed work keeps its identity. The bits are the head of SHA-256 over both, in the version-8 (custom)
/// layout of RFC 9562.
pub fn derive_uuid(namespace: &[u8], name: &[u8]) -> u128 {
    use sha2::{Digest, Sha256};

    let mut hash = Sha256::new();
    hash.update((namespace.len() as u64).to_be_bytes());
    hash.update(namespace);
    hash.update(name);
    let digest = hash.finalize();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    let version = u128::from_be_bytes(head) & !(0xf << 76) | (0x8 << 76);
    version & !(0b11 << 62) | (0b10 << 62)
}

/// Identifies an event within its tenant: a string of the client's own, or a UUIDv7 of ours.
///
/// An id of up to 40 bytes, a UUID among them, lives inline: each event has one, and it is copied on its way.
#[derive(Clone)]
pub struct EventId(IdText);

#[derive(Clone)]
enum IdText {
    Inline(ArrayString<40>),
    Allocated(Box<str>),
}

impl EventId {
    /// Checks and wraps a client's id: 1 to [`MAX_EVENT_ID_BYTES`] bytes, no control characters.
    ///
    /// # Errors
    /// `Invalid` when it is empty, too long, or holds a control character.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > MAX_EVENT_ID_BYTES {
            return Err(Error::invalid("event_id.new", "", "length", "event id must have 1 to 128 bytes")
                .with_context("bytes", id.len()));
        }
        if id.chars().any(char::is_control) {
            return Err(Error::invalid(
                "event_id.new",
                "",
                "control_character",
                "event id must not hold control characters",
            ));
        }
        Ok(Self::of(id))
    }

    fn of(id: &str) -> Self {
        Self(ArrayString::from(id).map_or_else(|_| IdText::Allocated(id.into()), IdText::Inline))
    }

    /// Wraps a UUID, written lower-case and hyphenated.
    pub fn from_u128(bits: u128) -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self::of(Uuid::from_u128(bits).hyphenated().encode_lower(&mut buffer))
    }

    /// Stands for an id in an event that is being read.
    pub(crate) fn unset() -> Self {
        Self(IdText::Inline(ArrayString::new()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            IdText::Inline(text) => text,
            IdText::Allocated(text) => text,
        }
    }
}

impl PartialEq for EventId {
    fn eq(&self, other: &Self) -> bool {
        same(self.as_str().as_bytes(), other.as_str().as_bytes())
    }
}

impl Eq for EventId {}

impl PartialOrd for EventId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EventId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for EventId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({:?})", self.as_str())
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Self::new(text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_ids_round_trip_and_refuse_other_text() {
        let id = TenantId::from_name("shop");
        assert_eq!(id, id.to_string().parse().unwrap());
        assert_eq!(id, TenantId::from_name("shop"));
        assert_ne!(id, TenantId::from_name("shop2"));
        assert!("nope".parse::<RuleId>().is_err());
        assert_eq!(Uuid::from_u128(id.as_u128()).get_version_num(), 8);
    }

    #[test]
    fn event_ids_are_ordered_and_equal_by_their_text_whatever_their_length() {
        let id = |length: usize| EventId::new("7".repeat(length)).unwrap();
        for length in [1, 36, 40, 41, 128] {
            assert_eq!(id(length), id(length));
            assert_eq!(id(length).as_str().len(), length);
            let (longer, other) = (EventId::new("7".repeat(40) + "8"), EventId::new("6".repeat(128)));
            assert!(id(length) < longer.unwrap() && id(length) > other.unwrap(), "{length}");
        }
        let uuid = EventId::from_u128(7);
        assert_eq!(uuid.as_str(), "00000000-0000-0000-0000-000000000007");
        assert_eq!(serde_json::to_string(&uuid).unwrap(), format!("\"{uuid}\""));
    }

    #[test]
    fn event_id_limits_at_the_edge() {
        assert!(EventId::new("x".repeat(128)).is_ok());
        assert!(EventId::new("x".repeat(129)).is_err());
        assert!(EventId::new("").is_err());
        assert!(EventId::new("a\nb").is_err());
    }
}
