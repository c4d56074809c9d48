//! The compact form of signed tokens (RFC 7515, section 7.1): taken apart, not believed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A token in its parts. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactJws<'t> {
    /// What the signature is over.
    pub signed: &'t str,
    /// The header, decoded: JSON, if the token is one.
    pub header: Vec<u8>,
    /// The claims, decoded.
    pub claims: Vec<u8>,
    /// The signature, decoded.
    pub signature: Vec<u8>,
}

impl<'t> CompactJws<'t> {
    /// Takes a token of at most `max_bytes` apart; `None` unless it is three parts of base64url without padding.
    pub fn split(token: &'t str, max_bytes: usize) -> Option<Self> {
        if token.len() > max_bytes {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self { signed, header: decode(header)?, claims: decode(claims)?, signature: decode(signature)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_parts_of_base64url_are_taken_apart() {
        let parts = CompactJws::split("e30.e30.AA", 10).unwrap();
        assert_eq!((parts.signed, parts.signature), ("e30.e30", vec![0]));
        assert_eq!((parts.header, parts.claims), (b"{}".to_vec(), b"{}".to_vec()));
        for token in
            ["e30.e30.AA.", "e30.e30", "e30", "", "e30.e30.AA=", "e3+.e30.AA", "e30.e30.AB", "e30. .AA"]
        {
            assert_eq!(CompactJws::split(token, 100), None, "{token}");
        }
        assert_eq!(CompactJws::split("e30.e30.AA", 9), None);
    }
}
