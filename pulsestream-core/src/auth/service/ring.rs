//! The secrets in use: loaded or given, and rotated.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::AuthService;
use crate::auth::jwt::TokenCodec;
use crate::auth::keyring::Keyring;
use crate::auth::mac::hmac_sha256;
use crate::auth::secret::{Digest256, SecretBytes};
use crate::auth::settings::AuthSettings;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::ports::identity::{IdentityOutcome, IdentityStore, KeyringRecord};

/// How old the secrets may be when other processes may rotate them.
const RELOAD_AFTER: Duration = Duration::from_secs(10);
/// How often a token with an unknown key name may cause a look at the store.
const RELOAD_FOR_UNKNOWN_AFTER: Duration = Duration::from_secs(1);

/// What happens to the signing key that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRotation {
    /// It verifies for `signing_key_grace`, so that nobody notices.
    Graceful,
    /// It and all before it stop at once, so that every access token must be refreshed: for a key that leaked.
    Immediate,
}

#[derive(Debug)]
struct Loaded {
    codec: Arc<TokenCodec>,
    pepper: Arc<SecretBytes>,
    at: Duration,
}

/// The secrets in use.
#[derive(Debug)]
pub(super) struct Ring {
    loaded: RwLock<Loaded>,
    /// Whether the store keeps them; otherwise the application does.
    stored: bool,
    shared: bool,
}

impl Ring {
    pub(super) async fn open(
        env: &Env,
        store: &Arc<dyn IdentityStore>,
        settings: &AuthSettings,
        given: Option<Keyring>,
    ) -> Result<Self> {
        let stored = given.is_none();
        let keyring = match given {
            Some(keyring) if !keyring.keys.is_empty() => keyring,
            Some(_) => {
                return Err(Error::invalid(
                    "auth.open",
                    "/signing_secrets",
                    "required",
                    "a signing key is required",
                ));
            }
            None => load_or_make(env, &**store).await?,
        };
        let loaded = RwLock::new(Loaded::new(&keyring, settings, env.monotonic()));
        Ok(Self { loaded, stored, shared: store.capabilities().shared })
    }

    /// Whether the store keeps the secrets.
    pub(super) fn is_stored(&self) -> bool {
        self.stored
    }

    pub(super) fn codec(&self) -> Arc<TokenCodec> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).codec.clone()
    }

    pub(super) fn pepper(&self) -> Arc<SecretBytes> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).pepper.clone()
    }

    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.loaded.read().unwrap_or_else(PoisonError::into_inner).at)
    }

    fn replace(&self, keyring: &Keyring, settings: &AuthSettings, now: Duration) {
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Loaded::new(keyring, settings, now);
    }
}

impl Loaded {
    fn new(keyring: &Keyring, settings: &AuthSettings, at: Duration) -> Self {
        let codec = Arc::new(TokenCodec::new(keyring, settings));
        Self { codec, pepper: Arc::new(keyring.pepper.clone()), at }
    }
}

impl AuthService {
    /// Returns HMAC-SHA256 of the parts, each with its length, under a secret that every process of the deployment has and that
    /// stays when the signing key is replaced. Seals of different purposes have nothing to do with each other.
    pub fn seal(&self, purpose: &str, parts: &[&[u8]]) -> Digest256 {
        let all = [purpose.as_bytes()].into_iter().chain(parts.iter().copied());
        let mut text = Vec::new();
        for part in all {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        Digest256::new(hmac_sha256(self.0.ring.pepper().expose(), &[b"pulsestream seal v1\0", &text]))
    }

    /// Replaces the signing key.
    ///
    /// # Errors
    /// `Unsupported` when the application gave the secrets: it rotates them in its own settings.
    pub async fn rotate_signing_key(&self, rotation: KeyRotation) -> Result<()> {
        let inner = &self.0;
        if !inner.ring.stored {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "auth.rotate_signing_key",
                "the application gave the signing secrets: put a new one first in its list",
            ));
        }
        for _ in 0..super::MAX_ATTEMPTS {
            let Some(mut record) = inner.store.keyring().await? else {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "auth.rotate_signing_key",
                    "the stored secrets are gone",
                ));
            };
            record.keyring.rotate(&inner.env, inner.settings.signing_key_grace)?;
            if rotation == KeyRotation::Immediate {
                record.keyring.keys.truncate(1);
            }
            if inner.store.put_keyring(&record).await? == IdentityOutcome::Committed {
                inner.ring.replace(&record.keyring, &inner.settings, inner.env.monotonic());
                return Ok(());
            }
        }
        Err(super::too_busy("auth.rotate_signing_key"))
    }

    /// Returns the codec that fits a token, after a look at the store when the secrets here may be out of date.
    pub(super) async fn codec_for(&self, token: &str) -> Result<Arc<TokenCodec>> {
        let inner = &self.0;
        if inner.ring.stored && inner.ring.shared {
            let (codec, now) = (inner.ring.codec(), inner.env.monotonic());
            let age = inner.ring.age(now);
            let out_of_date =
                age >= RELOAD_AFTER || (age >= RELOAD_FOR_UNKNOWN_AFTER && codec.names_unknown_key(token));
            if out_of_date && let Some(record) = inner.store.keyring().await? {
                inner.ring.replace(&record.keyring, &inner.settings, now);
            }
        }
        Ok(inner.ring.codec())
    }
}

async fn load_or_make(env: &Env, store: &dyn IdentityStore) -> Result<Keyring> {
    if let Some(record) = store.keyring().await? {
        return Ok(record.keyring);
    }
    let keyring = Keyring::generate(env)?;
    match store
        .put_keyring(&KeyringRecord { version: 0, keyring: keyring.clone(), setups: Vec::new() })
        .await?
    {
        IdentityOutcome::Committed => Ok(keyring),
        // Another node was first: its secrets are everybody's.
        IdentityOutcome::Conflict(_) => store
            .keyring()
            .await?
            .map(|record| record.keyring)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "auth.open", "the stored secrets are gone")),
    }
}
