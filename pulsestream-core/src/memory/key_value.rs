//! The key-value port on a sorted map.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::ports::key_value::{Commit, CommitOutcome, KeyValue, Read, ReadResult};

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    closed: bool,
}

/// An ordered map in memory behind one lock.
#[derive(Debug, Default)]
pub struct MemoryKeyValue(RwLock<State>);

impl MemoryKeyValue {
    /// Creates an empty map.
    pub fn new() -> Self {
        Self::default()
    }
}

fn ensure_open(state: &State, operation: &'static str) -> Result<()> {
    if state.closed { Err(Error::new(ErrorKind::Closed, operation, "the store was closed")) } else { Ok(()) }
}

#[async_trait]
impl KeyValue for MemoryKeyValue {
    async fn read(&self, reads: Vec<Read>) -> Result<Vec<ReadResult>> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ensure_open(&state, "key_value.read")?;
        let answer = |read: Read| match read {
            Read::Get(key) => ReadResult::Value(state.entries.get(&key).cloned()),
            Read::Range { start, end, .. } if start >= end => ReadResult::Entries(Vec::new()),
            Read::Range { start, end, limit, reverse } => {
                let range = state.entries.range(start..end).map(|(key, value)| (key.clone(), value.clone()));
                ReadResult::Entries(if reverse {
                    range.rev().take(limit).collect()
                } else {
                    range.take(limit).collect()
                })
            }
        };
        Ok(reads.into_iter().map(answer).collect())
    }

    async fn commit(&self, commit: Commit) -> Result<CommitOutcome> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ensure_open(&state, "key_value.commit")?;
        for (index, precondition) in commit.preconditions.iter().enumerate() {
            if state.entries.get(&precondition.key) != precondition.expected.as_ref() {
                return Ok(CommitOutcome::PreconditionFailed(index));
            }
        }
        for write in commit.writes {
            match write.value {
                Some(value) => state.entries.insert(write.key, value),
                None => state.entries.remove(&write.key),
            };
        }
        Ok(CommitOutcome::Committed)
    }

    async fn close(&self) -> Result<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}
