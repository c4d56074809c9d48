//! The embedded store, through the port that applications use.

use std::path::Path;
use std::sync::Arc;
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

/// Does the same from tasks of one thread, as an asynchronous server has them.
pub(crate) fn load_in_tasks(store: &Arc<EmbeddedStore>, clients: Vec<Vec<Vec<Event>>>) -> Outcome<f64> {
    let events: usize = clients.iter().flatten().map(Vec::len).sum();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let started = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> =
            clients.into_iter().map(|batches| tokio::spawn(client(Arc::clone(store), batches))).collect();
        for task in tasks {
            task.await??;
        }
        Outcome::Ok(())
    })?;
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

async fn client(store: Arc<EmbeddedStore>, batches: Vec<Vec<Event>>) -> Outcome<()> {
    for batch in batches {
        store.append(tenant(), batch, AppendOptions::default()).await?;
    }
    Ok(())
}
