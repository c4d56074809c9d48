//! Putting the account service together.

use std::sync::Arc;

use super::ring::Ring;
use super::{AuthService, Inner, ResetMailer, TenantDeletionHook};
use crate::auth::blocking::{BlockingPool, OwnThreads};
use crate::auth::cache::CheckedCache;
use crate::auth::keyring::Keyring;
use crate::auth::password::PasswordHasher;
use crate::auth::settings::AuthSettings;
use crate::auth::throttle::Throttle;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::ports::identity::IdentityStore;
use crate::ports::timer::Timer;

/// How long the same denial is written to the audit log once.
const DENIAL_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);

/// Puts an [`AuthService`] together.
#[derive(Debug)]
pub struct AuthServiceBuilder {
    env: Env,
    store: Arc<dyn IdentityStore>,
    settings: AuthSettings,
    keyring: Option<Keyring>,
    pool: Arc<dyn BlockingPool>,
    mailer: Option<Arc<dyn ResetMailer>>,
    timer: Option<Arc<dyn Timer>>,
    deletion_hooks: Vec<Arc<dyn TenantDeletionHook>>,
    cheap_hashing: bool,
}

impl AuthService {
    /// Starts to put a service together over a store.
    pub fn builder(env: Env, store: Arc<dyn IdentityStore>) -> AuthServiceBuilder {
        AuthServiceBuilder {
            env,
            store,
            settings: AuthSettings::default(),
            keyring: None,
            pool: Arc::new(OwnThreads),
            mailer: None,
            timer: None,
            deletion_hooks: Vec::new(),
            cheap_hashing: false,
        }
    }
}

impl AuthServiceBuilder {
    /// Uses these settings.
    #[must_use]
    pub fn with_settings(mut self, settings: AuthSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Uses the application's secrets. Without them the service makes its own and keeps them in the store.
    #[must_use]
    pub fn with_keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = Some(keyring);
        self
    }

    /// Hashes passwords on the host's threads.
    #[must_use]
    pub fn with_blocking_pool(mut self, pool: Arc<dyn BlockingPool>) -> Self {
        self.pool = pool;
        self
    }

    /// Sends password resets. Without it they are `Unsupported`.
    #[must_use]
    pub fn with_reset_mailer(mut self, mailer: Arc<dyn ResetMailer>) -> Self {
        self.mailer = Some(mailer);
        self
    }

    /// Lets refused sign-ins and requests for a reset wait, so that their time tells nothing about tenants and users. Without it
    /// the time of a refusal shows whether the tenant exists.
    #[must_use]
    pub fn with_timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Deletes data of another component when a tenant is deleted; hooks run in the order given.
    #[must_use]
    pub fn with_deletion_hook(mut self, hook: Arc<dyn TenantDeletionHook>) -> Self {
        self.deletion_hooks.push(hook);
        self
    }

    /// Allows a password hash below the minimum, so that tests do not wait for it.
    #[cfg(any(test, feature = "testkit"))]
    #[must_use]
    pub fn with_cheap_hashing(mut self) -> Self {
        self.settings.password.memory_kib = 8;
        self.settings.password.iterations = 1;
        self.cheap_hashing = true;
        self
    }

    /// Checks the settings, loads or makes the secrets, and opens the service.
    ///
    /// # Errors
    /// `Invalid` for settings out of their limits or a password hash below the minimum, and those of the store.
    pub async fn open(self) -> Result<AuthService> {
        self.settings.validate()?;
        if !self.cheap_hashing && !self.settings.password.is_strong_enough() {
            return Err(Error::invalid(
                "auth.open",
                "/password/memory_kib",
                "too_weak",
                "the password hash must cost at least 19456 KiB with 2 passes, or as much in another way",
            ));
        }
        let settings = self.settings;
        let ttl =
            if self.store.capabilities().shared { settings.shared_cache_ttl } else { settings.cache_ttl };
        let ring = Ring::open(&self.env, &self.store, &settings, self.keyring).await?;
        Ok(AuthService(Arc::new(Inner {
            hasher: PasswordHasher::new(&settings.password, self.pool, &self.env)?,
            throttle: Throttle::new(settings.throttle.clone(), self.env.clock().clone()),
            ring,
            sessions: CheckedCache::new(settings.cache_entries, ttl),
            keys: CheckedCache::new(settings.cache_entries, ttl),
            tenants: CheckedCache::new(settings.cache_entries, ttl),
            denials: CheckedCache::new(settings.cache_entries, DENIAL_INTERVAL),
            mailer: self.mailer,
            timer: self.timer,
            deletion_hooks: self.deletion_hooks,
            env: self.env,
            store: self.store,
            settings,
        })))
    }
}
