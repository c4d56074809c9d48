//! The secrets of a deployment: keys that sign tokens, with rotation, and the pepper of API keys.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mac::{keyed, sha256};
use super::secret::{Secret, SecretBytes};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::time::Timestamp;

/// The shortest signing secret, in bytes: the output size of SHA-256 (RFC 7518 section 3.2).
pub const MIN_SIGNING_SECRET_BYTES: usize = 32;

/// One key that signs or once signed tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Its name in the `kid` header of a token.
    pub kid: String,
    /// The key.
    pub secret: SecretBytes,
    /// When it stops to verify; `None`: it signs.
    pub verify_until: Option<Timestamp>,
}

/// The secrets of a deployment, as stored or as given by the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// Signing keys, the one that signs first.
    pub keys: Vec<SigningKey>,
    /// Key of the HMAC under which API keys are stored; changing it invalidates every API key.
    pub pepper: SecretBytes,
}

impl Keyring {
    /// Draws a new keyring.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn generate(env: &Env) -> Result<Self> {
        Ok(Self { keys: vec![SigningKey::generate(env)?], pepper: SecretBytes::random(env)? })
    }

    /// Derives the keyring from secrets of the application: `secrets[0]` signs, the others still verify.
    ///
    /// The pepper is derived from `pepper`, which must therefore stay the same while signing secrets rotate.
    ///
    /// # Errors
    /// `Invalid` for a secret that is short, well known or plainly not random; see [`check_signing_secret`].
    pub fn from_secrets(secrets: &[Secret], pepper: &Secret) -> Result<Self> {
        if secrets.is_empty() {
            return Err(Error::invalid(
                "auth.secrets",
                "/signing_secrets",
                "required",
                "at least one signing secret is required",
            ));
        }
        let mut keys = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            check_signing_secret(secret.expose())?;
            let digest = sha256(&[b"pulsestream kid v1\0", secret.expose().as_bytes()]);
            keys.push(SigningKey {
                kid: hex(&digest[..8]),
                secret: SecretBytes::new(sha256(&[b"pulsestream signing v1\0", secret.expose().as_bytes()])),
                verify_until: (index > 0).then_some(Timestamp::MAX),
            });
        }
        check_signing_secret(pepper.expose())?;
        let pepper = SecretBytes::new(sha256(&[b"pulsestream pepper v1\0", pepper.expose().as_bytes()]));
        Ok(Self { keys, pepper })
    }

    /// Adds a new signing key; the one before still verifies for `grace`. Keys whose grace is over are dropped.
    ///
    /// # Errors
    /// `Unavailable` when there is no randomness.
    pub fn rotate(&mut self, env: &Env, grace: Duration) -> Result<()> {
        let now = env.now();
        for key in &mut self.keys {
            key.verify_until = Some(key.verify_until.unwrap_or_else(|| now.plus(grace)));
        }
        self.keys.retain(|key| key.verify_until.is_none_or(|until| until > now));
        self.keys.insert(0, SigningKey::generate(env)?);
        Ok(())
    }
}

impl SigningKey {
    fn generate(env: &Env) -> Result<Self> {
        Ok(Self {
            kid: hex(&env.random_bytes::<8>()?),
            secret: SecretBytes::random(env)?,
            verify_until: None,
        })
    }

    /// Returns the HMAC state of the key, which is quicker to copy than to set up.
    pub(crate) fn state(&self) -> KeyState {
        KeyState(keyed(self.secret.expose(), &[]))
    }
}

/// A keyed HMAC state that does not print itself.
#[derive(Clone)]
pub(crate) struct KeyState(pub(crate) hmac::Hmac<sha2::Sha256>);

impl fmt::Debug for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyState(..)")
    }
}

/// Refuses a signing secret that is too short, well known, or plainly not drawn at random.
///
/// Nothing can prove that a text is random; this finds what people paste: passwords, the placeholders of tutorials, repetitions
/// and runs of the alphabet. `openssl rand -base64 32` makes a good one.
///
/// # Errors
/// `Invalid`; the message does not repeat the secret.
pub fn check_signing_secret(secret: &str) -> Result<()> {
    const KNOWN_PARTS: [&str; 22] = [
        "secret",
        "password",
        "passwort",
        "changeme",
        "change-me",
        "change_me",
        "change this",
        "change-this",
        "change_this",
        "in-production",
        "in_production",
        "default",
        "example",
        "insecure",
        "qwerty",
        "letmein",
        "placeholder",
        "development",
        "your-key",
        "your_key",
        "lorem ipsum",
        "pulsestream",
    ];
    const MIN_DISTINCT_BYTES: usize = 10;

    let refuse = |code: &'static str, message: &'static str| {
        Err(Error::invalid("auth.secrets", "/signing_secrets", code, message))
    };
    let bytes = secret.as_bytes();
    if bytes.len() < MIN_SIGNING_SECRET_BYTES {
        return refuse("too_short", "a signing secret must have at least 32 random bytes");
    }
    let lower = secret.to_lowercase();
    if KNOWN_PARTS.iter().any(|part| lower.contains(part)) {
        return refuse("well_known", "a signing secret must be random, not a phrase or a placeholder");
    }
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let distinct = seen.iter().filter(|there| **there).count();
    let runs = bytes.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) <= 1).count();
    let repeats = (1..=bytes.len() / 2).any(|period| bytes.iter().zip(&bytes[period..]).all(|(a, b)| a == b));
    if distinct < MIN_DISTINCT_BYTES || runs * 2 > bytes.len() || repeats {
        return refuse("not_random", "a signing secret must be random, without repetitions or runs");
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "q7Zt0mVb3xK9wPdL2sYhR8uNfJ6cGaE4TiXoWkQz1nM=";

    #[test]
    fn weak_secrets_are_refused_and_not_repeated() {
        for secret in [
            "",
            "short",
            "0123456789abcdef0123456789abcde",
            "your-secret-key-change-in-production-please",
            "supersecretsupersecretsupersecret",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
            "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
            "kJ8sL0qWkJ8sL0qWkJ8sL0qWkJ8sL0qWkJ8sL0qW",
            "CHANGE-THIS-CHANGE-THIS-CHANGE-THIS-0",
            "correct-horse-password-battery-staple-x7",
        ] {
            let error = check_signing_secret(secret).unwrap_err();
            assert!(secret.len() < 10 || !format!("{error:?}").contains(secret), "{secret}");
        }
        assert!(check_signing_secret(GOOD).is_ok());
        assert!(check_signing_secret(&GOOD[..32]).is_ok());
        assert!(check_signing_secret(&GOOD[..31]).is_err());
    }

    #[test]
    fn random_secrets_in_hex_and_base64_are_taken() {
        use base64::Engine;
        let (env, _) = Env::manual(Timestamp::EPOCH, 3);
        for _ in 0..2_000 {
            let bytes: [u8; 32] = env.random_bytes().unwrap();
            check_signing_secret(&hex(&bytes)).unwrap();
            check_signing_secret(&base64::engine::general_purpose::STANDARD.encode(bytes)).unwrap();
        }
    }

    #[test]
    fn rotation_keeps_the_old_key_for_its_grace_only() {
        let (env, clock) = Env::manual(Timestamp::from_seconds(100), 3);
        let mut ring = Keyring::generate(&env).unwrap();
        let first = ring.keys[0].kid.clone();
        ring.rotate(&env, Duration::from_secs(60)).unwrap();
        assert_eq!(ring.keys.len(), 2);
        assert_eq!(
            (ring.keys[1].kid.clone(), ring.keys[1].verify_until),
            (first, Some(Timestamp::from_seconds(160)))
        );
        clock.advance(Duration::from_secs(60));
        ring.rotate(&env, Duration::from_secs(60)).unwrap();
        assert_eq!(ring.keys.len(), 2, "the first key is gone");
        assert!(format!("{ring:?}").contains("secret: SecretBytes(..)"));
    }

    #[test]
    fn given_secrets_need_no_store_and_keep_their_names() {
        let ring = Keyring::from_secrets(&[GOOD.into()], &GOOD.into()).unwrap();
        let again = Keyring::from_secrets(&[GOOD.into()], &GOOD.into()).unwrap();
        assert_eq!(ring, again);
        assert!(Keyring::from_secrets(&[], &GOOD.into()).is_err());
        assert!(Keyring::from_secrets(&[GOOD.into()], &"weak".into()).is_err());
        assert!(!format!("{ring:?}").contains(GOOD));
    }
}
