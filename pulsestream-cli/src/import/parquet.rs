//! Importing a Parquet file, row by row.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::sync::Arc;

use pulsestream_core::env::Env;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::EventStore;
use pulsestream_core::settings::Settings;
use pulsestream_core::{Error, ErrorKind, Result};

use super::{OPERATION, Report};
use crate::args::{Format, ImportArgs};

const MAGIC: &[u8; 4] = b"PAR1";

/// Whether the arguments, or the first bytes of the file, say that it is Parquet.
pub(super) fn is_meant(args: &ImportArgs) -> Result<bool> {
    match args.format {
        Format::Parquet => Ok(true),
        Format::Auto if args.file.as_os_str() != "-" => {
            let mut start = [0; 4];
            // A file that cannot be opened is told by whoever reads it.
            let Ok(mut file) = File::open(&args.file) else { return Ok(false) };
            match file.read_exact(&mut start) {
                Ok(()) => Ok(start == *MAGIC),
                Err(error) if error.kind() == IoErrorKind::UnexpectedEof => Ok(false),
                Err(error) => Err(cannot_open(error, args)),
            }
        }
        _ => Ok(false),
    }
}

fn cannot_open(error: std::io::Error, args: &ImportArgs) -> Error {
    Error::new(ErrorKind::NotFound, OPERATION, "the file cannot be opened")
        .with_context("file", args.file.display())
        .with_context("cause", &error)
        .with_source(error)
}

/// Imports every row; an event keeps the time at which it was received, where the file says it.
#[cfg(feature = "parquet")]
pub(super) async fn import(
    store: Arc<dyn EventStore>,
    env: Env,
    settings: &Settings,
    tenant: TenantId,
    args: &ImportArgs,
) -> Result<Report> {
    use indicatif::{ProgressBar, ProgressStyle};
    use pulsestream_core::event::Dialect;
    use pulsestream_core::time::Timestamp;
    use pulsestream_parquet::EventReader;

    let file = File::open(&args.file).map_err(|error| cannot_open(error, args))?;
    let mut reader =
        EventReader::open(file).map_err(|error| error.with_context("file", args.file.display()))?;
    let rules = settings.ingest.rules(Dialect::Strict);
    let progress = ProgressBar::new(reader.rows());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} rows {per_sec} eta {eta}")
    {
        progress.set_style(style);
    }
    let mut report = Report::default();
    while let Some(rows) = reader.next_batch()? {
        let (mut batch, mut numbers) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            report.lines += 1;
            let checked = row.and_then(|mut event| {
                let now = env.now();
                if event.received_at == Timestamp::EPOCH {
                    event.received_at = now;
                }
                let fields = rules.check(&event, now);
                if fields.is_empty() { Ok(event) } else { Err(Error::invalid_fields(OPERATION, fields)) }
            });
            match checked {
                Ok(event) => {
                    batch.push(event);
                    numbers.push(report.lines);
                }
                Err(error) => report.refuse(report.lines, &error, args.show_errors),
            }
        }
        super::append(&*store, tenant, &mut batch, &mut numbers, &mut report, args).await?;
        progress.set_position(report.lines);
    }
    progress.finish_and_clear();
    Ok(report)
}

#[cfg(not(feature = "parquet"))]
#[allow(clippy::unused_async, reason = "the same signature as with the feature")]
pub(super) async fn import(
    _store: Arc<dyn EventStore>,
    _env: Env,
    _settings: &Settings,
    _tenant: TenantId,
    _args: &ImportArgs,
) -> Result<Report> {
    Err(Error::new(ErrorKind::Unsupported, OPERATION, "this build was made without Parquet"))
}
