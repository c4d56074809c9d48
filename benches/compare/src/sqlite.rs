//! SQLite in write-ahead mode with `synchronous=FULL`: a commit is on the disk when it returns.

use std::path::Path;
use std::time::Instant;

use pulsestream_core::event::Event;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::Outcome;
use crate::rows::{Cell, Kind, Width};

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
        })
    }
}

fn open(path: &Path) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -262_144)?;
    Ok(connection)
}

/// Inserts batches into typed columns, one transaction each; returns events per second. A key makes repeated ids vanish, and an
/// index gives the events of a time, as the embedded store does both.
pub(crate) fn typed(path: &Path, batches: &[Vec<Event>], width: Width) -> Outcome<f64> {
    let mut connection = open(path)?;
    let types = width.types(|kind| match kind {
        Kind::Text => "TEXT",
        Kind::Integer => "INTEGER",
        Kind::Real => "REAL",
    });
    connection.execute(&format!("CREATE TABLE events ({types}, PRIMARY KEY (tenant, id))"), ())?;
    connection.execute("CREATE INDEX events_by_time ON events (tenant, timestamp)", ())?;
    let places = vec!["?"; width.columns().count()].join(", ");
    let insert = format!("INSERT OR IGNORE INTO events VALUES ({places})");
    let started = Instant::now();
    for batch in batches {
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(&insert)?;
            for event in batch {
                statement.execute(params_from_iter(width.row(event)))?;
            }
        }
        transaction.commit()?;
    }
    Ok(rate(batches, started))
}

/// Inserts batches as text that nothing reads or checks, with no key and no index.
pub(crate) fn opaque(path: &Path, batches: &[Vec<(i64, String)>]) -> Outcome<f64> {
    let mut connection = open(path)?;
    connection.execute("CREATE TABLE events (timestamp INTEGER, body TEXT)", ())?;
    let started = Instant::now();
    for batch in batches {
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached("INSERT INTO events VALUES (?, ?)")?;
            for (timestamp, body) in batch {
                statement.execute((timestamp, body))?;
            }
        }
        transaction.commit()?;
    }
    Ok(rate(batches, started))
}

fn rate<T>(batches: &[Vec<T>], started: Instant) -> f64 {
    let events: usize = batches.iter().map(Vec::len).sum();
    events as f64 / started.elapsed().as_secs_f64()
}
