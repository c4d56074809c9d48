//! Reads the log for whoever follows a tenant on this node.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use pulsestream_core::alerting::PROCESSOR;
use pulsestream_core::id::TenantId;
use pulsestream_core::memory::MemoryLiveBus;
use pulsestream_core::ports::alert_store::AlertStore;
use pulsestream_core::ports::event_store::{EventStore, Partition, Position, TailOptions, TailedEvent};
use pulsestream_core::ports::live_bus::{LiveBus, LiveMessage, LiveSubscription, LiveTopic};
use pulsestream_core::processing;
use pulsestream_core::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, watch};

/// How many events a slow follower may be behind before it loses the oldest.
const RING_MESSAGES: usize = 1_024;
/// The longest a reader waits before it looks whether anybody follows still.
const MAX_IDLE: Duration = Duration::from_secs(1);
/// How long a reader rests after a failure of the store.
const BACKOFF: Duration = Duration::from_millis(500);

/// The followers of this node, and a reader for each partition that has some.
#[derive(Debug)]
pub(crate) struct LiveEvents {
    store: Arc<dyn EventStore>,
    alerts: Arc<dyn AlertStore>,
    local: MemoryLiveBus,
    partitions: Vec<Reader>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Reader {
    /// Whether a task reads; held while that changes.
    is_running: Mutex<bool>,
    followers: AtomicUsize,
    /// How far the log was read.
    head: StdMutex<Position>,
}

/// Counts one follower until it is dropped.
#[derive(Debug)]
struct Following {
    events: Arc<LiveEvents>,
    partition: Partition,
}

impl LiveEvents {
    pub(crate) fn new(store: Arc<dyn EventStore>, alerts: Arc<dyn AlertStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            alerts,
            local: MemoryLiveBus::new(RING_MESSAGES),
            partitions: Partition::all().map(|_| Reader::default()).collect(),
            stop: watch::Sender::new(false),
        })
    }

    /// Follows the events of a tenant that are stored from now on.
    pub(crate) async fn subscribe(self: &Arc<Self>, tenant: TenantId) -> Result<EventFeed> {
        if *self.stop.borrow() {
            return Err(Error::new(ErrorKind::Closed, "live.subscribe", "the pipeline is closed"));
        }
        let partition = Partition::of(tenant);
        let reader = self.reader(partition);
        let mut is_running = reader.is_running.lock().await;
        let from = if *is_running { None } else { Some(self.end_of_log(partition).await?) };
        reader.followers.fetch_add(1, Ordering::AcqRel);
        let following = Following { events: self.clone(), partition };
        let messages = self.local.subscribe(tenant).await?;
        if let Some(position) = from {
            *is_running = true;
            tokio::spawn(self.clone().read(partition, position));
        }
        drop(is_running);
        Ok(EventFeed { messages, _following: following })
    }

    /// Returns the end of the log of a partition: what is appended after the call comes after it. The log is read from the
    /// furthest place that is known, which is that of an earlier reader or of the alerting processor.
    pub(crate) async fn end_of_log(&self, partition: Partition) -> Result<Position> {
        let known = *lock(&self.reader(partition).head);
        let checkpoint = self.alerts.checkpoint(PROCESSOR, partition).await?;
        let from = checkpoint.map_or(known, |checkpoint| checkpoint.position.max(known));
        let end = processing::end_of_log(&*self.store, partition, from).await?;
        self.note(partition, end);
        Ok(end)
    }

    /// Returns a receiver that learns when everything stops.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Ends all readers and feeds.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Reads a partition as long as somebody follows one of its tenants.
    async fn read(self: Arc<Self>, partition: Partition, mut position: Position) {
        let mut stopped = self.stop.subscribe();
        while !*stopped.borrow() && !self.is_over(partition).await {
            let pause = match self.store.tail(partition, position, TailOptions::default()).await {
                Ok(batch) => {
                    position = batch.next;
                    self.note(partition, position);
                    self.pass_on(batch.events).await;
                    if !batch.caught_up {
                        continue;
                    }
                    None
                }
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => {
                    tracing::warn!(%error, partition = partition.number(), "live events are delayed");
                    Some(BACKOFF)
                }
            };
            tokio::select! {
                _ = stopped.changed() => {}
                () = tokio::time::sleep(pause.unwrap_or(MAX_IDLE)) => {}
                // A failure shows when the log is read again.
                _ = self.store.wait_for_events(partition, position), if pause.is_none() => {}
            }
        }
    }

    /// Returns whether nobody follows any more, and then lets the next follower start a reader of its own.
    async fn is_over(&self, partition: Partition) -> bool {
        let reader = self.reader(partition);
        let mut is_running = reader.is_running.lock().await;
        *is_running = reader.followers.load(Ordering::Acquire) > 0;
        !*is_running
    }

    async fn pass_on(&self, events: Vec<TailedEvent>) {
        for tailed in events {
            if self.local.subscribers(tailed.tenant) == 0 {
                continue;
            }
            let body = match serde_json::to_string(&tailed.event) {
                Ok(body) => body.into_boxed_str(),
                Err(error) => {
                    tracing::warn!(%error, "an event cannot be shown live");
                    continue;
                }
            };
            let message = LiveMessage { topic: LiveTopic::Event, body };
            if let Err(error) = self.local.publish(tailed.tenant, vec![message]).await {
                tracing::warn!(%error, "an event cannot be shown live");
            }
        }
    }

    fn reader(&self, partition: Partition) -> &Reader {
        &self.partitions[usize::from(partition.number())]
    }

    fn note(&self, partition: Partition, position: Position) {
        let mut head = lock(&self.reader(partition).head);
        *head = (*head).max(position);
    }
}

/// The events of one tenant from now on.
#[derive(Debug)]
pub(crate) struct EventFeed {
    pub(crate) messages: Box<dyn LiveSubscription>,
    _following: Following,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.events.reader(self.partition).followers.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
