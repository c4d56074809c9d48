//! What every [`KeyValue`] store promises, case by case.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::run::{BoxFuture, block_on, concurrently};
use crate::error::ErrorKind;
use crate::ports::key_value::{
    Commit, CommitOutcome, Entry, KeyValue, KeyValueExt, Read, ReadResult, prefix_end,
};

/// What the suite needs to know about a key-value store.
#[async_trait]
pub trait KeyValueHarness: fmt::Debug + Send + Sync + 'static {
    /// Opens a fresh, empty store.
    async fn open(&self) -> Arc<dyn KeyValue>;

    /// Closes the store and opens the same data again; `None` when it keeps nothing.
    async fn reopen(&self, _store: Arc<dyn KeyValue>) -> Option<Arc<dyn KeyValue>> {
        None
    }

    /// Runs a future to its end; several threads may ask at once.
    fn block_on(&self, future: BoxFuture<'static, ()>) {
        block_on(future);
    }
}

/// A fresh store and the harness it comes from.
#[derive(Debug, Clone)]
struct Probe {
    harness: Arc<dyn KeyValueHarness>,
    store: Arc<dyn KeyValue>,
}

impl Probe {
    async fn open(harness: Arc<dyn KeyValueHarness>) -> Self {
        Self { store: harness.open().await, harness }
    }

    async fn put(&self, entries: &[(&str, &str)]) {
        let mut commit = Commit::new();
        for (key, value) in entries {
            commit.put(bytes(key), bytes(value));
        }
        assert_eq!(self.commit(commit).await, CommitOutcome::Committed, "nothing was required");
    }

    async fn commit(&self, commit: Commit) -> CommitOutcome {
        self.store.commit(commit).await.expect("commit succeeds")
    }

    async fn get(&self, key: &str) -> Option<String> {
        let value = self.store.get(bytes(key)).await.expect("read succeeds");
        value.map(|value| String::from_utf8(value).expect("the case wrote text"))
    }

    /// Reads a range and joins its entries, `a=1 b=2`.
    async fn range(&self, start: &str, end: &str, limit: usize, reverse: bool) -> String {
        let read = Read::Range { start: bytes(start), end: bytes(end), limit, reverse };
        match self.store.read(vec![read]).await.expect("read succeeds").as_slice() {
            [ReadResult::Entries(entries)] => join(entries),
            other => panic!("a range is answered with entries, not with {other:?}"),
        }
    }

    async fn concurrently(&self, tasks: Vec<BoxFuture<'static, ()>>) {
        let harness = self.harness.clone();
        concurrently(move |task| harness.block_on(task), tasks).await;
    }
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn join(entries: &[Entry]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words = entries.iter().map(|(key, value)| format!("{}={}", text(key), text(value)));
    words.collect::<Vec<_>>().join(" ")
}

super::suite! {
    $
    /// Lists every promise of a key-value store as a test; takes an expression that makes the harness.
    key_value_conformance, key_value, KeyValueHarness, Probe,
    [
        self: kv_reads_its_writes, kv_snapshot, kv_commit_is_atomic, kv_one_winner, kv_survives_reopen, kv_ranges,
            kv_keys_are_bytes, kv_later_write_wins, kv_preconditions, kv_deletes, kv_big_values, kv_prefixes,
            kv_counter_under_contention, kv_closed;
    ]
}

/// A read sees every commit that was acknowledged before it.
async fn kv_reads_its_writes(probe: Probe) {
    assert_eq!(probe.get("a").await, None);
    for round in 0..50 {
        probe.put(&[("a", &round.to_string())]).await;
        assert_eq!(probe.get("a").await, Some(round.to_string()));
    }
    let reads = vec![Read::Get(bytes("b")), Read::Get(bytes("a")), Read::Get(bytes("a"))];
    let answers = probe.store.read(reads).await.expect("read succeeds");
    let value = ReadResult::Value(Some(bytes("49")));
    assert_eq!(
        answers,
        [ReadResult::Value(None), value.clone(), value],
        "answers stand in the order of the reads"
    );
    assert!(probe.store.read(Vec::new()).await.expect("read succeeds").is_empty());
}

/// All reads of a call see the same commits.
async fn kv_snapshot(probe: Probe) {
    probe.put(&[("left", "0"), ("right", "0")]).await;
    let writer: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            for round in 1..200 {
                let round = round.to_string();
                probe.put(&[("left", &round), ("right", &round)]).await;
            }
        })
    };
    let reader: BoxFuture<'static, ()> = {
        let probe = probe.clone();
        Box::pin(async move {
            for _ in 0..200 {
                let range = Read::Range { start: bytes("a"), end: bytes("z"), limit: 10, reverse: false };
                let reads = vec![Read::Get(bytes("left")), range, Read::Get(bytes("right"))];
                let answers = probe.store.read(reads).await.expect("read succeeds");
                let [ReadResult::Value(Some(left)), ReadResult::Entries(entries), right] = answers.as_slice()
                else {
                    panic!("both are there: {answers:?}");
                };
                assert_eq!(&ReadResult::Value(Some(left.clone())), right, "no commit is seen half");
                assert!(entries.iter().all(|(_, value)| value == left), "nor by a range");
            }
        })
    };
    probe.concurrently(vec![writer, reader]).await;
}

/// All writes of a commit happen, or none.
async fn kv_commit_is_atomic(probe: Probe) {
    probe.put(&[("a", "1"), ("b", "1")]).await;
    let mut commit = Commit::new();
    commit.put(bytes("a"), bytes("2")).delete(bytes("b")).put(bytes("c"), bytes("2"));
    commit.expect(bytes("a"), Some(bytes("1"))).expect(bytes("b"), Some(bytes("wrong")));
    assert_eq!(probe.commit(commit.clone()).await, CommitOutcome::PreconditionFailed(1));
    assert_eq!(probe.range("a", "z", 10, false).await, "a=1 b=1", "nothing happened");
    commit.preconditions[1].expected = Some(bytes("1"));
    assert_eq!(probe.commit(commit).await, CommitOutcome::Committed);
    assert_eq!(probe.range("a", "z", 10, false).await, "a=2 c=2");
}

/// Of concurrent commits with the same precondition that change its key, one succeeds.
async fn kv_one_winner(probe: Probe) {
    for round in 0..10 {
        let winners = Arc::new(AtomicUsize::new(0));
        let contender = |number: usize| -> BoxFuture<'static, ()> {
            let (probe, winners) = (probe.clone(), winners.clone());
            Box::pin(async move {
                let key = bytes(&format!("r{round}"));
                let mut commit = Commit::new();
                commit.expect(key.clone(), None).put(key, bytes(&number.to_string()));
                if probe.commit(commit).await == CommitOutcome::Committed {
                    winners.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        probe.concurrently((0..4).map(contender).collect()).await;
        assert_eq!(winners.load(Ordering::Relaxed), 1, "exactly one contender wins");
    }
}

/// What was committed is there after the store is opened again, where it keeps anything at all.
async fn kv_survives_reopen(probe: Probe) {
    probe.put(&[("a", "1"), ("b", "2"), ("c", "3")]).await;
    let mut commit = Commit::new();
    commit.delete(bytes("b")).put(bytes("c"), bytes("4"));
    assert_eq!(probe.commit(commit).await, CommitOutcome::Committed);
    if let Some(store) = probe.harness.reopen(probe.store.clone()).await {
        let probe = Probe { store, ..probe };
        assert_eq!(probe.range("a", "z", 10, false).await, "a=1 c=4");
    }
}

/// A range has its start and not its end, in key order or from the end, at most so many.
async fn kv_ranges(probe: Probe) {
    probe.put(&[("a", "1"), ("b", "2"), ("ba", "3"), ("c", "4"), ("d", "5")]).await;
    assert_eq!(probe.range("b", "d", 10, false).await, "b=2 ba=3 c=4");
    assert_eq!(probe.range("b", "d", 10, true).await, "c=4 ba=3 b=2");
    assert_eq!(probe.range("b", "d", 2, false).await, "b=2 ba=3");
    assert_eq!(probe.range("b", "d", 2, true).await, "c=4 ba=3");
    assert_eq!(probe.range("b", "d", 0, false).await, "");
    assert_eq!(probe.range("b", "b", 10, false).await, "");
    assert_eq!(probe.range("d", "b", 10, false).await, "", "a range written backwards is empty");
    assert_eq!(probe.range("", "zz", 10, true).await, "d=5 c=4 ba=3 b=2 a=1");
}

/// Keys and values are bytes of any kind, ordered as bytes.
async fn kv_keys_are_bytes(probe: Probe) {
    let keys: [&[u8]; 8] = [&[0], &[0, 0], &[0, 255], &[1], b"A", b"a", &[128], &[255, 255]];
    let mut commit = Commit::new();
    for key in keys.iter().rev() {
        commit.put(key.to_vec(), key.iter().rev().copied().collect());
    }
    commit.put(bytes("empty"), Vec::new());
    assert_eq!(probe.commit(commit).await, CommitOutcome::Committed);
    let read = Read::Range { start: Vec::new(), end: vec![255; 3], limit: 100, reverse: false };
    let answers = probe.store.read(vec![read]).await.expect("read succeeds");
    let [ReadResult::Entries(entries)] = answers.as_slice() else { panic!("entries, not {answers:?}") };
    let found: Vec<&[u8]> =
        entries.iter().map(|(key, _)| key.as_slice()).filter(|key| *key != b"empty").collect();
    assert_eq!(found, keys);
    let empty = probe.store.get(bytes("empty")).await.expect("read succeeds");
    assert_eq!(empty, Some(Vec::new()), "an empty value is a value");
}

/// Of several writes of a key in one commit the last counts.
async fn kv_later_write_wins(probe: Probe) {
    let mut commit = Commit::new();
    commit
        .put(bytes("a"), bytes("1"))
        .put(bytes("a"), bytes("2"))
        .delete(bytes("b"))
        .put(bytes("b"), bytes("3"));
    commit.put(bytes("c"), bytes("4")).delete(bytes("c"));
    assert_eq!(probe.commit(commit).await, CommitOutcome::Committed);
    assert_eq!(probe.range("a", "z", 10, false).await, "a=2 b=3");
}

/// The first precondition that does not hold is named; a commit may only check.
async fn kv_preconditions(probe: Probe) {
    probe.put(&[("a", "1")]).await;
    let check = async |conditions: &[(&str, Option<&str>)]| {
        let mut commit = Commit::new();
        for (key, expected) in conditions {
            commit.expect(bytes(key), expected.map(bytes));
        }
        probe.commit(commit).await
    };
    assert_eq!(check(&[]).await, CommitOutcome::Committed);
    assert_eq!(check(&[("a", Some("1")), ("b", None)]).await, CommitOutcome::Committed);
    assert_eq!(check(&[("a", None)]).await, CommitOutcome::PreconditionFailed(0));
    assert_eq!(check(&[("b", None), ("b", Some(""))]).await, CommitOutcome::PreconditionFailed(1));
    assert_eq!(
        check(&[("a", Some("1")), ("a", Some("2")), ("a", None)]).await,
        CommitOutcome::PreconditionFailed(1)
    );
}

/// Deleting what is not there is fine.
async fn kv_deletes(probe: Probe) {
    probe.put(&[("a", "1"), ("b", "2")]).await;
    let mut commit = Commit::new();
    commit.delete(bytes("a")).delete(bytes("nope"));
    assert_eq!(probe.commit(commit.clone()).await, CommitOutcome::Committed);
    assert_eq!(probe.commit(commit).await, CommitOutcome::Committed);
    assert_eq!(probe.get("a").await, None);
    assert_eq!(probe.range("a", "z", 10, false).await, "b=2");
}

/// Values of megabytes and commits of thousands of writes work.
async fn kv_big_values(probe: Probe) {
    let big = "x".repeat(3 << 20);
    probe.put(&[("big", &big)]).await;
    assert_eq!(probe.get("big").await.map(|value| value.len()), Some(big.len()));
    let mut commit = Commit::new();
    for number in 0..5_000 {
        commit.put(bytes(&format!("n{number:04}")), bytes(&number.to_string()));
    }
    assert_eq!(probe.commit(commit).await, CommitOutcome::Committed);
    assert_eq!(probe.range("n4998", "o", 10, false).await, "n4998=4998 n4999=4999");
}

/// The entries under a prefix are those whose key starts with it.
async fn kv_prefixes(probe: Probe) {
    probe.put(&[("a", "0"), ("a/", "1"), ("a/1", "2"), ("a/\u{ffff}", "3"), ("a0", "4"), ("b", "5")]).await;
    let prefix = async |text: &str| join(&probe.store.prefix(bytes(text), 10).await.expect("read succeeds"));
    assert_eq!(prefix("a/").await, "a/=1 a/1=2 a/\u{ffff}=3");
    assert_eq!(prefix("a").await.split(' ').count(), 5);
    assert_eq!(prefix("c").await, "");
    assert_eq!(prefix_end(b"a/"), b"a0");
}

/// Read, compare and write in a loop loses no step.
async fn kv_counter_under_contention(probe: Probe) {
    const STEPS: usize = 25;
    probe.put(&[("n", "0")]).await;
    let task = || -> BoxFuture<'static, ()> {
        let probe = probe.clone();
        Box::pin(async move {
            for _ in 0..STEPS {
                loop {
                    let present = probe.get("n").await.expect("it is there");
                    let next = present.parse::<usize>().expect("a number") + 1;
                    let mut commit = Commit::new();
                    commit
                        .expect(bytes("n"), Some(bytes(&present)))
                        .put(bytes("n"), bytes(&next.to_string()));
                    if probe.commit(commit).await == CommitOutcome::Committed {
                        break;
                    }
                }
            }
        })
    };
    probe.concurrently((0..3).map(|_| task()).collect()).await;
    assert_eq!(probe.get("n").await, Some((3 * STEPS).to_string()));
}

/// Closing twice is fine; a call after it fails with `Closed`.
async fn kv_closed(probe: Probe) {
    probe.put(&[("a", "1")]).await;
    probe.store.close().await.expect("close succeeds");
    probe.store.close().await.expect("closing again succeeds");
    let read = probe.store.read(vec![Read::Get(bytes("a"))]).await.map(|_| ());
    let commit = probe.store.commit(Commit::new()).await.map(|_| ());
    for result in [read, commit] {
        assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Closed));
    }
}
