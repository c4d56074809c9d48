//! Model-based test: random operations on a store and on the memory store, with the same answers.

mod draw;
mod run;

use std::sync::Arc;

pub use draw::Draw;

use super::event_store::{EventStoreHarness, Probe};

/// Applies `steps` random operations of several tenants to a fresh store and to a
/// [`MemoryEventStore`](crate::memory::MemoryEventStore), and compares every answer: outcomes, events, order, cursors, totals, tables,
/// rows, the log, errors. The same seed draws the same operations.
///
/// # Panics
/// When an answer differs; the message has the seed and the operations up to there.
pub async fn check_model(harness: Arc<dyn EventStoreHarness>, seed: u64, steps: usize) {
    run::Run::open(harness, seed).await.steps(steps).await;
}

/// Several short runs: a short one that fails is easier to read than a long one.
pub(super) async fn model_agrees(probe: Probe) {
    for seed in 0..8 {
        check_model(probe.harness.clone(), seed, 60).await;
    }
}

/// A long run, in which many events pile up.
pub(super) async fn model_agrees_for_long(probe: Probe) {
    check_model(probe.harness.clone(), 1_000, 400).await;
}
