//! Questions end when nobody waits, when their time is up, when they take too much, and never hold up writes.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pulsestream_core::env::{Env, ManualClock};
use pulsestream_core::error::{Error, ErrorKind};
use pulsestream_core::filter::Filter;
use pulsestream_core::id::TenantId;
use pulsestream_core::memory::MemoryEventStore;
use pulsestream_core::ports::event_store::{
    AppendOptions, DeleteSelection, EventStore, Partition, Position, TailOptions,
};
use pulsestream_core::ports::key_value::{Commit, CommitOutcome, Write};
use pulsestream_core::query::{AggregateOrder, AggregateQuery, OrderKey, ScanQuery};
use pulsestream_core::testkit::{EventGenerator, Random, block_on};
use pulsestream_core::time::{TimeRange, Timestamp};
use pulsestream_embedded::storage::{File, Lock, OpenMode, SimFs, Storage};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

const SEGMENT_EVENTS: usize = 1_500;
const SEGMENTS: usize = 24;

fn tenant() -> TenantId {
    TenantId::from_name("questions")
}

/// No cache, so that every question reads its columns from the segments.
fn config() -> EmbeddedConfig {
    EmbeddedConfig {
        seal_events: SEGMENT_EVENTS,
        segment_events: SEGMENT_EVENTS,
        cache_bytes: 0,
        log_file_bytes: 1 << 20,
        ..EmbeddedConfig::default()
    }
}

/// A folder with more events than a question answers at once, in many segments.
fn folder() -> SimFs {
    static FOLDER: OnceLock<SimFs> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = SimFs::new();
        let storage = Arc::new(folder.clone());
        let store = EmbeddedStore::open_storage(storage, config(), Env::system(), true).unwrap();
        let mut generator = EventGenerator::new(5);
        for _ in 0..SEGMENTS {
            let events = (0..SEGMENT_EVENTS).map(|_| generator.event()).collect();
            block_on(store.append(tenant(), events, AppendOptions::default())).unwrap();
            store.maintain().unwrap();
        }
        block_on(store.close()).unwrap();
        folder
    });
    made.after_kill()
}

/// Stops reads of segments, as many as told, until they are let go.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    to_stop: usize,
    stopped: usize,
}

impl Gate {
    fn stop(&self, reads: usize) {
        self.state.lock().unwrap().to_stop = reads;
    }

    fn wait_for(&self, stopped: usize) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.stopped < stopped).unwrap());
    }

    fn let_go(&self) {
        *self.state.lock().unwrap() = GateState::default();
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.to_stop == 0 {
            return;
        }
        state.to_stop -= 1;
        state.stopped += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.stopped > 0).unwrap());
    }
}

#[derive(Debug)]
struct Gated {
    inner: SimFs,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    inner: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl Storage for Gated {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(name, mode)?;
        if !name.ends_with(".seg") {
            return Ok(inner);
        }
        Ok(Arc::new(GatedFile { inner, gate: Arc::clone(&self.gate) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn create_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.create_dir(directory)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }

    fn place(&self) -> Option<&Path> {
        self.inner.place()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.inner.lock(name)
    }
}

impl File for GatedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.gate.pass();
        self.inner.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
}

struct Fixture {
    store: Arc<EmbeddedStore>,
    gate: Arc<Gate>,
    clock: Arc<ManualClock>,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut EmbeddedConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        let gate = Arc::new(Gate::default());
        let storage = Arc::new(Gated { inner: folder(), gate: Arc::clone(&gate) });
        let (env, clock) = Env::manual("2026-06-01T00:00:00Z".parse().unwrap(), 1);
        let store = Arc::new(EmbeddedStore::open_storage(storage, config, env, false).unwrap());
        Self { store, gate, clock }
    }

    fn blocks(&self) -> u64 {
        let status = block_on(self.store.check()).unwrap();
        let (_, blocks) = status.details.iter().find(|(name, _)| *name == "query_blocks").unwrap();
        blocks.parse().unwrap()
    }

    /// Starts a question that stops at a read, with a thread of the store.
    fn stuck(&self) -> Asked {
        let store = Arc::clone(&self.store);
        let mut asked: Asked =
            Box::pin(
                async move { store.aggregate(tenant(), &by_type()).await.map(|table| table.total_rows) },
            );
        poll(&mut asked);
        asked
    }
}

type Asked = Pin<Box<dyn Future<Output = Result<usize, Error>> + Send>>;

/// Lets a question that has no answer yet begin.
fn poll(asked: &mut Asked) {
    assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

fn by_type() -> AggregateQuery {
    AggregateQuery {
        group_by: vec!["event_type".parse().unwrap()],
        measures: vec!["count".parse().unwrap(), "p95(metrics.response_time_ms)".parse().unwrap()],
        ..AggregateQuery::default()
    }
}

fn context<'a>(error: &'a Error, key: &str) -> Option<&'a str> {
    error.context().iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
}

#[test]
fn a_dropped_question_stops_at_the_next_block() {
    let fixture = Fixture::new(|config| config.query_threads = 1);
    let start = fixture.blocks();
    let groups = block_on(fixture.store.aggregate(tenant(), &by_type())).unwrap().total_rows;
    let whole = fixture.blocks() - start;
    assert!(whole >= SEGMENTS as u64, "one block a segment: {whole}");

    fixture.gate.stop(1);
    let asked = fixture.stuck();
    fixture.gate.wait_for(1);
    drop(asked);
    fixture.gate.let_go();
    // The only thread takes this one after it left the other.
    assert_eq!(block_on(fixture.store.aggregate(tenant(), &by_type())).unwrap().total_rows, groups);
    let both = fixture.blocks() - start - whole;
    assert!(both <= whole + 1, "the dropped question went on: {both} blocks, {whole} for one");
}

#[test]
fn a_question_ends_at_its_deadline() {
    let fixture = Fixture::new(|config| {
        config.query_threads = 1;
        config.query_timeout = Duration::from_secs(5);
    });
    fixture.gate.stop(1);
    let asked = fixture.stuck();
    fixture.gate.wait_for(1);
    fixture.clock.advance(Duration::from_secs(6));
    let blocks = fixture.blocks();
    fixture.gate.let_go();
    let error = block_on(asked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(context(&error, "setting"), Some("query_timeout"));
    assert_eq!(context(&error, "timeout_ms"), Some("5000"));
    assert!(fixture.blocks() <= blocks + 1);
    block_on(fixture.store.aggregate(tenant(), &by_type())).unwrap();
}

#[test]
fn more_questions_than_may_wait_are_refused_and_the_others_answered() {
    // With two threads, both might work on the first question.
    let fixture = Fixture::new(|config| (config.query_threads, config.query_queue) = (1, 3));
    fixture.gate.stop(1);
    let mut asked = vec![fixture.stuck()];
    fixture.gate.wait_for(1);
    asked.extend((0..3).map(|_| fixture.stuck()));
    let error = block_on(fixture.store.aggregate(tenant(), &by_type())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(context(&error, "queue"), Some("query_queue"));
    assert!(error.retry_after().is_some());
    // One of those that wait is given up, and makes room.
    drop(asked.pop());
    asked.push(fixture.stuck());
    fixture.gate.let_go();
    let answers: Vec<usize> = asked.into_iter().map(|asked| block_on(asked).unwrap()).collect();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|rows| *rows == answers[0] && *rows > 1));
}

#[test]
fn writes_and_short_reads_pass_questions_that_are_stuck() {
    let fixture = Fixture::new(|_| {});
    let store = &fixture.store;
    fixture.gate.stop(2);
    let asked = [fixture.stuck(), fixture.stuck()];
    fixture.gate.wait_for(2);

    let event = EventGenerator::new(9).event();
    let id = event.id.clone();
    block_on(store.append(tenant(), vec![event], AppendOptions::default())).unwrap();
    assert!(block_on(store.get(tenant(), std::slice::from_ref(&id))).unwrap()[0].is_some());
    let write = Write { key: b"rule".to_vec(), value: Some(b"1".to_vec()) };
    let commit = Commit { preconditions: Vec::new(), writes: vec![write] };
    let key_value = store.key_value().unwrap();
    assert_eq!(block_on(key_value.commit(commit)).unwrap(), CommitOutcome::Committed);
    let partition = Partition::of(tenant());
    let log = block_on(store.tail(
        partition,
        Position::START,
        TailOptions { limit: 2_000, ..TailOptions::default() },
    ))
    .unwrap();
    assert_eq!(log.events.len(), 2_000);
    assert_eq!(block_on(store.delete(tenant(), &DeleteSelection::Ids(vec![id]))).unwrap(), 1);
    store.maintain().unwrap();

    fixture.gate.let_go();
    for answer in asked {
        block_on(answer).unwrap();
    }
}

#[test]
fn what_a_question_takes_up_is_limited_and_the_error_names_the_setting() {
    let fixture = Fixture::new(|config| config.query_bytes = 1 << 17);
    let error = block_on(fixture.store.aggregate(tenant(), &by_type())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(context(&error, "setting"), Some("query_bytes"));
    // Without percentiles, nothing is kept but the groups.
    let count = AggregateQuery { measures: vec!["count".parse().unwrap()], ..by_type() };
    block_on(fixture.store.aggregate(tenant(), &count)).unwrap();
    let few = AggregateQuery { max_groups: 2, ..count };
    let error = block_on(fixture.store.aggregate(tenant(), &few)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(context(&error, "setting"), Some("query.max_groups"));
}

#[test]
fn a_scan_loses_nothing_when_a_batch_is_dropped() {
    let fixture = Fixture::new(|_| {});
    let query = ScanQuery { batch_rows: 1_000, ..ScanQuery::default() };
    let mut scan = block_on(fixture.store.scan(tenant(), &query)).unwrap();
    let (mut rows, mut dropped) = (0, 0);
    loop {
        fixture.gate.stop(1);
        {
            let mut batch = pin!(scan.next_batch());
            match batch.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => dropped += 1,
                // A batch that a dropped future had finished.
                Poll::Ready(batch) => rows += batch.unwrap().map_or(0, |batch| batch.timestamps.len()),
            }
        }
        fixture.gate.let_go();
        let Some(batch) = block_on(scan.next_batch()).unwrap() else { break };
        rows += batch.timestamps.len();
    }
    assert!(dropped > 10);
    assert_eq!(rows, SEGMENTS * SEGMENT_EVENTS);
}

/// Random aggregates: answered by several threads, by one, and by the reference in memory.
#[test]
fn many_threads_one_thread_and_the_reference_give_the_same_answers() {
    let [parallel, serial] =
        [4, 1].map(|threads| Fixture::new(|config| config.query_threads = threads).store);
    let memory = MemoryEventStore::new();
    let mut generator = EventGenerator::new(5);
    for _ in 0..SEGMENTS {
        let events = (0..SEGMENT_EVENTS).map(|_| generator.event()).collect();
        block_on(memory.append(tenant(), events, AppendOptions::default())).unwrap();
    }
    let random = Random::new(17);
    for number in 0..24 {
        let query = draw(&random);
        let expected = block_on(memory.aggregate(tenant(), &query)).unwrap();
        for store in [&parallel, &serial] {
            let found = block_on(store.aggregate(tenant(), &query)).unwrap();
            assert_eq!(found.total_rows, expected.total_rows, "{number}: {query:?}");
            for (found, expected) in found.rows.iter().zip(&expected.rows) {
                assert_eq!(
                    (found.bucket, &found.group),
                    (expected.bucket, &expected.group),
                    "{number}: {query:?}"
                );
                for (found, expected) in found.values.iter().zip(&expected.values) {
                    let (found, expected) = (found.unwrap_or(f64::NAN), expected.unwrap_or(f64::NAN));
                    // The order of addition is open.
                    let is_same = found == expected
                        || (found - expected).abs() <= 1e-9 * expected.abs()
                        || (found.is_nan() && expected.is_nan());
                    assert!(is_same, "{number}: {found} is not {expected}: {query:?}");
                }
            }
        }
    }
}

/// Draws an aggregate with groups by fields, shredded and unshredded paths, buckets, filters and all kinds of measures.
fn draw(random: &Random) -> AggregateQuery {
    let paths = [
        "event_type",
        "source.service",
        "source.endpoint",
        "context.user_id",
        "payload.coupon",
        "payload.plan",
        "metrics.status_code",
        "payload.product.category",
        "context.tags.region",
        "severity",
    ];
    let measures = [
        "count",
        "error_rate",
        "count_distinct(context.user_id)",
        "p50(metrics.response_time_ms)",
        "p99(metrics.response_time_ms)",
        "avg(payload.total)",
        "sum(metrics.response_size_bytes)",
        "max(metrics.response_time_ms)",
        "min(payload.total)",
        "rate",
        "count_distinct(payload.product.sku)",
    ];
    let filters = [
        "metrics.status_code >= 400",
        "source.service in ['cart', 'payment']",
        "payload.coupon exists",
        "message contains 'with 5' or payload.total > 700",
        "not context.user_id = 'user-1'",
    ];
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let day =
        |day: u64| Timestamp::from_micros(start.as_micros() + i64::try_from(day * 86_400_000_000).unwrap());
    let first = random.below(4);
    AggregateQuery {
        range: if random.chance(0.5) {
            TimeRange::ALL
        } else {
            TimeRange::new(day(first), day(first + 1 + random.below(3)))
        },
        filter: random.chance(0.5).then(|| Filter::parse(random.pick::<&str>(&filters)).unwrap()),
        group_by: (0..random.below(3)).map(|_| random.pick(&paths).parse().unwrap()).collect(),
        bucket: random.chance(0.5).then(|| random.pick(&["1h", "day", "15m"]).parse().unwrap()),
        measures: (0..1 + random.below(4)).map(|_| random.pick(&measures).parse().unwrap()).collect(),
        order: AggregateOrder {
            by: *random.pick(&[OrderKey::Bucket, OrderKey::Group]),
            descending: random.chance(0.3),
        },
        limit: random.chance(0.3).then_some(20),
        max_groups: 1_000_000,
        approximate: false,
    }
}

#[test]
fn closing_ends_questions() {
    let fixture = Fixture::new(|_| {});
    fixture.gate.stop(1);
    let asked = fixture.stuck();
    fixture.gate.wait_for(1);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| block_on(fixture.store.close()));
        while block_on(fixture.store.check()).is_ok() {
            std::thread::yield_now();
        }
        fixture.gate.let_go();
        closing.join().unwrap().unwrap();
    });
    assert_eq!(block_on(asked).unwrap_err().kind(), ErrorKind::Closed);
}
