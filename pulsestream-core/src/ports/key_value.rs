//! The transactional key-value port on which the at-rest ports are built.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// One read of a [`KeyValue`] snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The value of one key.
    Get(Vec<u8>),
    /// The entries with `start <= key < end`, in key order, at most `limit` of them.
    Range {
        /// First key inside.
        start: Vec<u8>,
        /// First key after the range.
        end: Vec<u8>,
        /// Largest number of entries to return.
        limit: usize,
        /// Whether to return the last entries first.
        reverse: bool,
    },
}

/// One entry: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The answer to one [`Read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadResult {
    /// Answer to [`Read::Get`].
    Value(Option<Vec<u8>>),
    /// Answer to [`Read::Range`].
    Entries(Vec<Entry>),
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// The key looked at.
    pub key: Vec<u8>,
    /// The value it must have; `None`: the key must be absent.
    pub expected: Option<Vec<u8>>,
}

/// One change of a commit: a value to put, or `None` to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key to change.
    pub key: Vec<u8>,
    /// The new value; `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// Preconditions and changes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// What changes; a later write of the same key wins.
    pub writes: Vec<Write>,
}

impl Commit {
    /// Creates an empty commit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires `key` to have the value `expected`, or to be absent.
    pub fn expect(&mut self, key: Vec<u8>, expected: Option<Vec<u8>>) -> &mut Self {
        self.preconditions.push(Precondition { key, expected });
        self
    }

    /// Puts `value` under `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> &mut Self {
        self.writes.push(Write { key, value: Some(value) });
        self
    }

    /// Deletes `key`, if it is there.
    pub fn delete(&mut self, key: Vec<u8>) -> &mut Self {
        self.writes.push(Write { key, value: None });
        self
    }
}

/// Whether a commit happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CommitOutcome {
    /// It did, durably.
    Committed,
    /// It did not: the precondition at this index does not hold.
    PreconditionFailed(usize),
}

/// An ordered map of bytes with snapshot reads and atomic, conditional, durable commits.
///
/// Whoever brings a key-value store gets every at-rest port for it: see `at_rest`.
#[async_trait]
pub trait KeyValue: fmt::Debug + Send + Sync + 'static {
    /// Answers all `reads` from one snapshot, in the order asked.
    ///
    /// # Contract
    /// - Sees every commit that was acknowledged before the call (`kv_reads_its_writes`).
    /// - No read of the call sees a commit that another read of the call does not (`kv_snapshot`).
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<ReadResult>>;

    /// Applies `commit` if all its preconditions hold.
    ///
    /// # Contract
    /// - All writes happen or none (`kv_commit_is_atomic`).
    /// - Of concurrent commits with the same precondition that change its key, one succeeds (`kv_one_winner`).
    /// - A commit that returned survives a crash, where the backend is durable at all (`kv_survives_reopen`).
    ///
    /// # Cancel safety
    /// A dropped future leaves the commit done or not done, never half done.
    async fn commit(&self, commit: Commit) -> Result<CommitOutcome>;

    /// Releases everything; later calls fail with `Closed`. Closing twice is fine.
    async fn close(&self) -> Result<()>;
}

/// Conveniences over [`KeyValue`] for those who use it.
#[async_trait]
pub trait KeyValueExt: KeyValue {
    /// Returns the value of one key.
    async fn get(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        match self.read(vec![Read::Get(key)]).await?.pop() {
            Some(ReadResult::Value(value)) => Ok(value),
            _ => Ok(None),
        }
    }

    /// Returns up to `limit` entries whose key starts with `prefix`, in key order.
    async fn prefix(&self, prefix: Vec<u8>, limit: usize) -> Result<Vec<Entry>> {
        let end = prefix_end(&prefix);
        match self.read(vec![Read::Range { start: prefix, end, limit, reverse: false }]).await?.pop() {
            Some(ReadResult::Entries(entries)) => Ok(entries),
            _ => Ok(Vec::new()),
        }
    }
}

impl<T: KeyValue + ?Sized> KeyValueExt for T {}

/// Returns the first key after all keys that start with `prefix`; `prefix` must hold a byte below 0xff.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}
