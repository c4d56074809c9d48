//! A Parquet file.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use pulsestream_core::event::Event;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_parquet::EventWriter;

use super::{OPERATION, Output, cannot_write};

/// Writes rows to a file of another name, which gets its own when it is whole.
pub(super) struct Rows {
    writer: EventWriter<BufWriter<File>>,
    part: PathBuf,
    output: PathBuf,
}

impl Rows {
    /// Starts a new file; one that an earlier export left unfinished is replaced.
    pub(super) fn create(output: &Path) -> Result<Self> {
        if output.exists() {
            return Err(Error::new(
                ErrorKind::Conflict,
                OPERATION,
                "the output is there already: give a new file",
            )
            .with_context("output", output.display()));
        }
        let mut part = output.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part)
            .map_err(|error| cannot_write(error).with_context("output", part.display()))?;
        Ok(Self { writer: EventWriter::new(BufWriter::new(file))?, part, output: output.to_owned() })
    }
}

impl Output for Rows {
    fn write(&mut self, events: Vec<Event>) -> Result<()> {
        self.writer.write(events)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let file = self.writer.finish()?.into_inner().map_err(|error| cannot_write(error.into_error()))?;
        file.sync_all().map_err(cannot_write)?;
        std::fs::rename(&self.part, &self.output).map_err(cannot_write)
    }
}
