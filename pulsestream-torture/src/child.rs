//! The process that is killed: several threads append, delete and retain until the end.

use std::path::Path;

use pulsestream_core::Result;
use pulsestream_core::ports::event_store::{AppendOptions, DeleteSelection, EventStore};
use pulsestream_core::testkit::block_on;
use pulsestream_embedded::EmbeddedStore;

use crate::ledger::Line;
use crate::load::{self, RUN};

/// Threads that append.
const CLIENTS: u64 = 4;
/// How many events a batch has, in turn.
const BATCHES: [u64; 4] = [1, 3, 64, 17];

/// Works until it is killed, and says what it does.
pub(crate) fn run(folder: &Path, start: u64) -> Result<()> {
    let store = load::open(folder)?;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let store = &store;
                scope.spawn(move || work(store, start, client))
            })
            .collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or(Ok(())))
    })
}

/// Each client has its own numbers, in runs of one tenant.
fn work(store: &EmbeddedStore, start: u64, client: u64) -> Result<()> {
    for round in 0.. {
        let first = start + (round * CLIENTS + client) * RUN;
        let count = BATCHES[usize::try_from(round % 4).unwrap_or(0)];
        append(store, first..first + count)?;
        if round % 6 == 5 {
            delete(store, first)?;
        }
        // One client, so that retentions follow each other.
        if client == 0 && round % 16 == 15 {
            retain(store, first.saturating_sub(CLIENTS * RUN * 8).max(start))?;
        }
    }
    Ok(())
}

/// Appends events durably.
pub(crate) fn append(store: &EmbeddedStore, numbers: std::ops::Range<u64>) -> Result<()> {
    Line::Submitted(numbers.clone()).announce()?;
    let events = numbers.clone().map(load::event).collect();
    block_on(store.append(load::tenant(numbers.start), events, AppendOptions::default()))?;
    Line::Acknowledged(numbers).say();
    Ok(())
}

/// Deletes an event.
pub(crate) fn delete(store: &EmbeddedStore, number: u64) -> Result<()> {
    Line::Deleting(number).announce()?;
    let selection = DeleteSelection::Ids(vec![load::event(number).id]);
    block_on(store.delete(load::tenant(number), &selection))?;
    Line::Deleted(number).say();
    Ok(())
}

/// Drops the aging events before a number.
pub(crate) fn retain(store: &EmbeddedStore, cut: u64) -> Result<()> {
    Line::Retaining(cut).announce()?;
    block_on(store.retain(load::tenant_at(load::TENANTS - 1), load::time_of(cut)))?;
    Line::Retained(cut).say();
    Ok(())
}
