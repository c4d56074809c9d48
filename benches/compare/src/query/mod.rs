//! Questions to the embedded store and to DuckDB: the same events of many tenants, answers checked equal, in one run.

mod answers;
mod duckdb;
mod ours;
mod questions;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use pulsestream_core::event::Event;
use pulsestream_core::testkit::EventGenerator;
use pulsestream_embedded::EmbeddedStore;
use serde_json::{Map, Value, json};

use crate::rows::Width;
use crate::{Outcome, events};
pub(crate) use answers::{Answer, compare};
pub(crate) use ours::table;
pub(crate) use questions::{Ask, Question, all as questions};

/// Events of each tenant out of fifty: one large tenant, some medium ones, and many small ones.
const SHARES: [u64; 15] = [20, 5, 5, 5, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
const BATCH: u64 = 500;

/// Four weeks, so that seven days are a quarter of them.
const WEEKS_MICROS: u64 = 28 * 86_400_000_000;

/// Seconds that one question took: the median of hot runs.
struct Times {
    one_tenant: f64,
    all_tenants: f64,
}

/// Prints one table with the ratios.
pub(crate) fn run() -> Outcome<()> {
    let events = std::env::var("EVENTS").map_or(1_000_000, |_| events());
    let python =
        std::env::var("PYTHON").map_err(|_| "set PYTHON to an interpreter with duckdb and pyarrow")?;
    let folder = tempfile::tempdir_in(".")?;
    let store = ours::open(&folder.path().join("store"))?;
    let small = ours::open(&folder.path().join("small"))?;
    let ids = load(folder.path(), &store, &small, events)?;
    store.maintain()?;

    let questions = questions();
    let mut ours = Vec::new();
    for question in &questions {
        ours.push(ours::measure(&store, &small, question, &ids)?);
    }
    let duckdb = duckdb::measure(&python, folder.path(), &questions, &ids)?;
    println!(
        "{events} events of {} tenants, {} threads each; milliseconds, median of hot runs",
        SHARES.len(),
        ours::THREADS
    );
    println!(
        "DuckDB {}: the better of a table as inserted and one sorted by tenant and time",
        duckdb.version
    );
    println!("{:<58} {:>10} {:>10} {:>8}", "", "ours", "DuckDB", "ratio");
    let mut ratios = Vec::new();
    for ((question, (answers, times, cold)), rival) in questions.iter().zip(&ours).zip(&duckdb.results) {
        answers::compare(question, answers, &rival.answers)?;
        let mut line = |scope: &str, ours: f64, rival: f64| {
            let name = format!("{}, {scope}", question.name);
            println!("{name:<58} {:>10.3} {:>10.3} {:>8.1}", ours * 1e3, rival * 1e3, rival / ours);
            if question.counts {
                ratios.push(rival / ours);
            }
        };
        line("one tenant", times.one_tenant, rival.times.one_tenant);
        if question.in_turn {
            line("all in turn", times.all_tenants, rival.times.all_tenants);
        }
        if let Some(cold) = cold {
            println!("{:<58} {:>10.3}", "  the same, ids that nobody asked for before", cold * 1e3);
        }
        if let Some(extracted) = rival.extracted {
            println!(
                "{:<58} {:>10} {:>10.3} {:>8.1}",
                "  the same, DuckDB extracting from JSON",
                "",
                extracted * 1e3,
                extracted / times.one_tenant
            );
        }
    }
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "geometric mean of the ratios of the five aggregates: {mean:.1}, the least {least:.1}; all answers are equal"
    );
    Ok(())
}

/// Appends the same events to the store and to a file for DuckDB; returns ids to look up, those of each tenant.
fn load(
    folder: &Path,
    store: &EmbeddedStore,
    small: &EmbeddedStore,
    events: u64,
) -> Outcome<Vec<Vec<String>>> {
    let start = "2026-01-01T00:00:00Z".parse()?;
    let whole: u64 = SHARES.iter().sum();
    let mut generators: Vec<(EventGenerator, u64)> = SHARES
        .iter()
        .enumerate()
        .map(|(tenant, share)| {
            let mine = (events * share / whole).max(BATCH);
            (EventGenerator::starting(100 + tenant as u64, start, WEEKS_MICROS / mine), mine / BATCH)
        })
        .collect();
    let mut out = BufWriter::new(std::fs::File::create(folder.join("events.ndjson"))?);
    let mut ids = vec![Vec::new(); SHARES.len()];
    let started = Instant::now();
    // Tenants append at the same time, each in proportion to its share.
    let rounds = generators.iter().map(|(_, batches)| *batches).max().unwrap_or(0);
    for round in 0..rounds {
        for (tenant, (generator, batches)) in generators.iter_mut().enumerate() {
            if round * *batches / rounds == (round + 1) * *batches / rounds {
                continue;
            }
            let batch: Vec<Event> = (0..BATCH).map(|_| generator.event()).collect();
            for event in &batch {
                serde_json::to_writer(&mut out, &object(tenant, event))?;
                out.write_all(b"\n")?;
            }
            ids[tenant].push(batch[batch.len() / 2].id.to_string());
            ours::append(store, tenant, batch)?;
        }
    }
    out.flush()?;
    let mut generator = EventGenerator::new(99);
    let few: Vec<Event> = (0..1_000).map(|_| generator.event()).collect();
    let mut out = BufWriter::new(std::fs::File::create(folder.join("small.ndjson"))?);
    for event in &few {
        serde_json::to_writer(&mut out, &object(0, event))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    ours::append(small, 0, few)?;
    eprintln!("loaded within {:.0} s", started.elapsed().as_secs_f64());
    Ok(ids)
}

/// An event as a row for DuckDB, with columns for the paths that our segments shred too.
fn object(tenant: usize, event: &Event) -> Map<String, Value> {
    let mut object = crate::duckdb::object(Width::Fields, event);
    object.insert("tenant".to_owned(), json!(tenant));
    let payload: Value = serde_json::from_str(event.payload.as_str()).unwrap_or_default();
    object.insert("payload_coupon".to_owned(), payload["coupon"].clone());
    object.insert("payload_total".to_owned(), payload["total"].clone());
    object
}
