//! The connection that everybody shares, made anew when it breaks.
//!
//! The connection manager of the redis crate is not used, because it does not tell a command that was never sent from one
//! whose reply was lost, and keeps a connection that has gone silent without an end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pulsestream_core::error::{Error, ErrorKind, Result};
use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, Value,
};

use crate::config::RedisConfig;
use crate::durability::ServerFacts;
use crate::error::{Effect, code, failed, is_lost, not_connected, spoils_connection, unexpected};
use crate::script::Invocation;

/// Requests that wait to be written; more wait at their caller.
const PIPELINE_REQUESTS: usize = 512;

/// What is sent.
#[derive(Debug)]
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    Pipeline(&'a redis::Pipeline),
    Script(Invocation<'a>),
}

/// Cheap to clone; every clone shares the connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    address: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    current: RwLock<Option<Current>>,
    facts: RwLock<Option<Arc<ServerFacts>>>,
    /// Held while connecting, so that there is one attempt at a time.
    connecting: tokio::sync::Mutex<u64>,
    /// How many attempts failed, and how the last one did.
    failures: Mutex<(u64, Option<RedisError>)>,
}

#[derive(Clone)]
struct Current {
    number: u64,
    connection: MultiplexedConnection,
    facts: Arc<ServerFacts>,
}

impl Link {
    /// Reads the settings; does not connect.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self> {
        let invalid = |error: &RedisError| not_connected(error, "(in the url)", "redis.config");
        let info = config.url.as_str().into_connection_info().map_err(|error| invalid(&error))?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let address = info.addr().to_string();
        install_tls(info.addr());
        let client = Client::open(info).map_err(|error| invalid(&error))?;
        Ok(Self(Arc::new(Inner {
            client,
            address,
            connect_timeout: config.connect_timeout(),
            response_timeout: config.response_timeout(),
            current: RwLock::new(None),
            facts: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(0),
            failures: Mutex::new((0, None)),
        })))
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.0.response_timeout
    }

    /// What the server said about itself when the present connection was made; connects when there is none.
    pub(crate) async fn facts(&self, operation: &'static str) -> Result<Arc<ServerFacts>> {
        self.connected().await.map(|current| current.facts).map_err(|error| self.explain(&error, operation))
    }

    /// What the server said when the last connection was made.
    pub(crate) fn known_facts(&self) -> Option<Arc<ServerFacts>> {
        self.0.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request and waits for its reply.
    ///
    /// When the connection breaks on the way, a request that may be repeated is sent once more on a new one.
    pub(crate) async fn send<T: FromRedisValue>(
        &self,
        request: Request<'_>,
        effect: Effect,
        operation: &'static str,
    ) -> Result<T> {
        self.send_if(|_| Ok(()), request, effect, operation).await
    }

    /// Sends a request to a server that `is_good`, judged for each connection that may carry it.
    pub(crate) async fn send_if<T: FromRedisValue>(
        &self,
        is_good: impl Fn(&ServerFacts) -> Result<()> + Send,
        request: Request<'_>,
        effect: Effect,
        operation: &'static str,
    ) -> Result<T> {
        let mut may_repeat = effect != Effect::Once;
        let mut was_judged = false;
        let mut lost: Option<RedisError> = None;
        let value = loop {
            let current = match self.connected().await {
                Ok(current) => current,
                Err(error) => {
                    return Err(match lost {
                        // The first attempt may have had its effect.
                        Some(lost) if effect != Effect::Read => failed(&lost, effect, operation),
                        _ => self.explain(&error, operation),
                    });
                }
            };
            if let Err(error) = is_good(&current.facts) {
                // What the server said may be long ago: a new connection asks it again.
                self.forget(current.number);
                if !std::mem::replace(&mut was_judged, true) {
                    continue;
                }
                return Err(match lost {
                    Some(lost) if effect != Effect::Read => failed(&lost, effect, operation),
                    _ => error,
                });
            }
            match perform(&mut current.connection.clone(), &request).await {
                Ok(value) => break value,
                Err(error) => {
                    if spoils_connection(&error) {
                        self.forget(current.number);
                    }
                    if !(may_repeat && is_lost(&error)) {
                        let open = lost.filter(|_| effect != Effect::Read);
                        return Err(failed(open.as_ref().unwrap_or(&error), effect, operation));
                    }
                    may_repeat = false;
                    lost = Some(error);
                }
            }
        };
        redis::from_redis_value(value).map_err(|error| unexpected(operation, error))
    }

    /// Opens a connection of its own, for commands that block.
    pub(crate) async fn dedicated(
        &self,
        response_timeout: Duration,
        operation: &'static str,
    ) -> Result<MultiplexedConnection> {
        self.open(response_timeout).await.map_err(|error| self.explain(&error, operation))
    }

    /// Opens a connection that receives published messages.
    pub(crate) async fn subscriber(&self, operation: &'static str) -> Result<PubSub> {
        match tokio::time::timeout(self.0.connect_timeout, self.0.client.get_async_pubsub()).await {
            Ok(outcome) => outcome.map_err(|error| self.explain(&error, operation)),
            Err(_) => Err(Error::new(ErrorKind::Unavailable, operation, "cannot connect to redis in time")
                .with_context("address", self.address())),
        }
    }

    fn explain(&self, error: &RedisError, operation: &'static str) -> Error {
        not_connected(error, &self.0.address, operation)
    }

    /// Returns the shared connection, or makes it. Who waits while another's attempt fails shares that failure, so that nobody
    /// waits for longer than two attempts take.
    async fn connected(&self) -> RedisResult<Current> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let failures_before = self.failures().0;
        let mut number = self.0.connecting.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        if let (failures, Some(error)) = self.failures()
            && failures != failures_before
        {
            return Err(error);
        }
        match self.connect().await {
            Ok((connection, facts)) => {
                *number += 1;
                let facts = Arc::new(facts);
                *self.0.facts.write().unwrap_or_else(PoisonError::into_inner) = Some(facts.clone());
                let current = Current { number: *number, connection, facts };
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current.clone());
                Ok(current)
            }
            Err(error) => {
                let mut failures = self.0.failures.lock().unwrap_or_else(PoisonError::into_inner);
                *failures = (failures.0 + 1, Some(error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> RedisResult<(MultiplexedConnection, ServerFacts)> {
        let mut connection = self.open(self.0.response_timeout).await?;
        let facts = ServerFacts::read(&mut connection).await?;
        Ok((connection, facts))
    }

    async fn open(&self, response_timeout: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(PIPELINE_REQUESTS);
        self.0.client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn current(&self) -> Option<Current> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failures(&self) -> (u64, Option<RedisError>) {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops the connection unless it was replaced already; requests in flight on it go on.
    fn forget(&self, number: u64) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.number == number) {
            *current = None;
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.0.address).finish_non_exhaustive()
    }
}

async fn perform(connection: &mut MultiplexedConnection, request: &Request<'_>) -> RedisResult<Value> {
    match request {
        Request::Command(command) => command.query_async(connection).await,
        Request::Pipeline(pipeline) => pipeline.query_async(connection).await,
        Request::Script(invocation) => match invocation.by_hash().query_async(connection).await {
            // Nothing was carried out: the server has to know a script to run it.
            Err(error) if code(&error).as_deref() == Some("NOSCRIPT") => {
                invocation.by_text().query_async(connection).await
            }
            outcome => outcome,
        },
    }
}

/// rustls needs to know its cryptography; without a choice of the application's it is aws-lc-rs.
#[cfg(feature = "tls")]
fn install_tls(address: &redis::ConnectionAddr) {
    if matches!(address, redis::ConnectionAddr::TcpTls { .. })
        && rustls::crypto::CryptoProvider::get_default().is_none()
    {
        // Another thread may have chosen in the meantime, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

#[cfg(not(feature = "tls"))]
fn install_tls(_: &redis::ConnectionAddr) {}
