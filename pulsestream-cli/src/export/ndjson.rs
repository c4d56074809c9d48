//! One JSON event on each line.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use pulsestream_core::event::{Context, ErrorDetails, Event, JsonObject, Metrics, Severity, Source};
use pulsestream_core::id::EventId;
use pulsestream_core::query::Cursor;
use pulsestream_core::time::Timestamp;
use pulsestream_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{OPERATION, Output, cannot_write};

/// Writes lines.
pub(super) struct Lines<W>(W);

impl<W: Write + Send> Lines<W> {
    /// Writes to `output`.
    pub(super) fn new(output: W) -> Self {
        Self(output)
    }
}

impl<W: Write + Send> Output for Lines<W> {
    fn write(&mut self, events: Vec<Event>) -> Result<()> {
        events.iter().try_for_each(|event| self.0.write_all(&line(event)?).map_err(cannot_write))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.0.flush().map_err(cannot_write)
    }
}

/// What tells where an export stood.
#[derive(Deserialize)]
struct Place {
    id: EventId,
    timestamp: Timestamp,
}

/// Opens an export that was cut short, takes off a line that is not whole, and returns after which event to go on.
pub(super) fn resume(path: &Path) -> Result<(File, Option<Cursor>)> {
    let file = File::options().read(true).write(true).open(path).map_err(cannot_write)?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut whole, mut last) = (0_u64, Vec::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = reader.read_until(b'\n', &mut line).map_err(cannot_write)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        whole += bytes as u64;
        std::mem::swap(&mut line, &mut last);
    }
    let after = match last.as_slice() {
        [] => None,
        line => {
            let place = serde_json::from_slice::<Place>(line).map_err(|error| {
                Error::new(ErrorKind::Conflict, OPERATION, "the output is no export that could be continued")
                    .with_context("output", path.display())
                    .with_source(error)
            })?;
            Some(Cursor { timestamp: place.timestamp, id: place.id })
        }
    };
    let mut file = reader.into_inner();
    file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(cannot_write)?;
    Ok((file, after))
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
