//! Notifications between nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use pulsestream_core::error::Result;
use pulsestream_core::ports::event_store::{PARTITIONS, Partition};
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};

use crate::database::{Database, Scope, query};
use crate::wire::Param;

/// Shortest time between two notifications of this node; what is appended meanwhile goes into one.
const COALESCE: Duration = Duration::from_millis(10);

/// Pause before a lost listener connects again: the first, and the longest after doubling.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Wakes whoever waits for events, on this node at once, on the others by NOTIFY.
///
/// Notifications are sent after the commit and not within the transaction that appends: NOTIFY takes a lock of the whole
/// server until its transaction is on disk, so appends would wait for each other. One that is lost, because its node died
/// between commit and notification, is made up for by `poll_interval`.
#[derive(Debug)]
pub(crate) struct Arrivals {
    signals: Arc<Signals>,
    /// Dropping it stops the tasks.
    stop: watch::Sender<bool>,
}

/// The arrivals in one partition.
#[derive(Debug, Default)]
struct Arrival {
    signal: Notify,
    /// How many there were, or may have been.
    count: AtomicU64,
}

#[derive(Debug)]
struct Signals {
    partitions: [Arrival; PARTITIONS as usize],
    /// Partitions that the other nodes have not been told about, one bit each.
    untold: AtomicU16,
    tell: Notify,
}

impl Arrivals {
    /// Starts to listen and to tell, until it is closed or dropped.
    pub(crate) fn start(database: &Arc<Database>) -> Arc<Self> {
        let signals = Arc::new(Signals {
            partitions: Default::default(),
            untold: AtomicU16::new(0),
            tell: Notify::new(),
        });
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(tell_others(database.clone(), signals.clone(), stopped.clone()));
        let told = signals.clone();
        let channel = events_channel(database.schema());
        tokio::spawn(listen(database.clone(), channel, stopped, move |heard| match heard {
            // Whatever came while nobody listened.
            Heard::Interrupted => told.wake_all(),
            Heard::Payload(numbers) => {
                numbers
                    .split(',')
                    .filter_map(|number| number.parse().ok())
                    .for_each(|number| told.wake(number));
            }
        }));
        Arc::new(Self { signals, stop })
    }

    /// Says that events were appended to a partition and committed.
    pub(crate) fn appended(&self, partition: Partition) {
        self.signals.wake(partition.number());
        self.signals.untold.fetch_or(1 << partition.number(), Ordering::AcqRel);
        self.signals.tell.notify_one();
    }

    /// Returns what completes at the next arrival, or when the store is closed.
    pub(crate) fn of(&self, partition: Partition) -> &Notify {
        &self.signals.partitions[usize::from(partition.number())].signal
    }

    /// Returns how many arrivals this node heard of. One that it does not count here completes what [`of`](Self::of) returned before.
    pub(crate) fn count(&self, partition: Partition) -> u64 {
        self.signals.partitions[usize::from(partition.number())].count.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.stop.send_replace(true);
        self.signals.wake_all();
    }
}

impl Signals {
    fn wake(&self, number: u16) {
        if let Some(arrival) = self.partitions.get(usize::from(number)) {
            arrival.count.fetch_add(1, Ordering::SeqCst);
            arrival.signal.notify_waiters();
        }
    }

    fn wake_all(&self) {
        (0..PARTITIONS).for_each(|number| self.wake(number));
    }
}

/// Name of the channel, at most 63 bytes because a schema has at most 48.
pub(crate) fn events_channel(schema: &str) -> String {
    format!("{schema}_events")
}

/// What appends of the host's own transactions send along; delivered when they commit.
pub(crate) fn events_payload(partition: Partition) -> String {
    partition.number().to_string()
}

/// Completes when the store is closed or dropped.
async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn tell_others(database: Arc<Database>, signals: Arc<Signals>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = signals.tell.notified() => {}
            () = until_stopped(&mut stopped) => return,
        }
        let untold = signals.untold.swap(0, Ordering::AcqRel);
        let numbers: Vec<String> = (0..PARTITIONS)
            .filter(|number| untold & (1 << number) != 0)
            .map(|number| number.to_string())
            .collect();
        if numbers.is_empty() {
            continue;
        }
        if let Err(error) =
            notify(&database, events_channel(database.schema()), vec![numbers.join(",")]).await
        {
            tracing::debug!(%error, "other nodes were not told of new events; they find them when they poll");
        }
        tokio::time::sleep(COALESCE).await;
    }
}

/// Sends notifications. They need not survive a crash, so their transaction does not wait for the disk.
pub(crate) async fn notify(database: &Arc<Database>, channel: String, payloads: Vec<String>) -> Result<()> {
    database
        .write("postgres.notify", Scope::Processor, move |connection| {
            let channel = Param::text(&channel);
            let payloads = Param::texts(payloads.iter().map(String::as_str));
            Box::pin(async move {
                query("select set_config('synchronous_commit', 'off', true)")
                    .execute(&mut *connection)
                    .await?;
                query("select pg_notify($1, payload) from unnest($2) as payload")
                    .bind(channel)
                    .bind(payloads)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
}

/// What a listener is told.
#[derive(Debug)]
pub(crate) enum Heard<'p> {
    /// The connection is new, or was lost: what was sent without one is missing.
    Interrupted,
    /// A notification.
    Payload(&'p str),
}

/// Listens on a channel, on a connection of its own, until it is told to stop; connects again as often as needed.
pub(crate) async fn listen(
    database: Arc<Database>,
    channel: String,
    mut stopped: watch::Receiver<bool>,
    mut hear: impl FnMut(Heard<'_>) + Send,
) {
    let pool = database.pool_for_listening();
    let mut pause = RECONNECT.0;
    while !database.is_closed() {
        let connected = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(&channel).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        if let Ok(mut listener) = connected.await {
            pause = RECONNECT.0;
            hear(Heard::Interrupted);
            loop {
                let received = tokio::select! {
                    received = listener.try_recv() => received,
                    () = until_stopped(&mut stopped) => return,
                };
                let Ok(Some(notification)) = received else { break };
                hear(Heard::Payload(notification.payload()));
            }
            hear(Heard::Interrupted);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECONNECT.1),
            () = until_stopped(&mut stopped) => return,
        }
    }
}
