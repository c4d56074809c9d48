//! The header of a token: which key and which algorithm, and nothing that could lead elsewhere.

use pulsestream_core::event::JsonObject;
use serde_json::Value;

use crate::config::Algorithm;

/// Members that bring a key, say where one is, or change what the signature is over. A token with one of them is refused: keys
/// come from the configured place alone.
const REFUSED: [&str; 8] = ["b64", "crit", "enc", "jku", "jwk", "x5c", "x5u", "zip"];

/// The types of a token, lower case: none, RFC 7519, RFC 9068.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// What a header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: String,
}

impl Header {
    /// Reads a header; `None` when it asks for something that is not allowed.
    pub(crate) fn read(bytes: &[u8], allowed: &[Algorithm]) -> Option<Self> {
        let header = read_object(bytes)?;
        if REFUSED.iter().any(|name| header.get(*name).is_some()) {
            return None;
        }
        if let Some(kind) = header.get("typ") {
            let kind = kind.as_str()?.to_ascii_lowercase();
            TYPES.contains(&kind.as_str()).then_some(())?;
        }
        let algorithm = header.get("alg")?.as_str()?.parse().ok().filter(|asked| allowed.contains(asked))?;
        let key_id = header.get("kid")?.as_str().filter(|id| !id.is_empty())?.to_owned();
        Some(Self { algorithm, key_id })
    }
}

/// Reads an object in which each member is there once.
pub(crate) fn read_object(bytes: &[u8]) -> Option<Value> {
    Some(JsonObject::parse(std::str::from_utf8(bytes).ok()?).ok()?.to_value())
}
