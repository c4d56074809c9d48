//! PostgreSQL with its default durability: `fsync` and `synchronous_commit` are on, or the run ends.

use std::io::Write;
use std::time::Instant;

use postgres::{Client, NoTls, Statement};

use crate::Outcome;
use crate::rows::{Cell, Kind, Row, columns};

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
        let types = columns(|kind| match kind {
            Kind::Text => "text",
            Kind::Integer => "bigint",
            Kind::Real => "double precision",
        });
        client.batch_execute(&format!("CREATE TABLE {SCHEMA}.events ({types}, PRIMARY KEY (tenant, id))"))?;
        Ok(this)
    }

    /// Copies what each client has, one transaction a batch, and returns events per second. The text of `COPY` is made before the
    /// clock runs.
    pub(crate) fn copy(&self, clients: &[Vec<Vec<Row>>]) -> Outcome<f64> {
        let texts: Vec<Vec<Vec<u8>>> =
            clients.iter().map(|batches| batches.iter().map(|batch| copy_text(batch)).collect()).collect();
        self.run(clients, |client, _, index, batch| {
            let mut writer = client.copy_in(&format!("COPY {SCHEMA}.events FROM STDIN"))?;
            writer.write_all(&texts[index][batch])?;
            writer.finish()?;
            Ok(())
        })
    }

    /// Inserts what each client has, one transaction an event, and returns events per second.
    pub(crate) fn insert(&self, clients: &[Vec<Vec<Row>>]) -> Outcome<f64> {
        self.run(clients, |client, statement, index, batch| {
            for row in &clients[index][batch] {
                let values: Vec<_> = row.iter().map(parameter).collect();
                let values: Vec<_> = values.iter().map(|value| &**value).collect();
                client.execute(statement, &values)?;
            }
            Ok(())
        })
    }

    fn run(
        &self,
        clients: &[Vec<Vec<Row>>],
        each: impl Fn(&mut Client, &Statement, usize, usize) -> Outcome<()> + Sync,
    ) -> Outcome<f64> {
        let mut connections = Vec::new();
        for _ in clients {
            let mut client = Client::connect(&self.url, NoTls)?;
            let places: Vec<String> =
                (1..=crate::rows::COLUMNS.len()).map(|number| format!("${number}")).collect();
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
                .enumerate()
                .map(|(index, (client, statement))| {
                    let batches = clients[index].len();
                    scope.spawn(move || {
                        (0..batches).try_for_each(|batch| each(client, statement, index, batch))
                    })
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

fn parameter(cell: &Cell) -> Box<dyn postgres::types::ToSql + Sync + '_> {
    match cell {
        Cell::Null => Box::new(Nothing),
        Cell::Text(text) => Box::new(text.as_str()),
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
fn copy_text(batch: &[Row]) -> Vec<u8> {
    let mut text = String::new();
    for row in batch {
        for (index, cell) in row.iter().enumerate() {
            if index > 0 {
                text.push('\t');
            }
            match cell {
                Cell::Null => text.push_str("\\N"),
                Cell::Text(value) => {
                    text.push_str(&value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"));
                }
                Cell::Integer(number) => text.push_str(&number.to_string()),
                Cell::Real(number) => text.push_str(&number.to_string()),
            }
        }
        text.push('\n');
    }
    text.into_bytes()
}
