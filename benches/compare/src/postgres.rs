//! PostgreSQL with its default durability: `fsync` and `synchronous_commit` are on, or the run ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use postgres::{Client, NoTls, Statement};
use pulsestream_core::event::Event;

use crate::Outcome;
use crate::rows::{Cell, Kind, Width};

/// The columns of the table.
const WIDTH: Width = Width::Paths;

/// A table in a schema of its own, which is dropped with it.
pub(crate) struct Postgres {
    url: String,
}

const SCHEMA: &str = "pulsestream_compare";

impl Postgres {
    /// Creates the table.
    pub(crate) fn create(url: &str) -> Outcome<Self> {
        let this = Self { url: url.to_owned() };
        let mut client = Client::connect(url, NoTls)?;
        client.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}"))?;
        for setting in ["fsync", "synchronous_commit"] {
            let value: String = client.query_one(&format!("SHOW {setting}"), &[])?.get(0);
            if value != "on" {
                return Err(format!("PostgreSQL runs with {setting}={value}: that is not durable").into());
            }
        }
        let types = WIDTH.types(|kind| match kind {
            Kind::Text => "text",
            Kind::Integer => "bigint",
            Kind::Real => "double precision",
        });
        client.batch_execute(&format!(
            "CREATE TABLE {SCHEMA}.events ({types}, PRIMARY KEY (tenant, id));
             CREATE INDEX ON {SCHEMA}.events (tenant, timestamp)"
        ))?;
        Ok(this)
    }

    /// Copies what each client has, one transaction a batch, and returns events per second. A repeated id refuses its batch.
    pub(crate) fn copy(&self, clients: &[Vec<Vec<Event>>]) -> Outcome<f64> {
        self.run(clients, |client, _, batch| {
            let mut writer = client.copy_in(&format!("COPY {SCHEMA}.events FROM STDIN"))?;
            writer.write_all(&copy_text(batch))?;
            writer.finish()?;
            Ok(())
        })
    }

    /// Copies as [`Self::copy`] does, but into a table beside, from which new events are taken, so that repeated ids vanish as they do
    /// in the embedded store.
    pub(crate) fn copy_new(&self, clients: &[Vec<Vec<Event>>]) -> Outcome<f64> {
        self.run(clients, |client, _, batch| {
            let mut transaction = client.transaction()?;
            transaction.batch_execute(&format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS fresh (LIKE {SCHEMA}.events) ON COMMIT DELETE ROWS"
            ))?;
            let mut writer = transaction.copy_in("COPY fresh FROM STDIN")?;
            writer.write_all(&copy_text(batch))?;
            writer.finish()?;
            transaction.batch_execute(&format!(
                "INSERT INTO {SCHEMA}.events SELECT * FROM fresh ON CONFLICT DO NOTHING"
            ))?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Inserts what each client has, one transaction an event, and returns events per second.
    pub(crate) fn insert(&self, clients: &[Vec<Vec<Event>>]) -> Outcome<f64> {
        self.run(clients, |client, statement, batch| {
            for event in batch {
                let row = WIDTH.row(event);
                let values: Vec<_> = row.iter().map(parameter).collect();
                let values: Vec<_> = values.iter().map(|value| &**value).collect();
                client.execute(statement, &values)?;
            }
            Ok(())
        })
    }

    fn run(
        &self,
        clients: &[Vec<Vec<Event>>],
        each: impl Fn(&mut Client, &Statement, &[Event]) -> Outcome<()> + Sync,
    ) -> Outcome<f64> {
        let mut connections = Vec::new();
        for _ in clients {
            let mut client = Client::connect(&self.url, NoTls)?;
            let places: Vec<String> =
                (1..=WIDTH.columns().count()).map(|number| format!("${number}")).collect();
            let insert =
                format!("INSERT INTO {SCHEMA}.events VALUES ({}) ON CONFLICT DO NOTHING", places.join(", "));
            let statement = client.prepare(&insert)?;
            connections.push((client, statement));
        }
        let events: usize = clients.iter().flatten().map(Vec::len).sum();
        let each = &each;
        let started = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = connections
                .iter_mut()
                .zip(clients)
                .map(|((client, statement), batches)| {
                    scope.spawn(move || batches.iter().try_for_each(|batch| each(client, statement, batch)))
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked")?)
        })?;
        Ok(events as f64 / started.elapsed().as_secs_f64())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let dropped = Client::connect(&self.url, NoTls)
            .and_then(|mut client| client.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")));
        if let Err(error) = dropped {
            eprintln!("the schema {SCHEMA} stays behind: {error}");
        }
    }
}

fn parameter<'a>(cell: &'a Cell<'_>) -> Box<dyn postgres::types::ToSql + Sync + 'a> {
    match cell {
        Cell::Null => Box::new(Nothing),
        Cell::Text(text) => Box::new(text.as_ref()),
        Cell::Integer(number) => Box::new(*number),
        Cell::Real(number) => Box::new(*number),
    }
}

/// The missing value of any type.
#[derive(Debug)]
struct Nothing;

impl postgres::types::ToSql for Nothing {
    fn to_sql(
        &self,
        _: &postgres::types::Type,
        _: &mut postgres::types::private::BytesMut,
    ) -> Result<postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(postgres::types::IsNull::Yes)
    }

    fn accepts(_: &postgres::types::Type) -> bool {
        true
    }

    postgres::types::to_sql_checked!();
}

/// Writes rows in the text format of `COPY`.
fn copy_text(batch: &[Event]) -> Vec<u8> {
    let mut text = String::new();
    for event in batch {
        for (index, cell) in WIDTH.row(event).iter().enumerate() {
            if index > 0 {
                text.push('\t');
            }
            match cell {
                Cell::Null => text.push_str("\\N"),
                Cell::Text(value) => push_escaped(&mut text, value),
                Cell::Integer(number) => _ = write!(text, "{number}"),
                Cell::Real(number) => _ = write!(text, "{number}"),
            }
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn push_escaped(text: &mut String, value: &str) {
    for part in value.split_inclusive(['\\', '\t', '\n']) {
        let escape = match part.as_bytes().last() {
            Some(b'\\') => "\\\\",
            Some(b'\t') => "\\t",
            Some(b'\n') => "\\n",
            _ => {
                text.push_str(part);
                continue;
            }
        };
        text.push_str(&part[..part.len() - 1]);
        text.push_str(escape);
    }
}
