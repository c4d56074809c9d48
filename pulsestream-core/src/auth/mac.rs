//! HMAC-SHA256 (RFC 2104, FIPS 180-4).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Returns HMAC-SHA256 of the concatenated `parts`.
pub(crate) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    keyed(key, parts).finalize().into_bytes().into()
}

/// Returns the HMAC state after `parts`; keys of any length are fine for HMAC.
pub(crate) fn keyed(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // A key longer than a block is hashed first, as RFC 2104 says, so there is no length that HMAC refuses; the empty state
    // in the other arm is never built.
    let mut state = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    for part in parts {
        state.update(part);
    }
    state
}

/// Returns SHA-256 of the concatenated `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_test_case_2() {
        let mac: [u8; 32] =
            keyed(b"Jefe", &[b"what do ya want ", b"for nothing?"]).finalize().into_bytes().into();
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
