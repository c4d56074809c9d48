//! Ids of events that came without one.

use crate::env::Env;
use crate::error::Result;
use crate::id::EventId;

/// How many ids are made ahead for a batch: enough to make the price of randomness small, and few to throw away.
const RUN: usize = 64;

/// Makes ids as they are needed.
#[derive(Debug)]
pub(super) struct NewIds {
    env: Env,
    /// Made ahead, the next one last.
    ahead: Vec<u128>,
    run: usize,
}

impl NewIds {
    pub(super) fn new(env: Env) -> Self {
        Self { env, ahead: Vec::new(), run: 1 }
    }

    /// Begins to make ids ahead, because more are likely to be needed.
    pub(super) fn begin_batch(&mut self) {
        self.run = RUN;
    }

    /// Forgets those that were not needed: an id is no older than the request that it is given in.
    pub(super) fn end_batch(&mut self) {
        self.ahead.clear();
        self.run = 1;
    }

    pub(super) fn take(&mut self) -> Result<EventId> {
        if self.ahead.is_empty() {
            self.ahead = self.env.uuids_v7(self.run)?;
            self.ahead.reverse();
        }
        match self.ahead.pop() {
            Some(id) => Ok(EventId::from_u128(id)),
            None => Ok(EventId::from_u128(self.env.uuid_v7()?)),
        }
    }
}
