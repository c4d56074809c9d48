//! The queue of recorded requests and the task that empties it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulsestream::PulseStream;
use pulsestream_core::env::Env;
use pulsestream_core::error::{Error, FieldError, Result};
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ingest::IngestOptions;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::layer::RecordRequests;
use crate::client::Network;

/// How requests are recorded.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Name of the service, 1 to 100 characters.
    pub service: String,
    /// Version of the service.
    pub version: Option<String>,
    /// Deployment environment.
    pub environment: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether the path of a request without a known route is recorded as it is. Paths may hold ids and secrets, and every new
    /// one is another endpoint, so by default such requests share the endpoint `unmatched`.
    pub record_raw_paths: bool,
    /// Events that may wait; one more is dropped and counted.
    pub queue_events: usize,
    /// Most events stored at once.
    pub batch_events: usize,
    /// How long an event may wait for others to be stored with it.
    pub flush_interval: Duration,
}

impl RecorderConfig {
    /// Creates the configuration for a service, with defaults.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            version: None,
            environment: None,
            trusted_proxies: Vec::new(),
            record_raw_paths: false,
            queue_events: 10_000,
            batch_events: 100,
            flush_interval: Duration::from_millis(200),
        }
    }

    fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut require = |holds: bool, pointer: &str, message: &str| {
            if !holds {
                fields.push(FieldError::new(pointer, "out_of_range", message));
            }
        };
        require(
            (1..=100).contains(&self.service.chars().count()),
            "/service",
            "must have 1 to 100 characters",
        );
        require(
            (1..=10_000_000).contains(&self.queue_events),
            "/queue_events",
            "must be between 1 and 10000000",
        );
        require((1..=10_000).contains(&self.batch_events), "/batch_events", "must be between 1 and 10000");
        require(self.flush_interval <= Duration::from_secs(60), "/flush_interval", "must be at most 1m");
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("record.config", fields)) }
    }
}

/// What became of recorded requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RecordedCounts {
    /// Stored.
    pub stored: u64,
    /// Dropped because the queue was full.
    pub dropped_queue_full: u64,
    /// Dropped because the recorder was shut down.
    pub dropped_closed: u64,
    /// Dropped because there was no randomness for an id.
    pub dropped_no_id: u64,
    /// Refused by the tenant's limits or by the store.
    pub dropped_refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    stored: AtomicU64,
    queue_full: AtomicU64,
    closed: AtomicU64,
    no_id: AtomicU64,
    refused: AtomicU64,
}

/// What the layers share with the recorder.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) config: RecorderConfig,
    queue: mpsc::Sender<Message>,
    counters: Counters,
}

#[derive(Debug)]
enum Message {
    Event(Box<Event>),
    /// Answers once everything before it is stored.
    Flush(oneshot::Sender<()>),
    Stop,
}

impl Shared {
    /// Puts an event into the queue, or counts why not. It is made only when there is room for it.
    pub(super) fn record(&self, make: impl FnOnce() -> Option<Event>) {
        let counter = match self.queue.try_reserve() {
            Ok(place) => match make() {
                Some(event) => {
                    place.send(Message::Event(Box::new(event)));
                    return;
                }
                None => &self.counters.no_id,
            },
            Err(mpsc::error::TrySendError::Full(())) => &self.counters.queue_full,
            Err(mpsc::error::TrySendError::Closed(())) => &self.counters.closed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records requests as events of one tenant. Dropping it loses what is still queued: call [`Self::shutdown`].
#[derive(Debug)]
pub struct RequestRecorder {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl RequestRecorder {
    /// Creates a recorder, and starts its task on the current tokio runtime.
    ///
    /// # Errors
    /// `Invalid` for a configuration that is wrong.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(ps: PulseStream, tenant: TenantId, config: RecorderConfig) -> Result<Self> {
        config.validate()?;
        let (queue, messages) = mpsc::channel(config.queue_events);
        let env = ps.env().clone();
        let shared = Arc::new(Shared { env, config, queue, counters: Counters::default() });
        let worker = Worker { ps, tenant, shared: shared.clone(), messages };
        Ok(Self { shared, worker: Mutex::new(Some(tokio::spawn(worker.run()))) })
    }

    /// Returns the layer to wrap services with; there can be many.
    pub fn layer(&self) -> RecordRequests {
        RecordRequests::new(self.shared.clone())
    }

    /// Returns what became of the requests so far.
    pub fn counts(&self) -> RecordedCounts {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RecordedCounts {
            stored: read(&counters.stored),
            dropped_queue_full: read(&counters.queue_full),
            dropped_closed: read(&counters.closed),
            dropped_no_id: read(&counters.no_id),
            dropped_refused: read(&counters.refused),
        }
    }

    /// Waits until everything recorded so far is stored or refused.
    pub async fn flush(&self) {
        let (done, finished) = oneshot::channel();
        if self.shared.queue.send(Message::Flush(done)).await.is_ok() {
            // The worker answers, or it is gone, and with it everything to wait for.
            let _ = finished.await;
        }
    }

    /// Stores what is queued and stops. Requests served later are counted as dropped.
    pub async fn shutdown(&self) {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(worker) = worker else { return };
        let _ = self.shared.queue.send(Message::Stop).await;
        if let Err(error) = worker.await {
            tracing::error!(%error, "the recorder of requests did not stop cleanly");
        }
    }
}

struct Worker {
    ps: PulseStream,
    tenant: TenantId,
    shared: Arc<Shared>,
    messages: mpsc::Receiver<Message>,
}

impl Worker {
    async fn run(mut self) {
        let most = self.shared.config.batch_events;
        let mut messages = Vec::with_capacity(most);
        while self.messages.recv_many(&mut messages, most).await > 0 {
            if messages.len() < most {
                self.gather(&mut messages).await;
            }
            if !self.work_off(&mut messages).await {
                break;
            }
        }
        // What was queued before the end of the queue was closed is stored too.
        self.messages.close();
        while self.messages.recv_many(&mut messages, most).await > 0 {
            self.work_off(&mut messages).await;
        }
    }

    /// Waits a little for more, unless somebody waits for what is there.
    async fn gather(&mut self, messages: &mut Vec<Message>) {
        let most = self.shared.config.batch_events;
        let deadline = tokio::time::sleep(self.shared.config.flush_interval);
        tokio::pin!(deadline);
        while messages.len() < most && messages.iter().all(|message| matches!(message, Message::Event(_))) {
            let room = most - messages.len();
            tokio::select! {
                () = &mut deadline => return,
                received = self.messages.recv_many(messages, room) => if received == 0 { return },
            }
        }
    }

    /// Stores what was received; returns whether to go on.
    async fn work_off(&self, messages: &mut Vec<Message>) -> bool {
        let (mut events, mut waiting, mut go_on) = (Vec::new(), Vec::new(), true);
        for message in messages.drain(..) {
            match message {
                Message::Event(event) => events.push(Ok(*event)),
                Message::Flush(done) => waiting.push(done),
                Message::Stop => go_on = false,
            }
        }
        if !events.is_empty() {
            self.store(events).await;
        }
        for done in waiting {
            let _ = done.send(());
        }
        go_on
    }

    async fn store(&self, events: Vec<Result<Event, Vec<FieldError>>>) {
        let (count, counters) = (events.len() as u64, &self.shared.counters);
        let outcome = self.ps.ingest().ingest_batch(self.tenant, events, IngestOptions::default()).await;
        let stored = match outcome {
            Ok(outcomes) => outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64,
            Err(error) => {
                tracing::warn!(%error, events = count, "recorded requests are dropped");
                0
            }
        };
        counters.stored.fetch_add(stored, Ordering::Relaxed);
        counters.refused.fetch_add(count - stored, Ordering::Relaxed);
    }
}
