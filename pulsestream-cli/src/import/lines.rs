//! Lines of a file or of standard input, plain or gzip, with a bound on their length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// Counts the bytes read from the file itself, before decompression: what a progress bar shows.
#[derive(Debug)]
struct Counting<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// One line with its place in the decompressed text.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub number: u64,
    /// Byte offset of its start.
    pub offset: u64,
    /// Its bytes without the line end; `None` when it was longer than the bound and was passed over.
    pub bytes: Option<Vec<u8>>,
}

/// Reads lines one by one.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    read: Arc<AtomicU64>,
    /// Size of the file in bytes, unknown for standard input.
    pub size: Option<u64>,
    max_bytes: u64,
    number: u64,
    offset: u64,
}

impl Lines {
    /// Opens `path`, `-` for standard input; gzip is recognised by its first bytes.
    pub(super) fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::new(io::stdin(), None, max_bytes);
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Self::new(file, Some(size), max_bytes)
    }

    fn new(source: impl Read + Send + 'static, size: Option<u64>, max_bytes: u64) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let mut reader = BufReader::with_capacity(1 << 16, Counting { inner: source, read: read.clone() });
        let gzip = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader)))
        } else {
            Box::new(reader)
        };
        Ok(Self { reader, read, size, max_bytes, number: 0, offset: 0 })
    }

    /// Returns how many bytes of the file were read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Returns the next line, `None` at the end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut length = (&mut self.reader).take(self.max_bytes + 1).read_until(b'\n', &mut bytes)? as u64;
        if length == 0 {
            return Ok(None);
        }
        let too_long = length > self.max_bytes && bytes.last() != Some(&b'\n');
        if too_long {
            length += self.skip_to_line_end()?;
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        self.number += 1;
        let line = Line { number: self.number, offset: self.offset, bytes: (!too_long).then_some(bytes) };
        self.offset += length;
        Ok(Some(line))
    }

    fn skip_to_line_end(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(skipped);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            skipped += used as u64;
            if end.is_some() {
                return Ok(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn collect(bytes: Vec<u8>, max_bytes: u64) -> Vec<(u64, u64, Option<String>)> {
        let mut lines = Lines::new(io::Cursor::new(bytes), None, max_bytes).unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            all.push((line.number, line.offset, line.bytes.map(|bytes| String::from_utf8(bytes).unwrap())));
        }
        all
    }

    #[test]
    fn lines_have_places_and_a_bound() {
        let text = "ab\r\n\ntoolong\nx";
        let expected = vec![
            (1, 0, Some("ab".to_owned())),
            (2, 4, Some(String::new())),
            (3, 5, None),
            (4, 13, Some("x".to_owned())),
        ];
        assert_eq!(collect(text.into(), 4), expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        assert_eq!(collect(gzip.finish().unwrap(), 4), expected);
    }
}
