//! The keys that a provider publishes (RFC 7517).

use std::collections::HashMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pulsestream_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::config::Algorithm;

/// Most keys that are looked at: a provider has a handful.
const MAX_KEYS: usize = 100;
const P256_COORDINATE_BYTES: usize = 32;
const ED25519_BYTES: usize = 32;
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A key, for one algorithm and no other.
#[derive(Debug)]
struct Key {
    algorithm: Algorithm,
    public: ParsedPublicKey,
}

/// The usable keys of a document, by their ids.
#[derive(Debug, Default)]
pub(crate) struct KeySet(HashMap<String, Key>);

impl KeySet {
    /// Reads a document. Keys that are for something else, of another kind, too weak or without an id are passed over; two keys of one
    /// id make neither usable.
    ///
    /// # Errors
    /// `Unavailable` when it is no key set, or one without any usable key: what was known before is better.
    pub(crate) fn read(document: &[u8]) -> Result<Self> {
        let refuse = |why: &'static str| Error::new(ErrorKind::Unavailable, "jwks.read", why);
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| refuse("the document is no key set").with_source(error))?;
        let mut keys = HashMap::new();
        let mut seen = HashMap::new();
        for entry in document.keys.into_iter().take(MAX_KEYS) {
            let Some((id, key)) = serde_json::from_value(entry).ok().and_then(Key::read) else { continue };
            let times = seen.entry(id.clone()).or_insert(0_u32);
            *times += 1;
            if *times == 1 {
                keys.insert(id, key)
            } else {
                keys.remove(&id)
            };
        }
        if keys.is_empty() {
            return Err(refuse("the key set has no usable key"));
        }
        Ok(Self(keys))
    }

    pub(crate) fn knows(&self, key_id: &str) -> bool {
        self.0.contains_key(key_id)
    }

    /// Returns whether the key of this id is for `algorithm` and made this signature.
    pub(crate) fn verifies(
        &self,
        key_id: &str,
        algorithm: Algorithm,
        signed: &str,
        signature: &[u8],
    ) -> bool {
        let key = self.0.get(key_id).filter(|key| key.algorithm == algorithm);
        key.is_some_and(|key| key.public.verify_sig(signed.as_bytes(), signature).is_ok())
    }
}

impl Key {
    fn read(entry: Entry) -> Option<(String, Self)> {
        let id = entry.kid.filter(|id| !id.is_empty())?;
        let is_for_signatures = entry.usage.is_none_or(|usage| usage == "sig")
            && entry
                .key_ops
                .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        is_for_signatures.then_some(())?;
        let decode = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let (algorithm, public) = match (entry.kty.as_str(), entry.crv.as_deref()) {
            ("RSA", _) => {
                let n = decode(entry.n).filter(|n| RSA_MODULUS_BYTES.contains(&n.len()))?;
                let key = RsaPublicKeyComponents { n, e: decode(entry.e)? };
                (Algorithm::Rs256, key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?)
            }
            ("EC", Some("P-256")) => {
                let coordinate = |text| decode(text).filter(|bytes| bytes.len() == P256_COORDINATE_BYTES);
                let point = [&[4_u8][..], &coordinate(entry.x)?, &coordinate(entry.y)?].concat();
                (Algorithm::Es256, ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?)
            }
            ("OKP", Some("Ed25519")) => {
                let point = decode(entry.x).filter(|bytes| bytes.len() == ED25519_BYTES)?;
                (Algorithm::EdDsa, ParsedPublicKey::new(&ED25519, point).ok()?)
            }
            _ => return None,
        };
        // RFC 9864 names the algorithm of Ed25519 by itself.
        let named = entry.alg.is_none_or(|name| {
            name == algorithm.as_str() || (algorithm == Algorithm::EdDsa && name == "Ed25519")
        });
        named.then_some((id, Self { algorithm, public }))
    }
}
