//! The embedded store, through the port that applications use.

use std::path::Path;
use std::time::Instant;

use pulsestream_core::env::Env;
use pulsestream_core::event::Event;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::testkit::block_on;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};

use crate::Outcome;

/// Opens a store with the default settings, which make every append durable.
pub(crate) fn open(path: &Path) -> Outcome<EmbeddedStore> {
    Ok(EmbeddedStore::open(path, EmbeddedConfig::default(), Env::system())?)
}

/// Returns the only tenant.
pub(crate) fn tenant() -> TenantId {
    TenantId::from_name("bench")
}

/// Appends one batch; every event must be new.
pub(crate) fn append(store: &EmbeddedStore, batch: Vec<Event>) -> Outcome<()> {
    block_on(store.append(tenant(), batch, AppendOptions::default()))?;
    Ok(())
}

/// Appends what each client has, all at once, and returns events per second.
pub(crate) fn load(store: &EmbeddedStore, clients: Vec<Vec<Vec<Event>>>) -> Outcome<f64> {
    let events: usize = clients.iter().flatten().map(Vec::len).sum();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|batches| {
                scope.spawn(move || batches.into_iter().try_for_each(|batch| append(store, batch)))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked")?)
    })?;
    Ok(events as f64 / started.elapsed().as_secs_f64())
}
