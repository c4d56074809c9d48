//! DuckDB through its Python wheel, because its crate compiles for twenty minutes.

use std::io::{BufWriter, Write};
use std::process::Command;

use pulsestream_core::event::Event;
use serde_json::{Map, Value};

use crate::Outcome;
use crate::rows::{Cell, Kind, Width};

/// Inserts batches into typed columns from Arrow tables made before the clock runs; returns events per second. With a key repeated
/// ids vanish, as they do in the embedded store. It keeps the smallest and largest time of each row group, so it needs no other index.
pub(crate) fn batches(python: &str, clients: &[Vec<Vec<Event>>], key: bool) -> Outcome<f64> {
    let folder = tempfile::tempdir_in(".")?;
    let folder = folder.path();
    let types = Width::Paths.types(|kind| match kind {
        Kind::Text => "VARCHAR",
        Kind::Integer => "BIGINT",
        Kind::Real => "DOUBLE",
    });
    for (index, batches) in clients.iter().enumerate() {
        let mut out = BufWriter::new(std::fs::File::create(folder.join(format!("{index}.ndjson")))?);
        for event in batches.iter().flatten() {
            serde_json::to_writer(&mut out, &object(Width::Paths, event))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    let output = Command::new(python)
        .args(["-c", include_str!("duckdb_append.py")])
        .arg(folder)
        .arg(&types)
        .arg(if key { ", PRIMARY KEY (tenant, id)" } else { "" })
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Returns an event as an object with its columns.
pub(crate) fn object(width: Width, event: &Event) -> Map<String, Value> {
    let value = |cell: Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.into(),
        Cell::Integer(number) => number.into(),
        Cell::Real(number) => number.into(),
    };
    width.columns().zip(width.row(event)).map(|((name, _), cell)| (name.to_owned(), value(cell))).collect()
}
