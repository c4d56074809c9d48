//! An optimistic transaction over the key-value port: what was read must still be so when it commits.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{decode, encode};
use super::turns::{Turn, Turns};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::key_value::{Commit, CommitOutcome, KeyValue, KeyValueExt, Read, ReadResult};

/// How often a lost race is run again; each loss means that somebody else has made progress.
const MAX_ATTEMPTS: usize = 64;
/// How many entries one commit deletes.
const DELETED_AT_ONCE: usize = 1_000;

/// How often an operation is overtaken before it takes a turn.
const PATIENCE: usize = 2;

/// Counts attempts, so that a loop that is always overtaken ends, and takes turns with other such loops, so that it is not.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    operation: &'static str,
    left: usize,
    turns: Option<&'a Turns>,
    turn: Option<Turn>,
}

impl<'a> Attempts<'a> {
    /// Starts to count.
    pub(super) fn new(operation: &'static str) -> Self {
        Self { operation, left: MAX_ATTEMPTS, turns: None, turn: None }
    }

    /// Starts to count an operation that takes turns with others when it is overtaken.
    pub(super) fn in_turn(operation: &'static str, turns: &'a Turns) -> Self {
        Self { turns: Some(turns), ..Self::new(operation) }
    }

    /// Counts one. An operation that was overtaken before waits for its turn, which it keeps to its end.
    ///
    /// # Errors
    /// `Unavailable` when every attempt was overtaken.
    pub(super) async fn next(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, self.operation, "too many others change the same records")
        })?;
        if let Some(turns) = self.turns.filter(|_| self.turn.is_none() && self.left + PATIENCE < MAX_ATTEMPTS)
        {
            self.turn.insert(turns.join()).comes().await;
        }
        Ok(())
    }
}

/// Deletes everything under a prefix, some at a time; nobody else writes there any more.
pub(super) async fn delete_prefix(
    store: &dyn KeyValue,
    operation: &'static str,
    prefix: Vec<u8>,
) -> Result<u64> {
    let mut deleted = 0;
    loop {
        let entries = store.prefix(prefix.clone(), DELETED_AT_ONCE).await?;
        if entries.is_empty() {
            return Ok(deleted);
        }
        deleted += entries.len() as u64;
        let mut commit = Commit::new();
        for (key, _) in entries {
            commit.delete(key);
        }
        if store.commit(commit).await? != CommitOutcome::Committed {
            let message = "the store refused a commit that expects nothing";
            return Err(Error::new(ErrorKind::Internal, operation, message));
        }
    }
}

/// Values read so far, and as they will be.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    store: &'a dyn KeyValue,
    read: HashMap<Vec<u8>, Option<Vec<u8>>>,
    written: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Transaction<'a> {
    /// Starts a transaction.
    pub(super) fn new(store: &'a dyn KeyValue) -> Self {
        Self { store, read: HashMap::new(), written: HashMap::new() }
    }

    /// Reads keys at one moment, so that later looks at them cost nothing.
    pub(super) async fn load(&mut self, mut keys: Vec<Vec<u8>>) -> Result<()> {
        keys.retain(|key| !self.read.contains_key(key));
        if keys.is_empty() {
            return Ok(());
        }
        let answers = self.store.read(keys.iter().cloned().map(Read::Get).collect()).await?;
        for (key, answer) in keys.into_iter().zip(answers) {
            if let ReadResult::Value(value) = answer {
                self.read.insert(key, value);
            }
        }
        Ok(())
    }

    /// Returns the bytes under a key, as this transaction has changed them.
    pub(super) async fn bytes(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.written.get(key) {
            return Ok(value.clone());
        }
        self.load(vec![key.to_vec()]).await?;
        Ok(self.read.get(key).cloned().flatten())
    }

    /// Returns the record under a key; `what` names it in errors.
    pub(super) async fn get<T: DeserializeOwned>(
        &mut self,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<T>> {
        self.bytes(key).await?.map(|bytes| decode(&bytes, what)).transpose()
    }

    /// Puts a record.
    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, record: &T) -> Result<()> {
        self.put_bytes(key, encode(record)?);
        Ok(())
    }

    /// Puts bytes, for indexes.
    pub(super) fn put_bytes(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.written.insert(key, Some(value));
    }

    /// Deletes a key.
    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.written.insert(key, None);
    }

    /// Commits, unless something that was read has changed: then it answers `false` and the work starts again.
    pub(super) async fn commit(self) -> Result<bool> {
        if self.written.is_empty() {
            return Ok(true);
        }
        let mut commit = Commit::new();
        for (key, value) in self.read {
            commit.expect(key, value);
        }
        for (key, value) in self.written {
            match value {
                Some(value) => commit.put(key, value),
                None => commit.delete(key),
            };
        }
        Ok(self.store.commit(commit).await? == CommitOutcome::Committed)
    }
}
