//! `pulsestream import`: files of events into a store.

mod access_log;
mod lines;
mod parquet;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pulsestream::PulseStream;
use pulsestream_core::env::Env;
use pulsestream_core::event::{Dialect, Event, EventParser};
use pulsestream_core::id::{EventId, TenantId, derive_uuid};
use pulsestream_core::ports::event_store::{AppendOptions, AppendOutcome, EventStore};
use pulsestream_core::settings::Settings;
use pulsestream_core::{Error, ErrorKind, Result};

use self::lines::{Line, Lines};
use crate::args::{Format, ImportArgs};
use crate::open;
use crate::settings::ProgramSettings;

const OPERATION: &str = "import";
const BATCH_EVENTS: usize = 2_000;
const MAX_LINE_BYTES: u64 = 16 << 20;

/// What became of the lines of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Report {
    /// Lines that hold anything.
    lines: u64,
    /// Events stored now.
    stored: u64,
    /// Events that were there already.
    duplicates: u64,
    /// Lines refused.
    refused: u64,
    /// The first refusals: line number and reason.
    first_refusals: Vec<(u64, String)>,
}

/// Turns lines into events whose ids do not change from one run to the next.
struct Reader {
    format: Format,
    service: String,
    parser: EventParser,
    settings: Settings,
    env: Env,
    /// The first line: it tells this file from others, also after it was renamed by log rotation.
    file_identity: Vec<u8>,
}

impl Reader {
    fn id_of(&self, line: &Line, bytes: &[u8]) -> EventId {
        let mut name = Vec::with_capacity(bytes.len() + 24);
        name.extend_from_slice(&(self.file_identity.len() as u64).to_be_bytes());
        name.extend_from_slice(&self.file_identity);
        name.extend_from_slice(&line.offset.to_be_bytes());
        name.extend_from_slice(bytes);
        EventId::from_u128(derive_uuid(b"pulsestream.import", &name))
    }

    fn read(&mut self, line: &Line) -> Result<Event> {
        let refuse = |code: &'static str, message: &str| Err(Error::invalid(OPERATION, "", code, message));
        let Some(bytes) = &line.bytes else {
            return refuse("too_long", "the line has more than 16 MiB");
        };
        if self.file_identity.is_empty() {
            self.file_identity.clone_from(bytes);
        }
        let id = self.id_of(line, bytes);
        if self.format == Format::Auto {
            self.format =
                if bytes.trim_ascii_start().starts_with(b"{") { Format::Ndjson } else { Format::AccessLog };
        }
        if self.format == Format::Ndjson {
            return self.parser.event_or_id(bytes, &id);
        }
        // Logs may hold any bytes; what is no UTF-8 is replaced, not refused.
        let text = String::from_utf8_lossy(bytes);
        let Some(mut event) = access_log::parse_line(&text, id, &self.service) else {
            return refuse("not_an_access_log", "the line is not in the combined or common log format");
        };
        event.received_at = self.env.now();
        let fields = self.settings.ingest.rules(Dialect::Strict).check(&event, event.received_at);
        if fields.is_empty() { Ok(event) } else { Err(Error::invalid_fields(OPERATION, fields)) }
    }
}

/// Runs the command and prints the report.
pub(crate) async fn run(args: ImportArgs) -> Result<ExitCode> {
    let settings = ProgramSettings::read(args.store.config.as_deref())?;
    let ps = open::open(&args.store, PulseStream::builder(), &settings).await?;
    let tenant = open::tenant(&args.tenant);
    let outcome =
        import(ps.event_store().clone(), ps.env().clone(), &settings.library(), tenant, &args).await;
    ps.close().await?;
    let report = outcome?;
    for (line, reason) in &report.first_refusals {
        complain!("line {line}: {reason}");
    }
    let hidden = report.refused - report.first_refusals.len() as u64;
    if hidden > 0 {
        complain!("and {hidden} more refused lines; show them with --show-errors {}", report.refused);
    }
    say!(
        "{} lines: {} stored, {} there already, {} refused; tenant {tenant}",
        report.lines,
        report.stored,
        report.duplicates,
        report.refused
    );
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Imports a file and reports what became of each line.
async fn import(
    store: Arc<dyn EventStore>,
    env: Env,
    settings: &Settings,
    tenant: TenantId,
    args: &ImportArgs,
) -> Result<Report> {
    if parquet::is_meant(args)? {
        return parquet::import(store, env, settings, tenant, args).await;
    }
    let mut lines = Lines::open(&args.file, MAX_LINE_BYTES).map_err(|error| {
        Error::new(ErrorKind::NotFound, OPERATION, "the file cannot be opened")
            .with_context("file", args.file.display())
            .with_context("cause", &error)
            .with_source(error)
    })?;
    let progress = progress_bar(lines.size);
    let mut reader = Reader {
        format: args.format,
        service: args.service.clone(),
        parser: EventParser::new(env.clone(), settings.ingest.rules(Dialect::Strict), 1),
        settings: settings.clone(),
        env,
        file_identity: Vec::new(),
    };
    let mut report = Report::default();
    let mut batch = Vec::with_capacity(BATCH_EVENTS);
    let mut numbers = Vec::with_capacity(BATCH_EVENTS);
    loop {
        let next = lines.next_line().map_err(|error| {
            Error::new(
                ErrorKind::Invalid,
                OPERATION,
                "the file cannot be read to its end; what came before is stored",
            )
            .with_context("line", report.lines + 1)
            .with_context("cause", &error)
            .with_source(error)
        });
        let line = match next {
            Ok(line) => line,
            Err(error) => {
                append(&*store, tenant, &mut batch, &mut numbers, &mut report, args).await?;
                return Err(error);
            }
        };
        if let Some(line) = &line {
            if line.bytes.as_ref().is_some_and(|bytes| bytes.trim_ascii().is_empty()) {
                continue;
            }
            report.lines += 1;
            match reader.read(line) {
                Ok(event) => {
                    batch.push(event);
                    numbers.push(line.number);
                }
                Err(error) => report.refuse(line.number, &error, args.show_errors),
            }
        }
        if batch.len() == BATCH_EVENTS || line.is_none() {
            append(&*store, tenant, &mut batch, &mut numbers, &mut report, args).await?;
            progress.set_position(lines.bytes_read());
            progress.set_message(format!("{} stored", report.stored));
        }
        if line.is_none() {
            progress.finish_and_clear();
            return Ok(report);
        }
    }
}

impl Report {
    fn refuse(&mut self, line: u64, error: &Error, show: usize) {
        self.refused += 1;
        if self.first_refusals.len() < show {
            self.first_refusals.push((line, error.to_string()));
        }
    }
}

async fn append(
    store: &dyn EventStore,
    tenant: TenantId,
    batch: &mut Vec<Event>,
    numbers: &mut Vec<u64>,
    report: &mut Report,
    args: &ImportArgs,
) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let outcomes = store.append(tenant, std::mem::take(batch), AppendOptions::default()).await?;
    for (outcome, line) in outcomes.into_iter().zip(numbers.drain(..)) {
        match outcome {
            AppendOutcome::Stored => report.stored += 1,
            AppendOutcome::Duplicate => report.duplicates += 1,
            AppendOutcome::Refused(error) => report.refuse(line, &error, args.show_errors),
        }
    }
    Ok(())
}

/// A bar over the bytes of the file on a terminal, nothing elsewhere.
fn progress_bar(size: Option<u64>) -> ProgressBar {
    let template = match size {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}",
        None => "{spinner} {bytes} {bytes_per_sec} {msg}",
    };
    let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pulsestream_core::memory::MemoryEventStore;
    use pulsestream_core::time::Timestamp;

    use super::*;

    fn args(file: &std::path::Path) -> ImportArgs {
        use clap::Parser;
        let cli = crate::args::Cli::parse_from(["pulsestream".as_ref(), "import".as_ref(), file.as_os_str()]);
        match cli.command {
            crate::args::Command::Import(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn importing_again_stores_nothing_twice() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let good = r#"1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x""#;
        write!(file, "{good}\n{good}\nrubbish\n\n").unwrap();
        let (env, _clock) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
        let store: Arc<dyn EventStore> = Arc::new(MemoryEventStore::new());
        let tenant = TenantId::from_name("t");
        let settings = Settings::default();
        let first = import(store.clone(), env.clone(), &settings, tenant, &args(file.path())).await.unwrap();
        assert_eq!((first.lines, first.stored, first.duplicates, first.refused), (3, 2, 0, 1));
        assert_eq!(first.first_refusals[0].0, 3);
        writeln!(file, "{good}").unwrap();
        let second = import(store, env, &settings, tenant, &args(file.path())).await.unwrap();
        assert_eq!((second.stored, second.duplicates, second.refused), (1, 2, 1));
    }
}
