//! Durable appends: batches of 1,000 and single events, of one client and of many.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pulsestream_core::event::Event;
use pulsestream_embedded::EmbeddedStore;

use crate::postgres::Postgres;
use crate::rows::{Width, batches};
use crate::table::Scenario;
use crate::{Outcome, disk, duckdb, events, ours, sqlite};

const BATCH: u64 = 1_000;
const SINGLES: u64 = 3_000;

/// Prints tables with the ratios. Every store gets the same number of events, in a table or a folder of its own.
pub(crate) fn run(part: Option<&str>) -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let postgres = std::env::var("PULSESTREAM_TEST_POSTGRES_URL").ok();
    if part != Some("singles") {
        many(folder.path(), postgres.as_deref())?;
    }
    if part != Some("batches") {
        one(folder.path(), postgres.as_deref())?;
    }
    Ok(())
}

/// Batches of 1,000.
fn many(folder: &Path, postgres: Option<&str>) -> Outcome<()> {
    let mut sqlite = None;
    for (title, count) in [("Batches of 1,000, one client", 1), ("Batches of 1,000, sixteen clients", 16)] {
        let mut scenario = Scenario::new(title);
        let clients = clients(3 + count, count, events(), BATCH);
        let store = ours::open(&folder.join(count.to_string()))?;
        scenario.rate("pulsestream", ours::load(&store, clients.clone())?);
        // What is left to do must not slow down the others.
        settle(store)?;
        let (typed, fields, opaque) = match sqlite {
            Some(rates) => rates,
            None => *sqlite.insert(sqlite_rates(folder, &clients[0])?),
        };
        scenario.rate("SQLite, one writer, columns, key and time index", typed);
        scenario.rate("SQLite, one writer, the same without columns for paths", fields);
        scenario.rate("SQLite, one writer, opaque text, no key", opaque);
        if let Ok(python) = std::env::var("PYTHON") {
            scenario.rate("DuckDB, columns and key", duckdb::batches(&python, &clients, true)?);
            scenario.rate("DuckDB, columns, no key", duckdb::batches(&python, &clients, false)?);
        }
        if let Some(url) = postgres {
            let (copy, copy_new) =
                ("COPY, columns, key and time index", "COPY, the same, repeated ids skipped");
            scenario.rate(&format!("PostgreSQL, {copy}"), Postgres::create(url)?.copy(&clients)?);
            scenario.rate(&format!("PostgreSQL, {copy_new}"), Postgres::create(url)?.copy_new(&clients)?);
        }
        if count == 1 {
            let bytes = disk::log_bytes(&folder.join("bytes"), &clients[0][0])?;
            let batches = disk::syncs(&folder.join("floor"), bytes, events() / BATCH)?;
            scenario.rate("the disk: the same bytes written in place and synced", batches * BATCH as f64);
        }
    }
    Ok(())
}

/// One event an append.
fn one(folder: &Path, postgres: Option<&str>) -> Outcome<()> {
    let store = Arc::new(ours::open(&folder.join("singles"))?);
    let mut scenario = Scenario::new("One event an append, one client");
    scenario.rate("pulsestream", ours::load(&store, clients(7, 1, SINGLES, 1))?);
    let singles = batches(8, SINGLES, 1);
    let typed = sqlite::typed(&folder.join("singles.sqlite"), &singles, Width::Paths)?;
    scenario.rate("SQLite, columns, key and time index", typed);
    if let Some(url) = postgres {
        scenario.rate("PostgreSQL, INSERT", Postgres::create(url)?.insert(&[singles])?);
    }
    let disk = disk::syncs(&folder.join("raw"), 512, SINGLES)?;
    scenario.rate("the disk: 512 bytes written in place and synced", disk);

    let mut scenario = Scenario::new("One event an append, 64 at once: tasks of one thread");
    scenario.rate("pulsestream", ours::load_in_tasks(&store, clients(11, 64, 64 * 1_000, 1))?);
    scenario.rate("pulsestream, 64 threads", ours::load(&store, clients(9, 64, 64 * 1_000, 1))?);
    if let Some(url) = postgres {
        let sixteen = clients(10, 16, 16 * 500, 1);
        scenario.rate("PostgreSQL, INSERT, 16 connections", Postgres::create(url)?.insert(&sixteen)?);
    }
    Ok(())
}

/// Merges what is left to merge, and says how long that took and what it came to.
fn settle(store: EmbeddedStore) -> Outcome<()> {
    let started = Instant::now();
    store.maintain()?;
    let seconds = started.elapsed().as_secs_f64();
    let report = store.verify()?;
    let bytes: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    let stored: u64 = report.segments.iter().map(|segment| segment.rows).sum();
    println!("  (compacted within {seconds:.1} s to {:.1} bytes an event)", bytes as f64 / stored as f64);
    Ok(())
}

/// Measures SQLite with typed columns, with those of the event's own fields only, and with text that is made before the clock runs.
fn sqlite_rates(folder: &Path, batches: &[Vec<Event>]) -> Outcome<(f64, f64, f64)> {
    let typed = sqlite::typed(&folder.join("typed.sqlite"), batches, Width::Paths)?;
    let fields = sqlite::typed(&folder.join("fields.sqlite"), batches, Width::Fields)?;
    let opaque: Vec<Vec<_>> = batches
        .iter()
        .map(|batch| {
            let text = |event: &Event| Ok((event.timestamp.as_micros(), serde_json::to_string(event)?));
            batch.iter().map(text).collect()
        })
        .collect::<Outcome<_>>()?;
    Ok((typed, fields, sqlite::opaque(&folder.join("opaque.sqlite"), &opaque)?))
}

/// Divides events among clients, each with a seed of its own.
fn clients(seed: u64, count: u64, events: u64, size: u64) -> Vec<Vec<Vec<Event>>> {
    (0..count).map(|client| batches(seed * 1_000 + client, events / count, size)).collect()
}
