//! The live bus: messages fanned out to every node by NOTIFY.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use pulsestream_core::error::{Error, ErrorKind, Result};
use pulsestream_core::id::TenantId;
use pulsestream_core::memory::MemoryLiveBus;
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription, LiveTopic};
use tokio::sync::{mpsc, watch};

use crate::database::Database;
use crate::listen::{Heard, listen, notify};

const OPERATION: &str = "live_bus.publish";

/// Most bytes of a body in one notification; PostgreSQL takes less than 8,000 with the header.
const CHUNK_BYTES: usize = 7_800;

/// Longest body that goes to other nodes.
const MAX_BODY_BYTES: usize = 16 << 20;

/// Messages from other nodes that wait to be handed to the subscribers here.
const INBOX_MESSAGES: usize = 1_024;

/// Hands messages to the subscribers on this node at once, and to those on other nodes by NOTIFY.
///
/// A body that is too long for one notification is split; those of one transaction arrive together and in order.
#[derive(Debug)]
pub struct PostgresLiveBus {
    database: Arc<Database>,
    local: Arc<MemoryLiveBus>,
    /// Tells this node's notifications from those of others.
    sender: u64,
    next_number: AtomicU64,
    /// Dropping it stops the tasks.
    _stop: watch::Sender<bool>,
}

impl PostgresLiveBus {
    pub(crate) async fn open(database: Arc<Database>, ring_messages: usize) -> Result<Arc<Self>> {
        let sender = u64::from_be_bytes(database.env().random_bytes()?);
        let local = Arc::new(MemoryLiveBus::new(ring_messages));
        let (stop, stopped) = watch::channel(false);
        let (inbox, mut received) = mpsc::channel::<(TenantId, LiveMessage)>(INBOX_MESSAGES);
        let subscribers = Arc::downgrade(&local);
        tokio::spawn(async move {
            while let Some((tenant, message)) = received.recv().await {
                let Some(local) = subscribers.upgrade() else { return };
                if let Err(error) = local.publish(tenant, vec![message]).await {
                    tracing::warn!(%error, "a live message was not handed to the subscribers here");
                }
            }
        });
        let mut pieces = Pieces::default();
        tokio::spawn(listen(database.clone(), live_channel(database.schema()), stopped, move |heard| {
            let payload = match heard {
                Heard::Interrupted => {
                    pieces = Pieces::default();
                    return;
                }
                Heard::Payload(payload) => payload,
            };
            let whole =
                Part::parse(payload).filter(|part| part.sender != sender).and_then(|part| pieces.add(part));
            if let Some(message) = whole
                && inbox.try_send(message).is_err()
            {
                tracing::warn!("live messages come faster than subscribers here take them; one was dropped");
            }
        }));
        let next_number = AtomicU64::new(0);
        Ok(Arc::new(Self { database, local, sender, next_number, _stop: stop }))
    }
}

#[async_trait]
impl LiveBus for PostgresLiveBus {
    async fn publish(&self, tenant: TenantId, messages: Vec<LiveMessage>) -> Result<()> {
        self.database.ensure_open(OPERATION)?;
        let mut payloads = Vec::with_capacity(messages.len());
        for message in &messages {
            if message.body.len() > MAX_BODY_BYTES {
                return Err(Error::new(ErrorKind::TooLarge, OPERATION, "the message is too long")
                    .with_context("bytes", message.body.len())
                    .with_context("max_bytes", MAX_BODY_BYTES));
            }
            // The number also keeps the server from joining equal notifications of one transaction into one.
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            payloads.extend(Part::split(self.sender, tenant, number, message).map(|part| part.to_string()));
        }
        self.local.publish(tenant, messages).await?;
        if payloads.is_empty() {
            return Ok(());
        }
        notify(&self.database, live_channel(self.database.schema()), payloads).await
    }

    async fn subscribe(&self, tenant: TenantId) -> Result<Box<dyn LiveSubscription>> {
        self.database.ensure_open("live_bus.subscribe")?;
        self.local.subscribe(tenant).await
    }

    fn subscribers(&self, tenant: TenantId) -> usize {
        self.local.subscribers(tenant)
    }
}

fn live_channel(schema: &str) -> String {
    format!("{schema}_live")
}

/// One notification: a message or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part<'b> {
    sender: u64,
    tenant: TenantId,
    number: u64,
    index: usize,
    /// How many parts the message has.
    count: usize,
    topic: LiveTopic,
    body: &'b str,
}

/// Sender and number with 16 hexadecimal digits, tenant with 32, index and count with 4, topic with 1 letter.
const HEADER_BYTES: usize = 16 + 16 + 32 + 4 + 4 + 1;

impl<'b> Part<'b> {
    fn split(
        sender: u64,
        tenant: TenantId,
        number: u64,
        message: &'b LiveMessage,
    ) -> impl Iterator<Item = Self> {
        let bodies = pieces_of(&message.body);
        let (count, topic) = (bodies.len(), message.topic);
        bodies.into_iter().enumerate().map(move |(index, body)| Self {
            sender,
            tenant,
            number,
            index,
            count,
            topic,
            body,
        })
    }

    fn parse(payload: &'b str) -> Option<Self> {
        let (header, body) = payload.split_at_checked(HEADER_BYTES)?;
        let hex = |from: usize, length: usize| u64::from_str_radix(header.get(from..from + length)?, 16).ok();
        let topic = match header.get(HEADER_BYTES - 1..)? {
            "e" => LiveTopic::Event,
            "a" => LiveTopic::Alert,
            _ => return None,
        };
        Some(Self {
            sender: hex(0, 16)?,
            number: hex(16, 16)?,
            tenant: TenantId::from_u128(u128::from_str_radix(header.get(32..64)?, 16).ok()?),
            index: usize::try_from(hex(64, 4)?).ok()?,
            count: usize::try_from(hex(68, 4)?).ok()?,
            topic,
            body,
        })
    }
}

impl std::fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let topic = match self.topic {
            LiveTopic::Event => 'e',
            LiveTopic::Alert => 'a',
        };
        write!(
            f,
            "{:016x}{:016x}{:032x}{:04x}{:04x}{topic}{}",
            self.sender,
            self.number,
            self.tenant.as_u128(),
            self.index,
            self.count,
            self.body
        )
    }
}

/// Splits a text at character boundaries; an empty text is one piece.
fn pieces_of(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > CHUNK_BYTES {
        let (piece, later) = rest.split_at(rest.floor_char_boundary(CHUNK_BYTES));
        pieces.push(piece);
        rest = later;
    }
    pieces.push(rest);
    pieces
}

/// The message that is being put together; the parts of one come without others between them.
#[derive(Debug, Default)]
struct Pieces {
    message: Option<(u64, u64)>,
    body: String,
    next: usize,
}

impl Pieces {
    /// Adds a part and returns the message when it is whole.
    fn add(&mut self, part: Part<'_>) -> Option<(TenantId, LiveMessage)> {
        let message = Some((part.sender, part.number));
        if part.index == 0 {
            *self = Self { message, ..Self::default() };
        } else if self.message != message || self.next != part.index {
            // The beginning was lost with an earlier connection.
            *self = Self::default();
            return None;
        }
        self.body.push_str(part.body);
        self.next += 1;
        (self.next == part.count).then(|| {
            let body = std::mem::take(self).body.into_boxed_str();
            (part.tenant, LiveMessage { topic: part.topic, body })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bodies_are_split_and_put_together() {
        for body in [String::new(), "{}".to_owned(), "\u{e9}x".repeat(9_000), "a".repeat(CHUNK_BYTES * 2)] {
            let message = LiveMessage { topic: LiveTopic::Alert, body: body.clone().into() };
            let tenant = TenantId::from_name("a");
            let payloads: Vec<String> =
                Part::split(7, tenant, 9, &message).map(|part| part.to_string()).collect();
            assert!(payloads.iter().all(|payload| payload.len() < 8_000));
            let mut pieces = Pieces::default();
            let whole: Vec<_> =
                payloads.iter().filter_map(|payload| pieces.add(Part::parse(payload).unwrap())).collect();
            assert_eq!(whole, [(tenant, message)]);
        }
    }

    #[test]
    fn a_message_without_its_beginning_is_passed_over() {
        let message = LiveMessage { topic: LiveTopic::Event, body: "b".repeat(CHUNK_BYTES * 3).into() };
        let tenant = TenantId::from_name("a");
        let parts: Vec<_> = Part::split(1, tenant, 1, &message).collect();
        let mut pieces = Pieces::default();
        assert!(parts[1..].iter().all(|part| pieces.add(part.clone()).is_none()));
        assert!(Part::parse("short").is_none());
    }
}
