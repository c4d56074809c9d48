//! `pulsestream export`: the events of a tenant in the forms that `import` reads.

mod ndjson;
#[cfg(feature = "parquet")]
mod parquet;

use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use pulsestream::PulseStream;
use pulsestream_core::event::Event;
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::{Error, ErrorKind, Result};

use crate::args::{ExportArgs, ExportFormat};
use crate::open;
use crate::settings::ProgramSettings;

const OPERATION: &str = "export";
const PAGE_EVENTS: usize = 1_000;

/// Writes the events of a tenant, oldest first.
pub(crate) async fn run(args: ExportArgs) -> Result<ExitCode> {
    let settings = ProgramSettings::read(args.store.config.as_deref())?;
    let ps = open::open_existing(OPERATION, &args.store, &settings).await?;
    let outcome = export(&ps, &args).await;
    ps.close().await?;
    match outcome {
        Ok(exported) => complain!("{exported} events exported"),
        // Whoever read it, `head` for example, has enough.
        Err(error) if is_closed_pipe(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where events go.
trait Output: Send {
    fn write(&mut self, events: Vec<Event>) -> Result<()>;

    /// Makes what was written a whole file.
    fn finish(self: Box<Self>) -> Result<()>;
}

async fn export(ps: &PulseStream, args: &ExportArgs) -> Result<u64> {
    let filter = args.filter.as_deref().map(str::parse).transpose()?;
    let mut query = FindQuery {
        filter,
        order: Order::OldestFirst,
        limit: PAGE_EVENTS,
        count_total: true,
        ..FindQuery::default()
    };
    let mut output = open_output(args, &mut query)?;
    let progress = progress_bar();
    let tenant = open::tenant(&args.tenant);
    let mut exported = 0;
    loop {
        let page = ps.event_store().find(tenant, &query).await?;
        if let Some(total) = page.total {
            progress.set_length(total);
            query.count_total = false;
        }
        exported += page.events.len() as u64;
        output.write(page.events)?;
        progress.set_position(exported);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    output.finish()?;
    progress.finish_and_clear();
    Ok(exported)
}

/// Opens what the arguments name. An export that is resumed goes on after the last event in the file.
fn open_output(args: &ExportArgs, query: &mut FindQuery) -> Result<Box<dyn Output>> {
    let is_terminal = args.output == Path::new("-");
    match args.format() {
        ExportFormat::Ndjson if is_terminal => {
            Ok(Box::new(ndjson::Lines::new(BufWriter::new(std::io::stdout()))))
        }
        ExportFormat::Ndjson if args.resume && args.output.exists() => {
            let (file, after) = ndjson::resume(&args.output)?;
            query.after = after;
            Ok(Box::new(ndjson::Lines::new(BufWriter::new(file))))
        }
        ExportFormat::Ndjson => {
            let file = std::fs::File::create_new(&args.output).map_err(|error| {
                let error = if error.kind() == std::io::ErrorKind::AlreadyExists {
                    let message = "the output is there already: give a new file, or --resume to continue it";
                    Error::new(ErrorKind::Conflict, OPERATION, message)
                } else {
                    cannot_write(error)
                };
                error.with_context("output", args.output.display())
            })?;
            Ok(Box::new(ndjson::Lines::new(BufWriter::new(file))))
        }
        ExportFormat::Parquet if is_terminal || args.resume => Err(Error::invalid(
            OPERATION,
            "",
            "unsupported",
            "a Parquet file is written as a whole: give --output FILE, without --resume",
        )),
        #[cfg(feature = "parquet")]
        ExportFormat::Parquet => Ok(Box::new(parquet::Rows::create(&args.output)?)),
        #[cfg(not(feature = "parquet"))]
        ExportFormat::Parquet => {
            Err(Error::new(ErrorKind::Unsupported, OPERATION, "this build was made without Parquet"))
        }
    }
}

/// A bar over the events on a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} events {per_sec} eta {eta}")
    {
        bar.set_style(style);
    }
    bar
}

fn is_closed_pipe(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn cannot_write(error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, OPERATION, "the output cannot be written")
        .with_context("cause", &error)
        .with_source(error)
}
