//! The embedded store beside SQLite, DuckDB and PostgreSQL: the same events, the same disk, one run.
//!
//! `cargo run --release --manifest-path benches/compare/Cargo.toml -- append`, with
//! - `PULSESTREAM_TEST_POSTGRES_URL` for PostgreSQL (its tables are made in a schema of their own and dropped),
//! - `PYTHON`, an interpreter with the packages `duckdb` and `pyarrow`, for DuckDB,
//! - `EVENTS` for another number of events than 500,000.
//!
//! `-- query` asks both our store and DuckDB the questions of a dashboard about 1,000,000 events (or `EVENTS`) of many tenants.
//!
//! `-- append batches` or `-- append singles` runs a half of it. `-- costs` says what an event costs the embedded store, stage by stage.
//!
//! `-- sustained` appends `EVENTS` events, some millions, while what came before is sealed and merged, and says how the rate changes.
//!
//! `-- memory` loads `EVENTS` events, says how much memory that took, and asks questions with a column cache far smaller than the
//! columns; the answers must equal the reference, and the memory stay within its budget.

mod append;
mod costs;
mod disk;
mod duckdb;
mod memory;
mod ours;
mod postgres;
mod query;
mod rows;
mod sqlite;
mod sustained;
mod table;

use std::error::Error;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    match std::env::args().nth(1).as_deref() {
        Some("append") => append::run(std::env::args().nth(2).as_deref()),
        Some("query") => query::run(),
        Some("memory") => match (std::env::args().nth(2).as_deref(), std::env::args().nth(3)) {
            (Some("answers"), Some(folder)) => memory::answer(folder.as_ref()),
            (Some("reference"), _) => memory::reference(),
            _ => memory::run(),
        },
        Some("costs") => costs::run(),
        Some("sustained") => sustained::run(),
        _ => Err("say what to compare: append, sustained, query, memory or costs".into()),
    }
}

/// How many events the run is about.
fn events() -> u64 {
    std::env::var("EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(500_000)
}
