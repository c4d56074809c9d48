//! Where a new stream starts to read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pulsestream_core::alerting::PROCESSOR;
use pulsestream_core::ports::event_store::{Partition, Position, TailOptions};

use crate::app::App;
use crate::failure::Answer;

/// How far the log of each partition was read by the streams of this process.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<HashMap<u16, Position>>);

impl Heads {
    /// Notes that the log of a partition was read up to a position.
    pub(super) fn read_up_to(&self, partition: Partition, position: Position) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = heads.entry(partition.number()).or_default();
        *head = (*head).max(position);
    }

    fn of(&self, partition: Partition) -> Position {
        let heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heads.get(&partition.number()).copied().unwrap_or_default()
    }
}

impl App {
    /// Returns the end of the log of a partition: what is appended after the call comes after it. The log is read from the
    /// furthest place that is known, which is that of another stream or of the alerting processor.
    pub(super) async fn end_of_log(&self, partition: Partition) -> Answer<Position> {
        let known = self.heads.of(partition);
        let checkpoint = self.ps.alert_store().checkpoint(PROCESSOR, partition).await?;
        let mut position = checkpoint.map_or(known, |checkpoint| checkpoint.position.max(known));
        loop {
            let batch = self.ps.event_store().tail(partition, position, TailOptions::default()).await?;
            position = batch.next;
            if batch.caught_up {
                self.heads.read_up_to(partition, position);
                return Ok(position);
            }
        }
    }
}
