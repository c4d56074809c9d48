//! Keys in memory: fetched when they are old or a token names one that is not known, never more often than allowed.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pulsestream_core::env::Env;
use pulsestream_core::{Error, ErrorKind, Result, Retry};
use pulsestream_notify::DocumentReader;
use tokio::sync::Mutex;

use crate::config::JwksConfig;
use crate::key_set::KeySet;

/// What the last fetches gave.
#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When the keys were fetched.
    fetched_at: Duration,
    /// When the last fetch ended, good or not.
    tried_at: Option<Duration>,
}

/// The keys of one provider.
#[derive(Debug)]
pub(crate) struct KeyCache {
    config: Arc<JwksConfig>,
    reader: DocumentReader,
    env: Env,
    state: RwLock<State>,
    /// Held while a fetch is under way: there is one at a time.
    fetching: Mutex<()>,
}

impl KeyCache {
    pub(crate) fn new(config: Arc<JwksConfig>, reader: DocumentReader, env: Env) -> Arc<Self> {
        Arc::new(Self { config, reader, env, state: RwLock::default(), fetching: Mutex::default() })
    }

    /// Returns keys that may be used now and, if the provider has it, know `key_id`.
    ///
    /// # Errors
    /// `Unavailable` when there are none that may be used and none can be fetched.
    ///
    /// # Cancel safety
    /// Safe: a fetch under way goes on, and the next caller profits.
    pub(crate) async fn keys_for(self: &Arc<Self>, key_id: &str) -> Result<Arc<KeySet>> {
        if let Some(keys) = self.usable(self.config.max_age).filter(|keys| keys.knows(key_id)) {
            return Ok(keys);
        }
        if self.may_fetch() {
            let cache = Arc::clone(self);
            // On its own, so that a caller that goes away does not leave the next one without an answer to wait for.
            let fetch = tokio::spawn(async move { cache.refresh().await });
            // A panic is as good as no answer: what is there decides.
            let _ = fetch.await;
        }
        self.usable(self.config.max_stale).ok_or_else(|| {
            let again = self.config.min_refresh_interval;
            Error::new(
                ErrorKind::Unavailable,
                "jwks.keys",
                "the keys of the identity provider cannot be fetched",
            )
            .with_retry(Retry::After(again))
        })
    }

    /// Fetches, unless somebody else just did.
    async fn refresh(&self) {
        let _one_at_a_time = self.fetching.lock().await;
        if !self.may_fetch() {
            return;
        }
        let fetched = self.reader.read(&self.config.url).await.and_then(|document| KeySet::read(&document));
        let now = self.env.monotonic();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.tried_at = Some(now);
        match fetched {
            Ok(keys) => {
                state.keys = Some(Arc::new(keys));
                state.fetched_at = now;
            }
            Err(error) => {
                tracing::warn!(url = %self.config.url, %error, "the keys of the identity provider could not be fetched")
            }
        }
    }

    fn usable(&self, max_age: Duration) -> Option<Arc<KeySet>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let age = self.env.monotonic().saturating_sub(state.fetched_at);
        state.keys.clone().filter(|_| age < max_age)
    }

    fn may_fetch(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let rested =
            |at: Duration| self.env.monotonic().saturating_sub(at) >= self.config.min_refresh_interval;
        state.tried_at.is_none_or(rested)
    }
}
