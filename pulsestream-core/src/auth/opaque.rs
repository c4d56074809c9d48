//! Opaque tokens: refresh tokens, password-reset tokens, and those of the first administrator.
//!
//! `<prefix><base64url(tenant 16 bytes | id 16 bytes | secret 32 bytes)>`. The secret has 256 random bits; at rest there is
//! only its SHA-256, which is enough for a secret of that size (ASVS 5 section 6.5.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::mac::{hmac_sha256, sha256};
use super::secret::{Digest256, Secret, SecretBytes};
use crate::id::TenantId;

const BODY_BYTES: usize = 64;
const BODY_CHARS: usize = 86;

/// What an opaque token is for; each use has a prefix and a digest of its own, so that one cannot stand in for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpaqueUse {
    /// Gets a new access token.
    Refresh,
    /// Sets a new password.
    PasswordReset,
    /// Makes the first administrator.
    Setup,
}

impl OpaqueUse {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Refresh => "psr_",
            Self::PasswordReset => "psp_",
            Self::Setup => "pss_",
        }
    }
}

/// A parsed or new opaque token.
#[derive(Debug, Clone)]
pub(crate) struct OpaqueToken {
    pub(crate) usage: OpaqueUse,
    pub(crate) tenant: TenantId,
    /// The session or the user, by `usage`.
    pub(crate) id: u128,
    pub(crate) secret: SecretBytes,
}

impl OpaqueToken {
    /// Reads a token of one use; `None` when the form is wrong.
    pub(crate) fn parse(usage: OpaqueUse, text: &str) -> Option<Self> {
        let body = text.strip_prefix(usage.prefix()).filter(|body| body.len() == BODY_CHARS)?;
        let mut bytes = Zeroizing::new([0; BODY_BYTES]);
        URL_SAFE_NO_PAD
            .decode_slice(body, bytes.as_mut_slice())
            .ok()
            .filter(|length| *length == BODY_BYTES)?;
        let tenant: [u8; 16] = bytes[..16].try_into().ok()?;
        let id: [u8; 16] = bytes[16..32].try_into().ok()?;
        let secret: [u8; 32] = bytes[32..].try_into().ok()?;
        Some(Self {
            usage,
            tenant: TenantId::from_bytes(tenant),
            id: u128::from_be_bytes(id),
            secret: SecretBytes::new(secret),
        })
    }

    /// Returns the token as handed to the client.
    pub(crate) fn text(&self) -> Secret {
        let mut bytes = Zeroizing::new([0; BODY_BYTES]);
        bytes[..16].copy_from_slice(&self.tenant.to_bytes());
        bytes[16..32].copy_from_slice(&self.id.to_be_bytes());
        bytes[32..].copy_from_slice(self.secret.expose());
        let mut text = String::with_capacity(4 + BODY_CHARS);
        text.push_str(self.usage.prefix());
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        Secret::new(text)
    }

    /// Returns what is stored of the token.
    pub(crate) fn digest(&self) -> Digest256 {
        Digest256::new(sha256(&[
            b"pulsestream opaque token v1\0",
            self.usage.prefix().as_bytes(),
            &self.tenant.to_bytes(),
            &self.id.to_be_bytes(),
            self.secret.expose(),
        ]))
    }

    /// Seals the secret of the successor so that only the holder of this token can read it, or opens what was sealed.
    ///
    /// The pad is HMAC-SHA256 of a label under this token's secret. A token has one successor, so a pad is used once. The
    /// store thereby never holds a usable token, and a client whose reply was lost gets the same successor again.
    pub(crate) fn seal_successor(&self, secret_or_sealed: &[u8; 32]) -> [u8; 32] {
        let mut output = hmac_sha256(self.secret.expose(), &[b"pulsestream refresh successor v1"]);
        for (byte, other) in output.iter_mut().zip(secret_or_sealed) {
            *byte ^= other;
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(usage: OpaqueUse) -> OpaqueToken {
        OpaqueToken { usage, tenant: TenantId::from_u128(5), id: 9, secret: SecretBytes::new([7; 32]) }
    }

    #[test]
    fn round_trips_and_keeps_uses_apart() {
        let refresh = token(OpaqueUse::Refresh);
        let text = refresh.text();
        let read = OpaqueToken::parse(OpaqueUse::Refresh, text.expose()).unwrap();
        assert_eq!((read.tenant, read.id, &read.secret), (refresh.tenant, refresh.id, &refresh.secret));
        assert!(OpaqueToken::parse(OpaqueUse::PasswordReset, text.expose()).is_none());
        assert!(refresh.digest() != token(OpaqueUse::PasswordReset).digest());
        assert!(!format!("{read:?}").contains("[7,"));
    }

    #[test]
    fn refuses_other_forms() {
        let text = token(OpaqueUse::Refresh).text();
        let text = text.expose();
        for case in [
            String::new(),
            "psr_".to_owned(),
            text[..text.len() - 1].to_owned(),
            format!("{text}="),
            format!("{text}A"),
            text.replace("psr_", "PSR_"),
            text.replacen("psr_A", "psr_+", 1),
            // The last character carries four unused bits: only one spelling is the token.
            format!("{}{}", &text[..text.len() - 1], "9"),
        ] {
            assert!(OpaqueToken::parse(OpaqueUse::Refresh, &case).is_none(), "{case}");
        }
    }

    #[test]
    fn a_sealed_successor_opens_only_with_its_predecessor() {
        let one = token(OpaqueUse::Refresh);
        let other = OpaqueToken { secret: SecretBytes::new([8; 32]), ..one.clone() };
        let sealed = one.seal_successor(&[3; 32]);
        assert_ne!(sealed, [3; 32]);
        assert_eq!(one.seal_successor(&sealed), [3; 32]);
        assert_ne!(other.seal_successor(&sealed), [3; 32]);
    }
}
