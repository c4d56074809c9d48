//! API keys: `ps_live_<id>_<secret><checksum>`.
//!
//! `id` is the public [`ApiKeyId`] in base62 (22 characters), `secret` is 32 random base62 characters (190 bits), and `checksum` is
//! the CRC-32 (IEEE 802.3) of all that stands before it, in base62 (6 characters). The prefix and the checksum let secret
//! scanners find a leaked key without asking anybody, and let us refuse a mistyped one without a look-up.

use subtle::ConstantTimeEq;

use super::base62::{from_base62, push_base62, push_random};
use super::mac::hmac_sha256;
use super::secret::{Digest256, Secret, SecretBytes};
use crate::env::Env;
use crate::error::Result;
use crate::id::ApiKeyId;

const PREFIX: &str = "ps_live_";
const ID_LENGTH: usize = 22;
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const LENGTH: usize = PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH;

/// A well-formed API key: its form and checksum are right, which says nothing about whether it is valid.
#[derive(Debug, Clone)]
pub struct ApiKeyText {
    id: ApiKeyId,
    text: Secret,
}

impl ApiKeyText {
    /// Draws a new key for `id`.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn generate(id: ApiKeyId, env: &Env) -> Result<Self> {
        let mut text = String::with_capacity(LENGTH);
        text.push_str(PREFIX);
        push_base62(&mut text, id.as_u128(), ID_LENGTH);
        text.push('_');
        push_random(&mut text, SECRET_LENGTH, env)?;
        let checksum = crc32(text.as_bytes());
        push_base62(&mut text, u128::from(checksum), CHECKSUM_LENGTH);
        Ok(Self { id, text: Secret::new(text) })
    }

    /// Returns whether a credential looks like an API key of ours, so that it is not taken for a token.
    pub fn looks_like(credential: &str) -> bool {
        credential.starts_with(PREFIX)
    }

    /// Reads a key; `None` when its form or its checksum is wrong.
    pub fn parse(credential: &str) -> Option<Self> {
        if credential.len() != LENGTH || !credential.is_ascii() {
            return None;
        }
        let (body, checksum) = credential.split_at(LENGTH - CHECKSUM_LENGTH);
        let (id, secret) = body.strip_prefix(PREFIX)?.split_at(ID_LENGTH);
        let secret = secret.strip_prefix('_')?;
        if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric())
            || from_base62(checksum)? != u128::from(crc32(body.as_bytes()))
        {
            return None;
        }
        Some(Self { id: ApiKeyId::from_u128(from_base62(id)?), text: Secret::new(credential) })
    }

    /// Returns the public part.
    pub fn id(&self) -> ApiKeyId {
        self.id
    }

    /// Returns the whole key, to show it once.
    pub fn into_secret(self) -> Secret {
        self.text
    }

    /// Returns what is stored of the key: HMAC-SHA256 under `pepper`.
    pub fn digest(&self, pepper: &SecretBytes) -> Digest256 {
        Digest256::new(hmac_sha256(
            pepper.expose(),
            &[b"pulsestream api key v1\0", self.text.expose().as_bytes()],
        ))
    }

    /// Compares with what is stored, in constant time; `None` (no such key) takes as long.
    pub fn matches(&self, pepper: &SecretBytes, stored: Option<&Digest256>) -> bool {
        let nothing = Digest256::new([0; 32]);
        let equal = self.digest(pepper).as_bytes().ct_eq(stored.unwrap_or(&nothing).as_bytes());
        bool::from(equal) && stored.is_some()
    }
}

/// Returns the key as it may be shown later: prefix and id, the rest hidden.
pub fn masked(id: ApiKeyId) -> String {
    let mut text = PREFIX.to_owned();
    push_base62(&mut text, id.as_u128(), ID_LENGTH);
    text.push_str("_********");
    text
}

/// CRC-32 of IEEE 802.3: reflected polynomial 0xedb88320, as in zlib.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            let mut value = nibble as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[nibble] = value;
            nibble += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let low = crc ^ u32::from(*byte);
        let crc = crc >> 4 ^ TABLE[(low & 0xf) as usize];
        crc >> 4 ^ TABLE[((crc ^ u32::from(byte >> 4)) & 0xf) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn key() -> ApiKeyText {
        let (env, _) = Env::manual(Timestamp::EPOCH, 11);
        ApiKeyText::generate(ApiKeyId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001), &env).unwrap()
    }

    /// Puts the right checksum behind a body, so that a test reaches the checks after it.
    fn sealed(body: &str) -> String {
        let mut text = body.to_owned();
        push_base62(&mut text, u128::from(crc32(body.as_bytes())), CHECKSUM_LENGTH);
        text
    }

    #[test]
    fn crc32_has_the_check_value_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn round_trips_and_never_prints_itself() {
        let text = key().into_secret();
        let read = ApiKeyText::parse(text.expose()).unwrap();
        assert_eq!(read.id(), key().id());
        assert_eq!(text.expose().len(), LENGTH);
        assert!(!format!("{read:?}").contains(&text.expose()[31..]));
        assert!(!text.expose().contains(masked(read.id()).trim_start_matches(PREFIX)));
        assert!(text.expose().starts_with(masked(read.id()).trim_end_matches('*')));
    }

    #[test]
    fn every_changed_character_is_refused_without_a_look_up() {
        let text = key().into_secret();
        for index in 0..text.expose().len() {
            for other in ['0', 'z', '_', '-', ' ', '\u{e9}'] {
                let mut changed: Vec<char> = text.expose().chars().collect();
                if changed[index] == other {
                    continue;
                }
                changed[index] = other;
                let changed: String = changed.into_iter().collect();
                assert!(ApiKeyText::parse(&changed).is_none(), "{index} {other}");
            }
        }
    }

    #[test]
    fn other_forms_are_refused_even_with_a_right_checksum() {
        let text = key().into_secret();
        let body = &text.expose()[..LENGTH - CHECKSUM_LENGTH];
        assert!(ApiKeyText::parse(&sealed(body)).is_some());
        let cases = [
            String::new(),
            "ps_live_".to_owned(),
            text.expose()[1..].to_owned(),
            format!("{} ", text.expose()),
            format!(" {}", text.expose()),
            sealed(&body[..body.len() - 1]),
            sealed(&format!("{body}a")),
            sealed(&body.replace("ps_live_", "ps_test_")),
            sealed(&body.replace("ps_live_", "PS_LIVE_")),
            sealed(&format!("ps_live_{}_{}", "z".repeat(ID_LENGTH), "a".repeat(SECRET_LENGTH))),
            sealed(&format!("ps_live_{}_{}", "0".repeat(ID_LENGTH), "-".repeat(SECRET_LENGTH))),
            sealed(&format!("ps_live_{}-{}", "0".repeat(ID_LENGTH), "a".repeat(SECRET_LENGTH))),
            text.expose().repeat(1_000),
        ];
        for case in cases {
            assert!(ApiKeyText::parse(&case).is_none(), "{case:.80}");
        }
    }

    #[test]
    fn digest_depends_on_key_and_pepper_and_absence_never_matches() {
        let (one, other) = (SecretBytes::new([1; 32]), SecretBytes::new([2; 32]));
        let stored = key().digest(&one);
        assert!(key().matches(&one, Some(&stored)));
        assert!(!key().matches(&other, Some(&stored)));
        assert!(!key().matches(&one, None));
        let (env, _) = Env::manual(Timestamp::EPOCH, 12);
        assert!(!ApiKeyText::generate(key().id(), &env).unwrap().matches(&one, Some(&stored)));
    }
}
