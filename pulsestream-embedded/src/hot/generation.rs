//! The batches that become one segment together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Run};
use crate::cache::Cache;
use crate::part::Rows;

/// Runs do not grow beyond this.
const MAX_RUN_ROWS: usize = 65_536;

/// Batches in the order of the log, and the runs queries read.
#[derive(Debug)]
pub(crate) struct Generation {
    start: u64,
    log: Mutex<Log>,
    runs: Mutex<Vec<BuiltRun>>,
}

#[derive(Debug)]
struct Log {
    batches: Vec<Arc<Batch>>,
    end: u64,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct BuiltRun {
    /// Index after its last batch.
    end: usize,
    run: Arc<Run>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Generation {
    /// Creates an empty generation that starts at a position.
    pub(crate) fn new(start: u64) -> Self {
        let log = Log { batches: Vec::new(), end: start, rows: 0, bytes: 0 };
        Self { start, log: Mutex::new(log), runs: Mutex::default() }
    }

    /// Returns the position of its first event.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the position after its last event.
    pub(crate) fn end(&self) -> u64 {
        held(&self.log).end
    }

    /// Returns the number of events.
    pub(crate) fn rows(&self) -> usize {
        held(&self.log).rows
    }

    /// Returns the bytes held.
    pub(crate) fn bytes(&self) -> usize {
        held(&self.log).bytes
    }

    /// Makes committed batches visible, all at once.
    pub(crate) fn publish(&self, batches: Vec<Batch>) {
        let mut log = held(&self.log);
        for batch in batches {
            log.rows += batch.len();
            log.bytes += batch.heap_bytes();
            log.end = batch.position + batch.len() as u64;
            log.batches.push(Arc::new(batch));
        }
    }

    /// Returns the batches that hold events from a position on, oldest first.
    pub(crate) fn batches_from(&self, position: u64) -> Vec<Arc<Batch>> {
        let log = held(&self.log);
        let first = log.batches.partition_point(|batch| batch.position + batch.len() as u64 <= position);
        log.batches[first..].to_vec()
    }

    /// Returns runs that together hold every visible event. Small ones are merged as they come, each event a number of times that
    /// grows with the logarithm of the rows.
    pub(crate) fn runs(&self, cache: &Cache) -> Vec<Arc<Run>> {
        // Taken first: whoever waits here finds the rows of all before.
        let mut runs = held(&self.runs);
        let batches = held(&self.log).batches.clone();
        let built = runs.last().map_or(0, |run| run.end);
        if built < batches.len() {
            let mut start = built;
            let mut rows: usize = batches[built..].iter().map(|batch| batch.len()).sum();
            while let Some(last) = runs.last() {
                let merged = rows + last.run.rows();
                if last.run.rows() > rows * 2 || merged > MAX_RUN_ROWS {
                    break;
                }
                rows = merged;
                cache.forget(last.run.key());
                runs.pop();
                start = runs.last().map_or(0, |run| run.end);
            }
            let run = Arc::new(Run::new(batches[start..].to_vec()));
            runs.push(BuiltRun { end: batches.len(), run });
        }
        runs.iter().map(|built| Arc::clone(&built.run)).collect()
    }

    /// Returns all events as one run, to be sealed.
    pub(crate) fn sorted(&self) -> Run {
        Run::new(held(&self.log).batches.clone())
    }

    /// Lets the cache forget the runs.
    pub(crate) fn forget(&self, cache: &Cache) {
        for built in held(&self.runs).iter() {
            cache.forget(built.run.key());
        }
    }
}
