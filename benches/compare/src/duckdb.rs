//! DuckDB through its Python wheel, because its crate compiles for twenty minutes.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

use crate::Outcome;
use crate::rows::{COLUMNS, Cell, Kind, Row, columns};

/// Inserts batches into typed columns, with no key, from Arrow tables made before the clock runs; returns events per second of one
/// client and of sixteen. `clients` are the batches of the one, then of the sixteen.
pub(crate) fn batches(python: &str, folder: &Path, clients: &[Vec<Vec<Row>>]) -> Outcome<Vec<f64>> {
    let types = columns(|kind| match kind {
        Kind::Text => "VARCHAR",
        Kind::Integer => "BIGINT",
        Kind::Real => "DOUBLE",
    });
    for (index, batches) in clients.iter().enumerate() {
        let mut out = BufWriter::new(std::fs::File::create(folder.join(format!("{index}.ndjson")))?);
        for row in batches.iter().flatten() {
            serde_json::to_writer(&mut out, &object(row))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    let output = Command::new(python)
        .args(["-c", include_str!("duckdb_append.py")])
        .arg(folder)
        .arg(&types)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn object(row: &Row) -> Map<String, Value> {
    let value = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Integer(number) => (*number).into(),
        Cell::Real(number) => (*number).into(),
    };
    COLUMNS.iter().zip(row).map(|((name, _), cell)| ((*name).to_owned(), value(cell))).collect()
}
