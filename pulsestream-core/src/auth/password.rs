//! Password hashing: argon2id, off the async threads, bounded in number and in waiting.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version};

use super::blocking::{BlockingPool, Job, reply};
use super::secret::Secret;
use super::settings::PasswordSettings;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result, Retry};

/// The longest password that is hashed, in bytes; a longer one is refused before any work.
pub const MAX_PASSWORD_BYTES: usize = 1_024;

/// What verifying a password found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Whether the password is right.
    pub(crate) matches: bool,
    /// Whether the stored hash is cheaper than today's settings and should be made again.
    pub(crate) outdated: bool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    running: usize,
}

struct Inner {
    params: Params,
    pool: Arc<dyn BlockingPool>,
    queue: Mutex<Queue>,
    max_parallel: usize,
    max_waiting: usize,
    /// A hash nobody knows the password of, so that an unknown user costs as much as a known one.
    dummy: Secret,
}

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PasswordHasher(Arc<Inner>);

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHasher").field("params", &self.0.params).field("pool", &self.0.pool).finish()
    }
}

impl PasswordHasher {
    /// Creates a hasher; the cost must have been checked by the caller.
    pub(crate) fn new(settings: &PasswordSettings, pool: Arc<dyn BlockingPool>, env: &Env) -> Result<Self> {
        let params = Params::new(settings.memory_kib, settings.iterations, settings.parallelism, None)
            .map_err(|error| {
                Error::invalid("auth.password", "/password", "out_of_range", "argon2 cannot use this cost")
                    .with_context("cause", error)
            })?;
        let nobody = Secret::new(
            env.random_bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        );
        let dummy = hash(&params, nobody.expose(), &env.random_bytes()?)?;
        Ok(Self(Arc::new(Inner {
            params,
            pool,
            queue: Mutex::default(),
            max_parallel: settings.max_parallel,
            max_waiting: settings.max_waiting,
            dummy,
        })))
    }

    /// Hashes a password with a random salt; the answer is a PHC string.
    pub(crate) async fn hash(&self, password: &Secret, env: &Env) -> Result<Secret> {
        let salt: [u8; 16] = env.random_bytes()?;
        let (params, password) = (self.0.params.clone(), password.clone());
        self.run(move || hash(&params, password.expose(), &salt)).await?
    }

    /// Compares a password with a stored hash. Without one the same work is done and the answer is no.
    pub(crate) async fn verify(&self, password: &Secret, stored: Option<&Secret>) -> Result<Verified> {
        let known = stored.is_some();
        let stored = stored.unwrap_or(&self.0.dummy).clone();
        let (params, password) = (self.0.params.clone(), password.clone());
        self.run(move || {
            let hash = PasswordHash::new(stored.expose()).map_err(|error| {
                Error::new(ErrorKind::Corrupt, "auth.password", "a stored password hash cannot be read")
                    .with_context("cause", error)
            })?;
            let used = Params::try_from(&hash).ok();
            let equal = Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok();
            let weaker = |used: Params| {
                used.m_cost() < params.m_cost()
                    || used.t_cost() < params.t_cost()
                    || used.p_cost() < params.p_cost()
            };
            Ok(Verified { matches: equal && known, outdated: used.is_none_or(weaker) })
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, reply) = reply();
        self.submit(Box::new(move || {
            if !sender.is_abandoned() {
                let value = work();
                sender.send(value);
            }
        }))?;
        reply.await.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "auth.password", "the password could not be checked now")
        })
    }

    /// Queues a job. At most `max_parallel` drains run, so no more hashes than that take memory at once.
    fn submit(&self, job: Job) -> Result<()> {
        {
            let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.jobs.len() >= self.0.max_waiting && queue.running >= self.0.max_parallel {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "auth.password",
                    "too many passwords are being checked",
                )
                .with_retry(Retry::After(Duration::from_secs(1))));
            }
            queue.jobs.push_back(job);
            if queue.running >= self.0.max_parallel {
                return Ok(());
            }
            queue.running += 1;
        }
        let drain = Drain { inner: self.0.clone(), finished: false };
        self.0.pool.run(Box::new(move || drain.run()))
    }
}

/// Works off the queue; when it goes away in any manner, another may start.
struct Drain {
    inner: Arc<Inner>,
    finished: bool,
}

impl Drain {
    fn run(mut self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    /// Takes a job, or signs off under the same lock, so that no job is left to a drain that is about to end.
    fn next(&mut self) -> Option<Job> {
        let mut queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = queue.jobs.pop_front();
        if job.is_none() {
            queue.running -= 1;
            self.finished = true;
        }
        job
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let stranded = {
            let mut queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.running -= 1;
            // With no drain left nobody would come for these: dropping them answers their callers with `Unavailable`.
            if queue.running == 0 { std::mem::take(&mut queue.jobs) } else { VecDeque::new() }
        };
        drop(stranded);
    }
}

fn hash(params: &Params, password: &str, salt: &[u8; 16]) -> Result<Secret> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2
        .hash_password_with_salt(password.as_bytes(), salt)
        .map(|hash| Secret::new(hash.to_string()))
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "auth.password", "the password could not be hashed")
                .with_context("cause", error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::blocking::OwnThreads;
    use crate::time::Timestamp;

    fn cheap() -> PasswordSettings {
        PasswordSettings { memory_kib: 8, iterations: 1, ..PasswordSettings::default() }
    }

    fn hasher(settings: &PasswordSettings, pool: Arc<dyn BlockingPool>) -> (PasswordHasher, Env) {
        let (env, _) = Env::manual(Timestamp::EPOCH, 1);
        (PasswordHasher::new(settings, pool, &env).unwrap(), env)
    }

    #[tokio::test]
    async fn hash_verifies_and_unknown_user_never_does() {
        let (hasher, env) = hasher(&cheap(), Arc::new(OwnThreads));
        let stored = hasher.hash(&"correct horse".into(), &env).await.unwrap();
        assert!(stored.expose().starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        let right = hasher.verify(&"correct horse".into(), Some(&stored)).await.unwrap();
        assert_eq!(right, Verified { matches: true, outdated: false });
        assert!(!hasher.verify(&"correct horsE".into(), Some(&stored)).await.unwrap().matches);
        assert!(!hasher.verify(&"correct horse".into(), None).await.unwrap().matches);
        assert!(!format!("{hasher:?}").contains("$argon2"));
    }

    #[tokio::test]
    async fn a_cheaper_hash_is_outdated_and_a_dearer_one_is_not() {
        let dearer = PasswordSettings { iterations: 2, ..cheap() };
        let (old, env) = hasher(&cheap(), Arc::new(OwnThreads));
        let (new, _) = hasher(&dearer, Arc::new(OwnThreads));
        let stored = old.hash(&"correct horse".into(), &env).await.unwrap();
        assert_eq!(
            new.verify(&"correct horse".into(), Some(&stored)).await.unwrap(),
            Verified { matches: true, outdated: true }
        );
        let stored = new.hash(&"correct horse".into(), &env).await.unwrap();
        assert!(!old.verify(&"correct horse".into(), Some(&stored)).await.unwrap().outdated);
    }

    /// Keeps jobs until told to run them.
    #[derive(Default)]
    struct Held(Mutex<Vec<Job>>);

    impl fmt::Debug for Held {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Held")
        }
    }

    impl BlockingPool for Held {
        fn run(&self, job: Job) -> Result<()> {
            self.0.lock().unwrap().push(job);
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_drains() {
        let pool = Arc::new(Held::default());
        let settings = PasswordSettings { max_parallel: 1, max_waiting: 3, ..cheap() };
        let (hasher, _) = hasher(&settings, pool.clone());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.verify(&"x".into(), None).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let refused = hasher.verify(&"x".into(), None).await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.retry_after()),
            (ErrorKind::Unavailable, Some(Duration::from_secs(1)))
        );
        assert_eq!(pool.0.lock().unwrap().len(), 1, "one drain for max_parallel = 1");
        let drain = pool.0.lock().unwrap().pop().unwrap();
        drain();
        for task in waiting {
            assert!(!task.await.unwrap().unwrap().matches);
        }
    }

    #[tokio::test]
    async fn a_pool_that_drops_its_job_is_unavailable_not_a_hang() {
        let pool = Arc::new(Held::default());
        let (hasher, _) = hasher(&cheap(), pool.clone());
        let task = tokio::spawn({
            let hasher = hasher.clone();
            async move { hasher.verify(&"x".into(), None).await }
        });
        tokio::task::yield_now().await;
        pool.0.lock().unwrap().clear();
        assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
