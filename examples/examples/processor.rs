//! A processor of your own: revenue, kept in files and exact although the program may die at any moment.
//!
//! After a crash events come again, from an earlier place of the log on. Each file holds a sum together with the place up to which it
//! counts, and what lies before that place is passed over.
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use pulsestream::core::event::FieldPath;
use pulsestream::core::ports::event_store::{Partition, Position};
use pulsestream::core::ports::processor::{Processor, ProcessorBatch, ProcessorStart};
use pulsestream::prelude::*;
use pulsestream::{Error, ErrorKind, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("pulsestream-processor-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let revenue = Arc::new(Revenue { folder: folder.clone(), amount: "payload.cents".parse()? });
    for day in 0..2 {
        // The second time it goes on where it was.
        let builder = PulseStream::builder().with_processor("revenue", revenue.clone());
        let ps = builder.open(&folder.join("events").display().to_string()).await?;
        for number in 0..50 {
            let mut event =
                Event::new(EventId::new(format!("order-{day}-{number}"))?, "order_paid", ps.env().now());
            event.payload = JsonObject::parse(r#"{"cents": 250}"#)?;
            ps.tenant(TenantId::from_name(["books", "wine"][number % 2])).ingest(event).await?;
        }
        while revenue.total()? < f64::from((day + 1) * 50 * 250) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        ps.close().await?;
    }
    println!("100 orders, {} cents", revenue.total()?);
    std::fs::remove_dir_all(&folder).map_err(failed)
}

/// One file for each partition.
#[derive(Debug)]
struct Revenue {
    folder: PathBuf,
    amount: FieldPath,
}

impl Revenue {
    fn file(&self, partition: Partition) -> PathBuf {
        self.folder.join(format!("revenue-{}", partition.number()))
    }

    fn total(&self) -> Result<f64> {
        Partition::all().map(|partition| Ok(read(&self.file(partition))?.1)).sum()
    }
}

#[async_trait]
impl Processor for Revenue {
    fn start(&self) -> ProcessorStart {
        ProcessorStart::Oldest
    }

    async fn process(&self, batch: ProcessorBatch<'_>) -> Result<()> {
        let file = self.file(batch.partition);
        let (counted, sum) = read(&file)?;
        let new = batch.events.iter().filter(|tailed| tailed.position > counted);
        let amounts = new.filter_map(|tailed| self.amount.value(&tailed.event).as_number());
        let text = format!("{} {}", batch.end, sum + amounts.sum::<f64>());
        // A rename replaces the place and the sum together.
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &file)).map_err(failed)
    }
}

/// Reads up to where a file counts, and its sum.
fn read(file: &Path) -> Result<(Position, f64)> {
    let mut text = String::new();
    match std::fs::File::open(file).and_then(|file| file.take(1 << 10).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Position::START, 0.0)),
        Err(error) => return Err(failed(error)),
    }
    let broken = || Error::new(ErrorKind::Corrupt, "revenue.read", format!("{} is damaged", file.display()));
    let (place, sum) = text.split_once(' ').ok_or_else(broken)?;
    Ok((place.parse()?, sum.parse().map_err(|_| broken())?))
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "revenue.write", "the file cannot be used").with_source(error)
}
