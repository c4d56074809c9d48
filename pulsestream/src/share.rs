//! Which partitions this process works on: its share of those that all processes on the same stores have.
//!
//! Each process holds one of a fixed number of seats for as long as it lives. With `n` seats taken, a process holds at most
//! `16 / n` partitions, rounded up, and gives back what is more, so that one that joins gets its share and what a dead one held is
//! taken by the others as soon as its leases end. Only leases decide who works: seats only spread the work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pulsestream_core::Result;
use pulsestream_core::env::Env;
use pulsestream_core::ports::coordinator::{Coordinator, Lease};
use pulsestream_core::ports::event_store::{PARTITIONS, Partition};
use pulsestream_core::text::Text;
use tokio::sync::Mutex;

/// The most processes that share work; each of more than 16 may hold one partition.
const SEATS: usize = 64;

/// Decides for all workers of this process.
#[derive(Debug)]
pub(crate) struct Share {
    coordinator: Arc<dyn Coordinator>,
    env: Env,
    /// What the resources of the partitions start with: the name of the processor.
    processor: Text,
    holder: Text,
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seat: Option<Lease>,
    /// When the leases were read, in monotonic time.
    read_at: Option<Duration>,
    most: usize,
    /// Partitions that another process holds.
    taken: BTreeSet<u16>,
    /// Partitions that this process holds or tries to get.
    ours: BTreeSet<u16>,
}

/// What a worker should do about its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Work, or try to get it.
    Work,
    /// Give it back, because this process has more than its share.
    GiveBack,
    /// Leave it to others.
    Leave,
}

impl Share {
    /// The share of one processor's partitions; `ttl` is how long a seat outlives its process.
    pub(crate) fn new(
        coordinator: Arc<dyn Coordinator>,
        env: Env,
        processor: Text,
        holder: Text,
        ttl: Duration,
    ) -> Self {
        Self { coordinator, env, processor, holder, ttl, state: Mutex::default() }
    }

    /// Returns the name of the processor.
    pub(crate) fn processor(&self) -> &str {
        &self.processor
    }

    /// Decides about a partition.
    pub(crate) async fn turn(&self, partition: Partition) -> Result<Turn> {
        let mut state = self.state.lock().await;
        let now = self.env.monotonic();
        if state.read_at.is_none_or(|read_at| now.saturating_sub(read_at) >= self.ttl / 4) {
            self.read(&mut state).await?;
            state.read_at = Some(now);
        }
        let number = partition.number();
        if state.ours.contains(&number) {
            return Ok(if state.ours.len() > state.most { Turn::GiveBack } else { Turn::Work });
        }
        if state.taken.contains(&number) || state.ours.len() >= state.most {
            return Ok(Turn::Leave);
        }
        state.ours.insert(number);
        Ok(Turn::Work)
    }

    /// Learns that this process does not have a partition.
    pub(crate) async fn without(&self, partition: Partition) {
        self.state.lock().await.ours.remove(&partition.number());
    }

    /// Leaves the seat, so that the others need not wait until it ends.
    pub(crate) async fn leave(&self) -> Result<()> {
        let seat = self.state.lock().await.seat.take();
        match seat {
            Some(seat) => self.coordinator.release(&seat).await,
            None => Ok(()),
        }
    }

    async fn read(&self, state: &mut State) -> Result<()> {
        let prefix = format!("seat/{}/", self.processor);
        let seats = self.coordinator.leases(&prefix).await?;
        let resource = match &state.seat {
            Some(seat) => Some(seat.resource.to_string()),
            None => (0..SEATS)
                .map(|number| format!("{prefix}{number:02}"))
                .find(|name| seats.iter().all(|seat| seat.resource.as_str() != name)),
        };
        state.seat = match resource {
            Some(resource) => self.coordinator.acquire(&resource, &self.holder, self.ttl).await?,
            None => None,
        };
        let others = seats.iter().filter(|seat| seat.holder != self.holder).count();
        state.most = usize::from(PARTITIONS).div_ceil(others + 1);
        let prefix = format!("{}/", self.processor);
        let held = self.coordinator.leases(&prefix).await?;
        let others = held.iter().filter(|lease| lease.holder != self.holder);
        state.taken = others.filter_map(|lease| lease.resource.strip_prefix(&prefix)?.parse().ok()).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pulsestream_core::alerting::PROCESSOR;
    use pulsestream_core::at_rest::KeyValueCoordinator;
    use pulsestream_core::env::ManualClock;
    use pulsestream_core::memory::MemoryKeyValue;
    use pulsestream_core::time::Timestamp;

    use super::*;

    const TTL: Duration = Duration::from_secs(6);

    struct Cluster {
        coordinator: Arc<dyn Coordinator>,
        env: Env,
        clock: Arc<ManualClock>,
    }

    struct Node {
        share: Share,
        leases: Vec<Option<Lease>>,
    }

    impl Cluster {
        fn new() -> Self {
            let (env, clock) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
            let coordinator =
                Arc::new(KeyValueCoordinator::new(Arc::new(MemoryKeyValue::new()), env.clone()));
            Self { coordinator, env, clock }
        }

        fn node(&self, name: &str) -> Node {
            let share =
                Share::new(self.coordinator.clone(), self.env.clone(), PROCESSOR.into(), name.into(), TTL);
            Node { share, leases: vec![None; usize::from(PARTITIONS)] }
        }

        /// Each node asks for each partition once, as its workers do.
        async fn round(&self, nodes: &mut [&mut Node]) {
            for node in nodes {
                for partition in Partition::all() {
                    let place = &mut node.leases[usize::from(partition.number())];
                    match node.share.turn(partition).await.unwrap() {
                        Turn::Work => {
                            let resource = format!("{PROCESSOR}/{}", partition.number());
                            *place =
                                self.coordinator.acquire(&resource, &node.share.holder, TTL).await.unwrap();
                        }
                        Turn::GiveBack => self.coordinator.release(&place.take().unwrap()).await.unwrap(),
                        Turn::Leave => *place = None,
                    }
                    if place.is_none() {
                        node.share.without(partition).await;
                    }
                }
            }
            self.clock.advance(TTL / 3);
        }
    }

    impl Node {
        fn count(&self) -> usize {
            self.leases.iter().flatten().count()
        }
    }

    #[tokio::test]
    async fn the_partitions_are_spread_over_those_who_live() {
        let cluster = Cluster::new();
        let (mut a, mut b, mut c) = (cluster.node("a"), cluster.node("b"), cluster.node("c"));
        cluster.round(&mut [&mut a]).await;
        assert_eq!(a.count(), 16, "one node has all");
        for _ in 0..3 {
            cluster.round(&mut [&mut a, &mut b, &mut c]).await;
        }
        let mut counts = [a.count(), b.count(), c.count()];
        counts.sort_unstable();
        assert_eq!(counts, [4, 6, 6], "each partition has one holder and nobody more than its share");
        // `a` dies without a word; its leases and its seat end.
        for _ in 0..4 {
            cluster.round(&mut [&mut b, &mut c]).await;
        }
        assert_eq!([b.count(), c.count()], [8, 8]);
        // `b` leaves in order.
        for lease in b.leases.iter().flatten() {
            cluster.coordinator.release(lease).await.unwrap();
        }
        b.share.leave().await.unwrap();
        cluster.round(&mut [&mut c]).await;
        assert_eq!(c.count(), 16, "at once");
    }
}
