//! Signatures of webhooks, for the sender and for receivers.
//!
//! Source: Standard Webhooks 1.0, <https://www.standardwebhooks.com>: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use pulsestream_core::env::Env;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// How far the time of a message may be from the receiver's: 300 s in both directions.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Bytes that a secret has at least.
pub const MIN_SECRET_BYTES: usize = 24;
/// Bytes that a secret has at most.
pub const MAX_SECRET_BYTES: usize = 64;

const PREFIX: &str = "whsec_";
const VERSION: &str = "v1,";
/// More signatures than any rotation has: a forger's list ends here.
const MAX_SIGNATURES: usize = 16;

/// A signing secret: 24 to 64 bytes, written as `whsec_` and base64.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// Reads a secret.
    ///
    /// # Errors
    /// `Invalid` when the prefix, the base64 or the length is wrong; the message does not repeat the text.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |message| Err(Error::invalid("webhook_secret.parse", "", "invalid_secret", message));
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return refuse("must start with whsec_");
        };
        let Ok(bytes) = STANDARD.decode(encoded).map(Zeroizing::new) else {
            return refuse("must be whsec_ and base64");
        };
        if (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            refuse("must be 24 to 64 bytes, written as whsec_ and base64")
        }
    }

    /// Draws a new secret of 32 bytes.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn generate(env: &Env) -> Result<Self> {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(env.random_bytes()?);
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Returns the secret in clear, `whsec_...`, to be shown once.
    pub fn expose(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(&*self.0));
        Zeroizing::new(format!("{PREFIX}{}", *encoded))
    }

    /// Returns the signature `v1,...` of a message whose time is `timestamp`, in Unix seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("{VERSION}{}", STANDARD.encode(self.mac(id, timestamp, body)))
    }

    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length (RFC 2104)");
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

/// The three headers of a signed message, as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
}

/// Checks that a message was signed with one of `secrets` and is not older or newer than [`TOLERANCE`], for a receiver. Takes the
/// same time whichever secret fits. A receiver must besides remember the ids it has seen, because a message may come twice.
///
/// # Errors
/// `Unauthenticated` when it was not.
///
/// # Example
/// ```
/// use pulsestream_core::env::Env;
/// use pulsestream_core::time::Timestamp;
/// use pulsestream_notify::{SignatureHeaders, WebhookSecret, verify};
///
/// # fn main() -> pulsestream_core::Result<()> {
/// let secret = WebhookSecret::generate(&Env::system())?;
/// let signature = secret.sign("msg_1", 1_700_000_000, b"{}");
/// let headers = SignatureHeaders { id: "msg_1", timestamp: "1700000000", signature: &signature };
/// verify(&[secret], headers, b"{}", Timestamp::from_seconds(1_700_000_010))?;
/// # Ok(())
/// # }
/// ```
pub fn verify(
    secrets: &[WebhookSecret],
    headers: SignatureHeaders<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<()> {
    let refuse = |message| Err(Error::new(ErrorKind::Unauthenticated, "webhook.verify", message));
    let is_canonical = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let Some(timestamp) = headers.timestamp.parse::<i64>().ok().filter(|_| is_canonical(headers.timestamp))
    else {
        return refuse("the timestamp is no number of seconds");
    };
    if now.as_seconds().abs_diff(timestamp) > TOLERANCE.as_secs() {
        return refuse("the timestamp is too far from now");
    }
    let mut fits = Choice::from(0);
    for secret in secrets {
        let expected = secret.mac(headers.id, timestamp, body);
        for signature in headers.signature.split(' ').take(MAX_SIGNATURES) {
            let given = signature.strip_prefix(VERSION).and_then(|encoded| STANDARD.decode(encoded).ok());
            fits |= given.unwrap_or_default().ct_eq(&expected);
        }
    }
    if bool::from(fits) { Ok(()) } else { refuse("no signature fits") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_614_265_330);

    fn secret() -> WebhookSecret {
        WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    // The example of the specification's reference libraries.
    #[test]
    fn agrees_with_the_published_vector() {
        let body = br#"{"test": 2432232314}"#;
        let signature = secret().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_checked_and_hidden() {
        for length in [MIN_SECRET_BYTES, MAX_SECRET_BYTES] {
            WebhookSecret::parse(&format!("whsec_{}", STANDARD.encode(vec![7; length]))).unwrap();
        }
        for length in [0, MIN_SECRET_BYTES - 1, MAX_SECRET_BYTES + 1] {
            let text = format!("whsec_{}", STANDARD.encode(vec![7; length]));
            let error = WebhookSecret::parse(&text).unwrap_err();
            assert!(length == 0 || !format!("{error:?}").contains(&STANDARD.encode([7; 6])));
        }
        assert!(WebhookSecret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_err());
        assert!(WebhookSecret::parse("whsec_%%%%").is_err());
        assert_eq!(format!("{:?}", secret()), "WebhookSecret(..)");
        assert_eq!(*secret().expose(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn verifies_what_is_genuine_and_fresh() {
        let other = WebhookSecret::generate(&Env::manual(NOW, 1).0).unwrap();
        let body = b"{}";
        let signed = secret().sign("m", NOW.as_seconds(), body);
        let check = |secrets: &[WebhookSecret], id, timestamp: &str, signature: &str, body: &[u8]| {
            verify(secrets, SignatureHeaders { id, timestamp, signature }, body, NOW)
        };
        let stamp = NOW.as_seconds().to_string();
        check(&[secret()], "m", &stamp, &signed, body).unwrap();
        check(&[other.clone(), secret()], "m", &stamp, &signed, body).unwrap();
        check(&[secret()], "m", &stamp, &format!("v1,AAAA v1a,x {signed}"), body).unwrap();
        for (id, timestamp, signature, body) in [
            ("n", stamp.as_str(), signed.as_str(), b"{}"),
            ("m", &stamp, &signed, b"{ "),
            ("m", &stamp, "", b"{}"),
            ("m", &stamp, "v1,", b"{}"),
            ("m", &stamp, &signed[3..], b"{}"),
            ("m", &stamp, &signed.replace("v1,", "v2,"), b"{}"),
            ("m", &format!("+{stamp}"), &signed, b"{}"),
            ("m", "", &signed, b"{}"),
            ("m", "99999999999999999999", &signed, b"{}"),
        ] {
            let error = check(&[secret()], id, timestamp, signature, body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{id} {timestamp} {signature}");
        }
        assert!(check(&[other], "m", &stamp, &signed, body).is_err());
        assert!(check(&[], "m", &stamp, &signed, body).is_err());
    }

    #[test]
    fn the_tolerance_ends_after_300_seconds_in_both_directions() {
        for (offset, is_fresh) in [(-301, false), (-300, true), (300, true), (301, false)] {
            let at = NOW.as_seconds() + offset;
            let (timestamp, signature) = (at.to_string(), secret().sign("m", at, b""));
            let headers = SignatureHeaders { id: "m", timestamp: &timestamp, signature: &signature };
            assert_eq!(verify(&[secret()], headers, b"", NOW).is_ok(), is_fresh, "{offset}");
        }
    }
}
