//! Durable appends: batches of 1,000 and single events, of one client and of many.

use std::os::unix::fs::FileExt;
use std::time::Instant;

use pulsestream_core::event::Event;

use crate::postgres::Postgres;
use crate::rows::{batches, rows};
use crate::table::Scenario;
use crate::{Outcome, duckdb, events, ours, sqlite};

/// Events of the slower stores in the scenarios of batches.
const RIVAL_EVENTS: u64 = 160_000;
const BATCH: u64 = 1_000;
const SINGLES: u64 = 3_000;

/// Prints one table with the ratios.
pub(crate) fn run() -> Outcome<()> {
    let folder = tempfile::tempdir_in(".")?;
    let postgres = std::env::var("PULSESTREAM_TEST_POSTGRES_URL").ok();
    let store = ours::open(&folder.path().join("batches"))?;

    let one_rows = rows(&batches(3, RIVAL_EVENTS, BATCH));
    let many_rows: Vec<_> = clients(4, 16, RIVAL_EVENTS, BATCH).iter().map(|batches| rows(batches)).collect();
    let all: Vec<_> = std::iter::once(&one_rows).chain(&many_rows).cloned().collect();
    let duckdb = match std::env::var("PYTHON") {
        Ok(python) => Some(duckdb::batches(&python, folder.path(), &all)?),
        Err(_) => None,
    };
    let typed = sqlite::typed(&folder.path().join("typed.sqlite"), &one_rows)?;
    let opaque: Vec<Vec<_>> = batches(3, RIVAL_EVENTS, BATCH)
        .iter()
        .map(|batch| {
            batch
                .iter()
                .map(|event| Ok((event.timestamp.as_micros(), serde_json::to_string(event)?)))
                .collect()
        })
        .collect::<Outcome<_>>()?;
    let opaque = sqlite::opaque(&folder.path().join("opaque.sqlite"), &opaque)?;

    for (title, count, all) in [
        ("Batches of 1,000, one client", 1, std::slice::from_ref(&one_rows)),
        ("Batches of 1,000, sixteen clients", 16, &many_rows[..]),
    ] {
        let mut scenario = Scenario::new(title);
        let loads = clients(1_000 + count, count, events(), BATCH);
        scenario.rate("pulsestream", ours::load(&store, loads)?);
        scenario.rate("SQLite, one writer, columns with a key", typed);
        scenario.rate("SQLite, one writer, opaque text, no key", opaque);
        if let Some(rates) = &duckdb {
            scenario.rate("DuckDB, columns from Arrow, no key", rates[usize::from(count > 1)]);
        }
        if let Some(url) = &postgres {
            scenario.rate("PostgreSQL, COPY, columns with a key", Postgres::create(url)?.copy(all)?);
        }
    }
    let started = Instant::now();
    store.maintain()?;
    let report = store.verify()?;
    let bytes: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    let stored: u64 = report.segments.iter().map(|segment| u64::from(segment.rows)).sum();
    println!(
        "\nCompacted within {:.1} s to {:.1} bytes an event",
        started.elapsed().as_secs_f64(),
        bytes as f64 / stored as f64
    );
    drop(store);

    let store = ours::open(&folder.path().join("singles"))?;
    let mut scenario = Scenario::new("One event an append, one client");
    scenario.rate("pulsestream", ours::load(&store, clients(7, 1, SINGLES, 1))?);
    let singles = rows(&batches(8, SINGLES, 1));
    scenario
        .rate("SQLite, columns with a key", sqlite::typed(&folder.path().join("singles.sqlite"), &singles)?);
    if let Some(url) = &postgres {
        scenario.rate("PostgreSQL, INSERT", Postgres::create(url)?.insert(&[singles])?);
    }
    scenario.rate("the disk: write 512 bytes in place and sync", sync_rate(&folder.path().join("raw"))?);

    let mut scenario = Scenario::new("One event an append, 64 at once");
    scenario.rate("pulsestream", ours::load(&store, clients(9, 64, 64 * 1_000, 1))?);
    if let Some(url) = &postgres {
        let sixteen: Vec<_> = clients(10, 16, 16 * 500, 1).iter().map(|batches| rows(batches)).collect();
        scenario.rate("PostgreSQL, INSERT, 16 connections", Postgres::create(url)?.insert(&sixteen)?);
    }
    Ok(())
}

/// Divides events among clients, each with a seed of its own.
fn clients(seed: u64, count: u64, events: u64, size: u64) -> Vec<Vec<Vec<Event>>> {
    (0..count).map(|client| batches(seed * 1_000 + client, events / count, size)).collect()
}

fn sync_rate(path: &std::path::Path) -> Outcome<f64> {
    const BYTES: u64 = 8 << 20;
    let file = std::fs::File::create(path)?;
    file.write_all_at(&vec![0; BYTES as usize], 0)?;
    file.sync_all()?;
    let started = Instant::now();
    for number in 0..SINGLES {
        file.write_all_at(&[7; 512], number * 512 % BYTES)?;
        file.sync_data()?;
    }
    Ok(SINGLES as f64 / started.elapsed().as_secs_f64())
}
