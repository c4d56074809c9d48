//! `pulsestream export`: the events of a tenant as NDJSON, in the form that `import` reads.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use indicatif::ProgressBar;
use pulsestream::PulseStream;
use pulsestream_core::event::{Context, ErrorDetails, Event, JsonObject, Metrics, Severity, Source};
use pulsestream_core::id::EventId;
use pulsestream_core::query::{FindQuery, Order};
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::ExportArgs;
use crate::open;

const PAGE_EVENTS: usize = 1_000;

/// Writes the events of a tenant, oldest first.
pub(crate) async fn run(args: ExportArgs) -> Result<ExitCode> {
    let settings = open::settings(args.store.config.as_deref())?;
    let ps = open::open(&args.store, PulseStream::builder().without_background(), settings).await?;
    let outcome = export(&ps, &args).await;
    ps.close().await?;
    eprintln!("{} events exported", outcome?);
    Ok(ExitCode::SUCCESS)
}

async fn export(ps: &PulseStream, args: &ExportArgs) -> Result<u64> {
    let filter = args.filter.as_deref().map(str::parse).transpose()?;
    let mut query =
        FindQuery { filter, order: Order::OldestFirst, limit: PAGE_EVENTS, ..FindQuery::default() };
    let mut output: Box<dyn Write + Send> = if args.output.as_os_str() == "-" {
        Box::new(BufWriter::new(std::io::stdout()))
    } else {
        let file = std::fs::File::create_new(&args.output)
            .map_err(|error| cannot_write(error).with_context("output", args.output.display()))?;
        Box::new(BufWriter::new(file))
    };
    let progress = ProgressBar::new_spinner();
    let tenant = open::tenant(&args.tenant);
    let mut exported = 0;
    loop {
        let page = ps.event_store().find(tenant, &query).await?;
        for event in &page.events {
            output.write_all(&line(event)?).map_err(cannot_write)?;
            exported += 1;
        }
        progress.set_message(format!("{exported} events"));
        progress.tick();
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    output.flush().map_err(cannot_write)?;
    progress.finish_and_clear();
    Ok(exported)
}

/// An event in the strict form. When it was received is the importing store's to say.
#[derive(Serialize)]
struct Exported<'a> {
    id: &'a EventId,
    event_type: &'a str,
    timestamp: Timestamp,
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    source: &'a Source,
    context: &'a Context,
    metrics: &'a Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorDetails>,
    payload: &'a JsonObject,
    metadata: &'a JsonObject,
}

/// Writes one event on a line. Payload and metadata are copied as they stand: `1.40` stays `1.40`.
fn line(event: &Event) -> Result<Vec<u8>> {
    let exported = Exported {
        id: &event.id,
        event_type: &event.event_type,
        timestamp: event.timestamp,
        severity: event.severity,
        title: event.title.as_deref(),
        message: event.message.as_deref(),
        source: &event.source,
        context: &event.context,
        metrics: &event.metrics,
        error: event.error.as_deref(),
        payload: &event.payload,
        metadata: &event.metadata,
    };
    let mut line = serde_json::to_vec(&exported).map_err(|error| {
        Error::new(ErrorKind::Internal, "export", "an event has no JSON form").with_source(error)
    })?;
    line.push(b'\n');
    Ok(line)
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "export", "the output cannot be written")
        .with_context("cause", &error)
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use pulsestream_core::env::Env;
    use pulsestream_core::event::{Dialect, EventParser};
    use pulsestream_core::settings::Settings;
    use pulsestream_core::testkit::EventGenerator;

    use super::*;

    #[test]
    fn what_is_exported_can_be_imported() {
        let (env, _clock) = Env::manual(Timestamp::from_seconds(1_900_000_000), 1);
        let mut parser = EventParser::new(env.clone(), Settings::default().ingest.rules(Dialect::Strict), 1);
        for mut event in EventGenerator::new(5).take(500) {
            let read = parser.event(line(&event).unwrap().trim_ascii()).unwrap();
            event.received_at = env.now();
            assert_eq!(read, event);
        }
    }
}
