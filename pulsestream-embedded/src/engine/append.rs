//! The leader of a group commit: duplicates out, into the log, visible.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::Partition;

use super::{Engine, MAX_FROZEN, held, partition_index};
use crate::error::{Fault, FaultResult};
use crate::hot::{Batch, EncodedBatch, Generation};
use crate::part::Rows;
use crate::record::Record;
use crate::segment::{IdOrder, Segment};
use crate::wal::{Lead, Wal, frame_bytes};

/// A commit that takes longer than this must not block a caller's thread.
const SLOW_COMMIT: Duration = Duration::from_millis(2);

/// An append on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: EncodedBatch,
    /// Whether the acknowledgement must survive a power loss.
    pub(crate) durable: bool,
}

/// Hashes of ids are random already.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "half of a random value is random")]
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

type IdSet = HashSet<u128, BuildHasherDefault<AsIs>>;

/// The ids of a generation, which is in no segment yet.
#[derive(Debug)]
struct FreshIds {
    generation: Arc<Generation>,
    hashes: IdSet,
    /// Between which orders the ids of each tenant are, and those of appends that failed.
    ranges: HashMap<TenantId, RangeInclusive<IdOrder>>,
}

impl FreshIds {
    fn new(generation: Arc<Generation>, capacity: usize) -> Self {
        let hashes = IdSet::with_capacity_and_hasher(capacity, BuildHasherDefault::default());
        Self { generation, hashes, ranges: HashMap::new() }
    }

    /// Returns the range of a tenant, to be widened before its ids are added.
    fn range(&mut self, tenant: TenantId) -> &mut RangeInclusive<IdOrder> {
        self.ranges.entry(tenant).or_insert(IdOrder::NONE)
    }
}

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct Leader {
    engine: Arc<Engine>,
    pub(crate) wal: Wal,
    /// Ids of the events that are in no segment yet, by generation, oldest first.
    ids: Vec<FreshIds>,
    /// A moving average of the time a commit takes.
    commit_time: Duration,
}

impl Leader {
    /// Takes over what recovery found: the generations, the last of which takes appends.
    pub(crate) fn new(engine: Arc<Engine>, wal: Wal) -> Self {
        let mut ids = Vec::new();
        for generation in &engine.view().generations {
            let mut fresh = FreshIds::new(Arc::clone(generation), 0);
            for batch in generation.batches_from(0) {
                for row in 0..batch.len() {
                    if let Some((_, id)) = Record::decode_place(batch.record(row)) {
                        IdOrder::of(id).widen(fresh.range(batch.tenant));
                        fresh.hashes.insert(engine.hasher.wide_hash(batch.tenant, id));
                    }
                }
            }
            ids.push(fresh);
        }
        Self { engine, wal, ids, commit_time: Duration::ZERO }
    }

    /// Starts a new generation, so that the current one can be sealed.
    pub(crate) fn freeze(&mut self) {
        let is_empty = self.ids.last().is_some_and(|fresh| fresh.generation.rows() == 0);
        if is_empty {
            return;
        }
        let generation = Arc::new(Generation::new(self.wal.position()));
        // As large as it gets, so that no append waits while it grows.
        self.ids.push(FreshIds::new(Arc::clone(&generation), self.engine.config.seal_events));
        self.engine.change_view(|view| view.generations.push(generation));
        self.engine.request_seal();
    }

    /// Forgets what segments hold now. The sealing thread does not do this itself: it must never wait for the leader, who may
    /// wait for it.
    pub(crate) fn catch_up(&mut self) {
        let sealed = self.engine.sealed.load(Ordering::Acquire);
        if self.ids.first().is_some_and(|fresh| fresh.generation.start() >= sealed) {
            return;
        }
        self.ids.retain(|fresh| fresh.generation.start() >= sealed);
        if let Err(fault) = self.wal.release(sealed) {
            tracing::warn!(%fault, "cannot reuse a log file");
        }
    }

    fn commit_group(&mut self, jobs: Vec<Job>) -> FaultResult<Vec<Vec<bool>>> {
        self.engine.ensure_writable()?;
        self.wait_for_room()?;
        self.catch_up();
        let view = self.engine.view();
        let known = find_sealed(&self.engine, &view.segments, &jobs)?;
        let sync = jobs.iter().any(|job| job.durable);
        let mut added = Vec::new();
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut batches = Vec::with_capacity(jobs.len());
        let outcome = (|| {
            for (job, known) in jobs.into_iter().zip(known) {
                let stored = self.select(&job.batch, known, &mut added)?;
                let batch = job.batch.keep(&stored);
                outcomes.push(stored);
                if batch.len() > 0 {
                    batches.push(batch);
                }
            }
            self.write(&mut batches, sync)
        })();
        if let Err(fault) = outcome {
            if let Some(active) = self.ids.last_mut() {
                added.iter().for_each(|hash| {
                    active.hashes.remove(hash);
                });
            }
            return Err(fault);
        }
        self.publish(batches);
        Ok(outcomes)
    }

    /// Says for each event whether it is new, and remembers those that are; `known` says which ones a segment has.
    fn select(
        &mut self,
        batch: &EncodedBatch,
        mut known: Vec<bool>,
        added: &mut Vec<u128>,
    ) -> FaultResult<Vec<bool>> {
        let Some((active, frozen)) = self.ids.split_last_mut() else { return Err(Fault::Closed) };
        // One table after the other: looks into the same one do not wait for each other.
        for fresh in frozen {
            if !fresh.ranges.get(&batch.tenant).is_some_and(|held| overlap(&batch.id_range, held)) {
                continue;
            }
            for (known, hash) in known.iter_mut().zip(&batch.hashes) {
                *known |= fresh.hashes.contains(hash);
            }
        }
        let range = active.range(batch.tenant);
        batch.id_range.start().widen(range);
        batch.id_range.end().widen(range);
        let mut stored = Vec::with_capacity(batch.len());
        for (known, hash) in known.into_iter().zip(&batch.hashes) {
            let is_new = !known && active.hashes.insert(*hash);
            if is_new {
                added.push(*hash);
            }
            stored.push(is_new);
        }
        Ok(stored)
    }

    #[allow(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 events")]
    fn write(&mut self, batches: &mut [EncodedBatch], sync: bool) -> FaultResult<()> {
        if batches.is_empty() {
            return if sync { self.wal.sync() } else { Ok(()) };
        }
        self.wal.reserve(batches.iter().map(|batch| frame_bytes(batch.buffer.len())).sum())?;
        if self.wal.take_rotated() {
            self.engine.request_log_files();
        }
        let mut frames: Vec<(&mut [u8], u32)> = batches
            .iter_mut()
            .map(|batch| {
                let events = batch.starts.len() as u32;
                (batch.buffer.as_mut_slice(), events)
            })
            .collect();
        self.wal.write(&mut frames, sync)
    }

    fn publish(&mut self, batches: Vec<EncodedBatch>) {
        let Some(FreshIds { generation: active, .. }) = self.ids.last() else { return };
        let events: usize = batches.iter().map(EncodedBatch::len).sum();
        let mut position = self.wal.position() - events as u64;
        let mut touched = [false; pulsestream_core::ports::event_store::PARTITIONS as usize];
        let mut ends = Vec::with_capacity(batches.len());
        let mut published = Vec::with_capacity(batches.len());
        for batch in batches {
            let (tenant, length) = (batch.tenant, batch.len() as u64);
            published.push(Batch::new(batch, position));
            position += length;
            touched[partition_index(tenant)] = true;
            ends.push((tenant, position));
        }
        active.publish(published);
        for (tenant, end) in ends {
            self.engine.set_end(Partition::of(tenant), end);
        }
        for (index, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
            self.engine.arrivals[index].notify();
        }
        let config = &self.engine.config;
        if active.rows() >= config.seal_events || active.bytes() >= config.seal_bytes {
            self.freeze();
        }
    }

    /// Waits while too much is in memory, so that it stays bounded when the disk is slower than the callers.
    fn wait_for_room(&self) -> FaultResult<()> {
        let engine = &self.engine;
        if !engine.background {
            // Nobody else will.
            while engine.view().frozen() > MAX_FROZEN && engine.seal_oldest()? {}
            return Ok(());
        }
        let mut work = held(&engine.work);
        while engine.view().frozen() > MAX_FROZEN {
            if work.stop || engine.is_poisoned() {
                return Err(Fault::Closed);
            }
            match &work.last_error {
                Some(fault) if fault.is_full() => return Err(fault.share()),
                Some(_) => return Err(Fault::Full { queue: "sealing" }),
                None => {}
            }
            work = engine.work_changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

/// Returns whether ids of one range may be in the other.
fn overlap(wanted: &RangeInclusive<IdOrder>, held: &RangeInclusive<IdOrder>) -> bool {
    held.start() <= wanted.end() && wanted.start() <= held.end()
}

/// Says for each event of each job whether a segment has its id: an id is remembered as long as its event is held.
///
/// One segment after the other, so that its fingerprints stay in the processor's cache, and are read once for all jobs where they do
/// not fit the store's. They are not needed at all where the ids of the segment end before those of the jobs begin. The disk is read for
/// an id only whose fingerprint is there: nearly always a repeat.
#[allow(clippy::cast_possible_truncation, reason = "segments use the low half of the hash")]
fn find_sealed(engine: &Engine, segments: &[Segment], jobs: &[Job]) -> FaultResult<Vec<Vec<bool>>> {
    let mut found: Vec<Vec<bool>> = jobs.iter().map(|job| vec![false; job.batch.len()]).collect();
    let unkept = engine.cache.unkept_filters();
    for segment in segments.iter().rev() {
        let overlaps = |batch: &EncodedBatch| {
            segment.footer().ids(batch.tenant).is_some_and(|held| overlap(&batch.id_range, &held))
        };
        let mut jobs = jobs.iter().zip(&mut found).filter(|(job, _)| overlaps(&job.batch)).peekable();
        if jobs.peek().is_none() {
            continue;
        }
        let filter = segment.load_filter(&engine.cache, engine.hasher)?;
        for (Job { batch, .. }, found) in jobs {
            for (row, found) in found.iter_mut().enumerate() {
                let low = batch.hashes[row] as u64;
                if *found || !filter.may_hold(low) {
                    continue;
                }
                let Some((_, id)) = Record::decode_place(batch.record(row)) else { continue };
                *found = segment.find_id(&engine.cache, engine.hasher, batch.tenant, id, low)?.is_some();
            }
        }
    }
    if engine.cache.unkept_filters() != unkept {
        engine.note_slow_append();
    }
    Ok(found)
}

impl Lead for Leader {
    type Job = Job;
    /// For each event, whether it was stored; if not, it is a duplicate.
    type Done = Vec<bool>;

    fn commit(&mut self, jobs: Vec<Job>) -> Vec<FaultResult<Vec<bool>>> {
        let count = jobs.len();
        let started = self.engine.env.monotonic();
        let outcome = self.commit_group(jobs);
        let took = self.engine.env.monotonic().saturating_sub(started);
        self.commit_time = (self.commit_time * 7 + took) / 8;
        if self.wal.is_poisoned() {
            self.engine.poisoned.store(true, Ordering::Release);
        }
        match outcome {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(fault) => (0..count).map(|_| Err(fault.share())).collect(),
        }
    }

    fn is_slow(&self) -> bool {
        // Without threads of the store only callers can lead.
        self.engine.background && self.commit_time > SLOW_COMMIT
    }
}

#[cfg(test)]
mod tests {
    use pulsestream_core::env::Env;
    use pulsestream_core::id::TenantId;
    use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome, EventStore};
    use pulsestream_core::testkit::{EventGenerator, block_on};

    use super::*;
    use crate::engine::SLOW_APPENDS_SHOWN;
    use crate::storage::SimFs;
    use crate::{EmbeddedConfig, EmbeddedStore};

    #[test]
    fn segments_whose_ids_end_before_new_ones_begin_are_not_looked_into() {
        let config = EmbeddedConfig { seal_events: 10, segment_events: 10, ..EmbeddedConfig::default() };
        let disk: Arc<dyn crate::storage::Storage> = Arc::new(SimFs::new());
        let open =
            || EmbeddedStore::open_storage(Arc::clone(&disk), config.clone(), Env::system(), false).unwrap();
        let mut generator = EventGenerator::new(1);
        let batches: Vec<Vec<_>> = (0..6).map(|_| generator.by_ref().take(10).collect()).collect();
        let append = |store: &EmbeddedStore, batch: &Vec<_>| {
            let tenant = TenantId::from_name("a");
            let outcomes = block_on(store.append(tenant, batch.clone(), AppendOptions::default())).unwrap();
            outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count()
        };
        let store = open();
        for batch in &batches[..5] {
            assert_eq!(append(&store, batch), 10);
            store.engine.seal_now(&store.group).unwrap();
        }
        drop(store);

        let store = open();
        assert_eq!(append(&store, &batches[5]), 10);
        assert_eq!(store.engine.cache.bytes(), 0, "no fingerprints were read");
        assert_eq!(append(&store, &batches[2]), 0, "the events of a segment are known");
        assert!(store.engine.cache.bytes() > 0);
    }

    #[test]
    fn fingerprints_that_do_not_fit_are_an_impairment_for_a_while() {
        let (env, clock) = Env::manual("2026-01-01T00:00:00Z".parse().unwrap(), 1);
        let config = EmbeddedConfig {
            seal_events: 10,
            segment_events: 10,
            cache_bytes: 100,
            ..EmbeddedConfig::default()
        };
        let store = EmbeddedStore::open_storage(Arc::new(SimFs::new()), config, env, false).unwrap();
        let mut generator = EventGenerator::new(1);
        let mut batch = |prefix: &str| {
            let mut events: Vec<_> = generator.by_ref().take(10).collect();
            for (index, event) in events.iter_mut().enumerate() {
                event.id = format!("{prefix}{index}").parse().unwrap();
            }
            events
        };
        let append = |events| {
            block_on(store.append(TenantId::from_name("a"), events, AppendOptions::default())).unwrap();
            store.engine.seal_now(&store.group).unwrap();
        };
        let codes = || {
            let status = block_on(store.check()).unwrap();
            status.impairments.into_iter().map(|impairment| impairment.code).collect::<Vec<_>>()
        };
        // Two segments fit, and what comes after them in the order of ids needs none.
        for prefix in ["b", "c", "d", "e"] {
            append(batch(prefix));
            assert!(codes().is_empty(), "{prefix}");
        }
        // A batch that reaches over all of them does, and finds no room for every one.
        let mut events = batch("a");
        events[9].id = "f".parse().unwrap();
        append(events);
        assert_eq!(codes(), ["fingerprints_do_not_fit"]);
        clock.advance(SLOW_APPENDS_SHOWN);
        assert!(codes().is_empty());
    }

    #[test]
    fn events_that_wait_to_be_sealed_are_known_in_whatever_order_their_ids_came() {
        let config = EmbeddedConfig { seal_events: 10, segment_events: 10, ..EmbeddedConfig::default() };
        let disk: Arc<dyn crate::storage::Storage> = Arc::new(SimFs::new());
        let open =
            || EmbeddedStore::open_storage(Arc::clone(&disk), config.clone(), Env::system(), false).unwrap();
        let mut generator = EventGenerator::new(1);
        let batches: Vec<Vec<_>> = (0..MAX_FROZEN).map(|_| generator.by_ref().take(10).collect()).collect();
        let append = |store: &EmbeddedStore, tenant, batch: &Vec<_>| {
            let tenant = TenantId::from_name(tenant);
            let outcomes = block_on(store.append(tenant, batch.clone(), AppendOptions::default())).unwrap();
            outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Stored)).count()
        };
        let store = open();
        for batch in &batches {
            assert_eq!(append(&store, "a", batch), 10);
        }
        for tenant in ["b", "c"] {
            let descending = batches.iter().rev().flatten().rev().cloned().collect::<Vec<_>>();
            assert_eq!(append(&store, tenant, &descending[..3].to_vec()), 3);
            assert_eq!(append(&store, tenant, &descending[..5].to_vec()), 2);
        }
        assert!(store.engine.view().segments.is_empty());
        for batch in batches.iter().rev() {
            assert_eq!(append(&store, "a", batch), 0);
        }
        let first = &batches[0][0];
        assert_eq!(append(&store, "b", &vec![first.clone(), first.clone()]), 1);
        drop(store);
        let store = open();
        assert_eq!(append(&store, "b", &vec![first.clone()]), 0);
        for batch in &batches {
            assert_eq!(append(&store, "a", batch), 0);
        }
    }

    #[test]
    fn without_threads_an_append_makes_the_room_it_needs() {
        let config = EmbeddedConfig { seal_events: 10, segment_events: 10, ..EmbeddedConfig::default() };
        let store =
            EmbeddedStore::open_storage(Arc::new(SimFs::new()), config, Env::system(), false).unwrap();
        let mut generator = EventGenerator::new(1);
        for _ in 0..20 {
            let events = generator.by_ref().take(10).collect();
            block_on(store.append(TenantId::from_name("a"), events, AppendOptions::default())).unwrap();
            assert!(store.engine.view().frozen() <= MAX_FROZEN + 1);
        }
        assert_eq!(store.engine.view().events(), 200);
        assert_eq!(store.engine.view().segments.len(), 20 - MAX_FROZEN - 1);
    }
}
