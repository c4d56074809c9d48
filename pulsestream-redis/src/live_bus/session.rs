//! The task that owns the subscribing connection.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::mailbox::Mailbox;
use super::{SUBSCRIBE_OPERATION, Subscribers, read_message};
use crate::config::LiveConfig;
use crate::connect::Link;
use crate::error::{Effect, failed};
use crate::keys::Keys;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) enum Command {
    /// Answers when the server has confirmed.
    Subscribe(TenantId, oneshot::Sender<Result<()>>),
    /// The last subscriber of the tenant is gone.
    Unsubscribe(TenantId),
}

pub(super) struct Listener {
    link: Link,
    keys: Keys,
    subscribers: Arc<Subscribers>,
    keepalive: Duration,
    session: Option<Session>,
    /// How long to wait before the next attempt to connect.
    pause: Duration,
}

/// A connection and what it is subscribed to.
struct Session {
    sink: PubSubSink,
    stream: PubSubStream,
    tenants: HashSet<TenantId>,
}

enum Happening {
    Command(Command),
    Message(Msg),
    /// The connection was silent for a while.
    Silence,
    Lost,
    /// There is no connection, there are subscribers, and it is time to try again.
    TryAgain,
    Closed,
}

impl Listener {
    pub(super) fn new(link: Link, keys: Keys, config: &LiveConfig, subscribers: Arc<Subscribers>) -> Self {
        let keepalive = Duration::from_millis(config.keepalive_interval_ms);
        Self { link, keys, subscribers, keepalive, session: None, pause: FIRST_PAUSE }
    }

    /// Runs until the bus is dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            match self.next(&mut commands).await {
                Happening::Closed => return,
                Happening::Command(Command::Subscribe(tenant, reply)) => {
                    let outcome = self.subscribe(tenant).await;
                    // Nobody waits for it any more: the subscription was dropped, and says so in a command of its own.
                    let _ = reply.send(outcome);
                }
                Happening::Command(Command::Unsubscribe(tenant)) => self.unsubscribe(tenant).await,
                Happening::Message(message) => self.deliver(&message),
                Happening::Silence => self.ask_for_life().await,
                Happening::Lost => self.lose("the connection was closed"),
                Happening::TryAgain => self.resubscribe().await,
            }
        }
    }

    async fn next(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Happening {
        let command = async { commands.recv().await.map_or(Happening::Closed, Happening::Command) };
        match &mut self.session {
            Some(session) => tokio::select! {
                command = command => command,
                message = session.stream.next() => message.map_or(Happening::Lost, Happening::Message),
                () = sleep(self.keepalive) => Happening::Silence,
            },
            None if self.subscribers.tenants().is_empty() => command.await,
            None => tokio::select! {
                command = command => command,
                () = sleep(self.pause) => Happening::TryAgain,
            },
        }
    }

    async fn subscribe(&mut self, tenant: TenantId) -> Result<()> {
        if self.session.is_none() {
            self.session = Some(self.connect().await?);
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        if session.tenants.contains(&tenant) {
            return Ok(());
        }
        let confirmation = session.sink.subscribe(self.keys.live(tenant));
        match timeout(self.link.response_timeout(), confirmation).await {
            Ok(Ok(())) => {
                session.tenants.insert(tenant);
                Ok(())
            }
            Ok(Err(error)) => Err(self.give_up(&error)),
            Err(_) => Err(self.give_up(&timed_out())),
        }
    }

    async fn unsubscribe(&mut self, tenant: TenantId) {
        let Some(session) = &mut self.session else { return };
        if self.subscribers.count(tenant) > 0 || !session.tenants.remove(&tenant) {
            return;
        }
        if session.tenants.is_empty() {
            self.session = None;
            return;
        }
        let confirmation = session.sink.unsubscribe(self.keys.live(tenant));
        match timeout(self.link.response_timeout(), confirmation).await {
            Ok(Ok(())) => {}
            _ => self.lose("an unsubscription was not confirmed"),
        }
    }

    fn deliver(&mut self, message: &Msg) {
        self.pause = FIRST_PAUSE;
        let Some(tenant) = self.keys.live_tenant(message.get_channel_name()) else { return };
        match read_message(message.get_payload_bytes()) {
            Some(message) => self.subscribers.deliver(tenant, &message),
            None => {
                tracing::warn!(%tenant, "a live message of another version was passed over");
                self.subscribers.miss(tenant);
            }
        }
    }

    /// A connection whose other end vanished without a word looks like a quiet one.
    async fn ask_for_life(&mut self) {
        let Some(session) = &mut self.session else { return };
        match timeout(self.link.response_timeout(), session.sink.ping::<Value>()).await {
            Ok(Ok(_)) => {}
            _ => self.lose("a ping was not answered"),
        }
    }

    async fn resubscribe(&mut self) {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        for tenant in self.subscribers.tenants() {
            if let Err(error) = self.subscribe(tenant).await {
                tracing::debug!(%error, "the live bus is not connected");
                return;
            }
        }
        self.pause = FIRST_PAUSE;
        tracing::info!("the live bus is connected again");
    }

    async fn connect(&self) -> Result<Session> {
        let (sink, stream) = self.link.subscriber(SUBSCRIBE_OPERATION).await?.split();
        Ok(Session { sink, stream, tenants: HashSet::new() })
    }

    fn give_up(&mut self, error: &RedisError) -> Error {
        self.lose("a subscription was not confirmed");
        let error = failed(error, Effect::Read, SUBSCRIBE_OPERATION);
        if error.kind() == ErrorKind::Timeout {
            let message = error.message().to_owned();
            return Error::new(ErrorKind::Unavailable, SUBSCRIBE_OPERATION, message).with_source(error);
        }
        error
    }

    fn lose(&mut self, cause: &str) {
        if self.session.take().is_some() {
            tracing::warn!(cause, "the live bus lost its connection: messages are missed until it is back");
            self.subscribers.for_each(|mailbox: &Mailbox| mailbox.miss(1));
        }
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
